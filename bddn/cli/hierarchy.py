"""The command `bddn hierarchy`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bddn.cli.shared import as_table, clear_errors

if TYPE_CHECKING:
    from bddn.evaluation.slopes import Hierarchy

ROIS = typer.Option(
    help="ROIs from early to late, e.g. V1,V2,V4, or with ideal depths, V1=0,V2=0.3,V4=1; names of bddn or labels of "
    "an atlas. By default the paper's: V1=0,V2=0.33,V3=0.33,OPA=0.66,EBA=1.",
    show_default=False,
)


@clear_errors
def hierarchy(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one brain and one network: seeds, bootstraps.")],
    rois: Annotated[str | None, ROIS] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder, by default hierarchy/ in the first run folder, or hierarchy_2/, …", show_default=False
        ),
    ] = None,
) -> None:
    """Compute the hierarchy slope with its intervals over voxels, images and seeds, and test it against chance.

    'bddn calibrate' corrects it for what the fit shrinks.
    """
    from bddn.evaluation.slopes import (
        NUMBERS,
        TABLE,
        free_folder,
        hierarchy_of,
        ordered_rois,
        sentences,
        write_hierarchy,
    )
    from bddn.files.output import check_folder
    from bddn.run import read_run

    ideal = ordered_rois(rois)
    found = [read_run(run) for run in runs]
    folder = free_folder(found, ideal, out)
    check_folder(folder)
    made = hierarchy_of(found, ideal)
    write_hierarchy(made, folder)
    for table in tables(made):
        typer.echo(f"{as_table(table)}\n")
    for sentence in sentences(made):
        typer.echo(sentence)
    typer.echo(f"hierarchy: {folder / NUMBERS}, {folder / TABLE}")


def tables(found: "Hierarchy") -> "list[list[dict[str, str]]]":
    """Return the slope with its intervals, and the ROIs, as rows of text."""
    names = {"blocks": "voxels (blocks of cortex)", "images": "images (bootstraps)", "seeds": "seeds"}
    by = {one.over: one for one in found.intervals}
    slope = {
        "slope": f"{found.slope:.3f}",
        "b0": f"{found.b0:.3f}",
        "b1": f"{found.b1:.3f}",
        "voxels": str(found.n_voxels),
        "fits": str(found.n_runs),
    }
    for over, name in names.items():
        slope[f"95 % over {name}"] = f"{by[over].low:.2f} to {by[over].high:.2f}" if over in by else "not known"
    rois = [
        {
            "ROI": one["roi"],
            "ideal": f"{one['ideal']:.2f}",
            "depth": f"{one['depth']:.3f}",
            "voxels": str(one["n_voxels"]),
        }
        for one in found.rois
    ]
    return [[slope], rois]
