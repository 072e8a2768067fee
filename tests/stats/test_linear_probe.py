"""Linear probes: they find classes, choose their penalty on training images, and ignore the size of features."""

import math
from statistics import mean

import numpy as np
import pytest

from bddn.stats.linear_probe import STRENGTHS, fit_probe, wilson

RNG = np.random.default_rng(0)


def _data(n: int, n_classes: int, apart: float, n_noise: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % n_classes
    centres = apart * np.eye(n_classes)
    features = centres[labels] + RNG.normal(size=(n, n_classes))
    return np.concatenate([features, RNG.normal(size=(n, n_noise))], axis=1), labels


@pytest.mark.parametrize("n_classes", [2, 5])
def test_separate_classes_are_found_for_features_of_any_size(n_classes: int) -> None:
    features, labels = _data(400, n_classes, 8)
    features = 1e4 * features + 3
    features = np.concatenate([features, np.ones((400, 1))], axis=1)  # a constant channel
    probe = fit_probe(features[:100].astype(np.float32), labels[:100])
    assert probe.correct(features[100:], labels[100:]).mean() > 0.97


def test_the_penalty_is_strong_where_features_are_noise() -> None:
    clear, noisy = (fit_probe(*_data(60, 3, apart, 200)) for apart in (20.0, 1.0))
    assert noisy.strength < clear.strength or clear.strength == STRENGTHS[0]
    features, labels = _data(300, 3, 0.0, 5)
    assert fit_probe(features[:60], labels[:60]).correct(features[60:], labels[60:]).mean() == pytest.approx(
        1 / 3, abs=0.12
    )


def test_one_image_of_a_class_is_enough() -> None:
    features, labels = _data(3, 3, 50)
    assert fit_probe(features, labels).correct(features, labels).all()


def test_the_same_images_give_the_same_probe() -> None:
    features, labels = _data(90, 3, 2)
    one, other = (fit_probe(features, labels, 3) for _ in range(2))
    assert one.strength == other.strength
    np.testing.assert_array_equal(one.model.coef_, other.model.coef_)


def test_wilson_interval_covers_as_it_says() -> None:
    counts = np.random.default_rng(1).binomial(60, 0.95, 500).tolist()
    assert mean(low <= 0.95 <= high for low, high in (wilson(k, 60) for k in counts)) > 0.92
    assert wilson(60, 60)[1] == pytest.approx(1)
    assert math.isnan(wilson(0, 0)[0])


def test_a_channel_of_rounding_errors_decides_nothing() -> None:
    """Scaled to variance 1, such a channel would outweigh all others as soon as a network changes it a little."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    constant = 1 + 1e-7 * rng.integers(-1, 2, 90)
    features = np.column_stack([rng.normal(labels, 0.7), rng.normal(size=(90, 4)), constant]).astype(np.float32)
    probe = fit_probe(features, labels)
    moved = features + np.array([0, 0, 0, 0, 0, 0.01], np.float32)
    np.testing.assert_array_equal(probe.correct(moved, labels), probe.correct(features, labels))
