"""The files of a store, in a folder or under any URL that fsspec knows: read, replace, create, delete, list.

Every name is relative to the store, with '/' between its parts. What can go wrong with a disk or a network becomes a
`StoreError`; a file that is not there is None, never an empty one.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from bddn import atomic
from bddn.errors import StoreError

ASIDE = "manifest/aside"  # temporary files of a local store lie here, and are swept when it is sealed
BLOCK_BYTES = 1 << 24


class Files(Protocol):
    """What a store needs of a file system."""

    @property
    def place(self) -> str:
        """How the user named it, for messages."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Bytes `start` to `stop` of a file; None where there is no such file."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, in order, in blocks of bounded size; nothing where there is no such file."""

    def stamp(self, name: str) -> object:
        """Something that changes when the file is replaced or edited, as far as the file system tells."""

    def replace(self, name: str, data: bytes) -> None:
        """Put `data` in the file's place in one step, and flush it."""

    def create(self, name: str, data: bytes) -> bool:
        """Make a new file in one step. False where there is one already."""

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Sizes in bytes of all regular files below a folder, by name."""

    def sweep(self) -> None:
        """Delete what killed processes left half-written."""

    def free_bytes(self) -> int | None:
        """Space left for this user; None where the file system does not tell."""


class LocalFiles:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def place(self) -> str:
        return str(self.root)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        with self._errors(name), suppress(FileNotFoundError, NotADirectoryError), self._open(name) as file:
            if file is not None:
                file.seek(start)
                return bytes(file.read(-1 if stop is None else stop - start))
        return None

    def blocks(self, name: str) -> Iterator[bytes]:
        with self._errors(name), suppress(FileNotFoundError, NotADirectoryError), self._open(name) as file:
            while file is not None and (block := file.read(BLOCK_BYTES)):
                yield block

    def stamp(self, name: str) -> object:
        with self._errors(name), suppress(FileNotFoundError, NotADirectoryError):
            found = (self.root / name).stat()
            return found.st_ino, found.st_size, found.st_mtime_ns
        return None

    def replace(self, name: str, data: bytes) -> None:
        with self._errors(name, len(data)):
            self._check_there(name)
            atomic.replace_file(self.root / name, lambda path: path.write_bytes(data), self.root / ASIDE)

    def create(self, name: str, data: bytes) -> bool:
        with self._errors(name, len(data)):
            return atomic.create_file(self.root / name, data, self.root / ASIDE)

    def delete(self, name: str) -> None:
        with self._errors(name):
            (self.root / name).unlink(missing_ok=True)

    def sizes(self, folder: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        with self._errors(folder):
            for where, _, names in os.walk(self.root / folder):
                for name in names:
                    path = Path(where, name)
                    with suppress(FileNotFoundError):  # another process sealed the store meanwhile
                        status = path.lstat()
                        if stat.S_ISREG(status.st_mode):
                            found[path.relative_to(self.root).as_posix()] = status.st_size
        return found

    def sweep(self) -> None:
        shutil.rmtree(self.root / ASIDE, ignore_errors=True)

    def free_bytes(self) -> int | None:
        there = next(path for path in (self.root.absolute(), *self.root.absolute().parents) if path.is_dir())
        return shutil.disk_usage(there).free

    def _check_there(self, name: str) -> None:
        """A store that went away, with its mount perhaps, must not come back as a few files in an empty folder."""
        if not (self.root / "manifest").is_dir():
            raise StoreError(
                self.root,
                expected=f"the cache to be where it was, to write {name}",
                got="no such folder any more",
                fix="Bring the folder or its mount back and run the same command again.",
            )

    @contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        """The file, if it is a regular one and no link: a store must not lead out of itself, nor hang on a pipe."""
        fd = os.open(self.root / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb", buffering=0) as file:
            yield file if stat.S_ISREG(os.fstat(fd).st_mode) else None

    @contextmanager
    def _errors(self, name: str, needed_bytes: int = 0) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
            if not needed_bytes:
                raise
            raise self._error(name, error, needed_bytes) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise FileNotFoundError(name) from error
            raise self._error(name, error, needed_bytes) from error

    def _error(self, name: str, error: OSError, needed_bytes: int) -> StoreError:
        got = error.strerror or str(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            free = self.free_bytes() or 0
            got += f", with {needed_bytes / 2**20:.1f} MiB to write and {free / 2**20:.1f} MiB free"
        return StoreError(
            self.root / name,
            expected="to be able to read and write the cache's files",
            got=got,
            fix="Check the disk's free space, quota and permissions, then run the same command again: "
            "what was committed is kept.",
        )


class RemoteFiles:
    """Everything under a URL, through fsspec."""

    def __init__(self, url: str) -> None:
        self.place = url.partition("?")[0].rstrip("/")
        self._url = url

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "_url": self._url}

    @property
    def _fs(self) -> tuple[Any, str]:
        found: tuple[Any, str] | None = self.__dict__.get("_opened")
        if found is None:
            found = self.__dict__["_opened"] = _open_url(self._url)
        return found

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        fs, root = self._fs
        with self._errors(name), suppress(FileNotFoundError):
            whole = start == 0 and stop is None
            return bytes(fs.cat_file(f"{root}/{name}", **({} if whole else {"start": start, "end": stop})))
        return None

    def blocks(self, name: str) -> Iterator[bytes]:
        whole = self.read(name)
        if whole:
            yield whole

    def stamp(self, name: str) -> object:
        return 0  # asking would cost a request for every chunk

    def replace(self, name: str, data: bytes) -> None:
        fs, root = self._fs
        with self._errors(name):
            fs.pipe_file(f"{root}/{name}", data)

    def create(self, name: str, data: bytes) -> bool:
        fs, root = self._fs
        with self._errors(name):
            try:
                fs.pipe_file(f"{root}/{name}", data, mode="create")
            except FileExistsError:
                return False
            return True

    def delete(self, name: str) -> None:
        fs, root = self._fs
        with self._errors(name), suppress(FileNotFoundError):
            fs.rm_file(f"{root}/{name}")

    def sizes(self, folder: str = "") -> dict[str, int]:
        fs, root = self._fs
        with self._errors(folder), suppress(FileNotFoundError):
            found = fs.find(f"{root}/{folder}".rstrip("/"), detail=True)
            return {path[len(root) :].lstrip("/"): int(about["size"]) for path, about in found.items()}
        return {}

    def sweep(self) -> None:
        pass  # an object appears whole or not at all

    def free_bytes(self) -> int | None:
        return None

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            refused = isinstance(error, PermissionError)
            raise StoreError(
                f"{self.place}/{name}",
                expected="the object store to answer",
                got=f"{type(error).__name__}: {_first_line(error)}",
                fix="Check the credentials and their rights to read, write and list."
                if refused
                else "Check the address and the network, then run the same command again: what was committed is kept.",
            ) from error


def open_files(place: str | Path) -> Files:
    """The files at a local path, or under a URL such as s3://bucket/clip.zarr.

    Raises
    ------
    StoreError
        Where fsspec cannot open the URL.
    """
    text = str(place)
    if "://" in text and not text.startswith("file://"):
        return RemoteFiles(text)
    return LocalFiles(Path(text.removeprefix("file://")))


def _open_url(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except (ImportError, ValueError) as error:
        kind = url.partition("://")[0]
        raise StoreError(
            url.partition("?")[0],
            expected="a folder, or a URL that fsspec can open",
            got=_first_line(error),
            fix="Install bddn[s3] for s3://." if kind == "s3" else f"Install fsspec's package for {kind}://.",
        ) from error
    return fs, root.rstrip("/")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
