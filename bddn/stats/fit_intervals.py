"""Intervals of what a voxel selects, from fits that differ in seed and in resampled training images.

Shape letters: B fits, N voxels.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL = 0.9
"""Share of voxels whose interval is to contain the truth."""
RANGES: Mapping[str, tuple[float, float]] = {
    "depth": (0.0, 1.0),
    "x": (-1.0, 1.0),
    "y": (-1.0, 1.0),
    "scale": (0.0, 1.0),
    "size": (0.0, np.inf),
}
"""What has an interval, and the range of its values."""


def interval(values: Floats, spread: Floats | float, between: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return the lower and upper ends (N,) of an interval, from the values (B, N) of B fits.

    A new fit to new images would differ from the mean of these fits by their standard deviation, times √(1 + 1/B); with
    few fits, the quantile is that of Student's t. What all fits have in common is not in their deviation: their errors
    in the same direction. `spread` (N,) is a second standard deviation that stands for these; both are added as
    independent errors.

    Parameters
    ----------
    values : array of float64, (B, N)
        At least two fits.
    spread : array of float64, (N,)
    between : (float, float)
        Smallest and largest possible value, at which intervals end.
    """
    from scipy.special import stdtrit

    n = len(values)
    error = np.sqrt(values.var(0, ddof=1) * (1 + 1 / n) + np.square(spread))
    reach = stdtrit(n - 1, (1 + LEVEL) / 2) * error
    mean = values.mean(0)
    return np.clip(mean - reach, *between), np.clip(mean + reach, *between)


def interval_columns(values: Mapping[str, Floats], layer_weights: Floats) -> dict[str, Floats]:
    """Return `depth_low`, `depth_high`, `x_low` and so on (N,), for the parts of `RANGES` that there are.

    Parameters
    ----------
    values : mapping of str to array of float64, (B, N)
        What the fits selected.
    layer_weights : array of float64, (N, L)
        Mean over the fits.
    """
    found = {}
    for part, between in RANGES.items():
        if part in values:
            found[f"{part}_low"], found[f"{part}_high"] = interval(values[part], 0.0, between)
    return found
