"""The table of all runs, one row per run, and its summary."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bddn.files import atomic
from bddn.run import Run
from bddn.stats.scores import ROIS

Row = dict[str, Any]

NAME = "results"
FIRST = ("cache", "subject", "seed", "bootstrap", "r2_test", "r2_val", "slope", "b0", "b1", "n_voxels")
LAST = ("n_voxels_without_score", "n_without_evidence", "best_epoch", "saturated", "cache_digest", "seconds", "folder")
SUMMED = {"r2_test": "R²", "slope": "slope"}


def row_of(folder: str, run: Run) -> Row:
    """Return the results of a run as one table row; None for unknown values.

    Parameters
    ----------
    folder : str
        The run folder relative to the folder of all runs: CACHE/SUBJECT/RUN.
    run : Run
    """
    cache, subject, _ = folder.split("/")
    metrics = run.metrics
    hierarchy = metrics["hierarchy"] or {}
    return {
        "cache": cache,
        "subject": subject,
        **{name: metrics[name] for name in ("seed", "bootstrap", "r2_test", "r2_val")},
        **{name: hierarchy.get(name) for name in ("slope", "b0", "b1")},
        **{f"r2_test_{roi}": metrics["roi_r2_test"].get(roi, {}).get("mean") for roi in ROIS},
        **{f"truth_{name}": value for name, value in (run.truth or {}).items()},
        **{name: metrics[name] for name in ("n_voxels", "n_voxels_without_score", "best_epoch")},
        "n_without_evidence": metrics.get("n_without_evidence"),  # unknown in runs of version 0.2.0
        "saturated": ", ".join(metrics["saturated_selectors"]),
        **{name: metrics[name] for name in ("cache_digest", "seconds")},
        "folder": folder,
    }


def table_of(rows: Iterable[Row]) -> pd.DataFrame:
    """Return a table sorted by cache, subject, seed and bootstrap. Empty ROI and truth columns are dropped."""
    table = pd.DataFrame(list(rows))
    if table.empty:
        return pd.DataFrame(columns=[*FIRST, *LAST])
    between = [name for name in table if name not in (*FIRST, *LAST) and table[name].notna().any()]
    table = table[[*FIRST, *between, *LAST]]
    numbers = table.columns.difference(["cache", "subject", "saturated", "cache_digest", "folder"])
    counts = {"seed", "bootstrap", "best_epoch"}
    counts |= {name for name in numbers if name.startswith(("n_", "truth_n_"))}
    kinds = {name: "Int64" if name in counts else "float64" for name in numbers}
    order = ["cache", "subject", "seed", "bootstrap"]
    return table.astype(kinds).sort_values(order, na_position="first", ignore_index=True)


def write(table: pd.DataFrame, out: Path) -> None:
    """Replace results.parquet and results.csv in `out`."""
    atomic.write_table(out / f"{NAME}.parquet", table, index=False)
    atomic.replace_file(out / f"{NAME}.csv", lambda path: table.to_csv(path, index=False, lineterminator="\n"))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the number of runs, and mean and sample standard deviation of score and slope, by cache and subject.

    Returns
    -------
    DataFrame
        With columns `cache`, `subject`, `n`, `r2_test`, `r2_test_sd`, `slope`, `slope_sd`; NaN for unknown values.
    """
    by = table.groupby(["cache", "subject"], sort=True)
    columns: dict[str, Any] = {"n": by.size()}
    for name in SUMMED:
        columns |= {name: by[name].mean(), f"{name}_sd": by[name].std()}
    return pd.DataFrame(columns).reset_index()


def to_text(found: pd.DataFrame) -> list[dict[str, str]]:
    """Return a summary as rows of text, e.g. 'R²': '0.131 ± 0.002'."""

    def text(mean: float, sd: float, digits: int) -> str:
        if pd.isna(mean):
            return "-"
        return f"{mean:.{digits}f}" + ("" if pd.isna(sd) else f" ± {sd:.{digits}f}")

    return [
        {
            "cache": str(row["cache"]),
            "subject": str(row["subject"]),
            "R²": text(row["r2_test"], row["r2_test_sd"], 3),
            "slope": text(row["slope"], row["slope_sd"], 2),
            "n": str(row["n"]),
        }
        for row in found.to_dict("records")
    ]
