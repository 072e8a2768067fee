"""The command `bddn score`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bddn.cli.shared import DATASET, as_table, clear_errors

if TYPE_CHECKING:
    from bddn.evaluation.scoring import Scored

RESPONSES = {"averaged": "averages over repetitions", "single": "single trials", "unknown": "repetitions not stated"}


@clear_errors
def score(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    cache: Annotated[
        list[str] | None,
        typer.Option(help="The caches that the runs were fitted to; not needed again.", show_default=False),
    ] = None,
    data: Annotated[list[str] | None, DATASET] = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Score although images are in two parts of the split, and note it.")
    ] = False,
) -> None:
    """Score runs on their test images: R², noise ceilings, challenge score, with intervals, by ROI and hemisphere.

    The first time, --cache and --data are needed, to predict the test images. The folder score/ of each run keeps
    measured and predicted responses, which other commands use too, and the scores: voxels.parquet, summary.csv and
    summary.json. Before, the split is audited as by 'bddn audit': if images are in two parts, nothing is scored.
    """
    from bddn.data import open_dataset
    from bddn.errors import SpecError
    from bddn.evaluation.held_out import predict_held_out
    from bddn.evaluation.kept_responses import FOLDER, read_held_out
    from bddn.evaluation.leaks.auditing import Images, audit_before_use, refuse_leaks
    from bddn.evaluation.matching import cache_of_run, dataset_of_run
    from bddn.evaluation.scoring import score_run, write_scores
    from bddn.files.output import check_folder
    from bddn.run import read_run
    from bddn.store.reader import Cache

    if bool(cache) != bool(data):
        given, missing = ("--cache", "--data") if cache else ("--data", "--cache")
        raise SpecError(
            "bddn score",
            expected="--cache and --data, or neither if the runs were scored before",
            got=f"only {given}",
            fix=f"Add {missing}.",
        )
    found = [read_run(run) for run in runs]
    caches, datasets = [Cache(place) for place in cache or ()], [open_dataset(name) for name in data or ()]
    for run in found:  # before the first of them is predicted
        check_folder(run.folder / FOLDER, "folder")
        if caches:
            cache_of_run(run, caches)
            dataset_of_run(run, datasets)
        else:
            read_held_out(run)
    images = Images()
    leaks = [refuse_leaks(audit_before_use(run, caches, datasets, images), run, allow_leaks) for run in found]
    images.clear()
    for run, of_run in zip(found, leaks, strict=True):
        scored = score_run(run, predict_held_out(run, caches, datasets) if caches else read_held_out(run))
        write_scores(scored, run, of_run)
        several = "" if scored.n_responses == scored.n_images else f" with {scored.n_responses} responses"
        responses = f"{scored.n_images} test images{several}, {RESPONSES[scored.trials]}"
        rows = rows_of(scored)
        if of_run["allowed"]:
            rows = [row | {"leaks allowed": f"{sum(of_run['n_pairs'].values())} pairs"} for row in rows]
        typer.echo(f"{run.folder}: {responses}\n{as_table(rows)}")
        typer.echo(f"leaks{' allowed' if of_run['allowed'] else ''}: {of_run['sentence']}")
        for what, reason in scored.not_available.items():
            typer.echo(f"{what}: {reason}")
        typer.echo(f"score: {run.folder / FOLDER}\n")


def rows_of(scored: "Scored") -> list[dict[str, str]]:
    """Return the summary of both hemispheres as rows of text: of all sets of voxels, and all voxels of each ROI."""
    summary = scored.summary[scored.summary["hemi"] == "both"]
    shown = summary[(summary["roi"] == "all") | (summary["voxels"] == "all")]
    return [_text(row, scored.trials) for row in shown.to_dict("records")]


def _text(row: dict[Any, Any], trials: str) -> dict[str, str]:
    def number(value: float) -> str:
        return "not available" if math.isnan(value) else f"{value:.3f}"

    low, high = row["r2_low_95"], row["r2_high_95"]
    kind = "single trials" if trials == "single" else trials
    return {
        "ROI": row["roi"],
        "voxels": row["voxels"],
        "n": f"{row['n']:,}",
        f"R² ({kind})": number(row["r2_mean"]),
        **{
            words: number(row[name])
            for words, name in (("whole", "r2_whole_mean"), ("images alone", "r2_images_mean"))
            if name in row
        },
        "many images": number(row["r2_expected"]),
        "95 % interval": "not available" if math.isnan(low) else f"{low:.3f} to {high:.3f}",
        "median": number(row["r2_median"]),
        "R²/ceiling": number(row["ratio_of_means"]),
        "challenge": number(row["challenge_score"]),
    }
