"""Draw several maps and images on one sheet: rows of panels, and each legend once below them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.meshes import Mesh
from bddn.cortex.places import space_of
from bddn.cortex.surfaces import surface
from bddn.errors import DataError
from bddn.figures.numbers import write_numbers
from bddn.figures.painting import SurfaceMap
from bddn.figures.panels import INK, WIDTH_IN, axes_at, new_page, outline_rois, show_image, write_at
from bddn.figures.placement import Crop, flat_crop
from bddn.figures.points import PointViews
from bddn.figures.raster import Box, Raster, flat_raster
from bddn.figures.single import DPI, save, shown_vertices, write_caption
from bddn.maps.legends import Classes, LayerField, NoEvidence
from bddn.maps.map import Legend, Map
from bddn.maps.style import own_style
from bddn.maps.voxel_table import roi_names
from bddn.stats.evidence import in_words

if TYPE_CHECKING:
    import pandas as pd

_SIDE_IN, _GAP_IN, _BETWEEN_IN = 0.25, 0.18, 0.05
_HEAD_IN, _TITLE_IN, _FOOT_IN = 0.62, 0.24, 0.12
_ABOVE_LEGEND_IN, _BELOW_LEGEND_IN = 0.22, 0.42
_MIN_NAMED_IN = 1.9  # smallest width of a hemisphere with ROI names, which would not be legible below it
_MAX_PANEL_IN = 4.6  # largest width of a panel
_SMALL_PANEL_IN = 4.2  # width of a panel on a page
_FULL_SIZE_IN = 3.2  # width of a hemisphere with lines and text of full size
_TICKS_IN = 0.2
_SCATTER_SHARE = 0.72  # height of a scatter plot, as a fraction of the panel width


Part = Crop | PointViews
"""What all maps of a figure show: a part of the flat sheets, or views of points."""


class Panel(Protocol):
    """One cell of a grid. Its title is drawn above it."""

    @property
    def title(self) -> str: ...

    @property
    def legend(self) -> Legend | None: ...

    def height(self, width: float, crop: Part) -> float:
        """Return the height in inches of a panel with this width."""

    def draw(self, figure: Figure, place: Box, crop: Part, dpi: int) -> None:
        """Draw the panel at `place` (left, bottom, width, height, in inches)."""


@runtime_checkable
class HasNumbers(Protocol):
    """A panel that is no map, and writes its numbers itself."""

    def write(self, stem: Path) -> Path:
        """Write STEM.csv, and return its path."""


@dataclass(frozen=True, eq=False)
class CortexPanel:
    """A panel with a map on the two flat surfaces; of points, from two sides."""

    title: str
    kind: Map
    table: "pd.DataFrame"

    @property
    def legend(self) -> Legend:
        return self.kind.legend

    def height(self, width: float, crop: Part) -> float:
        if isinstance(crop, PointViews):
            return crop.small_height(width)
        return max(_hemisphere_width(width) / _shape(crop.boxes[hemi]) for hemi in HEMISPHERES)

    def draw(self, figure: Figure, place: Box, crop: Part, dpi: int) -> None:
        if isinstance(crop, PointViews):
            crop.draw_small(figure, place, self.kind, self.table)
            return
        left, bottom, width, height = place
        cortex, wide = SurfaceMap.of(self.kind, self.table, crop.mesh), _hemisphere_width(width)
        for k, hemi in enumerate(HEMISPHERES):
            raster = _raster(hemi, crop.mesh, crop.boxes[hemi], round(wide * dpi))
            tall = wide / _shape(crop.boxes[hemi])
            ax = axes_at(figure, left + k * (wide + _BETWEEN_IN), bottom + height - tall, wide, tall)
            show_image(ax, cortex.image(hemi, raster), raster.box)
            names = roi_names(self.table, hemi, crop.mesh).tolist()
            size = min(1.0, max(0.55, wide / _FULL_SIZE_IN))
            outline_rois(ax, surface(hemi, crop.mesh), names, raster.box, size, wide >= _MIN_NAMED_IN)


@dataclass(frozen=True, eq=False)
class ImagePanel:
    """A panel with a centred image (H, W, 3), float 0 to 1 or uint8, whose width is a `share` of the panel width."""

    title: str
    image: npt.NDArray[np.generic]
    legend: Legend | None = None
    share: float = 1.0

    def height(self, width: float, crop: Part) -> float:
        rows, columns, _ = self.image.shape
        return float(self.share * width * rows / columns)

    def draw(self, figure: Figure, place: Box, crop: Part, dpi: int) -> None:
        left, bottom, width, height = place
        ax = axes_at(figure, left + (1 - self.share) / 2 * width, bottom, self.share * width, height)
        ax.imshow(self.image, interpolation="bicubic", aspect="auto")
        ax.set_axis_off()


@dataclass(frozen=True, eq=False)
class PlacePanel:
    """A panel with the voxels at their selected places in the image, in the colours of a map."""

    title: str
    kind: Map
    table: "pd.DataFrame"

    @property
    def legend(self) -> Legend:
        return self.kind.legend

    def height(self, width: float, crop: Part) -> float:
        return width * _SCATTER_SHARE

    def draw(self, figure: Figure, place: Box, crop: Part, dpi: int) -> None:
        left, bottom, width, _ = place
        side = _SCATTER_SHARE * width - _TICKS_IN
        ax = axes_at(figure, left + (width - side) / 2, bottom + _TICKS_IN, side, side)
        rgb = self.kind.rgb(self.kind.shown)
        valid = np.flatnonzero(~np.isnan(rgb).any(axis=1))
        order = np.random.default_rng(0).permutation(valid)  # so that the last rows do not hide the others
        x, y = (self.table[name].to_numpy(dtype=np.float64)[order] for name in "xy")
        ax.scatter(x, y, s=5.0 if len(order) < 5000 else 2.0, c=rgb[order], linewidths=0, rasterized=True)
        ax.axhline(0, color="#bbbbbb", linewidth=0.5, zorder=0)
        ax.axvline(0, color="#bbbbbb", linewidth=0.5, zorder=0)
        ax.set(xlim=(-1, 1), ylim=(1, -1), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        ax.set_xticklabels(["left", "0", "right"])
        ax.set_yticklabels(["top", "0", "bottom"])
        ax.tick_params(labelsize=7, length=2, width=0.5, colors=INK)
        for spine in ax.spines.values():
            spine.set_linewidth(0.5)


@own_style()
def draw_grid(
    rows: Sequence[Sequence[Panel]],
    stem: Path,
    title: str,
    heading: str,
    *,
    dpi: int = DPI,
    formats: Sequence[str] = ("png",),
    mesh: Mesh = "fsaverage5",
    numbers: bool = True,
) -> list[Path]:
    """Draw rows of panels, and write the numbers of every map.

    Parameters
    ----------
    rows : sequence of sequence of Panel
        All panels have the same width. All maps show the same part of cortex at the same scale.
    stem : Path
        Path of the files without a suffix; existing files are replaced. STEM.1.csv has the numbers of panel 1.
    title, heading : str
        The first two lines of the figure.
    dpi : int
    formats : sequence of str
    mesh : str
    numbers : bool
        Whether to write the numbers.

    Returns
    -------
    list of Path
        The written files.
    """
    panels = [panel for row in rows for panel in row]
    maps = [panel for panel in panels if isinstance(panel, CortexPanel)]
    tables = [panel.table for panel in maps]
    crop = _shared_part(tables, mesh) if maps else Crop(mesh, {})
    legends = _distinct([panel.legend for panel in panels])
    without = dict.fromkeys(panel.kind.hatched for panel in maps if panel.kind.n_without_evidence)
    legends += [NoEvidence(words, isinstance(crop, Crop)) for words in without]
    columns = max(len(row) for row in rows)
    nothing = [panel for panel in maps if panel.kind.n_without_evidence == len(panel.table)]
    width = min((WIDTH_IN - 2 * _SIDE_IN - (columns - 1) * _GAP_IN) / columns, _MAX_PANEL_IN)
    heights = [max(panel.height(width, crop) for panel in row) for row in rows]
    tall = _HEAD_IN + sum(heights) + len(rows) * (_TITLE_IN + _GAP_IN) + _FOOT_IN
    tall += sum(_ABOVE_LEGEND_IN + legend.height_in + _BELOW_LEGEND_IN for legend in legends)
    figure = new_page(round(tall * dpi) / dpi, dpi)
    write_at(figure, WIDTH_IN / 2, -0.08, title, fontsize=13, fontweight="bold")
    write_at(figure, WIDTH_IN / 2, -0.34, heading, fontsize=8.5, color="#333333")
    y = tall - _HEAD_IN
    for row, height in zip(rows, heights, strict=True):
        y -= _TITLE_IN + height
        x = (WIDTH_IN - len(row) * width - (len(row) - 1) * _GAP_IN) / 2
        for panel in row:
            words = panel.title + (_nothing(panel) if panel in nothing else "")
            write_at(figure, x + width / 2, y + height + 0.04, words, va="bottom", fontsize=8.5)
            own = panel.height(width, crop)
            panel.draw(figure, (x, y + height - own, width, own), crop, dpi)
            x += width + _GAP_IN
        y -= _GAP_IN
    for legend in legends:
        y -= _ABOVE_LEGEND_IN + legend.height_in
        legend.draw(axes_at(figure, (WIDTH_IN - legend.width_in) / 2, y, legend.width_in, legend.height_in))
        y -= _BELOW_LEGEND_IN
    titles = " ".join(f"({i}) {panel.title}." for i, panel in enumerate(panels, 1))
    caption = f"{title}. {heading}. {titles}{_evidence(panels)}"
    written = save(figure, stem, formats, dpi)
    for i, panel in enumerate(panels, 1):
        if numbers and isinstance(panel, CortexPanel):
            text = f"{title}, panel {i}: {panel.title}. {panel.kind.heading}.{_evidence([panel])}"
            written += write_numbers(panel.kind, panel.table, text, stem.with_name(f"{stem.name}.{i}"))
        elif numbers and isinstance(panel, HasNumbers):
            written.append(panel.write(stem.with_name(f"{stem.name}.{i}")))
    return [*written, write_caption(caption, stem)]


@own_style()
def panel_pngs(panels: Sequence[CortexPanel], *, legends: bool = False) -> list[bytes]:
    """Return maps as small PNG files for a page, all of the same part of cortex at the same scale, without titles.

    Parameters
    ----------
    panels : sequence of CortexPanel
    legends : bool
        Whether each has its legend below it.
    """
    crop, made, dpi = _shared_part([panel.table for panel in panels], "fsaverage5"), [], 150
    for panel in panels:
        legend = panel.legend
        below = legend.height_in + _BELOW_LEGEND_IN + _ABOVE_LEGEND_IN if legends else 0.0
        wide = max(_SMALL_PANEL_IN, legend.width_in + 2 * _SIDE_IN if legends else 0.0)
        tall = round((panel.height(wide, crop) + below) * dpi) / dpi
        figure = new_page(tall, dpi, wide)
        panel.draw(figure, (0, below, wide, tall - below), crop, dpi)
        if legends:
            at = (wide - legend.width_in) / 2, _BELOW_LEGEND_IN
            legend.draw(axes_at(figure, *at, legend.width_in, legend.height_in))
        file = BytesIO()
        figure.savefig(file, dpi=dpi, format="png", metadata={"Software": None})
        made.append(file.getvalue())
    return made


def _nothing(panel: CortexPanel) -> str:
    """Return the end of the title of a panel whose voxels are all hatched."""
    return ": no voxel has evidence" if panel.kind.about_hatched is None else f": {panel.kind.hatched}"


def _evidence(panels: Sequence[Panel]) -> str:
    """Return the part of a caption about voxels without evidence, with the numbers of the panels if they differ."""
    of: dict[str, list[str]] = {}
    for i, panel in enumerate(panels, 1):
        if isinstance(panel, CortexPanel):
            n = panel.kind.n_without_evidence
            about = panel.kind.about_hatched or in_words(panel.table)
            how = "grey" if space_of(panel.table) == "points" else "hatched"
            of.setdefault(about + (f" {n:,} voxels are {how}." if n else ""), []).append(f"({i})")
    return "".join(f" {', '.join(which)}: {words}" if len(of) > 1 else f" {words}" for words, which in of.items())


def _hemisphere_width(width: float) -> float:
    return (width - _BETWEEN_IN) / 2


def _shape(box: Box) -> float:
    """Return the ratio of width to height."""
    return (box[1] - box[0]) / (box[3] - box[2])


@lru_cache(maxsize=4)
def _raster(hemi: str, mesh: Mesh, box: Box, columns: int) -> Raster:
    """Rasterise a flat map; panels of the same size share the result."""
    return flat_raster(surface(hemi, mesh), box, columns)


def _shared_part(tables: "Sequence[pd.DataFrame]", mesh: Mesh) -> Part:
    """Return what the maps of these tables show.

    Raises
    ------
    DataError
        If some are of points and some on a surface.
    """
    points = [space_of(table) == "points" for table in tables]
    if not any(points):
        return flat_crop(_all_shown(tables, mesh), mesh)
    if all(points):
        return PointViews.of(tables)
    raise DataError(
        "maps of one figure",
        expected="all on a cortical surface, or all of points",
        got="both",
        fix="Draw them in two figures.",
    )


def _all_shown(tables: "Sequence[pd.DataFrame]", mesh: Mesh) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each hemisphere a mask (V,) of the vertices that have a voxel in at least one table."""
    shown = [shown_vertices(table, mesh) for table in tables]
    return {hemi: np.any([each[hemi] for each in shown], axis=0) for hemi in HEMISPHERES}


def _distinct(legends: "Sequence[Legend | None]") -> list[Legend]:
    """Return each legend once. A legend that several maps share has no counts of voxels."""
    by_key: dict[object, Legend] = {}
    for legend in legends:
        if legend is not None:
            known = by_key.get(legend.key, legend)
            if isinstance(known, LayerField | Classes) and known.counts != getattr(legend, "counts", None):
                known = replace(known, counts=())
            by_key[legend.key] = known
    return list(by_key.values())
