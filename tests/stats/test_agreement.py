"""Estimates over patches, against plain numbers and against the truth."""

import numpy as np
import pytest

from bddn.stats.agreement import correlation, ratio, repeatability, slope


def _maps(n_patches: int, of_patch: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two maps whose correlation is 0.6, and equal within a patch."""
    rng = np.random.default_rng(seed)
    shared, a, b = rng.normal(size=(3, n_patches))
    a, b = (np.sqrt(0.6) * shared + np.sqrt(0.4) * own for own in (a, b))
    return np.repeat(a, of_patch), np.repeat(b, of_patch), np.repeat(np.arange(n_patches), of_patch)


def test_values_are_the_plain_ones() -> None:
    a, b, patch = _maps(20, 7, 0)
    assert correlation(a + 5, 3 * b, patch).value == pytest.approx(np.corrcoef(a, b)[0, 1])
    share = ratio(a + 2, b + 3, patch)
    assert share is not None
    assert share.value == pytest.approx((a + 2).mean() / (b + 3).mean())
    assert slope(a, b) == pytest.approx(np.polyfit(b, a, 1)[0])
    assert correlation(a, np.ones_like(b), patch).value == slope(a, np.ones_like(b)) == 0
    r = np.corrcoef(a, b)[0, 1]
    assert repeatability(a, b) == pytest.approx(2 * r / (1 + r))
    assert repeatability(a, -a) == repeatability(a, np.ones_like(a)) == 0


def test_a_multiple_of_what_may_be_nothing_is_no_number() -> None:
    a, b, patch = _maps(20, 7, 0)
    assert ratio(a + 2, b - b.mean() + 0.01, patch) is None
    assert ratio(a + 2, b - 3, patch) is None


def test_intervals_contain_the_truth_about_as_often_as_they_say() -> None:
    estimates = [correlation(*_maps(40, 10, seed)) for seed in range(100)]
    assert 85 <= sum(one.low <= 0.6 <= one.high for one in estimates) <= 100
    assert 0.2 < np.mean([one.high - one.low for one in estimates]) < 0.6  # of 40 patches, not of 400 voxels


def test_patches_without_voxels_change_nothing() -> None:
    a, b, patch = _maps(20, 7, 0)
    assert correlation(a, b, 5 * patch + 3) == correlation(a, b, patch)
