"""The commands `bddn maps` and `bddn figure`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bddn.cli.shared import DEVICE, WEIGHTS, Device, clear_errors
from bddn.errors import SpecError

if TYPE_CHECKING:
    from bddn.figures.paper import ChannelInputs
    from bddn.run import Run

RUNS = typer.Argument(help="Run folders of 'bddn fit'.")
FORMAT = typer.Option("--format", help="png, svg, pdf, or several separated by commas.")
PALETTE = typer.Option(help="hue, as in the paper; safe, for readers who distinguish few hues.")
DPI = typer.Option(min=20, max=1200, help="Pixels per inch; figures are 10 inches wide.")
VIEWS = typer.Option(help="Surfaces: flat, inflated or both.")
Palette = Literal["hue", "safe"]
MESH = typer.Option(help="Mesh: fsaverage5, or a finer one if nilearn or FreeSurfer has it on this machine.")
ALL = typer.Option("--all", help="Also show voxels without evidence, as if they had it.")
FETCH = typer.Option("--fetch", help="Download the mesh into nilearn's data folder first.")
Views = Literal["both", "flat", "inflated"]
MeshName = Literal["fsaverage5", "fsaverage6", "fsaverage7"]


@clear_errors
def maps(
    runs: Annotated[list[Path], RUNS],
    columns: Annotated[
        str | None, typer.Option(help="Columns of voxels.parquet, separated by commas, instead of the standard maps.")
    ] = None,
    views: Annotated[Views, VIEWS] = "both",
    palette: Annotated[Palette, PALETTE] = "hue",
    mesh: Annotated[MeshName, MESH] = "fsaverage5",
    fetch: Annotated[bool, FETCH] = False,
    show_all: Annotated[bool, ALL] = False,
    format_: Annotated[str, FORMAT] = "png",
    dpi: Annotated[int, DPI] = 220,
) -> None:
    """Draw the maps of runs on the cortex, each with its numbers, caption and Methods paragraph.

    Voxels that are known by coordinates only are drawn as points, from several sides.
    """
    from bddn.figures.methods import methods
    from bddn.figures.placement import BOTH
    from bddn.figures.single import draw
    from bddn.files.atomic import write_text
    from bddn.files.output import check_folder
    from bddn.maps.kinds import column_map, part_of, run_maps
    from bddn.run import read_run
    from bddn.run.folder import frame_of_run
    from bddn.run.not_found import not_found
    from bddn.stats.evidence import untested

    formats = _formats(format_)
    _find_mesh(mesh, fetch)
    found_runs = [read_run(run) for run in runs]
    for found in found_runs:
        check_folder(found.folder / "maps", "folder")
    texts = [methods(found, mesh, show_all).markdown() for found in found_runs]
    for found, text in zip(found_runs, texts, strict=True):
        voxels = untested(found.voxels) if show_all else found.voxels
        if columns:
            kinds = [column_map(voxels if name in voxels else found.voxels, name) for name in columns.split(",")]
        else:
            kinds = run_maps(voxels, found.layers, palette)
        said = not_found(found)
        kinds = [replace(kind, caution=said.get(part_of(kind.name), "")) for kind in kinds]
        shown = BOTH if views == "both" else (views,)
        out = found.folder / "maps"
        title = found.metrics["title"]
        frame = frame_of_run(found)
        for path in draw(voxels, kinds, out, title, dpi=dpi, views=shown, formats=formats, mesh=mesh, frame=frame):
            if path.suffix[1:] in formats:
                typer.echo(f"map: {path}")
        write_text(out / "methods.md", text)
        typer.echo(f"numbers, captions and methods: {out}")
        _say_numbers(found)


@clear_errors
def figure(
    name: Annotated[str, typer.Argument(help="Name of the figure; '?' lists all.")],
    runs: Annotated[list[Path] | None, RUNS] = None,
    images: Annotated[
        list[Path] | None, typer.Option(help="Image, for figures that need some; repeat the option for each image.")
    ] = None,
    rois: Annotated[
        str | None, typer.Option(help="ROIs of figures with images, separated by commas; by default V1,V4,FFA.")
    ] = None,
    spec: Annotated[str | None, typer.Option(help="Spec of the cache, if it is not in cache_specs/.")] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[Device, DEVICE] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the figure and its numbers.")] = Path("figures"),
    palette: Annotated[Palette, PALETTE] = "hue",
    mesh: Annotated[MeshName, MESH] = "fsaverage5",
    fetch: Annotated[bool, FETCH] = False,
    show_all: Annotated[bool, ALL] = False,
    format_: Annotated[str, FORMAT] = "png",
    dpi: Annotated[int, DPI] = 220,
) -> None:
    """Draw a figure of the paper, or a similar one, from one run or several."""
    from dataclasses import replace

    from bddn.figures.grid import draw_grid
    from bddn.figures.paper import FIGURES, PAPER_ROIS, WITH_IMAGES, channels, check_rois
    from bddn.files.output import check_folder
    from bddn.run import read_run
    from bddn.stats.evidence import untested
    from bddn.text import listed

    words = {known: what for known, (what, _) in FIGURES.items()} | dict(WITH_IMAGES)
    if name == "?":
        for known, what in sorted(words.items()):
            typer.echo(f"{known:10s} {what}")
        return
    if name not in words:
        raise SpecError(
            name, expected=f"a figure among {', '.join(sorted(words))}", got="another name", fix="See 'bddn figure ?'."
        )
    if not runs or (name in WITH_IMAGES) != bool(images):
        needs = "runs and --images" if name in WITH_IMAGES else "runs, without --images"
        given = "no run" if not runs else "--images" if images else "no --images"
        example = f"bddn figure {name} RUN{' --images cat.jpg' if name in WITH_IMAGES else ''}"
        raise SpecError(f"figure {name}", expected=needs, got=given, fix=f"Give '{example}'.")
    if rois is not None and name not in WITH_IMAGES:
        raise SpecError(f"figure {name}", expected="no --rois", got=rois, fix="Remove --rois, or draw figure2.")
    formats = _formats(format_)
    check_folder(out)
    found = [read_run(run) for run in runs]
    if show_all:
        found = [replace(run, voxels=untested(run.voxels)) for run in found]
    _find_mesh(mesh, fetch)
    if name in WITH_IMAGES:
        chosen = PAPER_ROIS if rois is None else tuple(listed(rois))
        check_rois(chosen)
        sheet = channels([_seen(run, images or [], spec, weights, device) for run in found], chosen)
    else:
        sheet = FIGURES[name][1](found, palette)
    for path in draw_grid(sheet.rows, out / name, sheet.title, sheet.heading, dpi=dpi, formats=formats, mesh=mesh):
        if path.suffix[1:] in formats:
            typer.echo(f"figure: {path}")


def _seen(run: "Run", images: list[Path], spec: str | None, weights: str | None, device: str) -> "ChannelInputs":
    """Return the images and their tokens in the network of a run, as input of a figure."""
    from bddn.cli.predict import find_network
    from bddn.figures.paper import ChannelInputs
    from bddn.predict import aligned_local, read_pictures, tokens_of
    from bddn.run import read_channels

    pictures = read_pictures(images)
    tokens = tokens_of(run, find_network(run, spec, weights, device), pictures)
    return ChannelInputs(run, read_channels(run), pictures.thumbnails(), aligned_local(run, tokens))


def _find_mesh(mesh: MeshName, fetch: bool) -> None:
    """Check that a mesh exists, and download it if requested, before anything is drawn."""
    from bddn.cortex.fsaverage import HEMISPHERES
    from bddn.cortex.meshes import fetch_mesh
    from bddn.cortex.surfaces import surface

    if fetch:
        fetch_mesh(mesh)
    for hemi in HEMISPHERES:
        surface(hemi, mesh)


def _formats(text: str) -> list[str]:
    from bddn.figures.single import FORMATS

    found = text.split(",")
    if not set(found) <= set(FORMATS):
        raise SpecError("--format", expected=f"{', '.join(FORMATS)}", got=repr(text), fix="Correct --format.")
    return found


def _say_numbers(found: "Run") -> None:
    from bddn.stats.evidence import in_words as evidence_in_words
    from bddn.stats.hierarchy import in_words
    from bddn.stats.truth import truth_lines

    typer.echo(f"tables: {found.folder / 'voxels.parquet'}, {found.folder / 'metrics.json'}")
    typer.echo(f"evidence: {evidence_in_words(found.voxels)}")
    planted = (found.truth or {}).get("planted_slope")
    typer.echo(f"hierarchy: {in_words(found.metrics['hierarchy'], found.voxels, planted)}")
    if found.truth:
        for line in truth_lines(found.truth):
            typer.echo(line)
