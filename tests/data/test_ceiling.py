"""Noise ceilings against simulated trials, and against published figures."""

import numpy as np
import pytest

from bddn.data.ceiling import ceiling_of_ncsnr, ceiling_of_trials, variances
from bddn.errors import DataError
from bddn.stats.scores import r2_and_r

MEDIAN_NCSNR = [0.490, 0.510, 0.431, 0.392, 0.542, 0.439, 0.371, 0.323]  # of subjects 1 to 8 of NSD, on fsaverage
THREE_TRIALS = [0.419, 0.438, 0.358, 0.316, 0.469, 0.366, 0.292, 0.238]  # the published ceilings for three trials


def _brain(seed: int, counts: np.ndarray, n_voxels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Single trials, the image of each, the signal, and its standard deviation; the noise has 1."""
    rng = np.random.default_rng(seed)
    image = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    sd = np.linspace(0.2, 1.5, n_voxels)
    signal = sd * rng.normal(size=(len(counts), n_voxels))
    return signal[image] + rng.normal(size=(len(image), n_voxels)) + 50, image, signal, sd


@pytest.mark.parametrize("scored", ["1", "2", "3", "mixed"])
@pytest.mark.parametrize("measured", ["2", "3", "mixed"])
def test_ceilings_are_the_score_of_the_true_signal_on_averages(scored: str, measured: str) -> None:
    """Repeats of some images say how well the true signal predicts averages over other numbers of trials."""
    rng, n_images, n_voxels = np.random.default_rng(7), 900, 60

    def counts(kind: str) -> np.ndarray:
        return rng.integers(1, 4, n_images) if kind == "mixed" else np.full(n_images, int(kind))

    averaged, repeated = counts(scored), counts(measured)
    trials, image, _, sd = _brain(1, repeated, n_voxels)
    found = ceiling_of_trials(trials.astype(np.float32), image, averaged)
    true = sd**2 / (sd**2 + np.mean(1 / averaged))
    np.testing.assert_allclose(ceiling_of_ncsnr(sd, averaged), true, rtol=1e-12)

    others, which, signal, _ = _brain(2, averaged, n_voxels)
    sums = np.zeros((n_images, n_voxels))
    np.add.at(sums, which, others)
    r2, _ = r2_and_r(sums / averaged[:, None], signal + 50)
    for difference in (found - true, found - r2):
        error = difference.std(ddof=1) / np.sqrt(n_voxels)
        assert abs(difference.mean()) < 3 * error
        assert error < 0.01


def test_variances_are_unbiased_also_with_mixed_repeats() -> None:
    rng = np.random.default_rng(3)
    draws = [_brain(k, rng.integers(1, 4, 60), 40) for k in range(150)]
    found = np.array([variances(trials, image) for trials, image, *_ in draws])  # (draws, 2, voxels)
    sd = draws[0][3]
    loud = sd > 0.7  # where the variance of the signal is never cut off at 0
    error = found.std(0) / np.sqrt(len(draws))
    z = (found.mean(0) - np.stack([sd**2, np.ones_like(sd)])) / error
    assert np.abs(z[:, loud]).max() < 4
    assert abs(z[1].mean()) < 1


def test_published_ceilings_of_nsd() -> None:
    np.testing.assert_allclose(ceiling_of_ncsnr(MEDIAN_NCSNR, 3), THREE_TRIALS, atol=1.1e-3)
    a, b, c = 300, 200, 100  # images with 3, 2 and 1 trials
    mixed = np.repeat([3, 2, 1], [a, b, c])
    expected = 0.25 / (0.25 + (a / 3 + b / 2 + c) / (a + b + c))
    np.testing.assert_allclose(ceiling_of_ncsnr(0.5, mixed), expected)


def test_voxels_without_signal_have_a_ceiling_of_0_and_constant_ones_none() -> None:
    trials, image, _, _ = _brain(4, np.full(200, 3), 4)
    trials[:, 0] = np.random.default_rng(5).normal(size=len(trials))
    trials[:, 1] = 3
    found = ceiling_of_trials(trials, image, 3)
    assert found[0] < 0.1
    assert np.isnan(found[1])
    assert np.isnan(ceiling_of_ncsnr([np.nan, 0.0], 3)[0])
    assert ceiling_of_ncsnr([np.nan, 0.0], 3)[1] == 0


def test_what_cannot_have_a_ceiling_is_refused() -> None:
    with pytest.raises(DataError, match=r"one of them with two trials; got 5 trials of 5 images"):
        ceiling_of_trials(np.zeros((5, 2)), np.arange(5), 1)
    with pytest.raises(DataError, match=r"at least 1 for every image; got 0"):
        ceiling_of_ncsnr([0.5], [1, 0])
    with pytest.raises(DataError, match=r"numbers of at least 0"):
        ceiling_of_ncsnr([-0.5], 1)
