"""Draw one map as a figure with flat maps, inflated brains, legend and notes, and write its numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from bddn.cortex.frames import Frame
from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES
from bddn.cortex.meshes import MESHES, Mesh
from bddn.cortex.places import NEAR_MM, drawn_rows, on_mesh, place_columns, space_of
from bddn.cortex.surfaces import surface, to_mesh
from bddn.figures.numbers import write_numbers
from bddn.figures.painting import SurfaceMap, of_hemisphere
from bddn.figures.panels import WIDTH_IN, axes_at, outline_rois, show_image, write_at
from bddn.figures.placement import BOTH, Pixels, View, flat_axes, inflated_axes, make_pixels, new_figure
from bddn.figures.points import PointViews
from bddn.files.atomic import replace_file, write_text
from bddn.maps.legends import NoEvidence
from bddn.maps.map import Map
from bddn.maps.style import own_style
from bddn.maps.voxel_table import roi_names
from bddn.stats.evidence import in_words

if TYPE_CHECKING:
    import pandas as pd

DPI = 220
LEGEND_TOP_IN = 1.40
_HATCHED_LEFT_IN = 8.75
FORMATS = ("png", "svg", "pdf")


@own_style()
def draw(
    voxels: "pd.DataFrame",
    kinds: Sequence[Map],
    out_dir: Path,
    title: str,
    *,
    dpi: int = DPI,
    views: Sequence[View] = BOTH,
    formats: Sequence[str] = ("png",),
    mesh: Mesh = "fsaverage5",
    frame: Frame | None = None,
) -> list[Path]:
    """Draw maps of the same voxels, and write the numbers of each map into the same folder.

    Parameters
    ----------
    voxels : DataFrame, one row per voxel
        Where they lie (see `cortex.places`), and roi (or '').
    kinds : sequence of Map
        Maps of these voxels, in the same row order. Voxels without a value are drawn as grey cortex.
    out_dir : Path
        Folder for the files. It is created if it does not exist; files with the same names are replaced.
    title : str
        First line of each figure.
    dpi : int
        Pixels per inch of a figure of 10 inches width.
    views : sequence of str
        'flat', 'inflated' or both. Points are drawn by `PointViews` instead.
    formats : sequence of str
        One or more of 'png', 'svg' and 'pdf'.
    mesh : str
        The mesh to draw: 'fsaverage5', or 'fsaverage6' or 'fsaverage7' if their files are found.
    frame : Frame, optional
        What the numbers of voxels that are not on fsaverage are written on.

    Returns
    -------
    list of Path
        For each map NAME the figures, and the files of `write_numbers`: NAME.csv, the caption NAME.txt, and files for
        other programs.
    """
    table = voxels.reset_index(drop=True)
    is_points = space_of(table) == "points"
    places = PointViews.of([table]) if is_points else make_pixels(shown_vertices(table, mesh), dpi, views, mesh)
    written: list[Path] = []
    for kind in kinds:
        figure, caption = _figure(kind, table, places, title, dpi, frame)
        written += save(figure, out_dir / kind.name, formats, dpi)
        written += write_numbers(kind, table, caption, out_dir / kind.name, frame)
    return written


def shown_vertices(table: "pd.DataFrame", mesh: Mesh) -> dict[str, np.ndarray]:
    """Return for each hemisphere a mask (V,) of the vertices of a mesh that have a voxel."""
    drawn = on_mesh(table[place_columns(table)], mesh)
    ones = np.ones((len(drawn), 1))
    return {hemi: np.isfinite(to_mesh(*of_hemisphere(drawn, hemi, ones), mesh)[:, 0]) for hemi in HEMISPHERES}


def save(figure: Figure, stem: Path, formats: Sequence[str], dpi: int) -> list[Path]:
    """Write a figure as STEM.png and so on; return the paths. Within `own_style`, equal figures give equal bytes."""
    written = []
    for kind in formats:
        path = stem.with_name(f"{stem.name}.{kind}")
        metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        replace_file(
            path,
            lambda temporary, kind=kind, metadata=metadata: figure.savefig(  # type: ignore[misc]
                temporary, dpi=dpi, format=kind, metadata=metadata
            ),
        )
        written.append(path)
    return written


def write_caption(caption: str, stem: Path) -> Path:
    """Write the caption of a figure as STEM.txt; return the path."""
    path = stem.with_name(f"{stem.name}.txt")
    write_text(path, caption + "\n")
    return path


def _figure(
    kind: Map, table: "pd.DataFrame", places: Pixels | PointViews, title: str, dpi: int, frame: Frame | None
) -> tuple[Figure, str]:
    """Return the figure of one map, and its caption."""
    figure = new_figure(places, dpi) if isinstance(places, Pixels) else places.new_figure(dpi)
    write_at(figure, WIDTH_IN / 2, -0.10, title, fontsize=13, fontweight="bold")
    nothing = kind.n_without_evidence == len(table)
    heading = (kind.about_hatched or in_words(table)) if nothing else kind.heading
    up = 0.06 if kind.caution else 0.0  # between the title and the names of the hemispheres
    write_at(figure, WIDTH_IN / 2, up - 0.38, heading, fontsize=8.5, color="#333333")
    write_at(figure, WIDTH_IN / 2, up - 0.53, kind.caution, fontsize=7.5, fontweight="bold", color="#a00000")
    if isinstance(places, Pixels):
        cortex = SurfaceMap.of(kind, table, places.mesh)
        _draw_surfaces(figure, cortex, table, places)
        notes = _notes(kind, cortex, table, bool(places.flat), frame)
    else:
        places.draw(figure, kind, table)
        notes = places.notes(kind, table, frame)
    legend = kind.legend
    left = (WIDTH_IN - legend.width_in) / 2
    legend.draw(axes_at(figure, left, LEGEND_TOP_IN - legend.height_in, legend.width_in, legend.height_in))
    if kind.n_without_evidence:
        hatched = NoEvidence(f"{kind.hatched}: {kind.n_without_evidence:,} voxels", isinstance(places, Pixels))
        at = _HATCHED_LEFT_IN, LEGEND_TOP_IN - legend.height_in / 2
        hatched.draw(axes_at(figure, *at, hatched.width_in, hatched.height_in))
    for i, line in enumerate(notes):
        write_at(figure, 0.25, 0.33 - 0.13 * i, line, ha="left", va="bottom", fontsize=6, color="#555555")
    said = [f"{title}. {kind.heading}.", *([kind.caution] if kind.caution else []), *notes]
    return figure, " ".join(said)


def _draw_surfaces(figure: Figure, cortex: SurfaceMap, table: "pd.DataFrame", pixels: Pixels) -> None:
    """Draw a map on flat maps and inflated brains."""
    for hemi in HEMISPHERES:
        if pixels.flat:
            raster = pixels.flat[hemi]
            ax = flat_axes(figure, pixels, hemi, "" if (table["hemi"] == hemi).any() else " (no voxels)")
            show_image(ax, cortex.image(hemi, raster), raster.box)
            names = roi_names(table, hemi, pixels.mesh).tolist()
            outline_rois(ax, surface(hemi, pixels.mesh), names, raster.box)
    for (hemi, view), pane in inflated_axes(figure, pixels).items():
        raster = pixels.inflated[hemi, view]
        show_image(pane, cortex.image(hemi, raster), raster.box)


def _notes(kind: Map, cortex: SurfaceMap, table: "pd.DataFrame", flat: bool, frame: Frame | None) -> list[str]:
    """Return three lines that say which voxels are drawn."""
    drawn = {hemi: cortex.drawn(hemi) for hemi in HEMISPHERES}
    n = {hemi: int(drawn[hemi].sum()) for hemi in HEMISPHERES}
    of = {hemi: int((table["hemi"] == hemi).sum()) for hemi in HEMISPHERES}
    cut = sum(
        n[hemi] - int(drawn[hemi][np.unique(surface(hemi, cortex.mesh).flat_faces)].sum()) for hemi in HEMISPHERES
    )
    missing = int(np.isnan(kind.shown).any(axis=1).sum()) - kind.n_without_evidence
    sides = ", ".join(f"{hemi} {n[hemi]:,} of {of[hemi]:,}" for hemi in HEMISPHERES)
    drawn_at = f"{sum(n.values()):,} of {len(table):,} voxels ({sides})"
    is_native = space_of(table) == "native surface"
    where = f"Drawn at {cortex.mesh}'s {N_VERTICES:,} vertices per hemisphere"
    if MESHES[cortex.mesh] < N_VERTICES:
        where = (
            f"Data at fsaverage7's {N_VERTICES:,} vertices per hemisphere are drawn at {cortex.mesh}'s "
            f"{MESHES[cortex.mesh]:,} by nesting (the vertices with the lowest numbers)"
        )
    if is_native:
        where = (
            f"Data on the subject's own surface; each of {cortex.mesh}'s {MESHES[cortex.mesh]:,} vertices per "
            f"hemisphere shows the nearest voxel, at most {NEAR_MM:g} mm away on the registered sphere"
        )
        sides = ", ".join(f"{hemi} {n[hemi]:,}" for hemi in HEMISPHERES)
        drawn_at = f"{len(drawn_rows(table, cortex.mesh)):,} of {len(table):,} voxels, at vertices {sides}"
    gifti = "" if is_native and frame is None else f", {kind.name}.lh.func.gii, {kind.name}.rh.func.gii"
    hatched = f"{in_words(table)}{' Voxels without evidence are hatched.' if kind.n_without_evidence else ''}"
    return [
        kind.about_hatched or hatched,
        f"{where}: {drawn_at}.",
        (f"{cut:,} of these lie on a cut of the flat maps. " if cut and flat else "")
        + (f"{missing:,} voxels have no value and show as grey cortex. " if missing else "")
        + f"All voxels: {kind.name}.csv{gifti}{' (own surface)' if is_native and gifti else ''}. "
        "Grey: cortex, darker in sulci.",
    ]
