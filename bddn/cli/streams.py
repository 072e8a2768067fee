"""Standard streams that cannot stop the work: what is printed tells about the work, and the work is in files."""

import os
import select
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

INPUT, OUTPUT, ERROR = 0, 1, 2


class Output(FileIO):
    """Standard output or standard error. A failure to write is remembered, and the work goes on.

    Where a pipe has no reader any more, as in `bddn maps RUN | head -1`, what is printed is dropped.

    Attributes
    ----------
    failed : OSError or None
        The first failure, if any, other than a pipe without a reader.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self.failed: OSError | None = None

    def write(self, data: Any) -> int:
        """Write `data`, and say that all of it was written where nothing can be written any more."""
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
            select.select([], [self], [])  # the stream does not block: wait until it takes more


def open_streams() -> Output:
    """Make `sys.stdout` and `sys.stderr` safe to print any text to. Return standard output, to see whether it failed.

    A stream that is closed becomes one that drops what it is given, before a file of ours could be opened in its place.
    Characters that the encoding of a stream lacks are printed as escapes.
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
    """A text stream with the encoding that the one before it had; that is None where it was closed."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    return TextIOWrapper(BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True)
