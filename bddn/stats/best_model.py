"""The "max" model of the paper: at each voxel, the best of several models; and how far each model is below it.

The score of the best of K noisy scores is too high: the model is chosen by the same images that score it. So the score
is also given of the model that is best on the other images: test images are divided into folds, and each fold is scored
with the model that has the least error on all other folds. In expectation, this is at most the score of the truly best
model, and the "max" is at least that.

Shape letters: M test images, F folds, K models, N voxels.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

N_FOLDS = 10
N_SUBSETS = 20  # of the models, for each number of models

TABLE_1: Mapping[str, tuple[str, ...]] = {
    "V1": ("V1",),
    "V2V3": ("V2", "V3"),
    "OPA": ("OPA",),
    "EBA": ("EBA",),
    "FFA": ("FFA",),
    "PPA": ("PPA",),
}
"""The columns of Table 1 of the paper, and the ROIs of `bddn.stats.scores.ROIS` that each pools."""


def root_sum_squared(best: Floats, score: Floats) -> float:
    """Return √ Σ_i (best_i - score_i)² over voxels (N,), the difference that Table 1 of the paper names.

    It grows with the number of voxels, so it compares models within one ROI of one subject only.
    """
    return float(np.sqrt(np.square(best - score).sum()))


def root_mean_square(best: Floats, score: Floats) -> float:
    """Return √ (Σ_i (best_i - score_i)² / N) over voxels (N,). The values that Table 1 of the paper prints fit this."""
    return float(np.sqrt(np.square(best - score).mean()))


def folds(n_images: int, seed: int) -> Ints:
    """Return the fold of each test image, (M,): 10 folds, or as many as leave two images in each, but at least 2."""
    n = max(2, min(N_FOLDS, n_images // 2))
    return np.asarray(np.random.default_rng([seed, 6]).permutation(np.arange(n_images) % n), dtype=np.intp)


def fold_sums(errors: Floats, fold: Ints) -> Floats:
    """Return the sums (F, K, N) of squared errors (K, M, N) over each fold of the images."""
    return np.stack([errors[:, fold == f].sum(axis=1) for f in range(int(fold.max()) + 1)])


def best_elsewhere(sums: Floats) -> Ints:
    """Return for each fold and voxel, (F, N), the model with the least error over all other folds."""
    return np.asarray((sums.sum(axis=0) - sums).argmin(axis=1))


def subsets(n_models: int) -> list[list[tuple[int, ...]]]:
    """Return for each number of models from 1 to K at most 20 sets of this many models, the same at each call."""
    rng, found = np.random.default_rng(7), []
    for size in range(1, n_models + 1):
        if comb(n_models, size) <= N_SUBSETS:
            found.append(list(combinations(range(n_models), size)))
        else:
            drawn = {tuple(sorted(rng.permutation(n_models)[:size].tolist())) for _ in range(N_SUBSETS)}
            found.append(sorted(drawn))
    return found


def best_of(sums: Floats, chosen: Sequence[int]) -> tuple[Floats, Floats]:
    """Return the errors (N,) of the best of the chosen models: chosen by all images, and by the other folds."""
    some = sums[:, list(chosen)]
    elsewhere = np.take_along_axis(some, best_elsewhere(some)[:, None], 1)[:, 0]
    return some.sum(axis=0).min(axis=0), elsewhere.sum(axis=0)
