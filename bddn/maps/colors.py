"""Colours of the maps: hue for the layer, brightness for the confidence; ramps for scores and scales; grey cortex."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

from bddn.maps.surfaces import Floats, Ints

CONFIDENCE_FLOOR = 0.45
"""Brightness at confidence 0, as a part of full brightness; not black, so that the hue can still be told."""

_LIGHTNESS = 0.76
_HUES = np.array([266.0, 240.0, 214.0, 188.0, 164.0, 144.0, 124.0, 104.0, 84.0, 64.0, 44.0, 24.0])
_LIGHTER = np.array([-0.15, -0.08, -0.02, 0.0, 0.01, 0.03, 0.05, 0.05, 0.02, -0.04, -0.09, -0.13])
_CHROMA = 0.20
_DARK = 0.04045  # below it, sRGB is a straight line
_GYRUS, _SULCUS = 0.88, 0.74
_OKLAB_TO_LMS = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


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
        out = np.array(colormaps[self.cmap](np.nan_to_num(share))[..., :3], dtype=np.float64)
        out[np.isnan(given)] = np.nan
        return out


def layer_ramp(n: int) -> npt.NDArray[np.float64]:
    """Colours of `n` layers at full brightness, from blue (early) through green and yellow to red (late).

    Parameters
    ----------
    n : int
        Number of layers, at least 1.

    Returns
    -------
    array of float64, (n, 3)
        sRGB, 0 to 1, of about the same lightness (OKLCH 0.61 to 0.81), as colourful as the screen allows, up to
        chroma 0.2.
    """
    at = np.linspace(0.0, 1.0, n) if n > 1 else np.zeros(1)
    knots = np.linspace(0.0, 1.0, len(_HUES))
    hue = np.deg2rad(np.interp(at, knots, _HUES))
    light = _LIGHTNESS + np.interp(at, knots, _LIGHTER)
    low, high = np.zeros(n), np.full(n, _CHROMA)
    for _ in range(24):  # the largest chroma that the screen can show
        chroma = (low + high) / 2
        linear = _linear_rgb(np.column_stack([light, chroma * np.cos(hue), chroma * np.sin(hue)]))
        fits = ((linear >= 0.0) & (linear <= 1.0)).all(1)
        low, high = np.where(fits, chroma, low), np.where(fits, high, chroma)
    return _srgb(_linear_rgb(np.column_stack([light, low * np.cos(hue), low * np.sin(hue)])))


def layer_rgb(layer: Ints, confidence: npt.ArrayLike, n_layers: int, top: float) -> npt.NDArray[np.float64]:
    """Colours of a layer map: hue by the layer, brightness by the confidence.

    Parameters
    ----------
    layer : array of int, (...)
        Index of the selected layer, 0 for the earliest; -1 for none.
    confidence : array of float, (...)
        1 - entropy / log L, 0 to 1; NaN for none.
    n_layers : int
        Number of layers.
    top : float
        Confidence of full brightness; more is not brighter.

    Returns
    -------
    array of float64, (..., 3)
        sRGB, 0 to 1; NaN where there is no layer or no confidence.
    """
    which, sure = np.asarray(layer), np.asarray(confidence, dtype=np.float64)
    bright = CONFIDENCE_FLOOR + (1.0 - CONFIDENCE_FLOOR) * np.clip(np.nan_to_num(sure) / top, 0.0, 1.0)
    full = _linear(layer_ramp(n_layers))[np.clip(which, 0, n_layers - 1)]
    out = _srgb(full * bright[..., None] ** 3)  # a factor on all of OKLab is its cube on linear light
    out[(which < 0) | np.isnan(sure)] = np.nan
    return out


def confidence_top(confidence: npt.ArrayLike) -> float:
    """The confidence to show at full brightness: the 95th percentile, in two digits.

    Parameters
    ----------
    confidence : array of float, (N,)
        Confidences, 0 to 1; NaN is left out.

    Returns
    -------
    float
        Above 0 and at most 1; 1 if there is no confidence above 0.
    """
    known = _finite(confidence)
    top = float(np.percentile(known, 95)) if known.size else 0.0
    return min(_two_digits(top), 1.0) if top > 0 else 1.0


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


def cortex_grey(sulc: Floats) -> npt.NDArray[np.float64]:
    """The grey of bare cortex: light on gyri, darker in sulci.

    Parameters
    ----------
    sulc : array of float, (N,)
        Sulcal depth, positive in sulci.

    Returns
    -------
    array of float64, (N,)
        Red, green and blue in sRGB alike, 0 to 1.
    """
    deep = 1.0 / (1.0 + np.exp(-6.0 * np.asarray(sulc, dtype=np.float64)))
    return _GYRUS + (_SULCUS - _GYRUS) * deep


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    given = np.asarray(values, dtype=np.float64)
    return given[np.isfinite(given)]


def _two_digits(x: float) -> float:
    """`x` rounded up in its second digit."""
    step = 10.0 ** (np.floor(np.log10(x)) - 1)
    return float(f"{np.ceil(x / step - 1e-9) * step:.6g}")


def _linear_rgb(oklab: Floats) -> Any:
    return (oklab @ _OKLAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T


def _srgb(linear: Floats) -> npt.NDArray[np.float64]:
    x = np.clip(linear, 0.0, 1.0)
    return np.where(x <= _DARK / 12.92, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def _linear(srgb: Floats) -> npt.NDArray[np.float64]:
    return np.where(srgb <= _DARK, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
