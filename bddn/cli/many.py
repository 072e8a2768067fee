"""The command `bddn fit-many`."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bddn.cli.shared import (
    DATASET,
    DEVICE,
    FIT_SPEC,
    MEMORY,
    SCHEDULER,
    SPLIT_SEED,
    WORKERS,
    Device,
    as_table,
    clear_errors,
    given,
    on_cluster,
    stops_cleanly,
)

if TYPE_CHECKING:
    from bddn.errors import BddnError
    from bddn.many.campaign import Work


@clear_errors
def fit_many(
    caches: Annotated[list[str], typer.Argument(help="Sealed feature caches: folders or URLs.")],
    data: Annotated[list[str], DATASET],
    out: Annotated[Path, typer.Option(help="Folder of the runs, OUT/CACHE/SUBJECT/seed0-boot3, and their table.")],
    seeds: Annotated[str, typer.Option(help="Seeds, e.g. 0-4 or 0,2,7.")] = "0",
    bootstraps: Annotated[
        str | None, typer.Option(help="Bootstraps of each seed, e.g. 0-19; by default none: each image is used once.")
    ] = None,
    halves: Annotated[
        bool,
        typer.Option(
            "--halves", help="Also fit each half of the training images of every seed, and compare their maps."
        ),
    ] = False,
    split_seed: Annotated[int | None, SPLIT_SEED] = None,
    spec: Annotated[str, FIT_SPEC] = "fast",
    epochs: Annotated[int | None, typer.Option(help="Number of epochs, instead of the spec's.")] = None,
    workers: Annotated[int, WORKERS] = 0,
    scheduler: Annotated[str | None, SCHEDULER] = None,
    device: Annotated[Device, DEVICE] = "auto",
    memory: Annotated[float | None, MEMORY] = None,
) -> None:
    """Fit caches × subjects × seeds × bootstraps, each in its own run folder, with one table of all runs.

    A subject is fitted on the caches that contain its images. The table tells how layer maps agree between runs, halves
    of the images, and subjects. Completed runs are kept: after an interruption, the same
    command resumes. If runs fail, the others continue; the exit code is 2, and the failures are listed.
    """
    from bddn.many import fit_many as run
    from bddn.many import numbers, summary
    from bddn.many.run_table import to_text
    from bddn.run.recipes import fit_spec

    use_cluster = on_cluster(workers, scheduler)
    settings = fit_spec(spec, given(split_seed=split_seed, epochs=epochs), "options of 'bddn fit-many'")
    seed_numbers = numbers(seeds, "--seeds")
    bootstrap_numbers = (None,) if bootstraps is None else numbers(bootstraps, "--bootstraps")
    with stops_cleanly(), ExitStack() as stack:
        work, where = workers_of(stack, workers, scheduler, device) if use_cluster else (None, device)
        done = run(
            caches,
            data,
            out,
            settings,
            seeds=seed_numbers,
            bootstraps=bootstrap_numbers,
            halves=halves,
            device=where,
            memory_gib=memory,
            work=work,
        )
    if done.left_out:
        typer.echo(
            f"left out: {len(done.left_out)} pairs whose cache has not the subject's images, {done.left_out[0]} …"
        )
    if len(done.table):
        typer.echo(as_table(to_text(summary(done.table))))
        if n_saturated := int((done.table["saturated"] != "").sum()):
            typer.echo(
                f"note: {n_saturated} of {len(done.table)} runs have a saturated selector, with meaningless values. "
                "The column saturated of results.csv names it.",
                err=True,
            )
    kept = f", {done.n_kept} of them before" if done.n_kept else ""
    typer.echo(f"runs: {done.n_runs - len(done.failed)} of {done.n_runs} done{kept}; table: {out / 'results.parquet'}")
    raise_errors(done.failed)


def raise_errors(failed: "Mapping[str, BddnError]") -> None:
    """Print the errors of failed runs; the last one is raised."""
    for error in list(failed.values())[:-1]:
        typer.echo(f"error: {error}", err=True)
    if failed:
        raise list(failed.values())[-1]


def workers_of(stack: ExitStack, workers: int, scheduler: str | None, device: str) -> "tuple[Work, str]":
    """Start the workers of --workers, or join those of --scheduler, until `stack` is closed; return them and their
    device."""
    from bddn.many.workers import joined_workers, local_workers

    opened = joined_workers(scheduler, device) if scheduler is not None else local_workers(workers, device)
    cluster = stack.enter_context(opened)
    return cluster, cluster.device
