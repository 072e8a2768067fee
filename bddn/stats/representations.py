"""How similar two networks represent the same images: linear CKA, and overlap of nearest neighbours.

Shape letters: n images, P places, C and D channels, K neighbours.
"""

import numpy as np
import numpy.typing as npt

from bddn.machine.parallel import each
from bddn.machine.shared_setting import single_threaded_products
from bddn.stats.audit import LEAST_IMAGES, doubly_centred
from bddn.stats.neighbours import unit_vectors

Tokens = npt.NDArray[np.floating]

N_NEIGHBOURS = 10
BLOCK = 128  # images that are compared with all others at once


def cka_between(first: Tokens, second: Tokens) -> float:
    """Return the linear CKA of a layer in two networks, whose widths may differ.

    It is that of `bddn.stats.audit.linear_cka` (Kornblith et al., ICML 2019), with the unbiased estimator of HSIC (Song
    et al., JMLR 2012), summed over places: 1 for tokens that are equal up to rotation, scale and a constant, and 0 on
    average for tokens that have nothing in common. It is exactly 1 for equal tokens.

    Parameters
    ----------
    first, second : array, (n, P, C) and (n, P, D)
        Tokens of the same images at the same places; P is 1 for global tokens.

    Returns
    -------
    float
        NaN if one of them is the same for all images, or there are fewer than 8 images.
    """
    if len(first) < LEAST_IMAGES:
        return float("nan")

    def of_place(place: int) -> tuple[float, float, float]:
        a, b = (doubly_centred(tokens[:, place]).ravel() for tokens in (first, second))
        return float(a @ b), float(a @ a), float(b @ b)

    with single_threaded_products():
        both, own, other = np.sum([of_place(place) for place in range(first.shape[1])], axis=0)
    return float(both / np.sqrt(own * other)) if own > 0 and other > 0 else float("nan")


def neighbour_overlap(first: Tokens, second: Tokens, k: int = N_NEIGHBOURS) -> float:
    """Return the share of the k nearest neighbours of an image that are its neighbours in both networks, mean over the
    images (mutual k-NN; Huh et al., ICML 2024).

    Neighbours have the largest cosine, after subtraction of the mean over images. Two networks that have nothing in
    common share `chance_overlap` of them. It is exactly 1 for equal tokens.

    Parameters
    ----------
    first, second : array, (n, C) and (n, D)
        Global tokens of the same images. Time grows with n², memory with n; a sample of at most 2,000 images is enough.
    k : int

    Returns
    -------
    float
        NaN if one of them is the same for all images, or there are not more than k images.
    """
    n = len(first)
    units = [unit_vectors((tokens - tokens.mean(0, dtype=np.float64)).astype(np.float32)) for tokens in (first, second)]
    if n <= k or not all(unit.any() for unit in units):
        return float("nan")

    def common(start: int) -> int:
        rows = np.arange(start, min(start + BLOCK, n))
        near = np.zeros((2, len(rows), n), np.bool_)
        for unit, found in zip(units, near, strict=True):
            cosine = unit[rows] @ unit.T
            cosine[rows - start, rows] = -np.inf
            np.put_along_axis(found, np.argpartition(-cosine, k - 1, axis=1)[:, :k], True, axis=1)
        return int(near.all(axis=0).sum())

    with single_threaded_products():
        return sum(each(common, range(0, n, BLOCK))) / (n * k)


def chance_overlap(n: int) -> float:
    """Return the overlap of neighbours that is expected of two networks with nothing in common, for n images."""
    return N_NEIGHBOURS / (n - 1) if n > N_NEIGHBOURS else float("nan")
