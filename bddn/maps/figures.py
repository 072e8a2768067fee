"""The three maps of a run: layer, score and scale, each as a picture, a table and two GIFTI files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bddn.atomic import replace_file
from bddn.data.fsaverage import HEMISPHERES, N_VERTICES, N_VERTICES_FSAVERAGE5
from bddn.maps import colors, legends
from bddn.maps.gifti import write_gifti
from bddn.maps.layout import Pixels, flat_axes, inflated_axes, make_pixels, new_figure
from bddn.maps.panels import WIDTH_IN, axes_at, outline_rois, paint, show_picture, write_at
from bddn.maps.raster import Raster
from bddn.maps.surfaces import Floats, surface, to_fsaverage5
from bddn.maps.table import check_voxels, layer_index, roi_names

if TYPE_CHECKING:
    import pandas as pd

DPI = 220


@dataclass(frozen=True, eq=False)
class _Map:
    """One kind of map.

    name : stem of its files; heading : what is drawn; values : (N, k) numbers that the picture needs, a voxel with
    NaN among them is not drawn; rgb : from a raster and those numbers on fsaverage5, (10242, k), the pixels' colours;
    legend : draws it; columns : its table; arrays : the names in its GIFTI files and their columns of the table.
    """

    name: str
    heading: str
    values: npt.NDArray[np.float64]
    rgb: Callable[[Raster, Floats], npt.NDArray[np.float64]]
    legend: Callable[[Figure], Axes]
    columns: list[str]
    arrays: dict[str, str]


def draw(
    voxels: "pd.DataFrame",
    layers: Sequence[str],
    out_dir: Path,
    title: str,
    *,
    dpi: int = DPI,
    confidence_top: float | None = None,
    score_top: float | None = None,
) -> list[Path]:
    """Draw the layer map, the score map and the scale map of a run, and write their numbers beside them.

    Parameters
    ----------
    voxels : DataFrame, one row per voxel
        Columns hemi ('lh' or 'rh'), vertex (fsaverage7 index), roi ('' for none), r2_val, r2_test, layer_argmax
        (a name), depth, confidence, scale, and `weight_<layer>` for each layer. NaN is drawn as bare cortex.
    layers : sequence of str, (L,)
        Names of the layers, early to late.
    out_dir : Path
        Folder for the files, made if it does not exist; files of the same names are replaced.
    title : str
        First line of each figure.
    dpi : int
        Pixels per inch of a figure of 10 inches width.
    confidence_top, score_top : float, optional
        Confidence of full brightness, and score at the upper end of the colours. Without them each table gets its
        own (95th and 99th percentile); give them to compare figures.

    Returns
    -------
    list of Path
        For each of layer_map, score_map and scale_map: .png, .csv, .lh.func.gii, .rh.func.gii.

    Raises
    ------
    DataError
        If a column is missing, there is no voxel, or a hemisphere, vertex or layer is impossible.
    """
    check_voxels(voxels, layers)
    table = voxels.reset_index(drop=True).assign(layer_index=layer_index(voxels, layers))
    held = {
        hemi: np.isfinite(to_fsaverage5(*_of(table, hemi, np.zeros((len(table), 1))))[:, 0]) for hemi in HEMISPHERES
    }
    pixels = make_pixels(held, dpi)
    kinds = [
        _layer_map(table, list(layers), confidence_top),
        _score_map(table, score_top),
        _scale_map(table),
    ]
    written: list[Path] = []
    for kind in kinds:
        png = out_dir / f"{kind.name}.png"
        figure = _figure(kind, table, pixels, title, dpi)
        replace_file(png, lambda aside, f=figure: f.savefig(aside, dpi=dpi, metadata={"Software": None}))  # type: ignore[misc]
        written += [png, *_write_numbers(kind, table, out_dir)]
    return written


def _layer_map(table: "pd.DataFrame", layers: list[str], given_top: float | None) -> _Map:
    index, sure = table["layer_index"].to_numpy(dtype=np.float64), table["confidence"].to_numpy(dtype=np.float64)
    index = np.where((index < 0) | np.isnan(sure), np.nan, index)
    top = given_top if given_top is not None else colors.confidence_top(sure)
    counts = np.bincount(index[np.isfinite(index)].astype(np.int64), minlength=len(layers))

    def rgb(raster: Raster, values: Floats) -> npt.NDArray[np.float64]:
        code = np.where(np.isnan(values[:, 0]), -1, np.nan_to_num(values[:, 0])).astype(np.int64)
        return colors.layer_rgb(raster.categories(code, len(layers)), raster.values(values[:, 1]), len(layers), top)

    def legend(figure: Figure) -> Axes:
        ax = axes_at(figure, 1.5, 0.80, 7.0, 0.60)
        legends.layer_legend(ax, layers, top, counts)
        return ax

    return _Map(
        "layer_map",
        "Layer map: hue is the layer with the highest weight, early (blue) to late (red); "
        "brightness is the confidence, 1 - entropy / log L",
        np.column_stack([index, sure]),
        rgb,
        legend,
        ["layer_argmax", "layer_index", "confidence", "depth", *(f"weight_{layer}" for layer in layers)],
        {"layer_index": "layer_index", "confidence": "confidence", "depth": "depth"},
    )


def _score_map(table: "pd.DataFrame", top: float | None) -> _Map:
    score = table["r2_test"].to_numpy(dtype=np.float64)
    heading = "Score map: brain score R² on the test images"
    bar = legends.Bar(colors.score_ramp(score, top), "brain score R² on the test images (raw, no noise ceiling)")
    return _bar_map("score_map", heading, score, bar, ["r2_test", "r2_val"])


def _scale_map(table: "pd.DataFrame") -> _Map:
    scale = table["scale"].to_numpy(dtype=np.float64)
    heading = "Scale map: whether a voxel reads a place in the image (local) or the image as a whole (global)"
    bar = legends.Bar(colors.scale_ramp(scale), "scale selector (0 local token, 1 global token)", ("local", "global"))
    return _bar_map("scale_map", heading, scale, bar, ["scale"])


def _bar_map(name: str, heading: str, values: Floats, bar: legends.Bar, columns: list[str]) -> _Map:
    """A map of one number per voxel."""
    known = values[np.isfinite(values)]
    beyond = (bool((known < bar.ramp.low).any()), bool((known > bar.ramp.high).any()))

    def legend(figure: Figure) -> Axes:
        ax = axes_at(figure, 2.5, 1.05, 5.0, 0.17)
        legends.bar_legend(ax, bar, beyond)
        return ax

    return _Map(
        name,
        heading,
        np.asarray(values, dtype=np.float64)[:, None],
        lambda raster, value: bar.ramp.rgb(raster.values(value[:, 0])),
        legend,
        columns,
        {column: column for column in columns},
    )


def _figure(kind: _Map, table: "pd.DataFrame", pixels: Pixels, title: str, dpi: int) -> Figure:
    """Compose the picture of one map."""
    figure = new_figure(pixels, dpi)
    write_at(figure, WIDTH_IN / 2, -0.10, title, fontsize=13, fontweight="bold")
    write_at(figure, WIDTH_IN / 2, -0.38, kind.heading, fontsize=8.5, color="#333333")
    inflated = inflated_axes(figure, pixels)
    counts: list[tuple[int, int, int]] = []
    missing = np.logical_not(np.isfinite(kind.values.sum(axis=1)))
    shown = np.where(missing[:, None], np.nan, kind.values)
    for hemi in HEMISPHERES:
        mesh, grey = surface(hemi), colors.cortex_grey(surface(hemi).sulc)
        vertex, values = _of(table, hemi, shown)
        on_mesh = to_fsaverage5(vertex, values)
        there = np.isfinite(on_mesh[:, 0])

        def rgb(raster: Raster, on_mesh: Floats = on_mesh) -> npt.NDArray[np.float64]:
            return kind.rgb(raster, on_mesh)

        raster = pixels.flat[hemi]
        ax = flat_axes(figure, pixels, hemi, "" if len(vertex) else " (no voxels)")
        show_picture(ax, paint(raster, grey, there, rgb), raster.box)
        outline_rois(ax, mesh, roi_names(table, hemi).tolist(), raster.box)
        for (side, view), pane in inflated.items():
            if side == hemi:
                raster = pixels.inflated[side, view]
                show_picture(pane, paint(raster, grey, there, rgb), raster.box)
        counts.append((int(there.sum()), int(there[np.unique(mesh.flat_faces)].sum()), len(vertex)))
    kind.legend(figure)
    _small_print(figure, kind.name, counts, int(missing.sum()))
    return figure


def _small_print(figure: Figure, name: str, counts: list[tuple[int, int, int]], missing: int) -> None:
    """Say below the figure which voxels are drawn; `counts` by hemisphere: drawn, drawn on the flat map, all."""
    drawn, flat, voxels = (sum(column) for column in zip(*counts, strict=True))
    sides = ", ".join(f"{hemi} {n:,} of {total:,}" for hemi, (n, _, total) in zip(HEMISPHERES, counts, strict=True))
    cut = f"{drawn - flat:,} of these lie on a cut of the flat maps and show on the inflated brains only. "
    where = (
        f"Data at fsaverage7's {N_VERTICES:,} vertices per hemisphere are drawn at fsaverage5's "
        f"{N_VERTICES_FSAVERAGE5:,} by nesting (the vertices with the lowest numbers): {drawn:,} of {voxels:,} voxels "
        f"({sides})."
    )
    lines = [
        where,
        (cut if drawn > flat else "")
        + (f"{missing:,} voxels have no value and show as grey cortex. " if missing else "")
        + f"All voxels: {name}.csv, {name}.lh.func.gii, {name}.rh.func.gii. Grey: cortex, darker in sulci.",
    ]
    for i, line in enumerate(lines):
        write_at(figure, 0.25, 0.20 - 0.13 * i, line, ha="left", va="bottom", fontsize=6, color="#555555")


def _write_numbers(kind: _Map, table: "pd.DataFrame", out_dir: Path) -> list[Path]:
    """Write a map's table and its two GIFTI files."""
    csv = out_dir / f"{kind.name}.csv"
    numbers = table[["hemi", "vertex", "roi", *kind.columns]]
    replace_file(csv, lambda aside: numbers.to_csv(aside, index=False, float_format="%.7g", lineterminator="\n"))
    written = [csv]
    for hemi in HEMISPHERES:
        here = table[table["hemi"] == hemi]
        arrays = {name: here[column].to_numpy(dtype=np.float32) for name, column in kind.arrays.items()}
        if "layer_index" in arrays:
            arrays["layer_index"][arrays["layer_index"] < 0] = np.nan
        written.append(out_dir / f"{kind.name}.{hemi}.func.gii")
        write_gifti(written[-1], hemi, here["vertex"].to_numpy(), arrays)
    return written


def _of(
    table: "pd.DataFrame", hemi: str, values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The vertices and values of one hemisphere's voxels."""
    here = (table["hemi"] == hemi).to_numpy()
    return table["vertex"].to_numpy()[here], values[here]
