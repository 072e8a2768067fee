"""Rows of numbers that take long to read, such as those of compressed volumes, kept in files that any row is quick in.

A file contains float32 numbers, little-endian, row after row. It is written once: into a folder, for later commands, or
without a name into the folder for temporary files, so that the system removes it when the process ends.
"""

import hashlib
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from bddn.errors import OutputError
from bddn.files.atomic import replace_file

DTYPE = np.dtype("<f4")
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]
Rows = Callable[[], Iterable[Floats]]


class Unpacked:
    """Such files.

    Parameters
    ----------
    folder : Path, optional
        Where they stay; by default they do not.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder, self._open = folder, dict[str, int]()

    def __reduce__(self) -> tuple[type["Unpacked"], tuple[Path | None]]:
        """Another process opens its own files."""
        return Unpacked, (self._folder,)

    def read(self, source: Path, columns: Ints, n_rows: int, rows: Rows, wanted: Ints, part: str = "") -> Floats:
        """Return some rows, (wanted, N).

        Parameters
        ----------
        source : Path
            The file that the rows are from. If it changes, they are read again.
        columns : array of int
            Which numbers of it they are, of any shape (N, …).
        n_rows : int
        rows : callable
            Returns all rows, in order. It is called once for each source and columns.
        wanted : array of int
        part : str
            Which part of the file the rows are, if it has several.
        """
        file = self._file(source, part, columns, n_rows, rows)
        out = np.empty((len(wanted), len(columns)), np.float32)
        n_bytes = out[:1].nbytes
        for place, row in enumerate(wanted):
            out[place] = np.frombuffer(os.pread(file, n_bytes, int(row) * n_bytes), DTYPE)
        return out

    def _file(self, source: Path, part: str, columns: Ints, n_rows: int, rows: Rows) -> int:
        """Return the descriptor of a file, which is closed with this object."""
        status = source.stat()
        about = f"{source.absolute()}|{status.st_size}|{status.st_mtime_ns}|{part}|{columns.shape}|".encode()
        key = hashlib.sha256(about + columns.astype("<i8").tobytes()).hexdigest()[:16]
        if key not in self._open:
            name = f"{source.name.partition('.')[0]}-{key}.f32"
            self._open[key] = self._make(name, n_rows * len(columns) * DTYPE.itemsize, rows)
            weakref.finalize(self, os.close, self._open[key])
        return self._open[key]

    def _make(self, name: str, n_bytes: int, rows: Rows) -> int:
        def write(file: BinaryIO) -> None:
            for row in rows():
                file.write(row.astype(DTYPE).tobytes())
            file.flush()

        def fill(path: Path) -> None:
            with path.open("wb") as file:
                write(file)

        try:
            if self._folder is None:
                with tempfile.TemporaryFile() as unnamed:
                    write(cast(BinaryIO, unnamed))
                    return os.dup(unnamed.fileno())
            path = self._folder / name
            if not path.is_file() or path.stat().st_size != n_bytes:
                replace_file(path, fill)
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            raise OutputError(
                self._folder or f"temporary files in {tempfile.tempdir or 'no folder'}",
                expected=f"room for {n_bytes / 2**20:,.0f} MiB of unpacked responses, for each session",
                got=error.strerror or f"{error}",
                fix="Set TMPDIR to a folder on a larger disk, or give one that keeps them, where there is the option "
                "'unpacked'.",
            ) from error
