"""The numbers that the paper printed, beside those of a comparison.

Source: Yang, Gee, Shi, Brain Decodes Deep Nets, CVPR 2024, Tables 1, 2 and 3; NSD, subjects 1 to 3, single trials, raw
R². Rows are named by the specs in `cache_specs/`. The order of the sizes of a network in Table 2 is that of the text.
Table 3 does not name the sizes: its rows are those of Table 2 with the same R².
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bddn.evaluation.contrast.output import interval
from bddn.evaluation.contrast.tables import MAX
from bddn.stats.best_model import TABLE_1

_ROIS = tuple(TABLE_1)
_TABLE_1 = {
    MAX: (0.237, 0.215, 0.097, 0.185, 0.186, 0.134),
    "clip_vit_l14": (0.032, 0.023, 0.011, 0.015, 0.005, 0.006),
    "dinov2_b": (0.033, 0.026, 0.021, 0.013, 0.008, 0.007),
    "sam_b": (0.037, 0.033, 0.025, 0.065, 0.056, 0.033),
    "mae_b": (0.031, 0.025, 0.008, 0.029, 0.017, 0.009),
    "mocov3_b": (0.032, 0.027, 0.014, 0.031, 0.015, 0.011),
    "imagenet_vit_b": (0.037, 0.032, 0.024, 0.028, 0.019, 0.015),
    "sd_t20": (0.047, 0.050, 0.029, 0.056, 0.052, 0.032),
    "sd_t40": (0.031, 0.030, 0.021, 0.018, 0.019, 0.013),
}
_COLUMNS = ("r2", "slope", "b0", "b1")
_TABLE_2 = {
    "clip_vit_l14": (0.132, 0.53, 0.35, 0.88),
    "clip_vit_b16": (0.131, 0.50, 0.38, 0.88),
    "clip_vit_b32_m": (0.117, 0.32, 0.49, 0.82),
    "clip_vit_b32_s": (0.083, 0.11, 0.60, 0.71),
    "imagenet_vit_l": (0.117, 0.27, 0.41, 0.68),
    "imagenet_vit_b": (0.121, 0.39, 0.45, 0.83),
    "imagenet_vit_h": (0.120, 0.08, 0.58, 0.66),
    "sam_b": (0.117, 0.10, 0.63, 0.73),
    "sam_l": (0.111, 0.15, 0.67, 0.82),
    "sam_h": (0.123, 0.16, 0.76, 0.92),
    "dinov2_l": (0.125, 0.25, 0.66, 0.92),
    "dinov2_b": (0.128, 0.41, 0.50, 0.91),
    "dinov2_g": (0.132, 0.20, 0.46, 0.66),
    "mae_l": (0.129, 0.37, 0.47, 0.84),
    "mae_b": (0.128, 0.32, 0.55, 0.87),
    "mae_h": (0.124, 0.30, 0.40, 0.70),
    "mocov3_b": (0.127, 0.33, 0.52, 0.85),
    "mocov3_s": (0.126, 0.40, 0.51, 0.91),
}
_TABLE_3 = {
    "clip_vit_b16": (0.131, 0.115, 0.112),
    "mae_b": (0.128, 0.117, 0.113),
    "sam_l": (0.111, 0.086, 0.087),
    "dinov2_b": (0.128, 0.085, 0.082),
}
PUBLISHED: Mapping[int, pd.DataFrame] = {
    1: pd.DataFrame.from_dict(_TABLE_1, "index", columns=list(_ROIS)).rename_axis("spec"),
    2: pd.DataFrame.from_dict(_TABLE_2, "index", columns=list(_COLUMNS)).rename_axis("spec"),
    3: pd.DataFrame.from_dict(_TABLE_3, "index", columns=["original", "isic", "eurosat"]).rename_axis("spec"),
}
"""Table 1: R² of "max", and the difference of each model to it. Table 2: one row per model. Table 3: R² before and
after fine-tuning on two image sets."""


def table_1(found: pd.DataFrame, specs: Mapping[str, str]) -> pd.DataFrame:
    """Return Table 1 in long form, with the published values.

    Parameters
    ----------
    found : DataFrame
        `bddn.evaluation.contrast.tables.Compared.table_1` of one subject, or of the mean over subjects.
    specs : mapping of str to str
        From the names of models to those of their specs.

    Returns
    -------
    DataFrame, one row per model and ROI
        `value` is R² of "max", or the root mean square difference to it, `value_low`, `value_high` its interval (with
        several subjects, over subjects), and `published` what the paper printed.
    """
    rows: list[dict[str, Any]] = []
    for row in found[found["roi"].isin(_ROIS)].to_dict("records"):
        of = "r2" if row["model"] == MAX else "root_mean_square"
        if pd.notna(row.get(of)) and (row["model"] == MAX or row["model"] in specs):
            name = specs.get(row["model"], row["model"])
            ends = {f"value_{end}": row.get(f"{of}_{end}") for end in ("low", "high")}
            rows.append({"spec": name, "model": row["model"], "column": row["roi"], "value": row[of], **ends})
    return beside(rows, 1)


def table_2(found: pd.DataFrame, specs: Mapping[str, str]) -> pd.DataFrame:
    """Return Table 2 in long form, with the published values; see `table_1`."""
    rows = [
        {
            "spec": specs[row["model"]],
            "model": row["model"],
            "column": column,
            "value": row[column],
            **{f"value_{end}": row.get(f"{column}_{end}") for end in ("low", "high")},
        }
        for row in found.to_dict("records")
        for column in _COLUMNS
    ]
    return beside(rows, 2)


def missing(number: int, specs: Mapping[str, str]) -> list[str]:
    """Return the specs of the rows of a published table that none of the models is."""
    return [name for name in PUBLISHED[number].index if name not in (MAX, *specs.values())]


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in the form of the paper: one row per model, and in each cell our value, its interval, and the
    published value in parentheses. '-' is not known, or not published."""
    cells = table.assign(cell=[_cell(row) for row in table.to_dict("records")])
    columns = list(dict.fromkeys([*PUBLISHED[int(table["table"].iloc[0])], *table["column"]]))
    out = cells.pivot(index=["spec", "model"], columns="column", values="cell")[columns]
    order = list(dict.fromkeys(zip(table["spec"], table["model"], strict=True)))
    return out.loc[order].fillna("-").reset_index().rename(columns={"r2": "R²"}).rename_axis(columns=None)


def as_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return a table of text as rows."""
    return [{str(name): str(cell) for name, cell in row.items()} for row in table.to_dict("records")]


def markdown(table: pd.DataFrame) -> str:
    """Return a table of text in Markdown."""
    lines: Sequence[Sequence[str]] = [[*map(str, table)], ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def beside(rows: Sequence[Mapping[str, Any]], number: int) -> pd.DataFrame:
    """Add the published values to rows, and rows of models that are missing."""
    published = PUBLISHED[number]
    present = {row["spec"] for row in rows}
    lacking = [{"spec": s, "model": "-", "column": c} for s in published.index if s not in present for c in published]
    order = {spec: i for i, spec in enumerate(published.index)}
    every = sorted([*rows, *lacking], key=lambda row: order.get(row["spec"], len(order)))
    names = ["spec", "model", "column", "value", "value_low", "value_high", "published"]
    known = [
        published.loc[row["spec"], row["column"]]
        if row["spec"] in published.index and row["column"] in published
        else None
        for row in every
    ]
    table = pd.DataFrame([{**row, "published": value} for row, value in zip(every, known, strict=True)], columns=names)
    numbers = ["value", "value_low", "value_high", "published"]
    return table.astype(dict.fromkeys(numbers, "float64")).assign(table=number)


def _cell(row: Mapping[Any, Any]) -> str:
    digits = ".2f" if row["table"] == 2 and row["column"] != "r2" else ".3f"
    return f"{interval(row, 'value', digits)} ({interval(row, 'published', digits)})"
