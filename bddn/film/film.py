"""The learning film: the layer map from before the first step of a fit until after the last step.

ROI outlines, text and legend are drawn once. For each frame, the maps are painted as in any figure, and the moving
parts of the strips below the maps are drawn again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES_FSAVERAGE5, Floats
from bddn.cortex.places import not_on_surface, on_mesh, space_of
from bddn.cortex.surfaces import surface, to_mesh
from bddn.errors import RunError
from bddn.figures.panels import WIDTH_IN, axes_at, outline_rois, paint, write_at
from bddn.figures.placement import FLAT_WIDTH_IN, flat_crop
from bddn.figures.raster import Raster, flat_raster
from bddn.film.moving import MAX_COLOURS, Picture, check_kind, write_moving
from bddn.film.strips import LayerStrip, LossStrip, Strip
from bddn.maps import colors
from bddn.maps.colors import Palette
from bddn.maps.kinds import confidence_top
from bddn.maps.style import own_style
from bddn.maps.voxel_table import roi_names
from bddn.stats.evidence import evident, in_words

if TYPE_CHECKING:
    import pandas as pd

    from bddn.encoder.learning import Learning

DPI = 100
FPS = 10.0
HOLD_S = 2.0

_TEXT_GREYS, _CORTEX_GREYS = 16, (186, 226, 17)  # in the palette of a GIF
_MIN_LEVELS = 8
_LEFT_IN = {"lh": 0.24, "rh": 5.10}
_MAPS_BOTTOM_IN, _ABOVE_MAPS_IN = 2.16, 0.76
_GREY = "#555555"
_WAYS = {
    "lh": "← anterior      dorsal ↑      posterior →",
    "rh": "← posterior      dorsal ↑      anterior →",
}
_HEADING = {
    "hue": "The layer map as the encoder learns: hue is the layer with the highest weight, brightness its confidence",
    "safe": "The layer map as the encoder learns: colour is the layer with the highest weight, strength its confidence",
}
_SMALL = (
    "{n:,} of {total:,} voxels, those at vertices of fsaverage5. Bars: share of voxels, each counted by its "
    "confidence; at first it has none. The run keeps the epoch that validated best."
)


def write_film(
    learning: "Learning",
    voxels: "pd.DataFrame",
    layers: Sequence[str],
    out: Path,
    title: str,
    *,
    fps: float = FPS,
    dpi: int = DPI,
    palette: Palette = "hue",
    caution: str = "",
) -> None:
    """Write the learning film of a run. For a GIF, the same input gives the same bytes.

    Parameters
    ----------
    learning : Learning
        The history of the selectors, from `bddn.run.read_learning`.
    voxels : DataFrame, one row per voxel
        The voxel table of the run, with columns hemi, vertex, roi and confidence, and q_test of a run with a test.
    layers : sequence of str, (L,)
        Names of the layers, from early to late.
    out : Path
        A .gif or .mp4 file; an existing file is replaced.
    title : str
        First line of the film.
    fps : float
        Frames per second; the last frame is shown 2 s longer.
    dpi : int
        Pixels per inch; a frame is 10 inches wide.
    palette : str
        'hue', or 'safe' for readers with colour blindness.
    caution : str
        Why the layers are no finding, if so; it is shown instead of how to read the colours.

    Raises
    ------
    SpecError
        If `out` is neither .gif nor .mp4, or is .mp4 and ffmpeg is missing.
    RunError
        If the run has no voxel at vertices of fsaverage5.
    DataError
        If its voxels are points.
    BddnError
        If ffmpeg fails.
    """
    check_kind(out)
    if space_of(voxels) == "points":
        raise not_on_surface(f"film {out}", voxels)
    if not len(learning.voxel):
        raise RunError(
            f"film {out}",
            expected=f"a run with voxels at vertices of fsaverage5, whose indices are below {N_VERTICES_FSAVERAGE5:,}",
            got=f"{len(voxels):,} voxels at other vertices",
            fix="Fit again on all voxels of the subject.",
        )
    frames = Frames(learning, voxels, layers, title, dpi, palette, caution)
    write_moving(frames, frames.colours, out, fps, HOLD_S)


class Frames(Sequence[Picture]):
    """The frames of the film, which are drawn on demand. The parameters are those of `write_film`."""

    @own_style()
    def __init__(
        self,
        learning: "Learning",
        voxels: "pd.DataFrame",
        layers: Sequence[str],
        title: str,
        dpi: int,
        palette: Palette,
        caution: str = "",
    ) -> None:
        self._n_layers, self._palette, self._top = len(layers), palette, confidence_top([voxels])
        drawn = on_mesh(voxels, "fsaverage5")
        number = np.full(len(voxels), -1)
        number[learning.voxel] = np.arange(len(learning.voxel))
        self._shown = shown = drawn[number[drawn.index] >= 0]
        self._learning = learning = _of_voxels(learning, number[shown.index])
        self._evident = known = evident(shown)
        self._rasters = rasters = _rasters(shown, dpi)
        tall = rasters["lh"].shape[0] / 2 / dpi
        height = 2 * round((_MAPS_BOTTOM_IN + tall + _ABOVE_MAPS_IN) * dpi / 2)  # even, because mp4 requires it
        figure = Figure(figsize=(WIDTH_IN, height / dpi), dpi=dpi, facecolor="none")
        self._canvas = cast(Any, FigureCanvasAgg(figure))  # because its methods have no type annotations
        axes = {hemi: _map_axes(figure, hemi, rasters[hemi], voxels, tall) for hemi in HEMISPHERES}
        write_at(figure, WIDTH_IN / 2, -0.10, title, fontsize=13, fontweight="bold")
        write_at(figure, WIDTH_IN / 2, -0.36, caution or _HEADING[palette], fontsize=8.5, color="#333333")
        small = _SMALL.format(n=len(np.unique(shown.index)), total=len(voxels))
        hatched = "" if known.all() else " Voxels without evidence are hatched, and not in the bars."
        write_at(figure, 0.25, 0.19, in_words(voxels) + hatched, ha="left", va="bottom", fontsize=6, color=_GREY)
        write_at(figure, 0.25, 0.06, small, ha="left", va="bottom", fontsize=6, color=_GREY)
        self._strips: tuple[Strip, ...] = (
            LossStrip(figure, learning),
            LayerStrip(figure, _of_voxels(learning, known), layers, self._top, palette),
        )
        for artist in (artist for strip in self._strips for artist in strip.moving):
            artist.set_animated(True)  # so that the static parts are drawn without it
        self._canvas.draw()
        self._static = self._canvas.copy_from_bbox(figure.bbox)
        self._shape = height, round(WIDTH_IN * dpi), 3
        self._corners = {hemi: (height - round(ax.bbox.y1), round(ax.bbox.x0)) for hemi, ax in axes.items()}

    @property
    def colours(self) -> Picture:
        """The palette of a GIF, (n, 3) with n at most 255: greys of text and cortex, and colours of layers."""
        stripes = 255 * np.array(colors.HATCHING)
        greys = np.concatenate([np.linspace(0, 255, _TEXT_GREYS), np.linspace(*_CORTEX_GREYS), stripes])
        layers = layer_colours(MAX_COLOURS - len(greys), self._n_layers, self._top, self._palette)
        return np.concatenate([_as_bytes(np.repeat(greys[:, None], 3, axis=1)), layers])

    def __len__(self) -> int:
        return len(self._learning.step)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> list[Picture]: ...
    def __getitem__(self, index: int | slice) -> Picture | list[Picture]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        return self._draw(range(len(self))[index])

    @own_style()
    def _draw(self, k: int) -> Picture:
        self._canvas.restore_region(self._static)
        for strip in self._strips:
            strip.show(k)
            for artist in strip.moving:
                artist.draw(self._canvas.get_renderer())
        paper = np.full(self._shape, 255.0, np.float32)
        for hemi, (row, column) in self._corners.items():
            image = self._map(hemi, k)
            part = paper[row : row + image.shape[0], column : column + image.shape[1]]
            part += (255 * image[..., :3] - part) * image[..., 3:]
        return draw_over(paper, np.asarray(self._canvas.buffer_rgba()))

    def _map(self, hemi: str, k: int) -> npt.NDArray[np.float32]:
        """Return the flat map (rows, columns, 4) of a hemisphere in frame `k`, float32 from 0 to 1."""
        on_side = (self._shown["hemi"] == hemi).to_numpy()
        vertex = self._shown["vertex"].to_numpy()[on_side]
        layer = np.full(N_VERTICES_FSAVERAGE5, -1)
        known = self._evident[on_side]
        layer[vertex[known]] = self._learning.layer[k][on_side][known]
        confidence = to_mesh(vertex[known], self._learning.confidence[k][on_side][known] / 255.0)
        hatched = np.isin(np.arange(N_VERTICES_FSAVERAGE5), vertex[~known])

        def rgb(part: Raster) -> npt.NDArray[np.float64]:
            index, certainty = part.categories(layer, self._n_layers), part.values(confidence)
            return colors.layer_rgb(index, certainty, self._n_layers, self._top, self._palette)

        grey = colors.cortex_grey(surface(hemi).sulc)
        return paint(self._rasters[hemi], grey, (layer >= 0) | hatched, rgb, hatched)


def _of_voxels(learning: "Learning", kept: npt.NDArray[np.generic]) -> "Learning":
    """Return the learning log of some of its voxels, by a mask or by their numbers in it."""
    per_voxel = {name: getattr(learning, name)[:, kept] for name in ("layer", "confidence", "place", "scale")}
    return replace(learning, voxel=learning.voxel[kept], **per_voxel)


def layer_colours(n: int, n_layers: int, top: float, palette: Palette) -> Picture:
    """Return at most `n` colours (n, 3) of a layer map, at equal steps of confidence from 0 to `top`. If there are too
    many layers for at least 8 levels each, only some of the layers are used."""
    layers = np.unique(np.linspace(0, n_layers - 1, n // _MIN_LEVELS).round().astype(int))
    layer, confidence = np.meshgrid(layers, np.linspace(0.0, top, n // len(layers)), indexing="ij")
    return _as_bytes(255 * colors.layer_rgb(layer.ravel(), confidence.ravel(), n_layers, top, palette))


def draw_over(paper: npt.NDArray[np.float32], ink: Picture) -> Picture:
    """Return paper (..., 3), 0 to 255, with ink (..., 4) drawn over it by its opacity."""
    return _as_bytes(paper + (ink[..., :3] - paper) * (ink[..., 3:] / np.float32(255)))


def _as_bytes(colours: Floats) -> Picture:
    return np.asarray(np.rint(colours), np.uint8)


def _rasters(shown: "pd.DataFrame", dpi: int) -> dict[str, Raster]:
    """Rasterise the flat maps of both hemispheres, cropped to the shown voxels."""
    has_voxel = {}
    for hemi in HEMISPHERES:
        vertex = shown.loc[shown["hemi"] == hemi, "vertex"].to_numpy()
        has_voxel[hemi] = np.isin(np.arange(N_VERTICES_FSAVERAGE5), vertex)
    boxes = flat_crop(has_voxel).boxes
    return {hemi: flat_raster(surface(hemi), boxes[hemi], round(FLAT_WIDTH_IN * dpi)) for hemi in HEMISPHERES}


def _map_axes(figure: Figure, hemi: str, raster: Raster, voxels: "pd.DataFrame", tall: float) -> Axes:
    """Add axes for a flat map, with ROI outlines and text."""
    ax = axes_at(figure, _LEFT_IN[hemi], _MAPS_BOTTOM_IN, FLAT_WIDTH_IN, tall)
    ax.set_axis_off()
    outline_rois(ax, surface(hemi), roi_names(voxels, hemi).tolist(), raster.box)
    middle = _LEFT_IN[hemi] + FLAT_WIDTH_IN / 2
    name = {"lh": "Left hemisphere", "rh": "Right hemisphere"}[hemi]
    named = name if (voxels["hemi"] == hemi).any() else f"{name} (no voxels)"
    write_at(figure, middle, _MAPS_BOTTOM_IN + tall + 0.04, named, va="bottom", fontsize=9.5)
    write_at(figure, middle, _MAPS_BOTTOM_IN - 0.06, _WAYS[hemi], fontsize=6.5, color=_GREY)
    return ax
