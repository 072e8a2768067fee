"""The positions of the parts of a figure: the crop of the flat maps, the row of inflated views, and the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.meshes import Mesh, Surface
from bddn.cortex.surfaces import surface
from bddn.errors import DataError
from bddn.figures.panels import WIDTH_IN, axes_at, new_page, write_at
from bddn.figures.raster import Box, Raster, flat_raster, inflated_raster

View = Literal["flat", "inflated"]
BOTH: tuple[View, ...] = ("flat", "inflated")

FLAT_WIDTH_IN = 4.66
"""Width of a flat map in inches; its height depends on the part that it shows."""

_MARGIN_MM = 6.0
_SHAPES = (0.90, 1.12)
"""Smallest and largest ratio of width to height of a flat map; the whole sheets need the largest."""
_ABOVE_FLAT, _ABOVE_ROW = 0.80, 0.70
_FLAT_LEFT = {"lh": 0.24, "rh": 5.10}
_FLAT_BOTTOM, _FLAT_BOTTOM_ALONE = 3.72, 1.92
_ROW_BOTTOM, _ROW_HEIGHT = 1.76, 1.62
_ROW = (
    ("lateral", (("lh", "left"),)),
    ("medial", (("lh", "right"),)),
    ("posterior", (("lh", "posterior"), ("rh", "posterior"))),
    ("ventral (posterior up)", (("lh", "ventral"), ("rh", "ventral"))),
    ("medial", (("rh", "left"),)),
    ("lateral", (("rh", "right"),)),
)
_GAP_MM, _BETWEEN_MM = 22.0, 4.0


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of all views of a figure, which all maps of a run share.

    Attributes
    ----------
    mesh : str
        The drawn mesh.
    flat : dict of str to Raster
        The flat map of each hemisphere; empty without flat maps.
    inflated : dict of (str, str) to Raster
        The inflated brain by hemisphere and view; empty without inflated brains.
    mm_per_inch : float
        Scale of the inflated brains.
    """

    mesh: Mesh
    flat: dict[str, Raster]
    inflated: dict[tuple[str, str], Raster]
    mm_per_inch: float


@dataclass(frozen=True, eq=False)
class Crop:
    """The parts of the two flat sheets of a mesh that a figure shows: `boxes` in mm, by hemisphere."""

    mesh: Mesh
    boxes: dict[str, Box]


def make_pixels(
    drawn: dict[str, npt.NDArray[np.bool_]], dpi: int, views: Sequence[View] = BOTH, mesh: Mesh = "fsaverage5"
) -> Pixels:
    """Find the crop of the flat maps and rasterise all views.

    Parameters
    ----------
    drawn : dict of str to array of bool, (V,)
        For each hemisphere, a mask of the vertices that have a voxel.
    dpi : int
        Pixels per inch.
    views : sequence of str
        'flat', 'inflated' or both.
    mesh : str
        The mesh to draw, with V vertices.

    Returns
    -------
    Pixels

    Raises
    ------
    DataError
        If the mesh is not found, or a flat map is requested and the mesh has none.
    """
    flat = {}
    if "flat" in views:
        boxes = flat_crop(drawn, mesh).boxes
        flat = {hemi: flat_raster(surface(hemi, mesh), boxes[hemi], round(FLAT_WIDTH_IN * dpi)) for hemi in HEMISPHERES}
    spans = [_span(view, mesh) for _, group in _ROW for _, view in group]
    wide = sum(spans) + _GAP_MM * (len(_ROW) - 1) + _BETWEEN_MM * (len(spans) - len(_ROW))
    mm_per_inch = wide / (WIDTH_IN - 0.5)
    inflated = {
        (hemi, view): inflated_raster(surface(hemi, mesh), view, mm_per_inch / dpi)
        for _, group in _ROW
        for hemi, view in (group if "inflated" in views else ())
    }
    return Pixels(mesh, flat, inflated, mm_per_inch)


def flat_crop(drawn: dict[str, npt.NDArray[np.bool_]], mesh: Mesh = "fsaverage5") -> Crop:
    """Return the parts of the two flat sheets that a figure shows: all voxels and a margin, at the same scale.

    Parameters
    ----------
    drawn : dict of str to array of bool, (V,)
        For each hemisphere, a mask of the vertices that have a voxel. A hemisphere without voxels shows the mirrored
        part of the other one.
    mesh : str
        The mesh, with V vertices.

    Returns
    -------
    Crop
        The whole sheets if the voxels cover most of them.

    Raises
    ------
    DataError
        If the mesh is not found, or has no flat maps.
    """
    sheets = {hemi: surface(hemi, mesh) for hemi in HEMISPHERES}
    for hemi, sheet in sheets.items():
        if not len(sheet.flat_faces):
            raise DataError(
                f"{mesh}, {hemi}",
                expected="a flat map in addition to the inflated surface",
                got="no flat map",
                fix="Draw only inflated brains ('bddn maps RUN --views inflated'), or use nilearn's copy (--fetch).",
            )
    whole = {hemi: _bounds(sheet, None) for hemi, sheet in sheets.items()}
    known = {hemi: _bounds(sheet, drawn[hemi]) for hemi, sheet in sheets.items() if _on_sheet(sheet, drawn[hemi]).size}
    shape = float(np.clip(_largest(known, 0) / _largest(known, 2), *_SHAPES)) if known else _SHAPES[1]
    full = max(max(b[1] - b[0], (b[3] - b[2]) * _SHAPES[1]) for b in whole.values())
    width = max((max(b[1] - b[0], (b[3] - b[2]) * shape) for b in known.values()), default=full)
    if width > 0.75 * full:
        width, shape, known = full, _SHAPES[1], {}
    width = max(width, 40.0)
    out: dict[str, Box] = {}
    for hemi in HEMISPHERES:
        all_of = whole[hemi]
        other = known.get("rh" if hemi == "lh" else "lh", all_of)
        left, right, bottom, top = known.get(hemi, (-other[1], -other[0], other[2], other[3]) if known else all_of)
        x = _slide((left + right) / 2, width, all_of[0], all_of[1])
        y = _slide((bottom + top) / 2, width / shape, all_of[2], all_of[3])
        out[hemi] = (x - width / 2, x + width / 2, y - width / shape / 2, y + width / shape / 2)
    return Crop(mesh, out)


def new_figure(pixels: Pixels, dpi: int) -> Figure:
    """Return a white figure with its own Agg canvas, independent of pyplot.

    Parameters
    ----------
    pixels : Pixels
        The views; the height of the figure depends on the flat maps.
    dpi : int
        Pixels per inch.

    Returns
    -------
    Figure
    """
    if pixels.flat:
        height = _flat_bottom(pixels) + _flat_height(pixels) + _ABOVE_FLAT
    else:
        height = _ROW_BOTTOM + _ROW_HEIGHT + _ABOVE_ROW
    return new_page(round(height * dpi) / dpi, dpi)


def flat_axes(figure: Figure, pixels: Pixels, hemi: str, note: str = "") -> Axes:
    """Add axes for a flat map, with the name of the hemisphere above and the directions below.

    Parameters
    ----------
    figure : Figure
        The result of `new_figure`.
    pixels : Pixels
        The views.
    hemi : str
        'lh' (drawn on the left) or 'rh'.
    note : str
        Text after the name of the hemisphere.

    Returns
    -------
    Axes
    """
    tall, low = _flat_height(pixels), _flat_bottom(pixels)
    middle = _FLAT_LEFT[hemi] + FLAT_WIDTH_IN / 2
    name = "Left hemisphere" if hemi == "lh" else "Right hemisphere"
    ways = ("← anterior", "posterior →") if hemi == "lh" else ("← posterior", "anterior →")
    write_at(figure, middle, low + tall + 0.05, name + note, va="bottom", fontsize=9.5)
    directions = f"{ways[0]}      dorsal ↑      {ways[1]}"
    write_at(figure, middle, low - 0.08, directions, fontsize=6.5, color="#555555")
    return axes_at(figure, _FLAT_LEFT[hemi], low, FLAT_WIDTH_IN, tall)


def inflated_axes(figure: Figure, pixels: Pixels) -> dict[tuple[str, str], Axes]:
    """Add axes for the row of inflated views, with their names below.

    Parameters
    ----------
    figure : Figure
        The result of `new_figure`.
    pixels : Pixels
        The views.

    Returns
    -------
    dict of (str, str) to Axes
        Axes by hemisphere and view, with the keys of `pixels.inflated`.
    """
    out: dict[tuple[str, str], Axes] = {}
    if not pixels.inflated:
        return out
    x = 0.25
    for name, group in _ROW:
        start = x
        for k, key in enumerate(group):
            box = pixels.inflated[key].box
            width, height = (box[1] - box[0]) / pixels.mm_per_inch, (box[3] - box[2]) / pixels.mm_per_inch
            x += _BETWEEN_MM / pixels.mm_per_inch if k else 0.0
            out[key] = axes_at(figure, x, _ROW_BOTTOM + (_ROW_HEIGHT - height) / 2, width, height)
            x += width
        side = {1: "left " if group[0][0] == "lh" else "right ", 2: ""}[len(group)]
        write_at(figure, (start + x) / 2, _ROW_BOTTOM - 0.03, side + name, fontsize=7)
        x += _GAP_MM / pixels.mm_per_inch
    return out


def _flat_bottom(pixels: Pixels) -> float:
    """Return the bottom of the flat maps in inches; they are above the row of inflated brains, if there is one."""
    return _FLAT_BOTTOM if pixels.inflated else _FLAT_BOTTOM_ALONE


def _flat_height(pixels: Pixels) -> float:
    """Return the height of the flat maps in inches."""
    left, right, bottom, top = pixels.flat["lh"].box
    return FLAT_WIDTH_IN * (top - bottom) / (right - left)


def _largest(boxes: dict[str, Box], axis: int) -> float:
    """Return the largest width (axis 0) or height (axis 2) of the boxes."""
    return max(box[axis + 1] - box[axis] for box in boxes.values())


@cache
def _span(view: str, mesh: Mesh) -> float:
    """Return the width in mm of an inflated view of the left hemisphere, as `inflated_raster` draws it."""
    box = inflated_raster(surface("lh", mesh), view, 10.0).box
    return box[1] - box[0]


def _on_sheet(sheet: Surface, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return those vertices of a mask (V,) that are on the flat sheet."""
    vertices = np.unique(sheet.flat_faces)
    return vertices[mask[vertices]].astype(np.int64)


def _bounds(sheet: Surface, mask: npt.NDArray[np.bool_] | None) -> Box:
    """Return left, right, bottom, top in mm of the masked vertices on the flat sheet (None: all), with a margin."""
    places = sheet.flat[np.unique(sheet.flat_faces) if mask is None else _on_sheet(sheet, mask)]
    (left, bottom), (right, top) = places.min(0) - _MARGIN_MM, places.max(0) + _MARGIN_MM
    return float(left), float(right), float(bottom), float(top)


def _slide(centre: float, width: float, low: float, high: float) -> float:
    """Return the centre of an interval of this width, moved so that the interval stays inside the bounds if it can."""
    if width >= high - low:
        return (low + high) / 2
    return float(np.clip(centre, low + width / 2, high - width / 2))
