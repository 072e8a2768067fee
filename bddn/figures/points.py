"""Draw maps of points, which are voxels that are known by their coordinates, from several sides and at one scale.

Points of known hemispheres are drawn as a brain: each hemisphere from its own side, and both from above and from
behind. Others are drawn in the plane of the two axes along which they extend most, and in that of the first and third.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from bddn.cortex.frames import Frame, Volume
from bddn.cortex.places import COORDINATES, coordinates, sides
from bddn.figures.panels import INK, WIDTH_IN, axes_at, name_roi, new_page, write_at
from bddn.figures.raster import Box
from bddn.maps.colors import NO_EVIDENCE
from bddn.maps.map import Map
from bddn.stats.evidence import in_words

if TYPE_CHECKING:
    import pandas as pd

NO_VALUE = 0.84
"""Grey of a point without a value."""

_NAMES = tuple(name.removesuffix("_mm") for name in COORDINATES)
_FLAT_SHARE = 0.05  # of the longest side: points that extend less along an axis are not drawn along it
_MARGIN = 0.04
_BOTTOM_IN, _ABOVE_IN = 2.04, 0.58
_LEFT_IN, _BELOW_IN, _TITLE_IN = 0.62, 0.42, 0.24
_TALLEST_IN = {1: 4.2, 2: 2.9}  # by number of rows
_POINT = (1.6, 9.0)  # smallest and largest diameter
_COVERED = 0.8  # diameter, in units of the distance of points that fill a pane evenly
_SAMPLED = 2000  # points whose distance from others is measured
_FEWEST_NAMED = 3
_GAP_IN, _SMALL_TITLE, _FULL_SIZE_IN = 0.06, 5.5, 3.2


@dataclass(frozen=True)
class Pane:
    """A view of points.

    Attributes
    ----------
    title : str
    hemi : str or None
        The hemisphere that it shows; None for all points.
    across, up, depth : int
        Axes to the right, upwards, and towards or away from the viewer.
    is_reversed : bool
        Whether the first axis increases to the left.
    sign : int
        1 if points with larger coordinates along `depth` are nearer, otherwise -1.
    """

    title: str
    hemi: str | None
    across: int
    up: int
    depth: int
    is_reversed: bool
    sign: int

    def rows(self, table: "pd.DataFrame") -> npt.NDArray[np.intp]:
        """Return the rows of the points that are shown, the nearest last."""
        shown = np.flatnonzero((table["hemi"] == self.hemi).to_numpy() if self.hemi else np.ones(len(table), bool))
        return shown[np.argsort(self.sign * coordinates(table)[shown, self.depth], kind="stable")]


BRAIN = (
    Pane("Left hemisphere", "lh", 1, 2, 0, True, -1),
    Pane("Right hemisphere", "rh", 1, 2, 0, False, 1),
    Pane("From above", None, 0, 1, 2, False, 1),
    Pane("From behind", None, 0, 2, 1, False, -1),
)
_NEARER = {2: 1, 1: -1, 0: 1}  # sign of the axis that is left out, if the others point to the right and upwards


@dataclass(frozen=True)
class PointViews:
    """The views that all maps of some tables share, the part of space (left, right, bottom, top in mm) in each, and the
    usual distance of a point from the nearest other one."""

    panes: tuple[Pane, ...]
    boxes: tuple[Box, ...]
    apart_mm: float

    @classmethod
    def of(cls, tables: "Sequence[pd.DataFrame]") -> "PointViews":
        """Return the views of tables of points."""
        at = np.concatenate([coordinates(table) for table in tables]).astype(np.float64)
        hemi = np.concatenate([table["hemi"].to_numpy() for table in tables])
        panes = _panes(at, hemi)
        low, high = at.min(0), at.max(0)
        margin = _MARGIN * max(float((high - low).max()), 1e-6)
        boxes = []
        for pane in panes:
            ends = [(float(low[k] - margin), float(high[k] + margin)) for k in (pane.across, pane.up)]
            boxes.append((*ends[0], *ends[1]))
        return cls(panes, tuple(boxes), _apart_mm(at))

    @cached_property
    def page_rows(self) -> list[list[int]]:
        """The numbers of the views in each row of a page, from the top."""
        every = list(range(len(self.panes)))
        return [every[:2], every[2:]] if len(every) > 3 else [every]

    @cached_property
    def mm_per_inch(self) -> float:
        """The scale of a page."""
        rows = self.page_rows
        wide = [sum(self._size(k)[0] for k in row) / (WIDTH_IN - 0.25 - len(row) * _LEFT_IN) for row in rows]
        tall = [max(self._size(k)[1] for k in row) / _TALLEST_IN[len(rows)] for row in rows]
        return max(*wide, *tall)

    def new_figure(self, dpi: int) -> Figure:
        """Return a white figure with its own Agg canvas, independent of pyplot."""
        tall = sum(self._row_in(row) + _TITLE_IN + _BELOW_IN for row in self.page_rows) - _BELOW_IN
        height = _BOTTOM_IN + tall + _ABOVE_IN
        return new_page(round(height * dpi) / dpi, dpi)

    def draw(self, figure: Figure, kind: Map, table: "pd.DataFrame") -> None:
        """Draw a map on a figure of `new_figure`."""
        y, scale = figure.get_figheight() - _ABOVE_IN, self.mm_per_inch
        for row in self.page_rows:
            y -= _TITLE_IN + self._row_in(row)
            x = (WIDTH_IN - sum(self._size(k)[0] / scale + _LEFT_IN for k in row)) / 2
            for k in row:
                x += _LEFT_IN
                width, height = (size / scale for size in self._size(k))
                top = y + self._row_in(row)
                write_at(figure, x + width / 2, top + 0.05, self.panes[k].title, va="bottom", fontsize=9.5)
                ax = axes_at(figure, x, top - height, width, height)
                self._draw(ax, k, kind, table, width, 1.0)
                ax.xaxis.set_major_locator(MaxNLocator(5))
                ax.yaxis.set_major_locator(MaxNLocator(5))
                ax.set_xlabel(f"{_NAMES[self.panes[k].across]} (mm)", fontsize=7, labelpad=1, color=INK)
                ax.set_ylabel(f"{_NAMES[self.panes[k].up]} (mm)", fontsize=7, labelpad=1, color=INK)
                ax.tick_params(labelsize=6, length=2, width=0.5, colors=INK)
                x += width
            y -= _BELOW_IN

    def small_height(self, width: float) -> float:
        """Return the height in inches of a panel of this width with the first two views."""
        return max(self._size(k)[1] for k in self._small) / self._small_scale(width)

    def draw_small(self, figure: Figure, place: Box, kind: Map, table: "pd.DataFrame") -> None:
        """Draw the first two views of a map into a panel at `place` (left, bottom, width, height, in inches)."""
        left, bottom, width, height = place
        scale = self._small_scale(width)
        x = left + (width - sum(self._size(k)[0] for k in self._small) / scale - self._gaps) / 2
        for k in self._small:
            wide, tall = (size / scale for size in self._size(k))
            ax = axes_at(figure, x, bottom + height - tall, wide, tall)
            self._draw(ax, k, kind, table, wide, min(1.0, max(0.55, wide / _FULL_SIZE_IN)))
            ax.set_xticks([])
            ax.set_yticks([])
            style: dict[str, Any] = {"transform": ax.transAxes, "va": "top", "fontsize": _SMALL_TITLE}
            ax.text(0.02, 0.98, self.panes[k].title, color="#555555", zorder=7, **style)
            x += wide + _GAP_IN

    def notes(self, kind: Map, table: "pd.DataFrame", frame: Frame | None) -> list[str]:
        """Return three lines that say which voxels are drawn, and how."""
        missing = int(np.isnan(kind.shown).any(axis=1).sum()) - kind.n_without_evidence
        known = {side: int(mask.sum()) for side, mask in sides(table).items()}
        told = f" ({', '.join(f'{side} {n:,}' for side, n in known.items())})" if "all" not in known else ""
        grey = f"{in_words(table)}{' Voxels without evidence are grey.' if kind.n_without_evidence else ''}"
        volume = f", {kind.name}.nii.gz" if isinstance(frame, Volume) else ""
        return [
            kind.about_hatched or grey,
            f"{len(table):,} voxels{told} at their coordinates, all views at one scale. Nearer points hide those "
            "behind them, and coloured points hide grey ones.",
            (f"{missing:,} voxels have no value and are pale. " if missing else "")
            + f"All voxels: {kind.name}.csv{volume}.",
        ]

    @property
    def _small(self) -> range:
        return range(min(2, len(self.panes)))

    @property
    def _gaps(self) -> float:
        return _GAP_IN * (len(self._small) - 1)

    def _small_scale(self, width: float) -> float:
        """Return the mm per inch of a panel; it is not taller than wide."""
        wide = sum(self._size(k)[0] for k in self._small) / (width - self._gaps)
        return max(wide, max(self._size(k)[1] for k in self._small) / width)

    def _size(self, k: int) -> tuple[float, float]:
        """Return the width and the height of a view in mm."""
        left, right, bottom, top = self.boxes[k]
        return right - left, top - bottom

    def _row_in(self, row: list[int]) -> float:
        """Return the height of a row of a page in inches."""
        return max(self._size(k)[1] for k in row) / self.mm_per_inch

    def diameter(self, k: int, n: int, width_in: float) -> float:
        """Return the diameter of n points in a view of this width, in units of 1/72 inch.

        Points fill the view as if they lay in its plane. Most points of a volume are behind others, so points are not
        smaller than their distance in space.
        """
        left, right, bottom, top = self.boxes[k]
        apart_mm = max(np.sqrt((right - left) * (top - bottom) / max(n, 1)), self.apart_mm)
        return float(np.clip(_COVERED * apart_mm * 72 * width_in / (right - left), *_POINT))

    def _draw(self, ax: Axes, k: int, kind: Map, table: "pd.DataFrame", width_in: float, size: float) -> None:
        """Draw the points of a view: those without a value first, then those without evidence, then the others."""
        pane, (left, right, bottom, top) = self.panes[k], self.boxes[k]
        ax.set_xlim((right, left) if pane.is_reversed else (left, right))
        ax.set_ylim(bottom, top)
        for spine in ax.spines.values():
            spine.set_linewidth(0.5)
            spine.set_color("#999999")
        at, rows, colour = coordinates(table), pane.rows(table), _colours(kind)
        diameter = self.diameter(k, len(rows), width_in)
        for layer, rgb in enumerate(colour):
            own = rows[np.isfinite(rgb[rows, 0])]
            x, y = at[own, pane.across], at[own, pane.up]
            ax.scatter(x, y, s=diameter**2, c=rgb[own], linewidths=0, rasterized=True, zorder=2 + layer)
        roi, placed = table["roi"].fillna("").astype(str).to_numpy()[rows], list[Bbox]()
        names, counts = np.unique(roi[roi != ""], return_counts=True)
        for name in names[np.argsort(-counts, kind="stable")]:
            inside = at[rows[roi == name]][:, [pane.across, pane.up]].astype(np.float64)
            if len(inside) >= _FEWEST_NAMED:
                away = np.abs(inside - np.median(inside, axis=0)).sum(1)
                step = (right - left) / 120  # a flat map is about 120 mm wide
                name_roi(ax, str(name), inside[np.argsort(away, kind="stable")], placed, 6.5 * size, step)


def _apart_mm(at: npt.NDArray[np.float64]) -> float:
    """Return the median distance from a point to the nearest other place, of points (N, 3) that may be equal."""
    from scipy.spatial import KDTree

    different = np.unique(at, axis=0)
    if len(different) < 2:
        return 0.0
    some = different[:: -(-len(different) // _SAMPLED)]
    return float(np.median(KDTree(different).query(some, k=2)[0][:, 1]))


def _panes(at: npt.NDArray[np.float64], hemi: npt.NDArray[np.generic]) -> tuple[Pane, ...]:
    """Return the views of points (N, 3) in these hemispheres (N,)."""
    middle = {side: float(at[hemi == side, 0].mean()) for side in ("lh", "rh") if (hemi == side).any()}
    if middle and middle.get("lh", -np.inf) < middle.get("rh", np.inf):  # x points to the right
        return tuple(pane for pane in BRAIN if pane.hemi is None or pane.hemi in middle)
    extent = np.ptp(at, axis=0)
    first, second, third = (int(k) for k in np.argsort(-extent, kind="stable"))
    planes = [(first, second)]
    if extent[third] > _FLAT_SHARE * extent[first]:
        planes.append((first, third))
    panes = []
    for across, up in map(sorted, planes):
        depth = 3 - across - up
        title = f"{_NAMES[across]} and {_NAMES[up]}, seen along {_NAMES[depth]}"
        panes.append(Pane(title, None, across, up, depth, False, _NEARER[depth]))
    return tuple(panes)


def _colours(kind: Map) -> list[npt.NDArray[np.float64]]:
    """Return the colours (N, 3) of points without a value, without evidence, and of the others; NaN elsewhere."""
    shown = kind.rgb(kind.shown)
    bare, without = np.asarray(np.isnan(shown).any(axis=1)), np.zeros(len(shown), np.bool_)
    if kind.evident is not None:
        without = ~kind.evident
    pale, grey = np.full_like(shown, np.nan), np.full_like(shown, np.nan)
    pale[bare & ~without], grey[without] = NO_VALUE, NO_EVIDENCE
    return [pale, grey, np.where(bare[:, None], np.nan, shown)]
