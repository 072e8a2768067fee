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
) -> None:
    """Write one page that needs no network: a brain to turn, all numbers of voxels, tables, methods and provenance."""
    from bddn.report import write_report

    page = write_report(runs, out)
    typer.echo(f"page: {page.path}, {page.n_bytes / 1e6:.1f} MB")
