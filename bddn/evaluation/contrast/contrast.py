"""Compare models on one subject: the errors of every model at every test image, read once, in blocks of voxels.

The mean R² of an ROI has a pseudo-value for each test image, as in `bddn.stats.jackknife`. Their spread over images
respects that all voxels share the images.

Shape letters: M test images, N voxels, n voxels of a block, K models, F folds, G groups of voxels, P pairs of models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from bddn.evaluation.kept_responses import HeldOut
from bddn.machine.parallel import ahead, n_threads
from bddn.machine.settings import own_settings
from bddn.machine.shared_setting import single_threaded_products
from bddn.stats import best_model, paired
from bddn.stats.jackknife import pseudo_values, r2_without_each_of
from bddn.stats.scores import LEAST_R2, counted

Floats = npt.NDArray[np.float64]
Columns = npt.NDArray[np.intp]
Arrays = dict[str, Floats]

SEED = 0
ALL_PAIRS = 4  # largest number of models that are all compared with each other; more are compared with the first
SAMPLED_VOXELS, SAMPLED_VALUES = 2000, 2**23  # whose signs are drawn; values of all models and images
BLOCK_VALUES = 2**22  # of all models


@dataclass(frozen=True)
class Difference:
    """The second model minus the first.

    Attributes
    ----------
    first, second : int
        Numbers of the models.
    r2, low, high, p : array of float64, (N,)
        Difference of R², its 95 % interval, and the two-sided p-value. NaN where responses do not vary, p is 1 there.
    null : array of float64
        Null p-values of the paired test; see `bddn.stats.paired.null_p_values`.
    """

    first: int
    second: int
    r2: Floats
    low: Floats
    high: Floats
    p: Floats
    null: Floats


@dataclass(frozen=True)
class Contrast:
    """All models on one subject.

    Attributes
    ----------
    models : tuple of str, (K,)
    n_images : int
        M.
    r2 : array, (K, N)
        Mean over the fits of a model; NaN where responses do not vary.
    best : array, (N,)
        R² of the best model, chosen by the images that score it.
    honest : array, (N,)
        R² of the model that is best on the other images.
    by_number : array, (K, 2)
        Mean over voxels of the best of k models, chosen by the same images, and by the other images.
    means : array, (K + 1, G)
        Mean R² of each group, scores below -1 as -1; the last are those of `honest`.
    values : array, (K + 1, M, G)
        Pseudo-values of the images for these means; see `bddn.stats.jackknife`.
    square_values : array, (K, M, G)
        Pseudo-values of the images for the mean squared difference to the best model.
    fits : tuple of array, (K,)
        Mean R² of each group and fit, (R, G).
    differences : list of Difference
    """

    models: tuple[str, ...]
    n_images: int
    r2: Floats
    best: Floats
    honest: Floats
    by_number: Floats
    means: Floats
    values: Floats
    square_values: Floats
    fits: tuple[Floats, ...]
    differences: list[Difference]


class Errors:
    """Squared errors of all models at some voxels, averaged over the fits of each."""

    def __init__(self, models: Sequence[Sequence[HeldOut]]) -> None:
        self._held = models
        first = self._held[0][0]
        self._first, row = first, {stimulus: i for i, stimulus in enumerate(first.ids)}
        self._rows = {id(held): np.argsort([row[s] for s in held.ids]) for fits in self._held for held in fits}
        self.n_images, self.n_voxels = len(first.ids), first.measured.shape[1]
        self.n_fits = [len(fits) for fits in self._held]

    def at(self, columns: "Columns | slice") -> tuple[Floats, Floats, list[Floats]]:
        """Return the responses (M, n), the errors (K, M, n), and for each model the mean error of each fit, (R, n)."""
        y = self._first.of_images(self._first.measured[:, columns]).astype(np.float64)
        errors, fits = [], []
        for held_of_model in self._held:
            own = [np.square(y - self._predicted(held, columns)) for held in held_of_model]
            errors.append(own[0] if len(own) == 1 else np.mean(own, axis=0))
            fits.append(np.stack([one.mean(axis=0) for one in own]))
        return y, np.stack(errors), fits

    def _predicted(self, held: HeldOut, columns: "Columns | slice") -> npt.NDArray[np.float32]:
        return held.of_images(held.predicted[:, columns])[self._rows[id(held)]]


def pairs(n_models: int) -> list[tuple[int, int]]:
    """Return the pairs of models that are compared: all of at most 4 models, else each with the first."""
    if n_models <= ALL_PAIRS:
        return list(combinations(range(n_models), 2))
    return [(0, k) for k in range(1, n_models)]


@own_settings()
def contrast(models: Mapping[str, Sequence[HeldOut]], groups: Mapping[str, npt.NDArray[np.bool_]]) -> Contrast:
    """Compare models on one subject. The result does not depend on the number of threads.

    Parameters
    ----------
    models : mapping of str to sequence of HeldOut
        One fit or several of each model, with the same measured responses to the same images.
    groups : mapping of str to array of bool, (N,)
        Groups of voxels, such as ROIs.
    """
    errors, members = Errors(list(models.values())), np.stack(list(groups.values()), axis=1)
    n_images, n_voxels, n_models = errors.n_images, errors.n_voxels, len(models)
    sets, fold = best_model.subsets(n_models), best_model.folds(n_images, SEED)
    width = max(16, BLOCK_VALUES // (n_images * (n_models + 1)))
    totals, parts = Arrays(), list[Arrays]()
    with single_threaded_products():
        nulls = _nulls(errors, n_models)

        def of(start: int) -> tuple[Arrays, Arrays]:
            columns = slice(start, min(start + width, n_voxels))
            return _of_block(*errors.at(columns), members[columns], nulls, sets, fold)

        for sums, part in ahead(of, range(0, n_voxels, width), n_threads()):
            totals = {name: totals[name] + value if totals else value for name, value in sums.items()}
            parts.append(part)
    found = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
    n_of_group = np.where(totals["counts"] > 0, totals["counts"], np.nan)
    means = totals["means"] / n_of_group

    def pseudo(means: Floats, without: str) -> Floats:
        return np.stack([pseudo_values(*of) for of in zip(means, totals[without] / n_of_group, strict=True)])

    of_pairs = zip(nulls.items(), found["pairs"], strict=True)
    return Contrast(
        tuple(models),
        n_images,
        found["r2"],
        found["best"],
        found["honest"],
        totals["by_number"] / max(float(totals["n_known"]), 1.0),
        means,
        pseudo(means, "without"),
        pseudo(totals["square"] / n_of_group, "square_without"),
        tuple(np.split(totals["fits"] / n_of_group, np.cumsum(errors.n_fits)[:-1])),
        [Difference(*pair, one[0], one[1], one[2], one[3], null) for (pair, null), one in of_pairs],
    )


def _nulls(errors: Errors, n_models: int) -> dict[tuple[int, int], Floats]:
    """Return the null distribution of each pair, from some voxels that are evenly spaced."""
    n_sampled = min(errors.n_voxels, SAMPLED_VOXELS, max(1, SAMPLED_VALUES // (errors.n_images * n_models)))
    _, found, _ = errors.at(np.arange(n_sampled) * errors.n_voxels // n_sampled)
    return {(a, b): paired.null_p_values(found[a] - found[b], SEED) for a, b in pairs(n_models)}


def _of_block(
    y: Floats,
    errors: Floats,
    fits: Sequence[Floats],
    members: npt.NDArray[np.bool_],
    nulls: Mapping[tuple[int, int], Floats],
    sets: Sequence[Sequence[tuple[int, ...]]],
    fold: Columns,
) -> tuple[Arrays, Arrays]:
    """Return what is added up over the blocks of voxels, and what is joined along the last axis; see `Contrast`."""
    known, n_images = (y != y[0]).any(axis=0), len(y)
    variance = np.where(known, y.var(axis=0), 1.0)
    folded = best_model.fold_sums(errors, fold)
    honest = np.take_along_axis(errors, best_model.best_elsewhere(folded)[fold][None], 0)
    every = np.concatenate([errors, honest])
    r2 = np.where(known, 1 - every.mean(axis=1) / variance, np.nan)
    scored, without = counted(r2), np.stack([counted(r2_without_each_of(y, error)) for error in every])
    scores = [1 - own / variance for own in fits]
    inside = (members & known[:, None]).astype(np.float64)
    sums = {
        "counts": inside.sum(axis=0),
        "n_known": np.asarray(known.sum(), dtype=np.float64),
        "means": scored @ inside,
        "without": without @ inside,
        "square": _below_best(scored[:-1]) @ inside,
        "square_without": _below_best(without[:-1]) @ inside,
        "fits": np.concatenate([np.maximum(own, LEAST_R2) @ inside for own in scores]),
        "by_number": np.array(
            [np.mean([_sums(folded, chosen, variance * n_images, known) for chosen in of], axis=0) for of in sets]
        ),
    }
    part = {
        "r2": r2[:-1],
        "best": r2[:-1].max(axis=0),
        "honest": r2[-1],
        "pairs": np.stack([_pair(errors / variance, scores, known, pair, null) for pair, null in nulls.items()]),
    }
    return sums, part


def _pair(
    shares: Floats, scores: Sequence[Floats], known: npt.NDArray[np.bool_], pair: tuple[int, int], null: Floats
) -> Floats:
    """Return difference, low, high and p, (4, n). If both models have several fits, these are a part of the error.

    `shares` (K, M, n) are squared errors over the variance of the responses, `scores` the R² (R, n) of each fit.
    """
    first, second = pair
    d = shares[first] - shares[second]
    spreads = [paired.over(d)]
    if min(len(scores[first]), len(scores[second])) > 1:
        spreads += [paired.over(scores[k]) for k in pair]
    difference, spread = d.mean(axis=0), paired.together(spreads)
    p, reach = paired.p_values(difference, spread, len(d), null), spread.reach()
    found = np.stack([difference, difference - reach, difference + reach])
    return np.concatenate([np.where(known, found, np.nan), np.where(known, p, 1.0)[None]])


def _below_best(scores: Floats) -> Floats:
    """Return the squared differences of scores (K, …) to the best of them."""
    return np.asarray(np.square(scores.max(axis=0) - scores))


def _sums(folded: Floats, chosen: Sequence[int], total: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Return the sum over voxels of the R² of the best of the chosen models, chosen by the same and by other images."""
    scores = [1 - error / total for error in best_model.best_of(folded, chosen)]
    return np.array([np.maximum(score, LEAST_R2)[known].sum() for score in scores])
