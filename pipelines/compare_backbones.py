"""Make Tables 1 and 2 of the paper from your caches: fit, score and compare, with the published values beside them.

    python pipelines/compare_backbones.py build build/compared algonauts:data/subj01 --seeds 0-2

Every cache of the folder, or of a folder in it, is fitted to the subjects whose images it has, all with the same test
images. A cache has the name of its spec, as clip_vit_l14.zarr, or of spec and subject, as clip_vit_l14_subj01.zarr.
Completed work is kept: the same command resumes after an interruption, and extends the tables by further caches.
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from bddn.cli import clear_errors
from bddn.cli.shared import as_table
from bddn.data import open_dataset
from bddn.errors import DataError
from bddn.evaluation.contrast import published
from bddn.evaluation.contrast.output import sentences, write_comparison, write_csv
from bddn.evaluation.contrast.rivals import Rivals, cache_name, sort_runs
from bddn.evaluation.contrast.tables import compare_models
from bddn.evaluation.held_out import predict_held_out
from bddn.evaluation.kept_responses import is_scored
from bddn.figures.contrasted import contrasted
from bddn.figures.grid import draw_grid
from bddn.figures.paper import scores
from bddn.files.atomic import write_text
from bddn.many import fit_many, numbers
from bddn.run import read_run
from bddn.run.recipes import fit_spec
from bddn.store.reader import Cache


@clear_errors
def compare_backbones(
    caches: Annotated[Path, typer.Argument(help="Folder of sealed caches, *.zarr.")],
    out: Annotated[Path, typer.Argument(help="Folder of runs, tables and figures.")],
    data: Annotated[list[str], typer.Argument(help="Datasets, KIND:PATH.")],
    seeds: Annotated[str, typer.Option(help="Seeds of the fits of each model, e.g. 0-2.")] = "0",
    fit: Annotated[str, typer.Option("--spec", "--fit", help="paper, fast, or a YAML file of fit settings.")] = "paper",
) -> None:
    """Compare all caches of a folder, and write Tables 1 and 2 beside the published values."""
    places = sorted([*caches.glob("*.zarr"), *caches.glob("*/*.zarr")])
    if not places:
        raise DataError(caches, expected="feature caches, *.zarr", got="none", fix="Run 'bddn extract' first.")
    spec = fit_spec(fit, {"split_seed": 0}, "fit settings")
    done = fit_many(places, data, out / "runs", spec, seeds=numbers(seeds, "--seeds"), device="auto")
    for error in done.failed.values():
        typer.echo(f"error: {error}", err=True)
    runs = [read_run(out / "runs" / folder) for folder in done.table["folder"]]
    stores, subjects = [Cache(place) for place in places], [open_dataset(name) for name in data]
    for run in runs:
        if not is_scored(run):
            predict_held_out(run, stores, subjects)
    rivals = sort_runs(runs)
    found = compare_models(rivals)
    average = write_comparison(found, rivals, out)
    sheet = contrasted(found.voxels if average is None else average, found.rois["subject"].iloc[-1])
    draw_grid(sheet.rows, out / "differences", sheet.title, sheet.heading)
    for one in rivals:
        figure4 = scores([fits[0] for fits in one.models.values()], "hue")
        draw_grid(figure4.rows, out / f"figure4_{one.subject}", figure4.title, figure4.heading)
    specs = _specs(rivals)
    for number, table, beside in ((1, found.table_1, published.table_1), (2, found.table_2, published.table_2)):
        _write(out, number, beside(table[table["subject"] == table["subject"].iloc[-1]], specs))
        for name in published.missing(number, specs):
            typer.echo(
                f"missing in Table {number}: bddn extract {name} --data {data[0]} --out {caches / name / name}.zarr"
            )
    for sentence in sentences(found, rivals):
        typer.echo(sentence)


def _specs(rivals: list[Rivals]) -> dict[str, str]:
    """Return the spec of each model: the published one with whose name that of its cache begins, or the cache's."""
    published_specs = sorted({name for table in published.PUBLISHED.values() for name in table.index}, key=len)
    caches = {model: cache_name(fits[0]) for model, fits in rivals[0].models.items()}
    return {
        model: next((name for name in reversed(published_specs) if f"{cache}_".startswith(f"{name}_")), cache)
        for model, cache in caches.items()
    }


def _write(out: Path, number: int, table: pd.DataFrame) -> None:
    """Write a table as CSV in long form, and as Markdown and LaTeX in the form of the paper; print it."""
    wide, stem = published.wide(table), out / f"published_table_{number}"
    write_csv(stem.with_suffix(".csv"), table)
    write_text(stem.with_suffix(".md"), published.markdown(wide))
    write_text(stem.with_suffix(".tex"), wide.to_latex(index=False, escape=True))
    typer.echo(f"Table {number}, ours (published): {stem}.csv, .md, .tex\n{as_table(published.as_rows(wide))}\n")


if __name__ == "__main__":
    typer.run(compare_backbones)
