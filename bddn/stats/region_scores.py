"""Mean brain scores of regions with what each test image contributes, so that models can be compared image by image.

Shape letters: M test images, N voxels, G regions.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bddn.stats.blocks import voxel_blocks
from bddn.stats.jackknife import intervals, pseudo_values, r2_without_each
from bddn.stats.scores import counted, r2_and_r

Floats = npt.NDArray[np.float64]

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
    sums = RegionSums(regions, len(measured))
    for some in voxel_blocks(measured.shape[1]):
        y, p = measured[:, some], predicted[:, some]
        sums.add(some, r2_and_r(y, p)[0], r2_without_each(y, p))
    mean, pseudo = sums.means()
    return np.column_stack([mean, pseudo.T])


class RegionSums:
    """Sums over the voxels of regions of R² on M images and without each image, added up over blocks of voxels.

    Parameters
    ----------
    regions : G masks (N,)
    n_images : int
    """

    def __init__(self, regions: Sequence[npt.NDArray[np.bool_]], n_images: int) -> None:
        from scipy.sparse import csr_array

        # sparse products, because the last bits of others depend on the number of threads
        self._members = csr_array(np.stack(regions).astype(np.float64)).tocsc()
        n = len(regions)
        self._n, self._sums, self._without = np.zeros(n), np.zeros(n), np.zeros((n, n_images))

    def add(self, columns: slice, r2: Floats, without_each: Floats) -> None:
        """Add R² (n,) of a block of voxels, NaN where there is none, and R² without each image (M, n)."""
        here = self._members[:, columns]
        self._n += here @ (~np.isnan(r2)).astype(np.float64)
        self._sums += here @ counted(r2)
        self._without += here @ counted(without_each).T

    def means(self) -> tuple[Floats, Floats]:
        """Return the robust means (G,), and their pseudo-values (M, G); NaN for a region without a score."""
        n = np.where(self._n > 0, self._n, np.nan)
        mean = self._sums / n
        return mean, pseudo_values(mean, self._without.T / n)


def interval(scores: Floats) -> tuple[Floats, Floats]:
    """Return the ends (G,) of the 95 % intervals of scores (G, 1 + M), or of differences of the scores of two models.

    They are those of the scores that are expected on very many images. NaN with fewer than 10 images.
    """
    low, high = intervals(scores[:, 1:].T, [LEVEL])[0]
    return low, high
