"""Intervals of what a voxel selects, from fits that differ in seed and in resampled training images.

Shape letters: B fits, N voxels.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bddn.stats.hierarchy import depth_spread

Floats = npt.NDArray[np.float64]

LEVEL = 0.9
"""Share of voxels whose interval is to contain the truth."""
RANGES: Mapping[str, tuple[float, float]] = {
    "depth": (0.0, 1.0),
    "x": (-1.0, 1.0),
    "y": (-1.0, 1.0),
}
"""What has an interval, and the range of its values. Scale and size have none, because all fits confuse a global token
with a large field in the same way: intervals from their deviation would contain the truth too rarely."""


def interval(values: Floats, spread: Floats | float, between: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return the lower and upper ends (N,) of an interval, from the values (B, N) of B fits.

    A fit to resampled images deviates from the fit to all images as that deviates from a fit to very many images, so
    the mean over B fits has an error of their standard deviation times √(1 + 1/B); with few fits, the quantile is that
    of Student's t. Errors that all fits share are not in their deviation: `spread` stands for them, as a standard
    deviation. Both kinds are independent, so their squares add.

    Parameters
    ----------
    values : array of float64, (B, N)
        At least two fits.
    spread : array of float64, (N,), or float
    between : (float, float)
        Smallest and largest possible value, at which intervals end.
    """
    from scipy.special import ndtri, stdtrit

    n, quantile = len(values), (1 + LEVEL) / 2
    deviation = stdtrit(n - 1, quantile) * values.std(0, ddof=1) * np.sqrt(1 + 1 / n)
    reach, mean = np.hypot(deviation, ndtri(quantile) * spread), values.mean(0)
    return np.clip(mean - reach, *between), np.clip(mean + reach, *between)


def interval_columns(values: Mapping[str, Floats], layer_weights: Floats) -> dict[str, Floats]:
    """Return `depth_low`, `depth_high`, `x_low` and so on (N,), for the parts of `RANGES`.

    Soft selections are drawn to the middle, in all fits alike. The second standard deviation of depth is therefore that
    of depth under a voxel's own layer weights: the softer a selection, the less it says about depth.

    Parameters
    ----------
    values : mapping of str to array of float64, (B, N)
        What the fits selected.
    layer_weights : array of float64, (N, L)
        Mean over the fits.
    """
    found = {}
    for part, between in RANGES.items():
        spread = np.asarray(depth_spread(layer_weights) if part == "depth" else 0.0, np.float64)
        found[f"{part}_low"], found[f"{part}_high"] = interval(values[part], spread, between)
    return found
