"""Ramps: how numbers of a map become colours, and the range that suits the numbers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bddn.maps.style import colour_map

LEAST_TOP = 0.05


@dataclass(frozen=True)
class Ramp:
    """How numbers become colours.

    Attributes
    ----------
    cmap : str
        Name of a matplotlib colour map.
    low, high : float
        Numbers at its two ends; numbers beyond take the end's colour.
    """

    cmap: str
    low: float
    high: float

    def rgb(self, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The colours of numbers.

        Parameters
        ----------
        value : array of float, (...)
            Numbers; NaN for none.

        Returns
        -------
        array of float64, (..., 3)
            sRGB, 0 to 1; NaN where the number is NaN.
        """
        given = np.asarray(value, dtype=np.float64)
        share = np.clip((given - self.low) / (self.high - self.low), 0.0, 1.0)
        out = np.array(colour_map(self.cmap)(np.nan_to_num(share))[..., :3], dtype=np.float64)
        out[np.isnan(given)] = np.nan
        return out


def confidence_top(confidence: npt.ArrayLike) -> float:
    """The confidence to show at full brightness: the 95th percentile, in two digits, and never less than 0.05.

    Parameters
    ----------
    confidence : array of float, (N,)
        Confidences, 0 to 1; NaN is left out.

    Returns
    -------
    float
        0.05, so that selectors that have not learned look so, to 1; 1 if there is no confidence above 0.
    """
    known = _finite(confidence)
    top = float(np.percentile(known, 95)) if known.size else 0.0
    return min(max(_two_digits(top), LEAST_TOP), 1.0) if top > 0 else 1.0


def score_ramp(score: npt.ArrayLike, top: float | None = None) -> Ramp:
    """Colours of scores: viridis from 0 to the 99th percentile.

    Parameters
    ----------
    score : array of float, (N,)
        Brain scores R2; NaN is left out. Scores below 0 take the colour of 0.
    top : float, optional
        The score at the upper end, to give several figures the same colours.

    Returns
    -------
    Ramp
    """
    known = _finite(score)
    high = float(np.percentile(known, 99)) if known.size else 1.0
    return Ramp("viridis", 0.0, top if top is not None else _two_digits(high) if high > 0 else 1.0)


def scale_ramp(scale: npt.ArrayLike) -> Ramp:
    """Colours of scales: orange for local, dark at 0.5 where every voxel begins, blue for global.

    Parameters
    ----------
    scale : array of float, (N,)
        The scale selector's output, 0 (local) to 1 (global); NaN is left out.

    Returns
    -------
    Ramp
        Symmetric about 0.5 and just wide enough for 98 % of the voxels.
    """
    known = np.abs(_finite(scale) - 0.5)
    reach = float(np.percentile(known, 98)) if known.size else 0.5
    reach = float(np.clip(np.ceil(reach * 20 - 1e-9) / 20, 0.05, 0.5))
    return Ramp("managua", 0.5 - reach, 0.5 + reach)


def sequential_ramp(values: npt.ArrayLike) -> Ramp:
    """Colours of numbers from 0: viridis to the 99th percentile.

    Parameters
    ----------
    values : array of float, (N,)
        NaN is left out.

    Returns
    -------
    Ramp
    """
    known = _finite(values)
    high = float(np.percentile(known, 99)) if known.size else 0.0
    return Ramp("viridis", 0.0, _two_digits(high) if high > 0 else 1.0)


def diverging_ramp(values: npt.ArrayLike, reach: float | None = None) -> Ramp:
    """Colours of numbers on both sides of 0: blue below, red above, white at 0.

    Parameters
    ----------
    values : array of float, (N,)
        NaN is left out.
    reach : float, optional
        The number at both ends; by default the 98th percentile of the magnitudes.

    Returns
    -------
    Ramp
    """
    known = np.abs(_finite(values))
    most = float(np.percentile(known, 98)) if known.size else 0.0
    reach = reach if reach is not None else _two_digits(most) if most > 0 else 1.0
    return Ramp("RdBu_r", -reach, reach)


def shortfall_ramp(values: npt.ArrayLike, bottom: float | None = None) -> Ramp:
    """Colours of numbers up to 0: bright at 0, dark at the 2nd percentile.

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
    """How far from the centre of the image the places of voxels lie: the 98th percentile, 0.1 to 1.

    Parameters
    ----------
    values : array of float, (N, 2)
        x and y, -1 to 1; NaN is left out.

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
    """`x` rounded up in its second digit."""
    step = 10.0 ** (np.floor(np.log10(x)) - 1)
    return float(f"{np.ceil(x / step - 1e-9) * step:.6g}")
