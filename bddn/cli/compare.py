"""The command `bddn compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bddn.cli.shared import as_table, clear_errors

if TYPE_CHECKING:
    import pandas as pd

FIGURE = "differences"


@clear_errors
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Scored run folders of two models or more; see 'bddn score'.")],
    out: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path("comparison"),
) -> None:
    """Compare models voxel by voxel on the same test images: differences of R² and depth, each with its test.

    Runs that differ only in their seeds are fits of one model. Runs of several subjects are averaged.
    """
    from bddn.evaluation.contrast.output import TABLE, sentences, wide, write_comparison
    from bddn.evaluation.contrast.rivals import sort_runs
    from bddn.evaluation.contrast.tables import compare_models
    from bddn.figures.contrasted import contrasted
    from bddn.figures.grid import draw_grid
    from bddn.files.output import check_folder
    from bddn.run import read_run

    subjects = sort_runs([read_run(run) for run in runs])
    check_folder(out)
    found = compare_models(subjects)
    average = write_comparison(found, subjects, out)
    shown, last = found.voxels if average is None else average, found.table_1["subject"].iloc[-1]
    sheet = contrasted(shown, last)
    draw_grid(sheet.rows, out / FIGURE, sheet.title, sheet.heading)
    of_last = [table[table["subject"] == last] for table in (found.table_1, found.rois, found.table_2)]
    typer.echo(f'R² of "max", and root mean square difference to it ({last}):\n{as_table(wide(of_last[0]))}\n')
    typer.echo(f"{as_table(_differences(of_last[1]))}\n\n{as_table(_models(of_last[2]))}\n")
    for sentence in sentences(found, subjects):
        typer.echo(sentence)
    typer.echo(f"compare: {out / TABLE}, {out / 'rois.csv'}, {out / 'table_1.csv'}, {out / 'table_2.csv'}")


def _differences(rois: "pd.DataFrame") -> list[dict[str, str]]:
    """Return the differences by ROI as rows of text."""
    from bddn.evaluation.contrast.output import interval

    return [
        {
            "ROI": str(row["roi"]),
            "difference": f"{row['second']} - {row['first']}",
            "R²": interval(row, "r2_difference", "+.4f"),
            "q": interval(row, "q", ".2g"),
            "better, worse voxels": f"{row['n_better']}, {row['n_worse']} of {row['n_voxels']}",
            "depth": interval(row, "depth_difference", "+.2f"),
        }
        for row in rois.to_dict("records")
    ]


def _models(table: "pd.DataFrame") -> list[dict[str, str]]:
    """Return Table 2 as rows of text."""
    from bddn.evaluation.contrast.output import interval

    return [
        {
            "model": str(row["model"]),
            "fits": str(row["n_fits"]),
            "R²": interval(row, "r2", ".3f"),
            **{name: interval(row, name, ".2f") for name in ("slope", "b0", "b1", "depth_spread")},
        }
        for row in table.to_dict("records")
    ]
