"""The parts of a figure: axes and text at positions in inches, images of a map, ROI outlines and ROI names."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.transforms import Bbox
from matplotlib.tri import Triangulation

from bddn.cortex.fsaverage import Floats
from bddn.cortex.meshes import Surface
from bddn.figures.raster import Box, Raster
from bddn.maps.colors import HATCHING
from bddn.text import both_ends, cut

MIN_ROI_VERTICES = 8
"""Smallest number of vertices on the flat map of an ROI that is outlined."""

WIDTH_IN = 10.0
"""Width of a figure in inches."""

INK = "#1c1c1c"
_WIDEST, _LEAST_SIZE = 0.97, 0.65  # of the figure's width, and of the size, for a line of text
_NAME_SIZE, _NAME_CHARS = 6.5, 24
_CHUNK = 1 << 16
_MIN_LINE_MM = 3.0
_HALF = 0.5
_PERIODS = 110  # of the hatching, across an image as wide as a flat map
_DARK_SHARE = 0.4  # width of the dark stripes, as a fraction of the period
_MIN_PERIOD = 10  # pixels of a raster, which is twice as fine as its image


def new_page(height: float, dpi: int, width: float = WIDTH_IN) -> Figure:
    """Return an empty white figure of a size in inches; its text can be measured."""
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a position of the figure.

    Parameters
    ----------
    figure : Figure
    left, bottom, width, height : float
        In inches.

    Returns
    -------
    Axes
    """
    wide, tall = figure.get_figwidth(), figure.get_figheight()
    axes: Axes = figure.add_axes((left / wide, bottom / tall, width / wide, height / tall))
    return axes


def write_at(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Write text at a position of the figure.

    Parameters
    ----------
    figure : Figure
        Of 10 inches width.
    x, y : float
        Position in inches from the left and the bottom; a negative y is measured from the top.
    text : str
        The text.
    style
        Keyword arguments of `Figure.text`; by default centred and dark.
    """
    tall = figure.get_figheight()
    at = (x / WIDTH_IN, (y if y >= 0 else tall + y) / tall)
    drawn = figure.text(*at, text, **{"ha": "center", "va": "top", "color": INK, **style})
    size, widest = float(drawn.get_fontsize()), _WIDEST * figure.bbox.width
    wide = drawn.get_window_extent().width
    if wide > widest:  # such as a title with the long path of a dataset
        drawn.set_fontsize(size * max(_LEAST_SIZE, widest / wide))
    while drawn.get_window_extent().width > widest:
        drawn.set_text(both_ends(text, len(drawn.get_text()) - 2))


def show_image(ax: Axes, image: Floats, box: Box) -> None:
    """Show an image on axes in mm, without ticks or frame.

    Parameters
    ----------
    ax : Axes
        The axes to draw on.
    image : array of float, (rows, columns, 4)
        The result of `Raster.image`.
    box : tuple of float
        left, right, bottom, top of the image, in mm.
    """
    ax.imshow(image, extent=box, origin="upper", interpolation="auto", aspect="equal")
    ax.set_axis_off()


def paint(
    raster: Raster,
    grey: Floats,
    drawn: npt.NDArray[np.bool_],
    rgb: Callable[[Raster], npt.NDArray[np.float64]],
    hatched: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the image of a map on grey cortex.

    Parameters
    ----------
    raster : Raster
        The pixels of the view.
    grey : array of float, (V,)
        Grey value of each vertex, 0 to 1, which is shown without a voxel.
    drawn : array of bool, (V,)
        Mask of the vertices that have a voxel, also a hatched one. `rgb` is called only for pixels next to them.
    rgb : callable
        A function that returns the colours (P, 3) of the map at the pixels of a raster; NaN to show grey cortex.
    hatched : array of bool, (V,), optional
        Mask of the vertices whose voxel has no evidence. A pixel is hatched if `rgb` gives it no colour, and vertices
        with a voxel have at least half of its weight.

    Returns
    -------
    array of float32, (rows, columns, 4)
        The image for `show_image`.
    """
    colour = np.empty((len(raster.pixel), 3), dtype=np.float32)
    bare = grey.astype(np.float32)
    for start in range(0, len(colour), _CHUNK):
        part = raster.part(slice(start, start + _CHUNK))
        colour[start : start + _CHUNK] = np.einsum("pk,pk->p", bare[part.corners], part.weight)[:, None]
        beside = drawn[part.corners]
        near = np.flatnonzero(beside[:, 0] | beside[:, 1] | beside[:, 2])
        if len(near):
            painted = rgb(part.part(near))
            if hatched is not None:
                bare_at = np.flatnonzero(np.isnan(painted[:, 0]))
                without = part.part(near[bare_at])
                inside = np.einsum("pk,pk->p", drawn[without.corners], without.weight) >= _HALF
                inside &= hatched[without.corners].any(axis=1)
                painted[bare_at[inside]] = _stripes(without)[inside, None]
            valid = ~np.isnan(painted[:, 0])
            colour[start + near[valid]] = painted[valid]
    return raster.image(colour)


def _stripes(raster: Raster) -> npt.NDArray[np.float64]:
    """Return the greys (P,) of diagonal stripes at the pixels of a raster."""
    width = raster.shape[1]
    period = max(width // _PERIODS, _MIN_PERIOD)
    return np.where((raster.pixel // width + raster.pixel % width) % period < period * _DARK_SHARE, *HATCHING)


def outline_rois(
    ax: Axes, surface: Surface, roi: Sequence[str], box: Box, size: float = 1.0, named: bool = True
) -> list[str]:
    """Draw thin outlines of ROIs on a flat map, and their names at the positions with the least overlap.

    Parameters
    ----------
    ax : Axes
        Axes of a flat map, after `show_image`. The size of the figure must not change any more.
    surface : Surface
        The hemisphere.
    roi : sequence of str, (V,)
        ROI of each vertex, or ''.
    box : tuple of float
        left, right, bottom, top of the flat map, in mm.
    size : float
        Size of lines and text, relative to a full figure.
    named : bool
        Whether to write the names.

    Returns
    -------
    list of str
        The drawn ROIs, largest first. ROIs with fewer than 8 vertices on the flat map are skipped.
    """
    label = np.asarray(roi, dtype=str)
    on_sheet = np.zeros(len(label), dtype=bool)
    on_sheet[np.unique(surface.flat_faces)] = True
    names, counts = np.unique(label[on_sheet], return_counts=True)
    drawn = [(int(-n), str(name)) for name, n in zip(names, counts, strict=True) if name and n >= MIN_ROI_VERTICES]
    for _, name in sorted(drawn):
        inside = (label == name) & on_sheet
        around = surface.flat_faces[inside[surface.flat_faces].any(axis=1)]
        sheet = Triangulation(surface.flat[:, 0], surface.flat[:, 1], around)
        lines = ax.tricontour(sheet, inside.astype(float), levels=[0.5], colors=INK, linewidths=0.6 * size, zorder=4)
        lines.set_path_effects(_halo(1.3 * size, 0.55))
    if named:
        edges = np.concatenate([surface.flat_faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
        border, placed = _border(edges, len(label)), list[Bbox]()
        for _, name in sorted(drawn):
            inside = (label == name) & on_sheet
            name_roi(ax, name, surface.flat[_by_depth(inside, edges, border)], placed, _NAME_SIZE * size)
    ax.set_xlim(box[0], box[1])
    ax.set_ylim(box[2], box[3])
    return [name for _, name in sorted(drawn)]


def _border(edges: npt.NDArray[np.integer], n: int) -> npt.NDArray[np.bool_]:
    """Return a mask (n,) of the vertices on the border of the sheet, whose edges belong to only one triangle."""
    a, b = np.sort(edges, axis=1).astype(np.int64).T
    edge, count = np.unique(a * n + b, return_counts=True)
    out = np.zeros(n, dtype=bool)
    out[edge[count == 1] // n] = out[edge[count == 1] % n] = True
    return out


def _by_depth(
    inside: npt.NDArray[np.bool_], edges: npt.NDArray[np.integer], border: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Return the vertices of a region, sorted from the innermost outwards. Depth is the number of repeated erosions of
    the rim that a vertex survives; vertices on the `border` of the sheet belong to the rim."""
    depth, left = np.zeros(len(inside)), inside.copy()
    while left.any():
        depth[left] += 1.0
        rim = border.copy()
        np.logical_or.at(rim, edges[:, 0], ~left[edges[:, 1]])
        np.logical_or.at(rim, edges[:, 1], ~left[edges[:, 0]])
        if not (left & rim).any():  # the region is the whole sheet and has no rim
            break
        left &= ~rim
    total, n = depth.copy(), np.ones(len(inside))
    np.add.at(total, edges[:, 0], depth[edges[:, 1]])
    np.add.at(total, edges[:, 1], depth[edges[:, 0]])
    np.add.at(n, edges[:, 0], 1.0)
    np.add.at(n, edges[:, 1], 1.0)
    where = np.flatnonzero(inside)
    return where[np.argsort(-(depth + total / n)[where], kind="stable")]


def name_roi(ax: Axes, name: str, places: Floats, placed: list[Bbox], points: float, step: float = 1.0) -> None:
    """Write a name at the innermost position without overlap, or next to the ROI with a line if there is none.

    Parameters
    ----------
    ax : Axes
    name : str
    places : array of float, (n, 2)
        Positions inside the ROI, from the innermost outwards.
    placed : list of Bbox
        The names that are already there; this one is added.
    points : float
        Size of the text.
    step : float
        Unit of the distances next to the ROI, in mm of the axes.
    """
    figure: Any = ax.figure
    renderer = figure.canvas.get_renderer()
    text = ax.text(
        float(places[0, 0]),
        float(places[0, 1]),
        cut(name, _NAME_CHARS),
        fontsize=points,
        color=INK,
        ha="center",
        va="center",
        path_effects=_halo(0.25 * points, 0.9),
        zorder=6,
    )
    frame = ax.get_window_extent(renderer)
    angles = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    steps = [(step * r * np.cos(t), step * r * np.sin(t)) for r in (6.0, 9.0, 12.0, 16.0, 20.0, 25.0) for t in angles]
    candidates = [*places[: max(len(places) * 2 // 3, 1)], *(places[0] + np.array(away) for away in steps)]
    best, min_overlap = candidates[0], np.inf
    for place in candidates:
        text.set_position((float(place[0]), float(place[1])))
        extent = text.get_window_extent(renderer).padded(1.5)
        outside = extent.width * extent.height - _shared_area(extent, frame)
        overlap = sum(_shared_area(extent, other) for other in placed) + 10.0 * outside
        if overlap < min_overlap:
            best, min_overlap = place, overlap
        if overlap < 1.0:
            break
    text.set_position((float(best[0]), float(best[1])))
    placed.append(text.get_window_extent(renderer).padded(1.5))
    if np.linalg.norm(places - best, axis=1).min() > step * _MIN_LINE_MM:
        ax.plot([places[0, 0], best[0]], [places[0, 1], best[1]], color=INK, linewidth=0.5, zorder=5)


def _halo(width: float, alpha: float) -> list[AbstractPathEffect]:
    return [withStroke(linewidth=width, foreground="white", alpha=alpha)]


def _shared_area(a: Bbox, b: Bbox) -> float:
    shared = Bbox.intersection(a, b)
    return 0.0 if shared is None else float(shared.width * shared.height)
