"""The command `bddn film`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from bddn.cli.shared import clear_errors, finite


@clear_errors
def film(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[
        Path | None,
        typer.Option(help="A .gif or .mp4 file; by default maps/learning.gif in the run folder.", show_default=False),
    ] = None,
    fps: Annotated[float, typer.Option(min=1, max=50, callback=finite, help="Frames per second.")] = 10,
    map: Annotated[Literal["layer"], typer.Option(help="The map to draw.")] = "layer",
    palette: Annotated[
        Literal["hue", "safe"], typer.Option(help="hue, as in the paper; safe, for readers who distinguish few hues.")
    ] = "hue",
) -> None:
    """Write a film of the layer map, from the first step of the fit to the last, as GIF or mp4."""
    from bddn.files.output import check_file
    from bddn.film.film import write_film
    from bddn.film.moving import check_kind
    from bddn.run import read_learning, read_run
    from bddn.run.not_found import not_found

    found = read_run(run)
    path = out or found.folder / "maps/learning.gif"
    check_kind(path)
    path = check_file(path)
    learning = read_learning(found)
    title, caution = found.metrics["title"], not_found(found).get("layer", "")
    write_film(learning, found.voxels, found.layers, path, title, fps=fps, palette=palette, caution=caution)
    typer.echo(f"film: {path}, {len(learning.step)} frames of {map} maps, {path.stat().st_size / 1e6:.1f} MB")
