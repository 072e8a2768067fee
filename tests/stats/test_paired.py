"""Paired tests: hand-made values, the formula of Welch, and error rates where nothing differs."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from bddn.stats import paired
from bddn.stats.evidence import q_values


def _p(d: np.ndarray, seed: int = 0) -> np.ndarray:
    return paired.p_values(d.mean(axis=0), paired.over(d), len(d), paired.null_p_values(d, seed))


def test_p_values_are_those_of_the_paired_t_test_or_larger() -> None:
    d = np.random.default_rng(0).normal(0.1, 1, (60, 200))
    exact = ttest_1samp(d, 0).pvalue
    found = _p(d)
    assert (found >= exact * (1 - 1e-9)).all()
    np.testing.assert_allclose(found, exact, rtol=0.1, atol=0.005)
    low, high = ttest_1samp(d, 0).confidence_interval(0.95)
    np.testing.assert_allclose(paired.over(d).reach(), (high - low) / 2)


def test_independent_parts_are_added_up_as_welch_does() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 30)), rng.normal(0, 3, (9, 30))
    spread = paired.together([paired.over(a), paired.over(b)])
    welch = ttest_ind(a, b, equal_var=False)
    np.testing.assert_allclose(spread.df, welch.df)
    low, high = welch.confidence_interval(0.95)
    np.testing.assert_allclose(spread.reach(), (high - low) / 2)
    alone = paired.together([paired.over(a)])
    np.testing.assert_allclose(alone.reach(), paired.over(a).reach())
    assert paired.together([paired.over(np.zeros((5, 2)))]).reach().tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["normal", "heavy", "heteroscedastic"])
@pytest.mark.parametrize("n", [12, 100])
def test_where_nothing_differs_p_values_are_as_small_as_they_say(kind: str, n: int) -> None:
    rng = np.random.default_rng([n, len(kind)])
    rejected, any_found = [], []
    for _ in range(12):
        d = rng.standard_t(2, (n, 150)) if kind == "heavy" else rng.normal(size=(n, 150))
        if kind == "heteroscedastic":
            d *= np.exp(rng.normal(size=(n, 1)))
        p = _p(d)
        rejected.append((p <= 0.05).mean())
        any_found.append((q_values(p) <= 0.05).any())
    assert 0.02 < np.mean(rejected) < 0.065
    assert np.mean(any_found) <= 0.15


def test_null_values_are_those_of_the_t_test_with_random_signs() -> None:
    d = np.random.default_rng(0).normal(size=(30, 400))
    null = paired.null_p_values(d, 0)
    signs = np.random.default_rng([0, 5]).choice([-1.0, 1.0], (len(null) // 400, 30))
    exact = np.sort(np.concatenate([ttest_1samp(d * row[:, None], 0).pvalue for row in signs]))
    np.testing.assert_allclose(null, exact, rtol=1e-5)


def test_equal_and_constant_differences() -> None:
    d = np.random.default_rng(0).normal(size=(20, 3))
    d[:, 1], d[:, 2] = 0, 0.5
    p = _p(d)
    assert p[1] == 1
    assert p[2] == 2.0**-19
    assert _p(d[:2]).tolist() == [1, 1, 1]
    assert _p(np.zeros((20, 2))).tolist() == [1, 1]
