"""Commands on feature caches: their content, their integrity, and their differences."""

from pathlib import Path
from typing import Annotated

import typer

from bddn.cli.shared import CACHE, DATASET, as_table, clear_errors, example
from bddn.text import count

cache_app = typer.Typer(help="Inspect feature caches.", no_args_is_help=True)


@cache_app.command(epilog=example("bddn cache info clip.zarr"))
@clear_errors
def info(cache: Annotated[str, CACHE]) -> None:
    """Print the source of a cache, the content of each of its layers, and whether layers are alike.

    Layers are compared on a sample of about 256 images; only these are read.
    """
    import numpy as np

    from bddn.run.checks import audit_layers
    from bddn.spec import ParentSpec
    from bddn.store.check import describe
    from bddn.store.reader import Cache
    from bddn.stream.loader import Streamed

    found = Cache(cache)
    about, size = found.header, sum(record["bytes"] for record in found.records.values())
    typer.echo(f"cache     {found.files.place}, sealed, digest {found.digest}")
    aliases = len(found.row_of) - len(found.ids)
    more = f" and {aliases} other ids of the same images" if aliases else ""
    typer.echo(
        f"images    {len(found.ids)} in {count(len(found.layout.shards), 'shard')}, {size / 1e9:.3f} GB, "
        f"ids {found.ids[0]} …{more}"
    )
    registers = max(layer.n_registers for layer in found.layers)
    kinds = f"one global and up to {registers} registers" if registers else "one global"
    typer.echo(f"tokens    {found.grid[0]} × {found.grid[1]} and {kinds}, {found.layout.precision.name}")
    typer.echo(f"backbone  {about['backbone']['class']}, weights {about['backbone']['weights_sha256'][:16]}")
    made_with = dict(about["made_with"])
    if (parent := made_with.pop("parent", None)) is not None:
        typer.echo(f"tuned     {ParentSpec.parse(parent, 'header of the cache')}")
    typer.echo(f"made with {', '.join(f'{name} {version}' for name, version in made_with.items())}")
    typer.echo(as_table(describe(found)))
    names = [layer.name for layer in found.layers]
    source = Streamed(found, found.layers, found.ids)
    audited = audit_layers(source, np.arange(len(found.ids)), names, found.grid)
    typer.echo(f"similarity of layers (linear CKA), and norm of their local tokens, on {audited.n_images} images")
    typer.echo(as_table(audited.to_text()))
    for words in audited.warnings():
        typer.echo(f"warning: {words}")


@cache_app.command(epilog=example("bddn cache verify s3://bucket/clip.zarr"))
@clear_errors
def verify(cache: Annotated[str, CACHE]) -> None:
    """Compare every byte of a cache with its checksums. If files are bad, list them and exit with code 1."""
    from bddn.store.check import verify as check
    from bddn.store.remote import open_files

    found, place = check(cache), open_files(cache).place  # without passwords in the URL
    rate = f"{found.n_bytes / 1e9:.3f} GB in {found.seconds:.1f} s, {found.n_bytes / found.seconds / 1e9:.2f} GB/s"
    if found.bad:
        typer.echo(f"bad: {len(found.bad)} of {found.n_files} files of {place} ({rate})")
        for words in found.bad:
            typer.echo(f"  {words}")
        raise typer.Exit(1)
    typer.echo(f"good: all {found.n_files} files of {place} are unchanged since they were sealed ({rate})")


@cache_app.command(epilog=example("bddn cache diff clip.zarr other.zarr"))
@clear_errors
def diff(
    a: Annotated[str, typer.Argument(help="A feature cache.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Another feature cache.", metavar="B")],
) -> None:
    """Print how two caches differ. Exit code 1 if they do."""
    from bddn.store.check import diff as compare

    words = compare(a, b)
    for word in words or ["the same"]:
        typer.echo(word)
    if words:
        raise typer.Exit(1)


@cache_app.command(epilog=example("bddn cache receipt clip.zarr --data algonauts:data/subj01"))
@clear_errors
def receipt(
    cache: Annotated[str, CACHE],
    data: Annotated[str, DATASET],
    precision: Annotated[str, typer.Option(help="Precisions, separated by commas.")] = "bfloat16,bitround:6,int8",
    images: Annotated[int, typer.Option(min=20, help="Number of images of the sample.")] = 1000,
    voxels: Annotated[int, typer.Option(min=1, help="Number of voxels of the sample.")] = 1500,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each fit.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the split and the fits.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the results.")] = None,
) -> None:
    """Fit a sample again in each precision, and print what it costs in score and maps, and how much space it saves."""
    from bddn.data import open_dataset
    from bddn.files.atomic import write_json
    from bddn.files.output import check_file
    from bddn.run.receipt import receipt as make
    from bddn.spec import FitSpec
    from bddn.store.reader import Cache

    if out is not None:
        out = check_file(out)
    spec = FitSpec.parse({"epochs": epochs, "seed": seed}, "options of 'bddn cache receipt'")
    found = make(Cache(cache), open_dataset(data), precision.split(","), spec, images, voxels)
    if out is not None:
        write_json(out, [one.to_dict() for one in found])
    typer.echo(as_table([one.to_text() for one in found]))
