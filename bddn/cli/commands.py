"""Commands of the stages: plant, plan, extract and fit."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from bddn import __version__
from bddn.cli.shared import (
    CACHE,
    DATASET,
    DATASETS,
    DEVICE,
    FIT_SPEC,
    MEMORY,
    SCHEDULER,
    SPEC,
    SPLIT_SEED,
    WEIGHTS,
    WORKERS,
    Device,
    as_table,
    clear_errors,
    given,
    on_cluster,
    ready_spec,
    stops_cleanly,
)
from bddn.errors import BddnError
from bddn.text import count

app = typer.Typer(
    help="Paint a deep network onto the human visual cortex.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"bddn {__version__}")
        raise typer.Exit


@clear_errors
def plant(
    out: Annotated[Path, typer.Argument(help="Folder for the subject, the network and the truth.")],
    seed: Annotated[int | None, typer.Option(help="Seed of images, network, maps and noise.")] = None,
    images: Annotated[int | None, typer.Option(help="Number of images; by default 1600.")] = None,
    radius: Annotated[
        float | None, typer.Option(help="Angular radius of each hemisphere's patch, in rad; by default 0.56.")
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Number of blocks of the network; by default 8.")] = None,
    law: Annotated[
        str | None, typer.Option(help="Law of depth: linear, quadratic, sigmoid, peaked, borders or mixture.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="A YAML file with these and all other settings of the brain (PlantSpec).")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="The network that the brain sees through: the name of a spec, or a .yaml file.")
    ] = None,
) -> None:
    """Make a planted brain: demo data in the Algonauts layout with a known answer."""
    from bddn.planted.plant import plant as make
    from bddn.spec import PlantSpec

    place = "options of 'bddn plant'"
    settings = PlantSpec() if spec is None else PlantSpec.from_yaml(spec.read_bytes(), str(spec))
    options = given(seed=seed, n_images=images, radius_rad=radius, n_layers=layers, depth_law=law)
    about = make(
        PlantSpec.parse(settings.to_dict() | options, place), out, None if network is None else ready_spec(network)
    )
    said = f"planted brain: {out}, {about['n_voxels']} voxels, mean ceiling {about['mean_ceiling']:.2f}"
    if (local := about["layer_correlation"]["local"]) is not None:
        said += (
            f", correlation of neighbouring layers {local['neighbours']:.2f}, of first and last "
            f"{local['first_last']:.2f}"
        )
    typer.echo(said)


@clear_errors
def plan(
    spec: Annotated[
        list[str], typer.Argument(help="Names of specs in cache_specs/, .yaml files, or folders of 'bddn finetune'.")
    ],
    data: Annotated[list[str], DATASETS],
    out: Annotated[str, typer.Option(help="Place of the caches: a folder, or a URL, s3://bucket.")] = ".",
    images: Annotated[
        int | None, typer.Option(min=1, help="Number of images; by default that of different ids in the datasets.")
    ] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[Device, DEVICE] = "auto",
) -> None:
    """Estimate disk, memory, device, requests and time of extractions. Runs a few batches, writes nothing.

    For several specs, prints also the sums: bytes, requests to an object store, device hours and tasks (shards).
    """
    from bddn.data import open_dataset
    from bddn.extraction.estimate import plan as make
    from bddn.extraction.estimate import summarise

    datasets = [open_dataset(name) for name in data]
    if images is None and len(datasets) > 1:
        images = len({stimulus for dataset in datasets for stimulus in dataset.stimuli.ids})
    found = {name: make(ready_spec(name, weights), datasets[0], out, device, images) for name in spec}
    if len(found) == 1:
        (one,) = found.values()
        typer.echo("\n".join(one.lines()))
        advice = one.advice
    else:
        rows, advice = summarise(found)
        typer.echo(as_table(rows))
        typer.echo("\n".join([f"does not fit; {words}" for words in advice] or ["it fits"]))
    if advice:
        raise typer.Exit(1)


@clear_errors
def extract(
    spec: Annotated[str, SPEC],
    data: Annotated[list[str], DATASETS],
    out: Annotated[
        str, typer.Option(help="The feature cache: a folder, e.g. clip.zarr, or a URL, s3://bucket/clip.zarr.")
    ],
    weights: Annotated[str | None, WEIGHTS] = None,
    device: Annotated[Device, DEVICE] = "auto",
    workers: Annotated[int, WORKERS] = 0,
    scheduler: Annotated[str | None, SCHEDULER] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/N: compute only this part, for jobs that share the work without dask.")
    ] = None,
) -> None:
    """Stage one: run a backbone over the images of one or several subjects and seal its tokens in a cache.

    Completed shards are kept: after an interruption, the same command resumes.
    """
    from bddn.data.united import open_subjects
    from bddn.extraction import extract as run
    from bddn.extraction.preflight import check_place

    use_cluster, part, place = on_cluster(workers, scheduler, shard), _part(shard), check_place(out)
    cache_spec, dataset = ready_spec(spec, weights), open_subjects(data)

    def tell(words: str) -> None:
        typer.echo(f"note: {words}")

    with stops_cleanly(), ExitStack() as stack:
        if use_cluster:
            from bddn.extraction.cluster import joined_cluster, local_cluster

            opened = joined_cluster(scheduler, device) if scheduler is not None else local_cluster(workers, device)
            cluster = stack.enter_context(opened)
            done = run(cache_spec, dataset, out, device=cluster.device, part=part, work=cluster, tell=tell)
        else:
            done = run(cache_spec, dataset, out, device=device, part=part, tell=tell)
    for words in done.versions:
        typer.echo(f"note: made with other versions, {words}")
    state = f"digest {done.digest[:16]}" if done.digest else "not sealed: other parts are missing"
    what = "sealed before, reused" if done.reused else f"{done.n_computed} computed now"
    typer.echo(f"cache: {place}, {count(done.n_images, 'image')}, {count(done.n_shards, 'shard')}, {what}, {state}")


@clear_errors
def fit(
    cache: Annotated[str, CACHE],
    data: Annotated[str, DATASET],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    spec: Annotated[str, FIT_SPEC] = "fast",
    seed: Annotated[int | None, typer.Option(help="Seed, instead of the spec's.")] = None,
    split_seed: Annotated[int | None, SPLIT_SEED] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs, instead of the spec's.")] = None,
    device: Annotated[Device, DEVICE] = "auto",
    memory: Annotated[float | None, MEMORY] = None,
) -> None:
    """Stage two: fit the encoder on a cache and a subject's responses.

    After an interruption, the same command resumes.
    """
    from bddn.data import open_dataset
    from bddn.files.output import is_vacant
    from bddn.run import check_out, fit_run
    from bddn.run.folder import ABOUT
    from bddn.run.recipes import fit_spec

    settings = fit_spec(spec, given(seed=seed, split_seed=split_seed, epochs=epochs), "options of 'bddn fit'")
    with stops_cleanly():
        check_out(out)  # before any file is read
        before = not is_vacant(out, ABOUT)
        run, fresh = fit_run(cache, open_dataset(data), out, settings, device=device, memory_gib=memory)
    when = "before" if before else "meanwhile by another process"
    what = (
        f"fitted in {run.metrics['seconds']:.0f} s"
        if fresh
        else f"fitted {when} with the same cache, data and spec, kept"
    )
    score = run.metrics["r2_test"]
    typer.echo(f"run: {out}, {what}, mean test R² {'unknown' if score is None else f'{score:.3f}'}")


def _part(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal() and max(len(i), len(n)) < 10 and 1 <= int(i) <= int(n)):
        raise BddnError("--shard", expected="i/N with i from 1 to N, e.g. 3/8", got=repr(text), fix="Correct --shard.")
    return int(i), int(n)
