"""Read images in the cells of tables: Parquet, as on the Hugging Face hub, or Arrow, of `Dataset.save_to_disk`.

A cell is the bytes of an image file, or a structure with the field `bytes` (and `path`, its former name):
huggingface.co/docs/hub/datasets-image.
"""

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bddn.data.decoding import RESTORE, ImageError
from bddn.errors import DataError
from bddn.files.checksum import stamp
from bddn.files.filekind import PARQUET, explain

ARROW = ".arrow"
KEPT_BYTES = 256 << 20  # of row groups in memory; the last one is kept in any case
MAX_GROUP_BYTES = 1 << 30
BYTES = "bytes"


@dataclass(frozen=True)
class TableImages:
    """The images in one column of tables; implements `bddn.data.dataset.Container`."""

    column: str

    def read(self, file: Path, row: int) -> bytes:
        """Return the image in a row. Row groups that were read last are kept, for all threads together; Arrow files are
        mapped into memory."""
        try:
            cells = _arrow_table(file, stamp(file.stat()))[self.column] if file.suffix == ARROW else None
            cell = _kept.cell(file, row, self.column) if cells is None else cells[row].as_py()
        except (OSError, pa.ArrowException) as error:
            raise ImageError(*explain(file, f"a damaged table ({error})", RESTORE, PARQUET)) from error
        found = cell.get(BYTES) if isinstance(cell, dict) else cell
        if not found:
            named = isinstance(cell, dict) and cell.get("path")
            raise ImageError(
                f"only the path {named}, not the image" if named else "an empty cell",
                "Give the folder of the image files instead (folder:PATH)." if named else RESTORE,
            )
        return bytes(found)


def is_image_type(kind: pa.DataType) -> bool:
    """Return whether a column of this type may contain images."""
    if pa.types.is_struct(kind):
        return any(field.name == BYTES and is_image_type(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def read_schema(file: Path) -> pa.Schema:
    """Return the columns of a table.

    Raises
    ------
    DataError
        If it is not one, or a row group of a Parquet table is too large to be kept in memory.
    """
    try:
        if file.suffix == ARROW:
            return _arrow_table(file, stamp(file.stat())).schema
        found = pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        got, fix = explain(file, "a damaged file, or another kind of file", RESTORE, PARQUET)
        raise DataError(file, expected="a table in Parquet or Arrow", got=got, fix=fix) from error
    with found:
        groups = [found.metadata.row_group(i) for i in range(found.num_row_groups)]
        largest = max((group.total_byte_size for group in groups), default=0)
        if largest > MAX_GROUP_BYTES:
            raise DataError(
                file,
                expected=f"row groups of at most {MAX_GROUP_BYTES >> 30} GiB, because one is read as a whole",
                got=f"one of {largest / 2**30:.1f} GiB",
                fix="Write the table again with fewer rows in a group, for example Dataset.to_parquet(batch_size=100).",
            )
        return found.schema_arrow


def read_columns(file: Path, columns: list[str]) -> dict[str, list[Any]]:
    """Return some columns of a table as Python values.

    Raises
    ------
    DataError
        If they cannot be read.
    """
    try:
        if file.suffix == ARROW:
            table = _arrow_table(file, stamp(file.stat())).select(columns)
        else:
            table = pq.read_table(file, columns=columns, partitioning=None)
        found: dict[str, list[Any]] = table.to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise DataError(file, expected="a complete table", got=f"a damaged one ({error})", fix=RESTORE) from error
    return found


class _Kept:
    """The images of the row groups that were read last, at most `KEPT_BYTES` of them, or one."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._groups: OrderedDict[tuple[Any, ...], pa.ChunkedArray] = OrderedDict()

    def cell(self, file: Path, row: int, column: str) -> Any:
        now = stamp(file.stat())
        ends = _row_ends(file, now)
        group = bisect_right(ends, row)
        key = (file, now, column, group)
        with self._lock:
            found = self._groups.get(key)
            if found is None:
                with pq.ParquetFile(file) as table:
                    found = table.read_row_group(group, columns=[column], use_threads=False)[column]
                self._groups[key] = found
                while len(self._groups) > 1 and sum(one.nbytes for one in self._groups.values()) > KEPT_BYTES:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(key)
        return found[row - (ends[group - 1] if group else 0)].as_py()


_kept = _Kept()


@lru_cache(maxsize=256)
def _arrow_table(file: Path, stamp: tuple[int, ...]) -> pa.Table:
    """Return an Arrow table, in the stream or the file format, without reading it."""
    mapped = pa.memory_map(str(file))
    is_file = mapped.read(6) == b"ARROW1"
    mapped.seek(0)
    return (pa.ipc.open_file(mapped) if is_file else pa.ipc.open_stream(mapped)).read_all()


@lru_cache(maxsize=256)
def _row_ends(file: Path, stamp: tuple[int, ...]) -> tuple[int, ...]:
    """Return, for each row group of a Parquet file, the number of rows up to its end."""
    with pq.ParquetFile(file) as table:
        return tuple(accumulate(table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)))
