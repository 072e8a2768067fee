"""From a recovered to a true number: the line, its interval, and what remains where the line is flat."""

import numpy as np
import pytest

from bddn.stats.calibration_line import CalibrationLine


def _line(gain: float, n: int, scatter: float, rng: np.random.Generator) -> CalibrationLine:
    planted = rng.uniform(-0.2, 1.1, n)
    return CalibrationLine.of(planted, gain * planted + 0.1 + scatter * rng.normal(size=n))


def test_a_steep_exact_line_gives_back_the_truth() -> None:
    line = _line(0.5, 10, 1e-9, np.random.default_rng(0))
    assert (line.gain, line.offset) == pytest.approx((0.5, 0.1))
    found = line.corrected(0.35, (-1.2, 1.2))
    assert found.value == pytest.approx(0.5, abs=1e-3)
    assert found.intervals[0.9] == pytest.approx((0.5, 0.5), abs=1e-3)


@pytest.mark.parametrize(("gain", "scatter"), [(0.8, 0.05), (0.4, 0.1), (0.1, 0.1)])
@pytest.mark.parametrize("n", [6, 12])
def test_intervals_hold_the_truth_as_often_as_they_say(gain: float, scatter: float, n: int) -> None:
    rng, inside = np.random.default_rng(0), []
    for _ in range(400):
        line, truth = _line(gain, n, scatter, rng), rng.uniform(-0.2, 1.1)
        found = line.corrected(gain * truth + 0.1 + scatter * rng.normal(), (-1.3, 1.3))
        inside.append([low <= truth <= high for low, high in found.intervals.values()])
        (low, high), (lower, higher) = found.intervals.values()
        assert lower <= low <= found.value <= high <= higher
    assert 0.86 < np.mean(inside, axis=0)[0] <= 1
    assert np.mean(inside, axis=0)[1] > 0.92


def test_a_flat_line_leaves_all_that_is_possible() -> None:
    planted = np.linspace(-0.2, 1.1, 8)
    line = CalibrationLine.of(planted, 0.05 * np.array([1, -1, 1, -1, -1, 1, -1, 1.0]))
    low, high = line.corrected(0.0, (-1.2, 1.2)).intervals[0.95]
    assert low < -0.9
    assert high > 0.9


def test_an_error_of_its_own_widens_the_interval() -> None:
    line = _line(0.6, 10, 0.05, np.random.default_rng(0))
    narrow, wide = (line.corrected(0.4, (-1.2, 1.2), own).intervals[0.9] for own in (0.0, 0.2))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
