"""Colours of the maps: layers with confidence, places in the image, classes, and grey cortex."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import Floats, Ints
from bddn.maps.style import colour_map

Palette = Literal["hue", "safe"]
"""'hue' shows layers and places by hue; 'safe' uses lightness and blue to yellow, for readers with colour blindness."""

CONFIDENCE_FLOOR = 0.45
"""Brightness at confidence 0, as a fraction of full brightness. It is above 0, so that the hue stays visible."""

HATCHING = (0.48, 0.70)
"""Greys of the dark and the bright stripes of a voxel without evidence."""
NO_EVIDENCE = HATCHING[0]
"""Grey of a voxel without evidence where stripes cannot be drawn."""

_LIGHTNESS = 0.76
_HUES = np.array([266.0, 240.0, 214.0, 188.0, 164.0, 144.0, 124.0, 104.0, 84.0, 64.0, 44.0, 24.0])
_LIGHTER = np.array([-0.15, -0.08, -0.02, 0.0, 0.01, 0.03, 0.05, 0.05, 0.02, -0.04, -0.09, -0.13])
_CHROMA = 0.20
_SAFE_FLOOR, _FADED = 0.12, 0.82
_DARK = 0.04045  # below this value, sRGB is linear
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


def layer_ramp(n: int) -> npt.NDArray[np.float64]:
    """Return colours of `n` layers at full brightness, from blue (early) through green and yellow to red (late).

    Parameters
    ----------
    n : int
        Number of layers, at least 1.

    Returns
    -------
    array of float64, (n, 3)
        sRGB, 0 to 1, with similar lightness (OKLCH 0.61 to 0.81) and the largest chroma that sRGB allows, at most 0.2.
    """
    at = np.linspace(0.0, 1.0, n) if n > 1 else np.zeros(1)
    knots = np.linspace(0.0, 1.0, len(_HUES))
    hue = np.deg2rad(np.interp(at, knots, _HUES))
    light = _LIGHTNESS + np.interp(at, knots, _LIGHTER)
    low, high = np.zeros(n), np.full(n, _CHROMA)
    for _ in range(24):  # bisection for the largest chroma inside sRGB
        chroma = (low + high) / 2
        linear = _linear_rgb(np.column_stack([light, chroma * np.cos(hue), chroma * np.sin(hue)]))
        fits = ((linear >= 0.0) & (linear <= 1.0)).all(1)
        low, high = np.where(fits, chroma, low), np.where(fits, high, chroma)
    return _srgb(_linear_rgb(np.column_stack([light, low * np.cos(hue), low * np.sin(hue)])))


def layer_rgb(
    layer: Ints, confidence: npt.ArrayLike, n_layers: int, top: float, palette: Palette = "hue"
) -> npt.NDArray[np.float64]:
    """Return the colours of a layer map: the colour of the layer, darker for low confidence; with 'safe', greyer.

    Parameters
    ----------
    layer : array of int, (...)
        Index of the selected layer, 0 for the earliest; -1 for none.
    confidence : array of float, (...)
        1 - entropy / log L, 0 to 1; NaN if missing.
    n_layers : int
        Number of layers.
    top : float
        Lowest confidence with full brightness.
    palette : str

    Returns
    -------
    array of float64, (..., 3)
        sRGB, 0 to 1; NaN if the layer or the confidence is missing.
    """
    index, certainty = np.asarray(layer), np.asarray(confidence, dtype=np.float64)
    share = np.clip(np.nan_to_num(certainty) / top, 0.0, 1.0)
    row = np.clip(index, 0, n_layers - 1)
    if palette == "safe":
        full = np.array(colour_map("viridis")(np.linspace(0.0, 1.0, n_layers))[:, :3])[row]
        strength = (_SAFE_FLOOR + (1.0 - _SAFE_FLOOR) * share)[..., None]
        out = _srgb(_linear(full) * strength + _linear(np.full(3, _FADED)) * (1.0 - strength))
    else:
        bright = CONFIDENCE_FLOOR + (1.0 - CONFIDENCE_FLOOR) * share
        # a factor on OKLab coordinates is its cube on linear light
        out = _srgb(_linear(layer_ramp(n_layers))[row] * bright[..., None] ** 3)
    out[(index < 0) | np.isnan(certainty)] = np.nan
    return out


def place_rgb(place: Floats, reach: float, palette: Palette = "hue") -> npt.NDArray[np.float64]:
    """Return colours of places in the image.

    With 'hue', the direction from the centre is the hue and the distance is the strength. With 'safe', left to right is
    blue to yellow, and top to bottom is light to dark.

    Parameters
    ----------
    place : array of float, (n, 2)
        x to the right and y downwards, -1 to 1; NaN if missing.
    reach : float
        The distance along an axis with full strength.
    palette : str

    Returns
    -------
    array of float64, (n, 3)
        sRGB, 0 to 1; NaN if the place is missing.
    """
    given = np.asarray(place, dtype=np.float64)
    x, y = (np.clip(np.nan_to_num(given[:, k]) / reach, -1.0, 1.0) for k in (0, 1))
    if palette == "safe":
        light = 0.66 - 0.24 * y
        lab = np.column_stack([light, 0.01 * x, 0.13 * x])
    else:
        far, angle = np.minimum(np.hypot(x, y), 1.0), np.arctan2(-y, x)
        light, chroma = 0.93 - 0.24 * far, 0.155 * far
        lab = np.column_stack([light, chroma * np.cos(angle), chroma * np.sin(angle)])
    out = _srgb(_linear_rgb(lab))
    out[np.isnan(given).any(axis=1)] = np.nan
    return out


def class_colours(n: int) -> npt.NDArray[np.float64]:
    """Return colours of `n` unordered classes. Neighbours differ in hue and in lightness.

    Returns
    -------
    array of float64, (n, 3)
        sRGB, 0 to 1.
    """
    k = np.arange(n)
    hue = 2.399963 * k + 0.5  # the golden angle, so that the first n hues are far apart for every n
    light, chroma = np.array([0.62, 0.80, 0.70, 0.52])[k % 4], np.array([0.15, 0.12, 0.14, 0.13])[k % 4]
    return _srgb(_linear_rgb(np.column_stack([light, chroma * np.cos(hue), chroma * np.sin(hue)])))


def cortex_grey(sulc: Floats) -> npt.NDArray[np.float64]:
    """Return the grey of cortex without data: light on gyri, darker in sulci.

    Parameters
    ----------
    sulc : array of float, (N,)
        Sulcal depth, positive in sulci.

    Returns
    -------
    array of float64, (N,)
        sRGB value of each channel, 0 to 1.
    """
    deep = 1.0 / (1.0 + np.exp(-6.0 * np.asarray(sulc, dtype=np.float64)))
    return _GYRUS + (_SULCUS - _GYRUS) * deep


def _linear_rgb(oklab: Floats) -> Any:
    return (oklab @ _OKLAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T


def _srgb(linear: Floats) -> npt.NDArray[np.float64]:
    x = np.clip(linear, 0.0, 1.0)
    return np.where(x <= _DARK / 12.92, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def _linear(srgb: Floats) -> npt.NDArray[np.float64]:
    return np.where(srgb <= _DARK, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
