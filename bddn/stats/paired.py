"""Paired tests over test images: whether one encoder predicts better than another.

At image m, the difference is d_m = (squared error of the first encoder) - (squared error of the second). The difference
of their R² is the mean of d over the variance of the responses. The null hypothesis says that the mean of d is 0.

The two-sided p-value of a voxel is that of the paired t-test over images, or the share of random signs that give at
least this t if that is larger, as for heavy-tailed differences. The signs of a sample of the voxels are drawn, with the
same signs for all of them, and the values of all voxels form one null distribution; see `stats.evidence`, which uses
shuffled images in the same way.

Shape letters: M test images, N voxels, S sampled voxels, R runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bddn.stats.evidence import NULL_VALUES, SHUFFLES, calibrated

Floats = npt.NDArray[np.float64]

COVERED = 0.95  # of an interval
LARGE_T, TABLE_SIZE = 20.0, 4001


@dataclass(frozen=True)
class Spread:
    """Standard errors (N,) of means, and their degrees of freedom (N,) or ()."""

    error: Floats
    df: Floats

    def reach(self) -> Floats:
        """Return half the width of the 95 % interval, (N,)."""
        from scipy.special import stdtrit

        return np.asarray(stdtrit(self.df, (1 + COVERED) / 2) * self.error, dtype=np.float64)


def over(values: Floats) -> Spread:
    """Return the spread of the means of values (M, N) of M independent images, or runs."""
    n = len(values)
    return Spread(np.asarray(values.std(axis=0, ddof=1) / np.sqrt(n)), np.asarray(n - 1.0))


def together(parts: Sequence[Spread]) -> Spread:
    """Return the spread of a sum of independent means, by the formula of Welch and Satterthwaite (Biometrics 1946)."""
    square = np.asarray(sum(np.square(part.error) for part in parts))
    below = np.asarray(sum(np.square(np.square(part.error)) / part.df for part in parts))
    return Spread(np.sqrt(square), np.where(below > 0, np.square(square) / np.where(below > 0, below, 1), 1.0))


def null_p_values(differences: Floats, seed: int) -> Floats:
    """Return the p-values of the t-test of differences (M, S) with random signs, for all signs and voxels together.

    Returns
    -------
    array of float64
        Sorted. Empty if no difference varies.
    """
    n = len(differences)
    square = np.einsum("mn,mn->n", differences, differences)
    d = differences[:, square > 0]
    n_draws = int(np.clip(NULL_VALUES // max(d.shape[1], 1), *SHUFFLES))
    signs = np.random.default_rng([seed, 5]).choice([-1.0, 1.0], (n_draws, n))
    mean = np.einsum("rm,mn->rn", signs, d, optimize=True) / n
    variance = np.maximum(square[square > 0] / n - mean**2, 0) / (n - 1)
    return np.sort(_table_of_t(_t(mean.ravel(), np.sqrt(variance).ravel()), n - 1))


def p_values(mean: Floats, spread: Spread, n_images: int, null: Floats) -> Floats:
    """Return two-sided p-values (N,) of means (N,) that are 0 under the null hypothesis.

    Parameters
    ----------
    mean : array of float64, (N,)
    spread : Spread
        Of the means.
    n_images : int
        M. No p-value is below 2 / 2^M, the chance of one choice of signs; all are 1 with fewer than 3 images.
    null : array of float64
        The result of `null_p_values`.
    """
    if n_images < 3:
        return np.ones(len(mean))
    p = _t_test(mean, spread)
    if len(null):
        p = calibrated(p, null)
    return np.where(mean == 0, 1.0, np.clip(p, 2.0 ** (1 - min(n_images, 1000)), 1.0))


def _t(mean: Floats, error: Floats) -> Floats:
    """Return the magnitude of t (N,): 0 for a mean of 0, infinite for others without an error."""
    t = np.abs(mean) / np.where(error > 0, error, 1)
    return np.where(error > 0, t, np.where(mean == 0, 0.0, np.inf))


def _t_test(mean: Floats, spread: Spread) -> Floats:
    """Return two-sided p-values (N,) of means."""
    from scipy.special import stdtr

    return np.asarray(2 * stdtr(spread.df, -_t(mean, spread.error)), dtype=np.float64)


def _table_of_t(t: Floats, df: float) -> Floats:
    """Return two-sided p-values (n,) of very many values, interpolated with a relative error below 1e-5."""
    from scipy.special import stdtr

    known = np.linspace(0, LARGE_T, TABLE_SIZE)
    p = np.exp(np.interp(t, known, np.log(2 * stdtr(df, -known))))
    p[t > LARGE_T] = 2 * stdtr(df, -t[t > LARGE_T])
    return np.asarray(p, dtype=np.float64)
