"""The command line: thin, and quick to start, since every command imports what it needs."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bddn import __version__
from bddn.errors import BddnError

if TYPE_CHECKING:
    from bddn.spec import CacheSpec

app = typer.Typer(
    help="Paint a deep network onto the human visual cortex.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

cache_app = typer.Typer(help="Look into feature caches.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

SPEC = typer.Argument(help="Name of a spec in cache_specs/, or a .yaml file.")
CACHE = typer.Argument(help="A sealed feature cache: a folder or a URL.")
WEIGHTS = typer.Option(help="Local folder to take the weights from.")
DEVICE = typer.Option(help="Where the network runs; auto is cuda where there is one.")
Device = Literal["auto", "cpu", "cuda"]
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


@contextmanager
def stops_cleanly() -> Iterator[None]:
    """End when asked to (SIGTERM, SIGUSR1, SIGINT): drop the shard at hand, give it back, and say how to go on.

    A second signal ends without ado; the cache can go on even then.
    """
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def stop(number: int, frame: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in signals}
    try:
        yield
    except Stopped as stopped:
        words = shlex.join(["bddn", *sys.argv[1:]])
        typer.echo(f"stopped by {stopped.name}; what was committed is kept. Resume with: {words}", err=True)
        raise typer.Exit(128 + stopped.number) from None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class Stopped(BaseException):
    """A signal asked to end."""

    def __init__(self, number: int) -> None:
        self.number, self.name = number, signal.Signals(number).name


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
def plan(
    spec: Annotated[str, SPEC],
    data: Annotated[str, DATASET],
    out: Annotated[str, typer.Option(help="Where the cache would be, for the free space.")] = ".",
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[Device, DEVICE] = "auto",
) -> None:
    """Tell what an extraction needs of disk, memory, device and time; a few batches are run, nothing is written."""
    from bddn.data import open_dataset
    from bddn.extract.plan import plan as make

    found = make(_cache_spec(spec, weights), open_dataset(data), out, device)
    for line in found.lines():
        typer.echo(line)
    if found.advice:
        raise typer.Exit(1)


@app.command()
@clear_errors
def extract(
    spec: Annotated[str, SPEC],
    data: Annotated[str, DATASET],
    out: Annotated[
        str, typer.Option(help="The feature cache: a folder, e.g. clip.zarr, or a URL, s3://bucket/clip.zarr.")
    ],
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[Device, DEVICE] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes on this machine, one per device; 0: this one.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="A dask cluster that runs, e.g. tcp://node1:8786.")] = None,
    shard: Annotated[str, typer.Option(help="i/N: only this part, for jobs that share the work without dask.")] = "1/1",
) -> None:
    """Stage one: run a backbone over a dataset's images and seal its tokens in a cache.

    What is written stays written: the same command goes on where it stopped.
    """
    from bddn.data import open_dataset
    from bddn.extract import extract as run
    from bddn.store.remote import open_files

    cache_spec, dataset, part = _cache_spec(spec, weights), open_dataset(data), _part(shard)
    place = open_files(out).place
    with stops_cleanly(), ExitStack() as stack:
        if workers or scheduler:
            from bddn.extract.cluster import joined_cluster, local_cluster

            opened = joined_cluster(scheduler, device) if scheduler else local_cluster(workers, device)
            cluster = stack.enter_context(opened)
            done = run(cache_spec, dataset, out, device=cluster.device, part=part, work=cluster)
        else:
            done = run(cache_spec, dataset, out, device=device, part=part)
    for words in done.versions:
        typer.echo(f"note: made with other versions, {words}")
    state = f"digest {done.digest[:16]}" if done.digest else "not sealed: other parts are missing"
    what = "sealed before, re-used" if done.reused else f"{done.n_computed} computed now"
    typer.echo(f"cache: {place}, {done.n_images} images, {done.n_shards} shards, {what}, {state}")


@app.command()
@clear_errors
def fit(
    cache: Annotated[str, CACHE],
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


@cache_app.command()
@clear_errors
def info(cache: Annotated[str, CACHE]) -> None:
    """Tell what a cache is of, and what is in each of its layers."""
    from bddn.store.check import describe
    from bddn.store.reader import Cache

    found = Cache(cache)
    about, size = found.header, sum(record["bytes"] for record in found.records.values())
    typer.echo(f"cache     {cache}, sealed, digest {found.digest}")
    typer.echo(
        f"images    {len(found.ids)} in {len(found.layout.shards)} shards, {size / 1e9:.3f} GB, ids {found.ids[0]} …"
    )
    typer.echo(f"tokens    {found.grid[0]} × {found.grid[1]} and one global, {found.layout.precision.name}")
    typer.echo(f"backbone  {about['backbone']['class']}, weights {about['backbone']['weights_sha256'][:16]}")
    typer.echo(f"made with {', '.join(f'{name} {version}' for name, version in about['made_with'].items())}")
    _table(describe(found))


@cache_app.command()
@clear_errors
def verify(cache: Annotated[str, CACHE]) -> None:
    """Compare every byte of a cache with what was sealed. Exit code 1, and a list, where files are bad."""
    from bddn.store.check import verify as check

    found = check(cache)
    rate = f"{found.n_bytes / 1e9:.3f} GB in {found.seconds:.1f} s, {found.n_bytes / found.seconds / 1e9:.2f} GB/s"
    if found.bad:
        typer.echo(f"bad: {len(found.bad)} of {found.n_files} files of {cache} ({rate})")
        for words in found.bad:
            typer.echo(f"  {words}")
        raise typer.Exit(1)
    typer.echo(f"good: all {found.n_files} files of {cache} are what was sealed ({rate})")


@cache_app.command()
@clear_errors
def diff(
    a: Annotated[str, typer.Argument(help="A feature cache.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Another one.", metavar="B")],
) -> None:
    """Tell in words how two caches differ. Exit code 1 where they do."""
    from bddn.store.check import diff as compare

    words = compare(a, b)
    for word in words or ["the same"]:
        typer.echo(word)
    if words:
        raise typer.Exit(1)


@cache_app.command()
@clear_errors
def receipt(
    cache: Annotated[str, CACHE],
    data: Annotated[str, DATASET],
    precision: Annotated[str, typer.Option(help="Choices to try, with commas.")] = "bfloat16,bitround:6,int8",
    images: Annotated[int, typer.Option(min=20, help="Images of the sample.")] = 1000,
    voxels: Annotated[int, typer.Option(min=1, help="Voxels of the sample.")] = 1500,
    epochs: Annotated[int, typer.Option(min=1, help="Of each fit.")] = 8,
    seed: Annotated[int, typer.Option(help="Of split and fits.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Fit a sample again with rounded numbers: what each precision costs in score and maps, and what it saves."""
    from bddn.atomic import write_json
    from bddn.data import open_dataset
    from bddn.receipt import receipt as make
    from bddn.spec import FitSpec
    from bddn.store.reader import Cache

    spec = FitSpec.parse({"epochs": epochs, "seed": seed}, "options of 'bddn cache receipt'")
    found = make(Cache(cache), open_dataset(data), precision.split(","), spec, images, voxels)
    if out is not None:
        write_json(out, [one.to_dict() for one in found])
    _table([one.to_words() for one in found])


def _cache_spec(name: str, weights: str | None) -> "CacheSpec":
    from bddn.backbones.registry import load_spec
    from bddn.spec import WeightsSpec

    spec = load_spec(name)
    return spec if weights is None else spec.model_copy(update={"weights": WeightsSpec(folder=weights)})


def _part(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise BddnError("--shard", expected="i/N with i from 1 to N, e.g. 3/8", got=repr(text), fix="Correct it.")
    return int(i), int(n)


def _table(rows: list[dict[str, str]]) -> None:
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in [{name: name for name in rows[0]}, *rows]:
        typer.echo("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip())


if __name__ == "__main__":
    sys.exit(app())
