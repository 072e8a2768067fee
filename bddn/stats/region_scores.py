"""Mean brain scores of regions with what each test image contributes, so that models can be compared image by image.

Shape letters: M test images, N voxels, G regions.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bddn.stats.jackknife import intervals, pseudo_values, r2_without_each
from bddn.stats.scores import LEAST_R2, r2_and_r

Floats = npt.NDArray[np.float64]

BLOCK_VOXELS = 1024
LEVEL = 0.95


def region_scores(
    measured: npt.NDArray[np.float32], predicted: npt.NDArray[np.float32], regions: Sequence[npt.NDArray[np.bool_]]
) -> Floats:
    """Return the robust mean of R² over the voxels of each region, and its pseudo-values (see `stats.jackknife`).

    As in `stats.scores.robust_mean`, scores below -1 count as -1, and voxels with constant responses are left out.

    Parameters
    ----------
    measured, predicted : array of float32, (M, N)
    regions : G masks (N,)

    Returns
    -------
    array of float64, (G, 1 + M)
        The mean, then the pseudo-value of every image. NaN for a region without a score.
    """
    inside = np.stack(regions).astype(np.float64)
    n, sums, without = np.zeros(len(inside)), np.zeros(len(inside)), np.zeros((len(inside), len(measured)))
    for start in range(0, measured.shape[1], BLOCK_VOXELS):
        some = slice(start, start + BLOCK_VOXELS)
        r2, _ = r2_and_r(measured[:, some], predicted[:, some])
        known = ~np.isnan(r2)
        here = inside[:, some][:, known]
        each = np.maximum(r2_without_each(measured[:, some], predicted[:, some])[:, known], LEAST_R2)
        n += here.sum(1)
        sums += np.einsum("gn,n->g", here, np.maximum(r2[known], LEAST_R2))  # not by BLAS, whose last bits depend on
        without += np.einsum("gn,mn->gm", here, each)  # the number of threads
    n[n == 0] = np.nan
    mean = sums / n
    return np.column_stack([mean, pseudo_values(mean, without.T / n).T])


def interval(scores: Floats) -> tuple[Floats, Floats]:
    """Return the ends (G,) of the 95 % intervals of scores (G, 1 + M), or of differences of the scores of two models.

    They are those of the scores that are expected on very many images. NaN with fewer than 10 images.
    """
    low, high = intervals(scores[:, 1:].T, [LEVEL])[0]
    return low, high
