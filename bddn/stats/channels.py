"""What voxels look for: pictures in the colours of a region's channels, and clusters of voxels by their channels.

Shape letters: V voxels, D shared channels, L layers, n pictures, H rows, W columns.
"""

import warnings

import numpy as np
import numpy.typing as npt

from bddn.errors import DataError

Floats = npt.NDArray[np.floating]

COLOURS = 3
SHOWN = (1, 99)  # percentiles of a component that become 0 and 1, so that one odd place does not darken all others
K_MEANS_STEPS = 30


def channel_images(
    aligned_local: Floats, channels: npt.NDArray[np.float32], layer_weights: Floats
) -> npt.NDArray[np.float32]:
    """Pictures as a region sees them: red, green and blue are its voxels' first three principal channels.

    The principal components are those of the region's channel vectors, centred, in the order of their variance. They
    are applied to the local features, averaged over layers with the region's mean layer weights.

    A component's sign is such that the region's mean channel vector has a part of it that is not negative: brighter is
    what drives the region as a whole. Every colour by itself goes from 0, its 1st percentile over all pictures and
    places of this call, to 1, its 99th. So pictures of one call can be compared with each other, and a colour of one
    region not with that of another.

    Parameters
    ----------
    aligned_local : array, (L, n, H, W, D)
        Local features in the shared channels, as `bddn.predict.aligned_local` gives them.
    channels : array, (V, D)
        Channel vectors of the region's voxels.
    layer_weights : array, (V, L)
        Layer weights of the same voxels.

    Returns
    -------
    array of float32, (n, H, W, 3)
        From 0 to 1. A component that is the same everywhere is 0.5.

    Raises
    ------
    DataError
        Where there are fewer than four voxels, which have no three components, or shapes do not fit.
    """
    if len(channels) <= COLOURS or channels.shape[1] < COLOURS:
        raise DataError(
            "channel vectors",
            expected=f"more than {COLOURS} voxels of {COLOURS} channels or more, for {COLOURS} principal components",
            got=f"{len(channels)} of {channels.shape[1]}",
            fix="Choose a larger region.",
        )
    expected = (len(channels), len(aligned_local)), (len(channels), aligned_local.shape[-1])
    if (layer_weights.shape, channels.shape) != expected:
        raise DataError(
            "a region's voxels",
            expected=f"layer weights {expected[0]} and channel vectors {expected[1]}",
            got=f"{layer_weights.shape} and {channels.shape}",
            fix="Take features, layer weights and channel vectors from the same run.",
        )
    projected = aligned_local @ _components(channels, COLOURS).astype(np.float32)
    seen = np.tensordot(layer_weights.mean(0, dtype=np.float64), projected, axes=1)
    low, high = np.percentile(seen.reshape(-1, COLOURS), SHOWN, axis=0)
    varies = high > low
    shown = (seen - low) / np.where(varies, high - low, 1)
    return np.where(varies, np.clip(shown, 0, 1), 0.5).astype(np.float32)


def channel_clusters(
    channels: npt.NDArray[np.float32], n_clusters: int = 20, n_centres: int = 300, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Voxels in clusters of similar channels: k-means to many centres, then Ward linkage of these, cut to a few.

    Voxels no more than `n_centres` are linked as they are. The same vectors and seed give the same clusters.

    Parameters
    ----------
    channels : array, (V, D)
    n_clusters : int
        Fewer are found where vectors, or the distances between them, are the same.
    n_centres : int
        Of k-means.
    seed : int
        Chooses the voxels at which k-means starts.

    Returns
    -------
    array of int64, (V,)
        From 0. Clusters are numbered along the first principal component of all channel vectors, with the sign that
        `channel_images` has, so that neighbouring numbers are similar.

    Raises
    ------
    DataError
        Where there are fewer voxels than clusters, or more clusters than centres.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if not 1 <= n_clusters <= min(len(channels), n_centres):
        raise DataError(
            "channel clusters",
            expected=f"from 1 to {min(len(channels), n_centres)}, with {len(channels)} voxels and {n_centres} centres",
            got=f"{n_clusters}",
            fix="Ask for another number of clusters.",
        )
    vectors = channels.astype(np.float64)
    centres, centre_of = _k_means(vectors, n_centres, seed) if len(vectors) > n_centres else _each(vectors)
    if len(centres) == 1:
        return np.zeros(len(vectors), np.int64)
    cluster_of = fcluster(linkage(centres, "ward"), n_clusters, criterion="maxclust")[centre_of]
    found, labels = np.unique(cluster_of, return_inverse=True)
    along = vectors @ _components(vectors, 1)[:, 0]
    places = np.array([along[labels == k].mean() for k in range(len(found))])
    rank = np.argsort(np.argsort(places, kind="stable"), kind="stable")
    return np.asarray(rank[labels], np.int64)


def _k_means(vectors: Floats, n_centres: int, seed: int) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Centres (at most n_centres, D) that have voxels, and the centre (V,) of every voxel, by scikit-learn."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # One thread, since the last bits of a centre, and so the clusters, depend on how many there are.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different voxels than centres
        found = KMeans(n_centres, init="k-means++", n_init=1, max_iter=K_MEANS_STEPS, random_state=seed).fit(vectors)
    filled, centre_of = np.unique(found.labels_, return_inverse=True)
    return found.cluster_centers_[filled], centre_of


def _each(vectors: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    return vectors, np.arange(len(vectors))


def _components(channels: Floats, n: int) -> Floats:
    """The first n principal components (D, n) of channel vectors (V, D), by length 1."""
    mean = channels.mean(0, dtype=np.float64)
    centred = channels - mean
    # Of the covariance, since there may be far more voxels than channels.
    found = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :n]
    return np.asarray(np.where(mean @ found < 0, -found, found))
