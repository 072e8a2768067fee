"""Scores of voxels agree with scikit-learn and SciPy to 1e-10 in float64, however the arrays are cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from bddn.stats.jackknife import r2_interval, r2_without_each
from bddn.stats.scores import R2, challenge_score, normalised, r2_and_r


@st.composite
def arrays(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Responses and predictions of 2 to 60 images and 1 to 8 voxels: far from 0, small, large, and some constant."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(3, 60)), draw(st.integers(1, 8))
    y, noise = rng.standard_t(3, shape), rng.normal(size=shape)
    predicted = draw(st.sampled_from([0.0, 0.5, 1.0])) * y + draw(st.sampled_from([0.01, 1.0, 30.0])) * noise
    unit, offset = (10.0 ** draw(st.integers(*ends)) for ends in ((-2, 3), (0, 6)))
    y, predicted = y * unit + offset, predicted * unit + offset * draw(st.sampled_from([1.0, 0.0]))
    if draw(st.booleans()):
        y[:, 0] = offset
    if draw(st.booleans()):
        predicted[:, -1] = 0.1
    return y, predicted


@given(arrays(), st.integers(1, 20))
@settings(max_examples=150, deadline=None)
def test_scores_are_those_of_other_libraries(both: tuple[np.ndarray, np.ndarray], size: int) -> None:
    y, predicted = both
    n_voxels = y.shape[1]
    blocks = [slice(start, start + size) for start in range(0, n_voxels, size)]
    r2, r = (
        np.concatenate(part) for part in zip(*(r2_and_r(y[:, at], predicted[:, at]) for at in blocks), strict=True)
    )
    batches = R2()
    for start in range(0, len(y), size):
        batches.add(y[start : start + size], predicted[start : start + size])
    varies = np.ptp(y, axis=0) > 0
    expected = [r2_score(y[:, i], predicted[:, i]) if varies[i] else np.nan for i in range(n_voxels)]
    for found in (r2, batches.score()):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    both_vary = varies & (np.ptp(predicted, axis=0) > 0)
    correlations = [pearsonr(y[:, i], predicted[:, i])[0] if both_vary[i] else np.nan for i in range(n_voxels)]
    np.testing.assert_allclose(r, correlations, atol=1e-10)


@given(arrays())
@settings(max_examples=50, deadline=None)
def test_the_score_without_an_image_is_that_of_the_other_images(both: tuple[np.ndarray, np.ndarray]) -> None:
    y, predicted = both
    found = r2_without_each(y, predicted)
    for i in {0, len(y) - 1}:
        rest = np.arange(len(y)) != i
        expected, _ = r2_and_r(y[rest], predicted[rest])
        np.testing.assert_allclose(found[i], expected, rtol=1e-6, atol=1e-6)


def test_a_response_that_only_one_image_varies_has_a_score_without_an_interval() -> None:
    y, predicted = np.zeros((20, 3)), np.full((20, 3), 0.1)
    y[4, 0], y[:, 1] = 1, np.arange(20)
    predicted[:, 1] = y[:, 1]  # perfect
    r2, _ = r2_and_r(y, predicted)
    without = r2_without_each(y, predicted)
    assert np.isneginf(without[4, 0])
    assert np.isnan(without[:, 2]).all()
    assert r2[1] == 1
    assert np.isnan(r2_interval(r2, without, 0.95)).all()


def test_the_challenge_score_drops_ceilings_of_0_and_bounds_the_rest() -> None:
    r, ceiling = np.array([0.5, -0.5, 0.9, 0.5, 0.5, np.nan]), np.array([0.5, 0.5, 0.2, 0.0, np.nan, 0.5])
    np.testing.assert_allclose(challenge_score(r, ceiling), [0.5, 0, 1, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(normalised(r, ceiling), [1, -1, 4.5, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(("n_images", "ceiling"), [(60, 0.3), (300, 0.05), (300, 0.6), (1000, 0.2)])
def test_normalised_scores_of_the_true_signal_exceed_1_only_as_often_as_noise_says(
    n_images: int, ceiling: float
) -> None:
    """The true signal as the prediction has a normalised score of 1 on very many images. Criterion: on a test set, its
    mean is 1 within 4 standard errors and the bias (1 - ceiling) / M / ceiling; about half of the voxels are above 1,
    as many as normal noise around this mean puts there, within 6 %; and the lower end of the 95 % interval of R² is
    above the ceiling in at most 4.5 % of voxels, where 2.5 % are expected."""
    rng, n_voxels = np.random.default_rng([n_images, 0]), 4000
    signal, noise = rng.normal(size=(2, n_images, n_voxels))
    y, predicted = np.sqrt(ceiling) * signal + np.sqrt(1 - ceiling) * noise, np.sqrt(ceiling) * signal
    r2, _ = r2_and_r(y, predicted)
    scores = normalised(r2, np.full(n_voxels, ceiling))
    bias, error = (1 - ceiling) / n_images / ceiling, scores.std() / np.sqrt(n_voxels)
    assert abs(scores.mean() - 1) < bias * 2 + 4 * error
    from scipy.stats import norm

    share = norm.sf((1 - scores.mean()) / scores.std())
    assert abs((scores > 1).mean() - share) < 0.06
    low, _ = r2_interval(r2, r2_without_each(y, predicted), 0.95)
    assert 0.01 < (low > ceiling).mean() < 0.045
