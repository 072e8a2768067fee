"""Principal components and k-means clusters that are the same for any number of threads.

Shape letters: n rows, C columns, K components.
"""

import warnings

import numpy as np
import numpy.typing as npt

from bddn.errors import DataError
from bddn.machine.shared_setting import single_threaded_products

Floats = npt.NDArray[np.floating]

N_COMPONENTS = 50  # of tokens that are clustered
K_MEANS_STEPS = 30
BLOCK = 4096  # rows that are converted to double precision at once


def image_clusters(tokens: npt.NDArray[np.float32], n_clusters: int) -> npt.NDArray[np.intp]:
    """Return the cluster (n,) of each image: k-means on the first 50 principal components of its tokens.

    Parameters
    ----------
    tokens : array of float32, (n, C)
    n_clusters : int
        There may be fewer if tokens are equal.

    Raises
    ------
    DataError
        If there are fewer images than clusters.
    """
    if len(tokens) < n_clusters:
        raise DataError(
            "split",
            expected=f"at least as many images as clusters, {n_clusters}",
            got=f"{len(tokens)} images",
            fix="Use fewer clusters.",
        )
    return k_means(principal(tokens, N_COMPONENTS), n_clusters, seed=0)[1]


def principal(tokens: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """Return the rows in the coordinates of their first principal components: (n rows, K), K = min(n, C)."""
    mean = tokens.mean(0, dtype=np.float64)
    with single_threaded_products():
        blocks = range(0, len(tokens), BLOCK)
        second = np.zeros((tokens.shape[1],) * 2)
        for at in blocks:
            centred = tokens[at : at + BLOCK] - mean
            second += centred.T @ centred
        axes = np.linalg.eigh(second)[1][:, ::-1][:, :n]
        return np.concatenate([((tokens[at : at + BLOCK] - mean) @ axes).astype(np.float32) for at in blocks])


def k_means(vectors: Floats, n_centres: int, seed: int) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return the centres (at most n_centres, C) that have rows, and the index (n,) of the centre of each row."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with single_threaded_products(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # given for fewer different vectors than centres
        found = KMeans(n_centres, init="k-means++", n_init=1, max_iter=K_MEANS_STEPS, random_state=seed).fit(vectors)
    filled, centre_of = np.unique(found.labels_, return_inverse=True)
    return found.cluster_centers_[filled], centre_of
