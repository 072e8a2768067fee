"""A disk on which the n-th operation goes wrong."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPERATIONS = ("open", "replace", "link", "unlink", "mkdir", "fsync", "scandir")


class KilledError(BaseException):
    """The end of a process: nothing that it would still do happens."""


class Disk:
    """Counts operations on files, and lets one of them fail.

    Parameters
    ----------
    at : int
        Which operation goes wrong, from 1; 0 for none.
    code : int, optional
        Error number of the one operation that fails; without it the process is killed there.
    """

    def __init__(self, at: int = 0, code: int | None = None) -> None:
        self.at, self.code = at, code
        self.n = 0
        self.failed = ""

    def step(self, name: str) -> None:
        self.n += 1
        if self.code is None and self.at and self.n >= self.at:
            self.failed = self.failed or name
            raise KilledError(name)
        if self.n == self.at:
            self.failed = name
            assert self.code is not None
            raise OSError(self.code, os.strerror(self.code))

    @contextmanager
    def installed(self) -> Iterator["Disk"]:
        with pytest.MonkeyPatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(os, name, self._counted(name, getattr(os, name)))
            whole = Path.write_bytes

            def write_bytes(path: Path, data: bytes) -> int:
                try:
                    self.step("write")
                except (OSError, KilledError):
                    if self.n == self.at:
                        whole(path, data[: len(data) // 2])
                    raise
                return whole(path, data)

            patch.setattr(Path, "write_bytes", write_bytes)
            yield self

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **keywords: Any) -> Any:
            self.step(name)
            return None if name == "fsync" else real(*args, **keywords)

        return operation


@contextmanager
def failing(at: int, code: int = errno.EIO) -> Iterator[Disk]:
    """The operation number `at` fails, once."""
    with Disk(at, code).installed() as disk:
        yield disk


@contextmanager
def killing(at: int) -> Iterator[Disk]:
    """The process dies at the operation number `at`, and leaves what is on the disk by then."""
    with Disk(at).installed() as disk:
        yield disk
