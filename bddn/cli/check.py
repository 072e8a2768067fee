"""The command `bddn check`: a second opinion on a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bddn.cli.shared import DATASET, as_table, clear_errors

if TYPE_CHECKING:
    from bddn.evaluation.check.comparison import Compared

FIGURE = "check"


@clear_errors
def check(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    cache: Annotated[str, typer.Option(help="The cache that the run was fitted to.", show_default=False)],
    data: Annotated[str, DATASET],
    out: Annotated[
        Path | None, typer.Option(help="Folder, by default check/ in the run folder.", show_default=False)
    ] = None,
    voxels: Annotated[int, typer.Option(min=100, max=5000, help="Largest number of voxels in the sample.")] = 2000,
) -> None:
    """Compare depth, place and scale of a run with brute force: ridge regression by layer and window, no gradients.

    Exit code 1 says that the run disagrees, or predicts less than brute force.
    """
    from bddn.data import open_dataset
    from bddn.evaluation.check.opinion import NUMBERS, TABLE, check_run, is_passed, write_check
    from bddn.evaluation.verdict import sentence
    from bddn.figures.checked import checked
    from bddn.figures.grid import draw_grid
    from bddn.files.output import check_folder
    from bddn.run import read_run
    from bddn.store.reader import Cache

    found, folder = read_run(run), out or run / "check"
    check_folder(folder)
    compared = check_run(found, Cache(cache), open_dataset(data), voxels)
    write_check(compared, found, folder)
    words = sentence(compared.comparisons, compared.score)
    sheet = checked(found.voxels, compared.voxels, found.metrics["title"])
    draw_grid(sheet.rows, folder / FIGURE, sheet.title, sheet.heading, numbers=False)
    for table in tables(compared):
        typer.echo(f"{as_table(table)}\n")
    typer.echo(words)
    typer.echo(f"check: {folder / TABLE}, {folder / NUMBERS}, {folder / FIGURE}.png")
    if not is_passed(compared):
        raise typer.Exit(1)


def tables(found: "Compared") -> "list[list[dict[str, str]]]":
    """Return the comparisons and the ROIs as rows of text."""
    parts = [
        {
            "part": one.part,
            "hemi": one.hemi,
            "voxels": str(one.n),
            "r": "-" if one.r is None else str(one.r),
            "slope": "-" if one.slope is None else f"{one.slope:.2f}",
            "brute force with itself": "-" if one.repeat is None else f"{one.repeat:.2f}",
            "gain in R²": "-" if one.gain is None else f"{100 * one.gain.value:.0f} %",
            "lost": "-" if one.loss is None else f"{100 * one.loss.value:.0f} %",
            "": one.verdict,
        }
        for one in found.comparisons
    ]
    rois = [
        {
            "ROI": str(row["roi"]),
            "voxels": str(row["n_voxels"]),
            **{name: f"{row[name]:.2f} / {row[f'{name}_check']:.2f}" for name in ("depth", "scale")},
            "places apart": f"{row['place_apart']:.2f}" if row["place_apart"] == row["place_apart"] else "-",
            "R²": f"{row['r2_test']:.3f} / {row['r2_test_check']:.3f}",
        }
        for row in found.rois.to_dict("records")
    ]
    return [rows for rows in (parts, rois) if rows]
