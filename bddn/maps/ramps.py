"""Colour ramps: a colormap and the range of numbers that it shows, chosen for each kind of map."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bddn.maps.style import colour_map

MIN_TOP = 0.05


@dataclass(frozen=True)
class Ramp:
    """A colormap with the numbers at its two ends.

    Attributes
    ----------
    cmap : str
        Name of a matplotlib colormap.
    low, high : float
        Numbers at the two ends; numbers outside get the colour of the nearer end.
    """

    cmap: str
    low: float
    high: float

    def rgb(self, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the colours of numbers.

        Parameters
        ----------
        value : array of float, (...)
            Numbers; NaN if missing.

        Returns
        -------
        array of float64, (..., 3)
            sRGB, 0 to 1; NaN if the number is NaN.
        """
        given = np.asarray(value, dtype=np.float64)
        share = np.clip((given - self.low) / (self.high - self.low), 0.0, 1.0)
        out = np.array(colour_map(self.cmap)(np.nan_to_num(share))[..., :3], dtype=np.float64)
        out[np.isnan(given)] = np.nan
        return out


def confidence_top(confidence: npt.ArrayLike) -> float:
    """Return the lowest confidence with full brightness: the 95th percentile, rounded up to two digits.

    Parameters
    ----------
    confidence : array of float, (N,)
        Confidences, 0 to 1; NaN is ignored.

    Returns
    -------
    float
        At least 0.05, so that selectors without learning stay dark, and at most 1; 1 if no confidence is above 0.
    """
    known = _finite(confidence)
    top = float(np.percentile(known, 95)) if known.size else 0.0
    return min(max(_two_digits(top), MIN_TOP), 1.0) if top > 0 else 1.0


def scale_ramp(scale: npt.ArrayLike) -> Ramp:
    """Return the colours of scales: orange for local, dark at 0.5 (the initial value of each voxel), blue for global.

    Parameters
    ----------
    scale : array of float, (N,)
        Output of the scale selector, 0 (local) to 1 (global); NaN is ignored.

    Returns
    -------
    Ramp
        Symmetric around 0.5; it covers 98 % of the voxels.
    """
    known = np.abs(_finite(scale) - 0.5)
    reach = float(np.percentile(known, 98)) if known.size else 0.5
    reach = float(np.clip(np.ceil(reach * 20 - 1e-9) / 20, 0.05, 0.5))
    return Ramp("managua", 0.5 - reach, 0.5 + reach)


def sequential_ramp(values: npt.ArrayLike, top: float | None = None) -> Ramp:
    """Return the colours of numbers from 0, such as scores: viridis to the 99th percentile.

    Parameters
    ----------
    values : array of float, (N,)
        NaN is left out. Numbers below 0 get the colour of 0.
    top : float, optional
        The number at the upper end, to give several figures the same colours.

    Returns
    -------
    Ramp
    """
    known = _finite(values)
    high = float(np.percentile(known, 99)) if known.size else 0.0
    return Ramp("viridis", 0.0, top if top is not None else _two_digits(high) if high > 0 else 1.0)


def diverging_ramp(values: npt.ArrayLike) -> Ramp:
    """Return the colours of numbers on both sides of 0: blue below, red above, white at 0.

    They end at the 98th percentile of the magnitudes.

    Parameters
    ----------
    values : array of float, (N,)
        NaN is left out.

    Returns
    -------
    Ramp
    """
    known = np.abs(_finite(values))
    high = float(np.percentile(known, 98)) if known.size else 0.0
    reach = _two_digits(high) if high > 0 else 1.0
    return Ramp("RdBu_r", -reach, reach)


def shortfall_ramp(values: npt.ArrayLike, bottom: float | None = None) -> Ramp:
    """Return the colours of numbers up to 0: bright at 0, dark at the 2nd percentile.

    Parameters
    ----------
    values : array of float, (N,)
        NaN is left out.
    bottom : float, optional
        The number at the lower end.

    Returns
    -------
    Ramp
    """
    known = -_finite(values)
    low = float(np.percentile(known, 98)) if known.size else 0.0
    bottom = bottom if bottom is not None else -_two_digits(low) if low > 0 else -1.0
    return Ramp("inferno", bottom, 0.0)


def place_reach(values: npt.ArrayLike) -> float:
    """Return the 98th percentile of the distance of places from the image centre along an axis, 0.1 to 1.

    Parameters
    ----------
    values : array of float, (N, 2)
        x and y, -1 to 1; NaN is ignored.

    Returns
    -------
    float
    """
    far = _finite(np.abs(np.asarray(values, dtype=np.float64)).max(axis=1))
    return float(np.clip(_two_digits(float(np.percentile(far, 98))), 0.1, 1.0)) if far.size and far.max() > 0 else 1.0


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    given = np.asarray(values, dtype=np.float64)
    return given[np.isfinite(given)]


def _two_digits(x: float) -> float:
    """Return `x` rounded up to two significant digits."""
    step = 10.0 ** (np.floor(np.log10(x)) - 1)
    return float(f"{np.ceil(x / step - 1e-9) * step:.6g}")
