"""Read the categories of images from a table."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pandas as pd

from bddn.errors import DataError
from bddn.files.filekind import explain

COLUMNS = ["stimulus", "category"]


def read_categories(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    """Return the category of each stimulus.

    Parameters
    ----------
    path : Path
        A CSV file in UTF-8 with the columns `stimulus` and `category`; other columns and other stimuli are ignored.
    ids : sequence of str
        Stimulus ids.

    Raises
    ------
    DataError
        If the file is missing, not such a table, or lacks a stimulus, or gives a stimulus two categories.
    """
    try:
        table = pd.read_csv(BytesIO(path.read_bytes()), dtype=str, keep_default_na=False, encoding="utf-8-sig")
        got = f"the columns {', '.join(map(str, table.columns))}"
    except (OSError, ValueError) as error:
        table, got = pd.DataFrame(), f"{error}"
    if not {*COLUMNS} <= {*table.columns}:
        got, fix = explain(path, got, "Correct the table, or the name in 'split_by'.")
        raise DataError(path, expected=f"a CSV file with the columns {' and '.join(COLUMNS)}", got=got, fix=fix)
    pairs = table.loc[table["stimulus"].isin(set(ids)) & (table["category"] != ""), COLUMNS].drop_duplicates()
    twice = pairs.loc[pairs["stimulus"].duplicated(keep=False)]
    if len(twice):
        first = twice.loc[twice["stimulus"] == twice["stimulus"].iloc[0], "category"]
        raise DataError(
            path,
            expected="one category for every stimulus",
            got=f"{' and '.join(first)} for '{twice['stimulus'].iloc[0]}'; {twice['stimulus'].nunique()} stimuli have "
            "more than one",
            fix="Keep one category of each, the one that is to be held out as a whole.",
        )
    category_of = dict(zip(pairs["stimulus"], pairs["category"], strict=True))
    missing = [stimulus for stimulus in ids if stimulus not in category_of]
    if missing:
        raise DataError(
            path,
            expected=f"a category for each of the {len(ids)} stimuli of the dataset",
            got=f"none for {len(missing)} of them, the first '{missing[0]}'",
            fix="Add them to the table, for example with the category 'other'.",
        )
    return tuple(category_of[stimulus] for stimulus in ids)
