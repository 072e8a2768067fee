"""The command line: thin, and quick to start, since every command imports what it needs."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from bddn import __version__
from bddn.errors import BddnError

app = typer.Typer(
    help="Paint a deep network onto the human visual cortex.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DATASET = typer.Option("--data", help="algonauts:PATH/subj01 or planted:PATH.", show_default=False)


def clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Print an error of ours as one message and exit with code 2, without a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            return command(*args, **kwargs)
        except BddnError as error:
            message = str(error)
        except OSError as error:
            failed = BddnError(
                error.filename or "files",
                expected="to be able to read and write",
                got=error.strerror or str(error),
                fix="Check the path, its permissions and the free space; what was committed is kept.",
            )
            message = str(failed)
        typer.echo(f"error: {message}", err=True)
        raise typer.Exit(2)

    return run


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"bddn {__version__}")
        raise typer.Exit


@app.command()
@clear_errors
def plant(
    out: Annotated[Path, typer.Argument(help="Folder for subject, network and truth.")],
    seed: Annotated[int, typer.Option(help="Of pictures, network, maps and noise.")] = 0,
    images: Annotated[int, typer.Option(help="Number of pictures.")] = 1600,
    radius: Annotated[float, typer.Option(help="Angular radius of each hemisphere's patch, in rad.")] = 0.56,
    layers: Annotated[int, typer.Option(help="Blocks of the network.")] = 8,
) -> None:
    """Make a planted brain: demo data in the Algonauts layout with a known answer."""
    from bddn.plant import plant as make
    from bddn.spec import PlantSpec

    values = {"seed": seed, "n_images": images, "radius_rad": radius, "n_layers": layers}
    about = make(PlantSpec.parse(values, "options of 'bddn plant'"), out)
    local = about["layer_correlation"]["local"]
    typer.echo(
        f"planted brain: {out}, {about['n_voxels']} voxels, mean ceiling {about['mean_ceiling']:.2f}, "
        f"correlation of neighbouring layers {local['neighbours']:.2f}, of first and last {local['first_last']:.2f}"
    )


@app.command()
@clear_errors
def extract(
    spec: Annotated[str, typer.Argument(help="Name of a spec in cache_specs/, or a .yaml file.")],
    data: Annotated[str, DATASET],
    out: Annotated[Path, typer.Option(help="Folder for the feature cache, e.g. clip.zarr.")],
    weights: Annotated[str | None, typer.Option(help="Local folder to take the weights from.")] = None,
) -> None:
    """Stage one: run a backbone over a dataset's images and seal its tokens in a cache."""
    from bddn.backbones.registry import load_spec
    from bddn.data import open_dataset
    from bddn.extract import extract as run
    from bddn.spec import WeightsSpec

    cache_spec = load_spec(spec)
    if weights is not None:
        cache_spec = cache_spec.model_copy(update={"weights": WeightsSpec(folder=weights)})
    done = run(cache_spec, open_dataset(data), out)
    what = "sealed before, re-used" if done.reused else "sealed"
    typer.echo(f"cache: {out}, {done.n_images} images, {done.n_shards} shards, {what}, digest {done.digest[:16]}")


@app.command()
@clear_errors
def fit(
    cache: Annotated[Path, typer.Argument(help="A sealed feature cache.")],
    data: Annotated[str, DATASET],
    out: Annotated[Path, typer.Option(help="Folder for the run.")],
    spec: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="YAML file of fit settings; without it, the recipe 'paper'."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the spec's seed.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Overrides the spec's number of epochs.")] = None,
) -> None:
    """Stage two: fit the encoder on a cache and a subject's responses."""
    from bddn.data import open_dataset
    from bddn.run import fit_run
    from bddn.spec import FitSpec

    fit_spec = FitSpec() if spec is None else FitSpec.from_yaml(spec.read_bytes(), str(spec))
    given = {name: value for name, value in (("seed", seed), ("epochs", epochs)) if value is not None}
    fit_spec = FitSpec.parse(fit_spec.to_dict() | given, "options of 'bddn fit'")
    run, fresh = fit_run(cache, open_dataset(data), out, fit_spec)
    what = (
        f"fitted in {run.metrics['seconds']:.0f} s"
        if fresh
        else "fitted before with the same cache, data and spec, kept"
    )
    typer.echo(f"run: {out}, {what}, mean test R² {run.metrics['r2_test']:.3f}")


@app.command()
@clear_errors
def maps(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    dpi: Annotated[int, typer.Option(min=20, max=1200, help="Pixels per inch of pictures 10 inches wide.")] = 220,
) -> None:
    """Draw the maps of a run on the cortex, each with its numbers beside it."""
    from bddn.maps.figures import draw
    from bddn.run import read_run

    found = read_run(run)
    for path in draw(found.voxels, list(found.layers), found.folder / "maps", found.metrics["title"], dpi=dpi):
        typer.echo(f"map: {path}")
    typer.echo(f"tables: {found.folder / 'voxels.parquet'}, {found.folder / 'metrics.json'}")
    hierarchy = found.metrics["hierarchy"]
    if hierarchy:
        typer.echo("hierarchy: slope {slope:.2f}, b0 {b0:.2f}, b1 {b1:.2f}".format(**hierarchy))
    if found.truth:
        typer.echo(
            "truth: depth r {depth_r} (slope {depth_slope}), place r {place_x_r} (x) and {place_y_r} (y), "
            "scale r {scale_r}, R²/ceiling {r2_over_ceiling} at a mean ceiling of {mean_ceiling}".format(
                **{name: "unknown" if value is None else f"{value:.3f}" for name, value in found.truth.items()}
            )
        )


if __name__ == "__main__":
    sys.exit(app())
