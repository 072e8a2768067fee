"""The command `bddn report`."""

from pathlib import Path
from typing import Annotated

import typer

from bddn.cli.shared import clear_errors


@clear_errors
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, at most 12; several are compared side by side.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page; by default report.html in the run's folder, or comparison.html beside the first run's.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="The data of the runs, KIND:PATH: adds small pictures of test images, where its terms allow it.",
            show_default=False,
        ),
    ] = None,
    responses: Annotated[
        bool, typer.Option(help="Include responses to the test images of runs that 'bddn score' has scored.")
    ] = True,
) -> None:
    """Write one page that needs no network: a brain to turn, all numbers of voxels, tables, methods and provenance.

    For runs that were scored, a click on a voxel shows measured against predicted responses to the test images.
    """
    from bddn.data import open_dataset
    from bddn.report import write_report

    page = write_report(runs, out, [open_dataset(name) for name in data or ()], responses)
    typer.echo(f"page: {page.path}, {page.n_bytes / 1e6:.1f} MB")
