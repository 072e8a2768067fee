"""The command `bddn ensemble`."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bddn.cli.many import raise_errors, workers_of
from bddn.cli.shared import (
    CACHE,
    DATASET,
    DEVICE,
    FIT_SPEC,
    MEMORY,
    SCHEDULER,
    WORKERS,
    Device,
    as_table,
    clear_errors,
    on_cluster,
    stops_cleanly,
)

if TYPE_CHECKING:
    from bddn.run import Run


@clear_errors
def ensemble(
    cache: Annotated[str, CACHE],
    data: Annotated[str, DATASET],
    out: Annotated[Path, typer.Option(help="Folder of the fits, of their table, and of OUT/ensemble.")],
    fits: Annotated[int, typer.Option(min=2, max=1000, help="Number of fits.")] = 20,
    spec: Annotated[str, FIT_SPEC] = "fast",
    epochs: Annotated[int | None, typer.Option(help="Number of epochs, instead of the spec's.")] = None,
    workers: Annotated[int, WORKERS] = 0,
    scheduler: Annotated[str | None, SCHEDULER] = None,
    device: Annotated[Device, DEVICE] = "auto",
    memory: Annotated[float | None, MEMORY] = None,
) -> None:
    """Fit one cache and subject many times on one split: intervals for every voxel, and an averaged prediction.

    Fit k has seed k and draws its training images with replacement by bootstrap k; test images are never resampled.
    OUT/ensemble is a run folder, for 'bddn maps', 'report', 'score' and 'compare'. The same command resumes.
    """
    from bddn.data import open_dataset
    from bddn.evaluation.ensemble import average_fits, check_ensemble, fits_of
    from bddn.many import fit_many
    from bddn.run.folder import ENSEMBLE
    from bddn.run.not_found import not_found
    from bddn.run.recipes import fit_spec
    from bddn.store.reader import Cache

    use_cluster = on_cluster(workers, scheduler)
    settings = fit_spec(spec, {} if epochs is None else {"epochs": epochs}, "options of 'bddn ensemble'")
    shared, seeds = fits_of(settings, fits)
    folder = out / ENSEMBLE
    check_ensemble(folder, shared, fits)
    with stops_cleanly(), ExitStack() as stack:
        work, where = workers_of(stack, workers, scheduler, device) if use_cluster else (None, device)
        paired: dict[str, Any] = {"seeds": seeds, "bootstraps": seeds, "paired": True}
        done = fit_many([cache], [data], out, shared, **paired, device=where, memory_gib=memory, work=work)
        raise_errors(done.failed)
        run, fresh = average_fits(done.folders, Cache(cache), open_dataset(data), folder, shared)
    typer.echo(as_table(table(run)))
    found = run.metrics[ENSEMBLE]
    if found["agreement"] is not None:
        typer.echo(
            f"of the voxels with evidence: agreement {found['agreement']:.2f}; "
            f"median width of the {found['level']:.0%} interval of depth {found['depth_width']:.2f}"
        )
    for said in not_found(run).values():
        typer.echo(f"note: {said}", err=True)
    typer.echo(f"ensemble: {run.folder}, {found['n_fits']} fits{'' if fresh else ', averaged before, kept'}")


def table(run: "Run") -> list[dict[str, str]]:
    """Return mean scores of the single fits and of their average as rows of text, in all voxels and by ROI."""
    from bddn.evaluation.ensemble import SINGLE
    from bddn.run.folder import ENSEMBLE

    found, metrics = run.metrics[ENSEMBLE], run.metrics
    singles = {"all": found[SINGLE], **{roi: one["mean"] for roi, one in found[f"roi_{SINGLE}"].items()}}
    averages = {"all": metrics["r2_test"], **{roi: one["mean"] for roi, one in metrics["roi_r2_test"].items()}}
    counts = {"all": metrics["n_voxels"], **{roi: one["n_voxels"] for roi, one in metrics["roi_r2_test"].items()}}
    return [
        {
            "ROI": roi,
            "voxels": f"{counts[roi]}",
            "R², single fits": f"{singles[roi]:.3f}",
            "R², averaged prediction": f"{averages[roi]:.3f}",
        }
        for roi in averages
        if None not in (singles.get(roi), averages[roi])
    ]
