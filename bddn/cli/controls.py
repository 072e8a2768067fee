"""The command `bddn controls`."""

from pathlib import Path
from typing import Annotated

import typer

from bddn.cli.shared import CACHE, DATASET, DEVICE, FIT_SPEC, MEMORY, Device, as_table, clear_errors, stops_cleanly


@clear_errors
def controls(
    cache: Annotated[str, CACHE],
    data: Annotated[str, DATASET],
    out: Annotated[Path, typer.Option(help="Folder of the fit, its controls and their table.")],
    spec: Annotated[str, FIT_SPEC] = "fast",
    only: Annotated[
        list[str] | None, typer.Option(help="Only this control, and the fit; may be given several times.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, instead of the spec's.")] = None,
    device: Annotated[Device, DEVICE] = "auto",
    memory: Annotated[float | None, MEMORY] = None,
) -> None:
    """Fit FactorTopy and its controls on the same split, and compare what they predict, by ROI.

    Controls: an untrained network, pixels, Gabor energy, ridge regressions, fits without each part, shuffled images.
    Finished controls are kept: after an interruption, the same command resumes.
    """
    from bddn.data import open_dataset
    from bddn.evaluation.controls.controls import ABOUT, NAME, run_controls
    from bddn.evaluation.controls.table import to_text
    from bddn.figures.control_chart import draw_controls
    from bddn.run.recipes import fit_spec
    from bddn.store.reader import Cache

    settings = fit_spec(spec, {} if seed is None else {"seed": seed}, "options of 'bddn controls'")
    dataset, store = open_dataset(data), Cache(cache)
    with stops_cleanly():
        found = run_controls(store, dataset, out, settings, only or list(ABOUT), device=device, memory_gib=memory)
        draw_controls(found.table, out / f"{NAME}.png", f"{dataset.name} through {store.name}")
    typer.echo(as_table(to_text(found.table)))
    typer.echo("")
    for words in found.sentences:
        typer.echo(words)
    typer.echo(f"controls: {out / NAME}.csv, .parquet, .json, .png")
