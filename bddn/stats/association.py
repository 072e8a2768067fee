"""The association of two numbers over few units, such as the hierarchy slope and the forgetting of networks.

Units must be independent of each other: networks, not the image sets or seeds of one network. In a design where every
network meets the same image sets and as many seeds, the test of a predictor that only differs between networks is, in a
mixed model too, the one on the means of the networks; so several values of a network are averaged first.

Tests count orders: under independence all n! assignments of predictors to outcomes are equally probable, whatever the
distribution. So few units cannot give a small p-value: with four there are 24 orders, so it is at least 0.042, and
0.083 for ranks, where the reverse order is as far from 0.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import permutations
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
LEAST_UNITS = 3  # for a correlation, and 4 for its interval
MOST_EXACT = 8  # units of which all orders are tried
N_ORDERS = 19_999  # random orders of more units
TOLERANCE = 1e-9  # relative; equal sums of other orders differ in their last digits

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """A correlation over n units; NaN if it is not defined.

    Attributes
    ----------
    r : float
    low, high : float
        95 % interval by Fisher's z, from 4 units on; that of ranks has the error of Bonett and Wright (Psychometrika
        2000). It assumes normal values: for a true correlation of 0.7 of skewed values it held 83 to 90 %.
    p : float
        Two-sided: the share of orders of the units whose correlation is at least as far from 0.
    """

    r: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Association:
    """How an outcome goes with a predictor over n units.

    Attributes
    ----------
    n : int
    pearson, spearman : Correlation
    change, change_low, change_high : float
        Change of the outcome with one unit of the predictor (least squares), and its 95 % interval: the changes that a
        test on orders does not reject. It holds for errors of any distribution, and is infinite if so few units cannot
        bound it. It excludes 0 exactly if p of Pearson's correlation is at most 0.05.
    n_orders : int
        Orders of the units that p-values count; see `is_exact`.
    is_exact : bool
        Whether these are all orders.
    without : dict of str to float
        Pearson's correlation without each unit.
    """

    n: int
    pearson: Correlation
    spearman: Correlation
    change: float
    change_low: float
    change_high: float
    n_orders: int
    is_exact: bool
    without: dict[str, float]

    @property
    def smallest_p(self) -> float:
        """The smallest p-value of Pearson's correlation that so many units can give."""
        return 1 / self.n_orders

    @property
    def critical_r(self) -> float:
        """The size above which Pearson's correlation is significant, for normal values; NaN for fewer than 3 units."""
        return critical_r(self.n)

    @property
    def is_significant(self) -> bool:
        """Whether p of Pearson's correlation is at most 0.05."""
        return self.pearson.p <= 1 - LEVEL

    @property
    def is_stable(self) -> bool:
        """Whether the correlation keeps its sign without any one of the units."""
        values = np.array([self.pearson.r, *self.without.values()])
        return bool(np.all(values > 0) or np.all(values < 0))

    @property
    def matters_most(self) -> str | None:
        """The unit without which Pearson's correlation changes most; None if it is not defined without one."""
        moved = {name: abs(r - self.pearson.r) for name, r in self.without.items() if np.isfinite(r)}
        return max(moved, key=lambda name: moved[name]) if moved else None

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers."""
        return asdict(self) | {"smallest_p": self.smallest_p, "critical_r": self.critical_r}


def critical_r(n: int) -> float:
    """Return the size above which a correlation of n units with normal values has p < 0.05, two-sided."""
    from scipy.stats import t

    if n < LEAST_UNITS:
        return float("nan")
    reach = float(t.ppf((1 + LEVEL) / 2, n - 2))
    return reach / float(np.sqrt(n - 2 + reach**2))


def associate(
    predictor: Sequence[float] | Floats, outcome: Sequence[float] | Floats, names: Sequence[str]
) -> Association:
    """Relate an outcome to a predictor over units.

    Parameters
    ----------
    predictor, outcome : array of float, (n,)
        Finite values, one of each unit.
    names : sequence of str, (n,)

    Returns
    -------
    Association
        Its correlations are NaN for fewer than 3 units, or if all have the same predictor or outcome.
    """
    from scipy.stats import rankdata

    x, y = np.asarray(predictor, np.float64), np.asarray(outcome, np.float64)
    n = len(x)
    orders = _orders(n)
    without = {name: _pearson(np.delete(x, k), np.delete(y, k)) for k, name in enumerate(names)}
    ranks = rankdata(x), rankdata(y)
    r, rho = _pearson(x, y), _pearson(*ranks)
    half_step = 6 / (n * (n**2 - 1)) if n > 1 else 0.0  # ranks cannot show more than 1, so 1 stands for less
    spread = np.sqrt(1 + rho**2 / 2)
    return Association(
        n,
        Correlation(r, *_fisher(r, n), _share(x, y, orders)),
        Correlation(
            rho, *_fisher(float(np.clip(rho, half_step - 1, 1 - half_step)), n, spread), _share(*ranks, orders)
        ),
        *_change(x, y, orders),
        len(orders),
        n <= MOST_EXACT,
        without,
    )


def difference_of_correlations(predictor: Floats, rival: Floats, outcome: Floats) -> tuple[float, float, float]:
    """Return how much more an outcome correlates with a predictor than with a rival, |r| - |r'|, and its 95 % interval.

    The two correlations depend on each other, because they share the outcome (Zou, Psychological Methods 2007). All
    arrays are (n,) float64. NaN for fewer than 5 units, or if one of the correlations is not defined.
    """
    n = len(outcome)
    r = np.array([_pearson(predictor, outcome), _pearson(rival, outcome), _pearson(predictor, rival)])
    if n <= LEAST_UNITS + 1 or np.isnan(r).any() or np.any(np.abs(r[:2]) >= 1):
        return float(abs(r[0]) - abs(r[1])), float("nan"), float("nan")
    one, two = np.abs(r[:2])
    both = r[2] * np.sign(r[0]) * np.sign(r[1])
    (one_low, one_high), (two_low, two_high) = _fisher(one, n), _fisher(two, n)
    shared = (both - one * two / 2) * (1 - one**2 - two**2 - both**2) + both**3
    shared /= (1 - one**2) * (1 - two**2)

    def reach(a: float, b: float) -> float:
        return float(np.sqrt(max(0.0, a**2 + b**2 - 2 * shared * a * b)))

    difference = float(one - two)
    return (
        difference,
        difference - reach(one - one_low, two_high - two),
        difference + reach(one_high - one, two - two_low),
    )


def _pearson(x: Floats, y: Floats) -> float:
    """Return the correlation; NaN for fewer than 3 units or constant values."""
    if len(x) < LEAST_UNITS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))


def _fisher(r: float, n: int, spread: float = 1.0) -> tuple[float, float]:
    """Return the 95 % interval of a correlation by Fisher's z, whose error is spread / √(n - 3)."""
    from scipy.stats import norm

    if n <= LEAST_UNITS or np.isnan(r):
        return float("nan"), float("nan")
    if abs(r) >= 1:
        return r, r
    reach = norm.ppf((1 + LEVEL) / 2) * spread / np.sqrt(n - 3)
    return float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach))


@lru_cache(maxsize=4)
def _orders(n: int) -> npt.NDArray[np.intp]:
    """Return all orders of n units, (n!, n), or of many units the given one and random ones."""
    if n <= MOST_EXACT:
        return np.array(list(permutations(range(n))), np.intp).reshape(factorial(n), n)
    rng = np.random.default_rng(n)
    return np.concatenate([np.arange(n)[None], rng.permuted(np.tile(np.arange(n), (N_ORDERS, 1)), axis=1)])


def _share(x: Floats, y: Floats, orders: npt.NDArray[np.intp]) -> float:
    """Return the share of orders that correlate at least as much as the given one, in either direction."""
    if np.isnan(_pearson(x, y)):
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    products = np.abs(x[orders] @ y)
    return float(np.mean(products >= abs(x @ y) - TOLERANCE * np.sqrt((x @ x) * (y @ y))))


def _change(x: Floats, y: Floats, orders: npt.NDArray[np.intp]) -> tuple[float, float, float]:
    """Return the slope of the regression of y on x, and the interval of slopes that a test on orders does not reject.

    A slope b is tested by the products Σ x (y - b x) of all orders of x. An order counts against b if its product is
    at least as far from 0 as that of the given order, which is so for b between two values, where both are equal. The
    interval is where more than 5 % of the orders count.
    """
    if np.isnan(_pearson(x, y)):
        return float("nan"), float("nan"), float("nan")
    x, y = x - x.mean(), y - y.mean()
    xx, xy = x @ x, x @ y
    shuffled_xx, shuffled_xy = x[orders] @ x, x[orders] @ y
    ends = []
    for gap, height in ((xx - shuffled_xx, xy - shuffled_xy), (xx + shuffled_xx, xy + shuffled_xy)):
        is_same = gap <= TOLERANCE * xx  # the given order, or its reverse: equal for every b
        ends.append(np.where(is_same, np.nan, height / np.where(is_same, 1, gap)))
    both = np.stack(ends)
    always = np.isnan(both).any(axis=0)
    low = np.where(always, -np.inf, both.min(axis=0))
    high = np.where(always, np.inf, both.max(axis=0))
    n_rejected = int((1 - LEVEL) * len(orders) + TOLERANCE)  # so many orders may count where b is rejected
    return float(xy / xx), float(np.sort(low)[n_rejected]), float(np.sort(high)[::-1][n_rejected])
