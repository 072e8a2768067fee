"""The parts of a figure: axes and words at places in inches, pictures of a map, ROI outlines and their names."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.transforms import Bbox
from matplotlib.tri import Triangulation

from bddn.cortex.fsaverage import Floats
from bddn.cortex.meshes import Surface
from bddn.figures.raster import Box, Raster

MIN_ROI_VERTICES = 8
"""Fewest drawn vertices of an ROI that is outlined and named."""

WIDTH_IN = 10.0
"""Width of a figure."""

INK = "#1c1c1c"
_NAME_SIZE = 6.5
_CHUNK = 1 << 16
_LINE_FROM_MM = 3.0


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place on the sheet.

    Parameters
    ----------
    figure : Figure
        Of 10 inches width.
    left, bottom, width, height : float
        In inches.

    Returns
    -------
    Axes
    """
    tall = figure.get_figheight()
    made: Axes = figure.add_axes((left / WIDTH_IN, bottom / tall, width / WIDTH_IN, height / tall))
    return made


def write_at(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Write text on the sheet.

    Parameters
    ----------
    figure : Figure
        Of 10 inches width.
    x, y : float
        In inches from the left and the bottom; a negative y is measured down from the top.
    text : str
        What to write.
    style
        Passed on to `Figure.text`; centred and dark by default.
    """
    tall = figure.get_figheight()
    at = (x / WIDTH_IN, (y if y >= 0 else tall + y) / tall)
    figure.text(*at, text, **{"ha": "center", "va": "top", "color": INK, **style})


def show_picture(ax: Axes, image: Floats, box: Box) -> None:
    """Put a picture on axes that then measure mm, without ticks or frame.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    image : array of float, (rows, columns, 4)
        From `Raster.image`.
    box : tuple of float
        left, right, bottom, top of the picture, in mm.
    """
    ax.imshow(image, extent=box, origin="upper", interpolation="auto", aspect="equal")
    ax.set_axis_off()


def paint(
    raster: Raster,
    grey: Floats,
    drawn: npt.NDArray[np.bool_],
    rgb: Callable[[Raster], npt.NDArray[np.float64]],
) -> npt.NDArray[np.float32]:
    """The picture of a map on the grey cortex.

    Parameters
    ----------
    raster : Raster
        Which vertices the pixels show.
    grey : array of float, (V,)
        Grey of the bare vertices, 0 to 1.
    drawn : array of bool, (V,)
        The vertices that have a voxel to draw; the map is asked for pixels near them only.
    rgb : callable
        Gives the map's colours (P, 3) at the pixels of the raster that it is given, NaN where cortex is to be seen.

    Returns
    -------
    array of float32, (rows, columns, 4)
        Ready for `show_picture`.
    """
    colour = np.empty((len(raster.pixel), 3), dtype=np.float32)
    bare = grey.astype(np.float32)
    for start in range(0, len(colour), _CHUNK):
        part = raster.part(np.arange(start, min(start + _CHUNK, len(colour))))
        colour[start : start + _CHUNK] = np.einsum("pk,pk->p", bare[part.corners], part.weight)[:, None]
        near = np.flatnonzero(drawn[part.corners] @ np.ones(3, dtype=np.float32))
        if len(near):
            painted = rgb(part.part(near))
            seen = ~np.isnan(painted[:, 0])
            colour[start + near[seen]] = painted[seen]
    return raster.image(colour)


def outline_rois(
    ax: Axes, surface: Surface, roi: Sequence[str], box: Box, size: float = 1.0, named: bool = True
) -> list[str]:
    """Draw thin outlines of ROIs on a flat map, and their names where they overlap least.

    Parameters
    ----------
    ax : Axes
        A flat map, after `show_picture`, in a figure whose size is final.
    surface : Surface
        The hemisphere.
    roi : sequence of str, (V,)
        ROI of each vertex, '' for none.
    box : tuple of float
        left, right, bottom, top of the flat map, in mm.
    size : float
        Of lines and letters, 1 on a full sheet.
    named : bool
        Whether there is room for names.

    Returns
    -------
    list of str
        The ROIs that were drawn, largest first; those of fewer than 8 vertices on the flat map are not.
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
            _name_roi(ax, name, surface.flat[_by_depth(inside, edges, border)], placed, _NAME_SIZE * size)
    ax.set_xlim(box[0], box[1])
    ax.set_ylim(box[2], box[3])
    return [name for _, name in sorted(drawn)]


def _border(edges: npt.NDArray[np.integer], n: int) -> npt.NDArray[np.bool_]:
    """Which of `n` vertices lie on the edge of the sheet, where an edge belongs to one triangle only."""
    a, b = np.sort(edges, axis=1).astype(np.int64).T
    which, count = np.unique(a * n + b, return_counts=True)
    out = np.zeros(n, dtype=bool)
    out[which[count == 1] // n] = out[which[count == 1] % n] = True
    return out


def _by_depth(
    inside: npt.NDArray[np.bool_], edges: npt.NDArray[np.integer], border: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """The vertices of a region, the innermost first: those that last when its rim is taken off again and again. What
    is on the `border` of the sheet is of the rim."""
    depth, left = np.zeros(len(inside)), inside.copy()
    while left.any():
        depth[left] += 1.0
        rim = border.copy()
        np.logical_or.at(rim, edges[:, 0], ~left[edges[:, 1]])
        np.logical_or.at(rim, edges[:, 1], ~left[edges[:, 0]])
        if not (left & rim).any():  # no rim: the whole sheet
            break
        left &= ~rim
    total, n = depth.copy(), np.ones(len(inside))
    np.add.at(total, edges[:, 0], depth[edges[:, 1]])
    np.add.at(total, edges[:, 1], depth[edges[:, 0]])
    np.add.at(n, edges[:, 0], 1.0)
    np.add.at(n, edges[:, 1], 1.0)
    where = np.flatnonzero(inside)
    return where[np.argsort(-(depth + total / n)[where], kind="stable")]


def _name_roi(ax: Axes, name: str, places: Floats, placed: list[Bbox], points: float) -> None:
    """Write a name at the innermost place where it meets no other; beside the ROI with a line if there is none."""
    figure: Any = ax.figure
    renderer = figure.canvas.get_renderer()
    text = ax.text(
        float(places[0, 0]),
        float(places[0, 1]),
        name,
        fontsize=points,
        color=INK,
        ha="center",
        va="center",
        path_effects=_halo(0.25 * points, 0.9),
        zorder=6,
    )
    frame = ax.get_window_extent(renderer)
    angles = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    steps = [(r * np.cos(t), r * np.sin(t)) for r in (6.0, 9.0, 12.0, 16.0, 20.0, 25.0) for t in angles]
    candidates = [*places[: max(len(places) * 2 // 3, 1)], *(places[0] + np.array(step) for step in steps)]
    best, least = candidates[0], np.inf
    for place in candidates:
        text.set_position((float(place[0]), float(place[1])))
        extent = text.get_window_extent(renderer).padded(1.5)
        outside = extent.width * extent.height - _shared_area(extent, frame)
        overlap = sum(_shared_area(extent, other) for other in placed) + 10.0 * outside
        if overlap < least:
            best, least = place, overlap
        if overlap < 1.0:
            break
    text.set_position((float(best[0]), float(best[1])))
    placed.append(text.get_window_extent(renderer).padded(1.5))
    if np.linalg.norm(places - best, axis=1).min() > _LINE_FROM_MM:
        ax.plot([places[0, 0], best[0]], [places[0, 1], best[1]], color=INK, linewidth=0.5, zorder=5)


def _halo(width: float, alpha: float) -> list[AbstractPathEffect]:
    return [withStroke(linewidth=width, foreground="white", alpha=alpha)]


def _shared_area(a: Bbox, b: Bbox) -> float:
    shared = Bbox.intersection(a, b)
    return 0.0 if shared is None else float(shared.width * shared.height)
