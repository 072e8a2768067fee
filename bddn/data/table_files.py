"""Tables of own data: CSV, TSV or Parquet, read as texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bddn.data.image_sets.image_table import SHOWN, read_rows
from bddn.data.own.order import as_text_only
from bddn.errors import DataError
from bddn.files.filekind import PARQUET, explain, require_no_pipe
from bddn.text import count, shorten

OTHERS = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), ("a spreadsheet", "Export it as CSV in UTF-8.")),
    **dict.fromkeys((".feather", ".arrow"), ("an Arrow table (Feather)", "Save it as Parquet or CSV.")),
}
"""Tables that are not read, and what to do."""
NO_VALUE = ("", "n/a", "na", "nan")
"""Cells that mean "not known", in lower case: those of BIDS, R and pandas."""


@dataclass(frozen=True)
class Table:
    """A table of texts: `cells` are the columns by name, each of the same length. Rows are counted from 1."""

    path: Path
    cells: Mapping[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.cells.values())))

    def texts(self, column: str, what: str, field: str) -> list[str]:
        """Return a column.

        Parameters
        ----------
        column : str
        what : str
            Its meaning, for messages.
        field : str
            Field of the YAML file that names it, or '' if the name is fixed.

        Raises
        ------
        DataError
            If there is no such column.
        """
        if column in self.cells:
            return self.cells[column]
        near = next((name for name in self.cells if name.casefold() == column.casefold()), None)
        fix = f"Write '{field}: {near}'." if near else f"Add it, or name another column with '{field}: COLUMN'."
        if not field:
            fix = f"Rename the column '{near}'." if near else "Add it, or rename the column that has them."
        raise DataError(
            self.path,
            expected=f"a column '{column}' with {what}",
            got=f"the columns {shorten(list(self.cells), SHOWN)}",
            fix=fix,
        )

    def numbers(self, column: str, what: str, field: str) -> npt.NDArray[np.float64]:
        """Return a column as numbers, with NaN for `NO_VALUE`. Parameters are those of `texts`.

        Raises
        ------
        DataError
            If there is no such column, or a cell is not a number.
        """
        cells = self.texts(column, what, field)
        found, wrong = np.full(len(cells), np.nan), list[int]()
        for i, cell in enumerate(cells):
            try:
                found[i] = np.nan if cell.casefold() in NO_VALUE else float(cell.replace("_", "?"))  # Python: 1_2 is 12
            except ValueError:
                wrong.append(i)
        if not wrong:
            return found
        comma = all(cells[i].count(",") == 1 for i in wrong)
        raise DataError(
            self.path,
            expected=f"numbers in the column '{column}'",
            got=shorten([f"'{cells[i]}' in row {i + 1}" for i in wrong]),
            fix="Write decimal points in place of decimal commas." if comma else "Correct these cells.",
        )


def read_table(path: Path) -> Table:
    """Read a table. Spaces around cells are removed, as is a byte order mark.

    Raises
    ------
    DataError
        If it is not a table with at least one row and with different names of columns, or cells are not texts or
        numbers.
    """
    if other := OTHERS.get(path.suffix.lower()):
        raise DataError(path, expected="a CSV, TSV or Parquet table", got=other[0], fix=other[1])
    if path.suffix.lower() not in (".parquet", ".pq"):
        rows = read_rows(path)
        return Table(path, {name: [row[name] for row in rows] for name in rows[0]})
    table = read_parquet(path)
    types = dict(zip(table.column_names, table.schema.types, strict=True))
    odd = [f"{name} ({kind})" for name, kind in types.items() if not _is_plain(kind)]
    if odd or len(types) < table.num_columns or not table.num_rows or not types:
        raise DataError(
            path,
            expected="columns of texts or numbers with different names, and at least one row",
            got=f"the columns {shorten(odd)}"
            if odd
            else f"{table.num_columns} columns, {count(table.num_rows, 'row')}",
            fix="Remove or convert what does not belong there.",
        )
    return Table(path, {name: [_text(cell) for cell in table[name].to_pylist()] for name in types})


def read_parquet(path: Path) -> pa.Table:
    """Read a Parquet file, or a folder of such files. Two columns may have the same name.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        require_no_pipe(path)
        if path.is_file():
            return pq.ParquetFile(path).read()
        _refuse_text_order(path)
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        got, fix = "a damaged file, or another kind of file", "Restore it, or give another one."
        got, fix = explain(path, got, fix, PARQUET)
        raise DataError(path, expected="a Parquet table", got=got, fix=fix) from error


def _refuse_text_order(folder: Path) -> None:
    """Refuse a folder whose parts have one order as texts, in which pyarrow and pandas read them, and another one by
    their numbers, in which dask does."""
    parts = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))
    if pair := as_text_only(parts):
        raise DataError(
            folder,
            expected="a Parquet table in one file, or in parts whose names have the order of their numbers",
            got=f"the parts {pair[0]} and {pair[1]}, which programs read in different orders",
            fix="Open it with the program that wrote it, and save it as one file.",
        )


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string, pa.types.is_null)
    return any(test(kind) for test in (*tests, pa.types.is_large_string))


def _text(cell: object) -> str:
    if isinstance(cell, float) and not np.isfinite(cell):
        return "" if np.isnan(cell) else str(cell)
    return "" if cell is None else repr(cell) if isinstance(cell, float) else str(cell).strip()
