"""Read, replace, create, delete and list the files of a store: here in a local folder, in `remote.py` under a URL.

Every name is relative to the store, with '/' between its parts. Errors of the disk or network become a `StoreError`. A
missing file is reported as None, never as an empty file.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from io import FileIO
from pathlib import Path
from typing import Protocol, TypeVar

from bddn.errors import StoreError
from bddn.files import atomic
from bddn.files.checksum import stamp
from bddn.machine.parallel import n_threads

T = TypeVar("T")

FIRST = "manifest/header.json"  # the first file of a store; without it there is no store
ASIDE = "manifest/aside"  # temporary files of a local store, deleted when it is sealed
BLOCK_BYTES = 1 << 24
GONE = {errno.ENOENT, errno.ENOTDIR}


class Files(Protocol):
    """The operations on files that a store needs."""

    @property
    def place(self) -> str:
        """The path or URL of the store, for messages."""

    @property
    def at_once(self) -> int:
        """The number of files to read or delete in parallel."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Return bytes `start` to `stop` of a file, or None if it does not exist."""

    def read_into(self, name: str, start: int, memory: Sequence[memoryview]) -> tuple[int, object | None]:
        """Fill buffers, one after the other, with the bytes of a file from `start`. Return the number of bytes read,
        and the stamp of the file."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file in blocks of bounded size; nothing if it does not exist."""

    def stamp(self, name: str) -> object | None:
        """Return a value that changes when the file is replaced or edited, or None if this would cost a request."""

    def replace(self, name: str, data: bytes) -> None:
        """Replace the content of the file by `data` atomically, and flush it."""

    def create(self, name: str, data: bytes) -> bool:
        """Create a file atomically. Return False if it exists already."""

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""

    def delete_all(self, names: Sequence[str]) -> None:
        """Delete existing files, many with one request if the store supports it."""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the sizes in bytes of all regular files below a folder, by name."""

    def sweep(self) -> None:
        """Delete half-written files of killed processes."""

    def free_bytes(self) -> int | None:
        """Return the free space for this user in bytes, or None if it is unknown."""


class LocalFiles:
    """The files of a store in a local folder."""

    def __init__(self, root: Path) -> None:
        self._place = str(root)
        self.root = root.absolute()  # the caller may change its working directory
        self._root = str(self.root)  # small reads spend most of their time on making Path objects

    @property
    def place(self) -> str:
        return self._place

    @property
    def at_once(self) -> int:
        return n_threads()

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        with self._errors(name), self._file(name) as file:
            if file is None:
                return None
            file.seek(start)
            return bytes(file.read(-1 if stop is None else stop - start))

    def read_into(self, name: str, start: int, memory: Sequence[memoryview]) -> tuple[int, object | None]:
        try:  # the same as `_errors`, inlined for speed: this runs for every chunk
            opened = self._open(name)
            if opened is None:
                return 0, ()
            fd, status = opened
            try:
                n = more = os.preadv(fd, memory, start)
                while more and (rest := _after(memory, n)):
                    more = os.preadv(fd, rest, start + n)
                    n += more
            finally:
                os.close(fd)
        except OSError as error:
            raise self._error(name, error) from error
        return n, stamp(status)

    def blocks(self, name: str) -> Iterator[bytes]:
        with self._errors(name), self._file(name) as file:
            while file is not None and (block := file.read(BLOCK_BYTES)):
                yield block

    def stamp(self, name: str) -> object | None:
        try:
            return stamp(os.lstat(f"{self._root}/{name}"))
        except OSError as error:
            if error.errno in GONE:
                return ()  # the stamp of a missing file
            raise self._error(name, error) from error

    def replace(self, name: str, data: bytes) -> None:
        def put() -> None:
            self._check_there(name)
            atomic.replace_file(self.root / name, lambda path: path.write_bytes(data), self.root / ASIDE)

        with self._errors(name, len(data)):
            _twice(put)

    def create(self, name: str, data: bytes) -> bool:
        def put() -> bool:
            if name != FIRST:
                self._check_there(name)
            return atomic.create_file(self.root / name, data, self.root / ASIDE)

        with self._errors(name, len(data)):
            return _twice(put)

    def delete(self, name: str) -> None:
        with self._errors(name):
            (self.root / name).unlink(missing_ok=True)

    def delete_all(self, names: Sequence[str]) -> None:
        for name in names:
            self.delete(name)

    def sizes(self, folder: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        folders = [folder]
        while folders:
            where = folders.pop()
            with (
                self._errors(where),
                suppress(FileNotFoundError, NotADirectoryError),  # another process has deleted it meanwhile
                os.scandir(f"{self._root}/{where}") as entries,
            ):
                for entry in entries:
                    name = f"{where}/{entry.name}" if where else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                    elif entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):  # another process has sealed the store meanwhile
                            found[name] = entry.stat(follow_symlinks=False).st_size
        return found

    def sweep(self) -> None:
        shutil.rmtree(self.root / ASIDE, ignore_errors=True)

    def free_bytes(self) -> int | None:
        there = next(path for path in (self.root, *self.root.parents) if path.is_dir())
        with self._errors(""):
            return shutil.disk_usage(there).free

    def _check_there(self, name: str) -> None:
        """Refuse to write if the store has disappeared, for example with its mount: this would start a new folder."""
        if not (self.root / FIRST).is_file():
            raise StoreError(
                self.place,
                expected=f"the folder of the cache, to write {name}",
                got="the folder no longer exists",
                fix="Restore the folder or its mount, and run the same command again.",
            )

    def _file(self, name: str) -> AbstractContextManager[FileIO | None]:
        opened = self._open(name)
        return nullcontext() if opened is None else FileIO(opened[0])

    def _open(self, name: str) -> tuple[int, os.stat_result] | None:
        """Return a descriptor and the status of a regular file. Links are refused, because a store must not point
        outside itself, and pipes, because they could block."""
        try:
            fd = os.open(f"{self._root}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in {*GONE, errno.ELOOP}:
                return None
            raise
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            return None
        return fd, status

    @contextmanager
    def _errors(self, name: str, needed_bytes: int = 0) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
            if not needed_bytes:
                raise
            raise self._error(name, error, needed_bytes) from error
        except OSError as error:
            raise self._error(name, error, needed_bytes) from error

    def _error(self, name: str, error: OSError, needed_bytes: int = 0) -> StoreError:
        got = error.strerror or str(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            free = self.free_bytes() or 0
            got += f", with {needed_bytes / 2**20:.1f} MiB to write and {free / 2**20:.1f} MiB free"
        return StoreError(
            self.root / name,
            expected="access to the files of the cache",
            got=got,
            fix="Check the disk's free space, quota and permissions, then run the same command again: "
            "what was committed is kept.",
        )


def _after(memory: Sequence[memoryview], n: int) -> list[memoryview]:
    """Return the buffers without their first `n` bytes."""
    rest = []
    for piece in memory:
        if n < len(piece):
            rest.append(piece[n:])
        n = max(0, n - len(piece))
    return rest


def _twice(put: Callable[[], T]) -> T:
    """Call `put`, and call it again if another process has sealed the store and deleted the temporary folder."""
    try:
        return put()
    except FileNotFoundError:
        return put()
