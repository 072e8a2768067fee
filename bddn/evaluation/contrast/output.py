"""Write a comparison into a folder, and tell its results in sentences."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from bddn.evaluation.contrast import contrast
from bddn.evaluation.contrast.rivals import SAME_DATA, Rivals
from bddn.evaluation.contrast.tables import HONEST, MAX, Compared
from bddn.evaluation.kept_responses import about_scored
from bddn.files import atomic
from bddn.run.folder import without_nan
from bddn.run.inputs import environment
from bddn.run.not_found import not_found
from bddn.stats import best_model, fit_intervals, paired
from bddn.stats.average import average_differences
from bddn.stats.evidence import FDR
from bddn.stats.jackknife import MIN_IMAGES
from bddn.stats.scores import ALL, LEAST_R2

TABLE, AVERAGE, ABOUT = "compare.parquet", "average.parquet", "compare.json"
SETTINGS: dict[str, Any] = {
    "interval": paired.COVERED,
    "interval_of_depth": fit_intervals.LEVEL,
    "false_discovery_rate": FDR,
    "least_r2": LEAST_R2,
    "seed": contrast.SEED,
    "folds_of_test_images": best_model.N_FOLDS,
    "sets_of_models_per_number": best_model.N_SUBSETS,
    "all_pairs_up_to_models": contrast.ALL_PAIRS,
    "sampled_voxels": contrast.SAMPLED_VOXELS,
    "columns_of_table_1": {name: list(rois) for name, rois in best_model.TABLE_1.items()},
}
write_csv = partial(atomic.write_csv, float_format="%.7g")
"""Replace a CSV file; numbers have 7 digits, unknown ones are empty."""


def write_comparison(found: Compared, subjects: Sequence[Rivals], out: Path) -> pd.DataFrame | None:
    """Write all tables; return the average over subjects, one row per pair and vertex, or None for one subject.

    `compare.parquet` has the voxels of all subjects and `average.parquet` their average; `rois.csv`, `table_1.csv`,
    `table_2.csv` and `best.csv` are the other tables; `compare.json` has settings, runs and their digests, versions and
    the sentences. Existing files are replaced.
    """
    average = average_differences(found.voxels) if len(subjects) > 1 else None
    atomic.write_table(out / TABLE, found.voxels, index=False)
    if average is not None:
        atomic.write_table(out / AVERAGE, average, index=False)
    for name in ("rois", "table_1", "table_2", "best"):
        write_csv(out / f"{name}.csv", getattr(found, name))
    about = {
        "sentences": sentences(found, subjects),
        "settings": SETTINGS,
        "subjects": {rivals.subject: _about(rivals) for rivals in subjects},
        "versions": environment("cpu"),
    }
    atomic.write_json(out / ABOUT, without_nan(about))
    return average


def sentences(found: Compared, subjects: Sequence[Rivals]) -> list[str]:
    """Return what a reader must know: how many voxels differ, the bias of "max", and what the intervals contain."""
    said = []
    for row in found.rois[(found.rois["roi"] == ALL) & found.rois["p"].notna()].to_dict("records"):
        whose = f"{row['subject']}: " if len(subjects) > 1 else ""
        said.append(
            f"{whose}{row['second']} predicts {row['n_better']:,} of {row['n_voxels']:,} voxels better than "
            f"{row['first']}, and {row['n_worse']:,} worse (false discovery rate {FDR:g}); its mean R² is "
            f"{interval(row, 'r2_difference', '+.4f')}, p = {row['p']:.2g}."
        )
    last = found.best.groupby("subject", sort=False).tail(1).to_dict("records")[-1]
    said.append(
        f'The best of {last["n_models"]} models at each voxel ("max") has a mean R² of {last["r2_same_images"]:.4f}. '
        "If each image is predicted by the model that is best on the other images, it is "
        f"{last['r2_other_images']:.4f}: {last['bias']:.4f} come from choosing among noisy scores."
    )
    fits = [len(own) for rivals in subjects for own in rivals.models.values()]
    if min(fits) > 1:
        said.append(f"Intervals and p-values include the spread over fits, {min(fits)} or more of each model.")
    else:
        said.append(
            "Intervals and p-values are about test images, and about these fits: another seed gives another fit. For "
            "differences between networks, give fits of several seeds of each, with the same test images."
        )
    if len(subjects) == 1 and found.table_2["r2_low"].notna().any():
        said.append(
            "Intervals of R² are those of R² on very many images, which is about (1 - R²) / n_images higher than here."
        )
    if found.rois["r2_low"].isna().all():
        said.append(f"Means over voxels have no interval, because this needs {MIN_IMAGES} test images.")
    said += {
        f"{name} says nothing about depth. {why}": None
        for rivals in subjects
        for name, own in rivals.models.items()
        for run in own
        if (why := not_found(run).get("layer"))
    }
    if found.voxels["depth_difference"].notna().any() and found.voxels["depth_low"].isna().all():
        said.append("Differences of depth have no interval, because this needs several fits of each model.")
    slopes = found.table_2[found.table_2["subject"].isin([rivals.subject for rivals in subjects])]
    for name, known in slopes.groupby("model", sort=False)["slope"].count().items():
        if 0 < known < len(subjects):
            said.append(
                f"The mean slope of {name} is over {known} of {len(subjects)} subjects, as the others have none."
            )
    return said


def wide(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return Table 1 as rows of text: R² of "max", then a difference of each model to it, one column per ROI."""
    rows = []
    names = {MAX: f"{MAX}, R²", HONEST: f"{HONEST}, R²"}
    order = [MAX, HONEST, *(name for name in table["model"].unique() if name not in names)]
    for name in order:
        own = table[table["model"] == name].set_index("roi")
        cells = own["r2" if name in names else "root_mean_square"]
        shown = {roi: f"{cells[roi]:.3f}" if roi in cells else "-" for roi in (ALL, *best_model.TABLE_1)}
        rows.append({"model": names.get(name, name), **shown})
    return rows


def interval(row: Mapping[Any, Any], name: str, form: str) -> str:
    """Return a number of a row as text, with its interval if the row has one; '-' if it is not known."""
    if pd.isna(row.get(name)):
        return "-"
    ends = [row.get(f"{name.removesuffix('_difference')}_{end}") for end in ("low", "high")]
    told = "" if any(map(pd.isna, ends)) else f" [{', '.join(format(end, form) for end in ends)}]"
    return format(row[name], form) + told


def _about(rivals: Rivals) -> dict[str, Any]:
    """Return the runs of every model, and what identifies them."""
    data = rivals.first.about["data"]
    runs = {
        name: [
            {
                "folder": str(run.folder),
                "cache_digest": run.about["cache"]["digest"],
                **about_scored(run.folder),
            }
            for run in fits
        ]
        for name, fits in rivals.models.items()
    }
    return {"data": {key: data.get(key) for key in SAME_DATA}, "models": runs}
