"""Standard streams whose failure cannot stop the work: results are in files, and what is printed is not needed."""

import os
import select
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

INPUT, OUTPUT, ERROR = 0, 1, 2


class Output(FileIO):
    """Standard output or standard error. A failed write is recorded, and the work continues.

    If a pipe has no reader any more, as in `bddn maps RUN | head -1`, the output is dropped.

    Attributes
    ----------
    failed : OSError or None
        The first failure other than a pipe without a reader.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self.failed: OSError | None = None

    def write(self, data: Any) -> int:
        """Write `data` and return its length, also if it cannot be written."""
        while True:
            try:
                written: int | None = super().write(data)
            except BrokenPipeError:
                return memoryview(data).nbytes
            except OSError as error:
                self.failed = self.failed or error
                return memoryview(data).nbytes
            if written is not None:
                return written
            select.select([], [self], [])  # a stream that does not block: wait until it is ready


def open_streams() -> Output:
    """Make `sys.stdout` and `sys.stderr` safe for any text. Return standard output, which records failures.

    A closed stream is replaced by one that drops its data, before a file could be opened with its number. Characters
    that the encoding lacks are printed as escapes.
    """
    for fd in (INPUT, OUTPUT, ERROR):
        _open_if_closed(fd)
    raw = Output(OUTPUT)
    sys.stdout = _text(raw, sys.stdout)
    sys.stderr = _text(Output(ERROR), sys.stderr)
    return raw


def _open_if_closed(fd: int) -> None:
    try:
        os.fstat(fd)
    except OSError:
        nothing = os.open(os.devnull, os.O_RDONLY if fd == INPUT else os.O_WRONLY)
        if nothing != fd:
            os.dup2(nothing, fd)
            os.close(nothing)
        else:
            os.set_inheritable(fd, True)


def _text(raw: Output, before: Any) -> TextIOWrapper:
    """Return a text stream with the encoding of the previous stream, or UTF-8 if that was closed."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    return TextIOWrapper(BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True)
