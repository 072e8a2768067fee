"""Agreement of two maps of the same voxels, with intervals over patches of cortex.

Neighbouring voxels are not independent, so a bootstrap draws patches, not voxels. A ratio or a correlation of a draw
needs only sums over patches.

Shape letters: V voxels, P patches, B draws.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

N_DRAWS = 1000
COVERED = (2.5, 97.5)  # percentiles
FLAT = 1e-6  # standard deviation of a map that is constant


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def correlation(a: Floats, b: Floats, patch: Ints) -> Estimate:
    """Return the correlation of two maps (V,), 0 if one of them is constant; `patch` (V,) numbers the patches."""
    if min(a.std(), b.std()) < FLAT:
        return Estimate(0.0, 0.0, 0.0)
    a, b = ((one - one.mean()) / one.std() for one in (a, b))

    def of(sums: Floats) -> Floats:
        n, x, y, xx, yy, xy = sums.T
        spread = np.maximum(n * xx - x**2, 0) * np.maximum(n * yy - y**2, 0)
        return np.asarray((n * xy - x * y) / np.sqrt(np.where(spread > 0, spread, np.inf)))

    return _estimate(np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], axis=1), patch, of)


def ratio(a: Floats, b: Floats, patch: Ints) -> Estimate | None:
    """Return the mean of `a` (V,) over the mean of `b` (V,); None unless that is positive with its whole interval,
    because a multiple of nothing is no number."""
    if _estimate(b[:, None], patch, lambda sums: sums[:, 0]).low <= 0:
        return None
    return _estimate(np.stack([a, b], axis=1), patch, lambda sums: sums[:, 0] / np.maximum(sums[:, 1], 1e-12))


def slope(a: Floats, b: Floats) -> float:
    """Return the slope of the regression of `a` (V,) on `b` (V,); 0 if `b` is constant."""
    centred = b - b.mean()
    return float(centred @ a / (centred @ centred)) if b.std() >= FLAT else 0.0


def repeatability(a: Floats, b: Floats) -> float:
    """Return the reliability of a map from its two halves (V,), by the formula of Spearman and Brown; at least 0."""
    if min(a.std(), b.std()) < FLAT:
        return 0.0
    r = float(np.corrcoef(a, b)[0, 1])
    return max(0.0, 2 * r / (1 + r)) if r > -1 else 0.0


def _estimate(values: Floats, patch: Ints, of: Callable[[Floats], Floats]) -> Estimate:
    """Return the estimate of a function of sums (B, k) of values (V, k)."""
    n = int(patch.max()) + 1
    sums: Floats = np.stack([np.bincount(patch, column, n) for column in values.T], axis=1)
    sums = sums[np.bincount(patch, minlength=n) > 0]
    draws = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), N_DRAWS)
    low, high = np.percentile(of(np.einsum("bp,pk->bk", draws.astype(np.float64), sums)), COVERED)
    return Estimate(float(of(sums.sum(0, keepdims=True))[0]), float(low), float(high))
