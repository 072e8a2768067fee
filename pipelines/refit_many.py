"""Measure the spread of maps: fit all caches of a folder to several subjects, with many seeds and bootstraps.

    python pipelines/refit_many.py build build/many algonauts:data/subj01 algonauts:data/subj02 --seeds 0-4 --workers 2

A subject is fitted on the caches that contain its images. Completed runs are kept, so the same command resumes after an
interruption; with more seeds it extends the same table.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from bddn.cli import clear_errors
from bddn.errors import DataError
from bddn.many import fit_many, numbers, summary
from bddn.many.workers import local_workers
from bddn.run.recipes import fit_spec


@clear_errors
def refit_many(
    caches: Annotated[Path, typer.Argument(help="Folder of sealed caches, *.zarr.")],
    out: Annotated[Path, typer.Argument(help="Folder of the runs and their table.")],
    data: Annotated[list[str], typer.Argument(help="Datasets, KIND:PATH.")],
    seeds: Annotated[str, typer.Option(help="Seeds, e.g. 0-4.")] = "0-4",
    bootstraps: Annotated[str | None, typer.Option(help="Bootstraps of each seed, e.g. 0-19.")] = None,
    fit: Annotated[str, typer.Option("--spec", "--fit", help="paper, fast, or a YAML file of fit settings.")] = "fast",
    workers: Annotated[int, typer.Option(min=0, help="Processes on this machine; 0: only this process.")] = 0,
) -> None:
    """Fit all caches of a folder many times, and print mean and spread."""
    found = sorted(caches.glob("*.zarr"))
    if not found:
        raise DataError(caches, expected="feature caches, *.zarr", got="none", fix="Run 'bddn extract' first.")
    spec = fit_spec(fit, {}, "fit settings")
    of_each_seed = (None,) if bootstraps is None else numbers(bootstraps, "--bootstraps")
    with local_workers(workers, "auto") if workers else nullcontext() as work:
        done = fit_many(
            found,
            data,
            out,
            spec,
            seeds=numbers(seeds, "--seeds"),
            bootstraps=of_each_seed,
            device=work.device if work else "auto",
            work=work,
        )
    typer.echo(summary(done.table).round(3).to_string(index=False))
    for error in done.failed.values():
        typer.echo(f"error: {error}", err=True)


if __name__ == "__main__":
    typer.run(refit_many)
