"""Intervals over fits: how often they contain the truth, and where they end."""

import numpy as np
import pytest

from bddn.stats.fit_intervals import LEVEL, interval, interval_columns


@pytest.mark.parametrize("n_fits", [2, 5, 20])
def test_an_interval_contains_the_truth_as_often_as_it_says(n_fits: int) -> None:
    """Resampling images deviates from the fit to all images as that deviates from the truth."""
    rng, n = np.random.default_rng(0), 40_000
    truth, size = rng.uniform(size=n), rng.uniform(0.01, 0.05, n)
    fits = truth + size * rng.normal(size=n) + size * rng.normal(size=(n_fits, n))
    low, high = interval(fits, np.zeros(n), (-np.inf, np.inf))
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(LEVEL, abs=0.006)


def test_an_error_that_all_fits_share_is_in_the_spread() -> None:
    rng, n = np.random.default_rng(0), 40_000
    size, shared = 0.02, 0.05
    fits = size * rng.normal(size=n) + shared * rng.normal(size=n) + size * rng.normal(size=(20, n))
    low, high = interval(fits, np.full(n, shared), (-np.inf, np.inf))
    assert LEVEL - 0.01 < ((low <= 0) & (high >= 0)).mean() < LEVEL + 0.02


def test_a_soft_selection_says_less_about_depth() -> None:
    weights, depth = np.array([[0.0, 1.0, 0.0], [0.05, 0.9, 0.05]]), np.array([[0.49, 0.49], [0.51, 0.51]])
    found = interval_columns({"depth": depth, "x": depth, "y": depth}, weights)
    sharp, soft = found["depth_high"] - found["depth_low"]
    deviation = found["x_high"][0] - found["x_low"][0]
    assert sharp == pytest.approx(deviation)
    assert soft == pytest.approx(np.hypot(deviation, 2 * 1.6449 * np.sqrt(0.1 * 0.25)), abs=1e-3)


def test_intervals_end_at_the_ends_of_the_range_and_contain_the_mean() -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(4, 0.3), 50)
    values = {"depth": rng.uniform(size=(3, 50)), **{part: rng.uniform(-1, 1, (3, 50)) for part in "xy"}}
    found = interval_columns(values, weights)
    assert found.keys() == {f"{part}_{end}" for part in ("depth", "x", "y") for end in ("low", "high")}
    for part, (least, most) in {"depth": (0, 1), "x": (-1, 1), "y": (-1, 1)}.items():
        low, high = found[f"{part}_low"], found[f"{part}_high"]
        assert low.min() == least
        assert high.max() == most
        assert ((low <= values[part].mean(0)) & (values[part].mean(0) <= high)).all()
