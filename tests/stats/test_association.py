"""Associations over few units: exact tests, intervals that hold, and what so few units cannot tell."""

import math

import numpy as np
import pytest
from scipy.stats import linregress, pearsonr, permutation_test, spearmanr

from bddn.stats.association import Association, associate, critical_r, difference_of_correlations


def _names(n: int) -> list[str]:
    return [f"network_{k}" for k in range(n)]


def _of(x: object, y: object) -> Association:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return associate(x, y, _names(len(x)))


def _p_of_change(x: np.ndarray, y: np.ndarray, change: float) -> float:
    return _of(x, y - change * x).pearson.p


@pytest.mark.parametrize("n", [4, 6, 7])
def test_it_is_what_scipy_computes(n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(2, n))
    x[1] = x[0]  # equal slopes are not rare with two digits
    found = _of(x, y)

    def products(shuffled: np.ndarray) -> float:
        return abs(float((shuffled - shuffled.mean()) @ y))

    orders = permutation_test((x,), products, permutation_type="pairings", n_resamples=10_000, alternative="greater")
    assert found.pearson.r == pytest.approx(pearsonr(x, y).statistic)
    assert found.spearman.r == pytest.approx(spearmanr(x, y).statistic)
    assert found.change == pytest.approx(linregress(x, y).slope)
    assert found.pearson.p == pytest.approx(orders.pvalue)
    interval = pearsonr(x, y).confidence_interval(0.95)
    assert (found.pearson.low, found.pearson.high) == pytest.approx((interval.low, interval.high))
    assert found.without["network_2"] == pytest.approx(pearsonr(np.delete(x, 2), np.delete(y, 2)).statistic)
    assert (found.n, found.n_orders, found.is_exact) == (n, math.factorial(n), True)


def test_the_interval_of_the_change_ends_where_the_test_rejects() -> None:
    rng = np.random.default_rng(0)
    for n in (5, 6, 9):  # of 9 units, random orders
        x, y = rng.normal(size=(2, n))
        found = _of(x, y)
        for end, outwards in ((found.change_low, -1), (found.change_high, 1)):
            assert _p_of_change(x, y, end - outwards * 1e-6) > 0.05
            assert _p_of_change(x, y, end + outwards * 1e-6) <= 0.05


def test_under_independence_the_test_errs_in_five_percent_of_cases_whatever_the_distribution() -> None:
    rng, n_cases = np.random.default_rng(1), 500
    errs = {"pearson": 0, "spearman": 0, "change": 0}
    for _ in range(n_cases):
        found = _of(rng.exponential(size=6) ** 2, rng.standard_t(2, size=6))
        errs["pearson"] += found.is_significant
        errs["spearman"] += found.spearman.p <= 0.05
        errs["change"] += found.change_low > 0 or found.change_high < 0
    assert max(errs.values()) <= 0.07 * n_cases  # 2 standard errors above 0.05
    assert errs["pearson"] == errs["change"] >= 0.03 * n_cases


def test_a_real_association_is_found_and_its_intervals_hold_it() -> None:
    rng, n_cases = np.random.default_rng(2), 200
    held = found_it = held_r = 0
    for _ in range(n_cases):
        x = rng.normal(size=7)
        found = _of(x, -0.9 * x + np.sqrt(1 - 0.81) * rng.normal(size=7))
        held += found.change_low <= -0.9 <= found.change_high
        held_r += found.pearson.low <= -0.9 <= found.pearson.high
        found_it += found.is_significant and found.pearson.r < 0
    assert min(held, held_r) >= 0.91 * n_cases
    assert found_it >= 0.8 * n_cases


def test_few_units_say_what_they_cannot_tell() -> None:
    four = _of([0.5, 0.32, 0.15, 0.41], [1.0, 3.0, 4.0, 2.0])
    assert four.pearson.p >= four.smallest_p == pytest.approx(1 / 24)
    assert four.spearman.r == pytest.approx(-1)
    assert four.spearman.p == pytest.approx(2 / 24)  # no order of four is significant by ranks
    assert four.spearman.low == pytest.approx(-1, abs=1e-3)
    assert four.spearman.high > 0
    assert critical_r(4) == pytest.approx(0.95, abs=1e-3)
    three = _of([1, 2, 3], [1, 2, 3])
    assert not three.is_significant
    assert (three.change_low, three.change_high) == (-np.inf, np.inf)
    assert np.isnan(three.pearson.low)


@pytest.mark.parametrize(
    ("x", "y"), [([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3, 4], [0, 0, 0, 0]), ([1, 2], [2, 1]), ([], [])]
)
def test_what_is_not_defined_is_nan_and_not_significant(x: list[float], y: list[float]) -> None:
    found = _of(x, y)
    assert np.isnan([found.pearson.r, found.pearson.p, found.spearman.r, found.change, found.change_low]).all()
    assert not found.is_significant
    assert not found.is_stable


def test_one_outlying_unit_is_named_by_the_leave_one_out_range() -> None:
    x, y = np.array([0.1, 0.12, 0.11, 0.13, 0.12, 0.9]), np.array([1.0, 1.1, 1.05, 1.02, 1.0, 9.0])
    found = _of(x, y)
    assert found.pearson.r > 0.99
    assert min(found.without, key=lambda name: found.without[name]) == "network_5"
    assert found.without["network_5"] < 0.3


def test_a_predictor_is_ahead_of_a_rival_only_if_the_interval_says_so() -> None:
    rng = np.random.default_rng(3)
    x, rival = rng.normal(size=(2, 40))
    y = -x + 0.2 * rng.normal(size=40)
    difference, low, high = difference_of_correlations(x, rival, y)
    assert 0 < low < difference < high
    same, low, high = difference_of_correlations(x, -x + 1e-3 * rng.normal(size=40), y)
    assert same == pytest.approx(0, abs=0.01)
    assert low <= 0 <= high
    held = 0
    for _ in range(200):
        x, rival = rng.normal(size=(2, 7))
        _, low, high = difference_of_correlations(x, rival, x + rival + rng.normal(size=7))
        held += low <= 0 <= high
    assert held >= 0.91 * 200
    assert np.isnan(difference_of_correlations(np.arange(4.0), np.ones(4), np.arange(4.0))[1])
