"""How far voxels move along the depth of a network between two fits, against the distance between seeds of one network.

The distance of two fits is the mean over voxels of |depth of one - depth of the other|. Two fits to one network that
differ only in their seeds have a distance too. So the distance to another network is given as a ratio to that of seeds,
with an interval and a test over patches of cortex, because neighbouring voxels are not independent.

Shape letters: N voxels, F fits, P patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from bddn.stats.agreement import ratio

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

N_SIGNS = 9999  # random signs of patches
MIN_PATCHES = 5  # with fewer there is neither interval nor test


@dataclass(frozen=True)
class Distance:
    """How far some voxels moved.

    Attributes
    ----------
    moved : float
        Mean |Δdepth|; depth runs from 0 to 1. NaN without voxels.
    noise : float
        The same between seeds of one network; NaN if it is not known.
    ratio, low, high : float
        moved / noise, with its 95 % interval from a bootstrap of patches.
    p : float
        One-sided: that the voxels moved no farther than between seeds, from random signs of the differences of patches.
    """

    moved: float
    noise: float
    ratio: float
    low: float
    high: float
    p: float


def seed_distances(depths: Sequence[Floats]) -> Floats:
    """Return |Δdepth| between all pairs of fits to one network, (F (F - 1) / 2, N), of their depths, F × (N,)."""
    pairs = [np.abs(a - b) for a, b in combinations(depths, 2)]
    return np.stack(pairs) if pairs else np.empty((0, len(depths[0])))


def distance(moved: Floats, seeds: Floats, patch: Ints) -> Distance:
    """Compare how far voxels moved with the distance between seeds.

    Parameters
    ----------
    moved : array of float64, (N,)
        |Δdepth| of each voxel.
    seeds : array of float64, (·, N)
        Result of `seed_distances`; no row if there is only one seed.
    patch : array of int, (N,)
        The patch of cortex of each voxel, from 0.
    """
    unknown = float("nan")
    if not len(moved) or not len(seeds):
        return Distance(float(moved.mean()) if len(moved) else unknown, unknown, unknown, unknown, unknown, unknown)
    noise = seeds.mean(axis=0)
    mean, of_seeds = float(moved.mean()), float(noise.mean())
    if len(np.unique(patch)) < MIN_PATCHES or of_seeds == 0:
        return Distance(mean, of_seeds, mean / of_seeds if of_seeds else unknown, unknown, unknown, unknown)
    found, p = ratio(moved, noise, patch), _p_value(moved - noise, patch)
    if found is None:  # hardly a patch differs between seeds
        return Distance(mean, of_seeds, mean / of_seeds, unknown, unknown, p)
    return Distance(mean, of_seeds, found.value, found.low, found.high, p)


def voxel_p_values(moved: Floats, seeds: Floats) -> Floats:
    """Return for each voxel the share of distances between seeds, of all voxels together, that are at least as large.

    So a voxel moved if it moved farther than voxels do between seeds. All voxels form one null distribution; seeds that
    differ more at some places than at others make p-values too small there.

    Parameters
    ----------
    moved : array of float64, (N,)
    seeds : array of float64, (·, N)

    Returns
    -------
    array of float64, (N,)
        NaN without seeds.
    """
    if not seeds.size:
        return np.full(len(moved), np.nan)
    null = np.sort(seeds.ravel())
    return np.asarray((1 + len(null) - np.searchsorted(null, moved, side="left")) / (1 + len(null)))


def _p_value(difference: Floats, patch: Ints) -> float:
    """Return the share of random signs of the sums over patches whose total is at least the observed one."""
    sums = np.bincount(patch, difference)
    sums = sums[sums != 0]
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (N_SIGNS, len(sums)))
    totals = np.einsum("sp,p->s", signs, sums)
    return float((1 + (totals >= sums.sum() * (1 - 1e-12)).sum()) / (1 + N_SIGNS))
