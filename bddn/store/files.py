"""The files of a store, in a folder or under any URL that fsspec knows: read, replace, create, delete, list.

Every name is relative to the store, with '/' between its parts. What can go wrong with a disk or a network becomes a
`StoreError`; a file that is not there is None, never an empty one.
"""

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bddn import atomic
from bddn.errors import StoreError

T = TypeVar("T")

FIRST = "manifest/header.json"  # the first file of a store: where it is missing, there is none
ASIDE = "manifest/aside"  # temporary files of a local store lie here, and are swept when it is sealed
BLOCK_BYTES = 1 << 24
LIMIT_S = 60.0  # for one request to an object store, with all its repetitions
SLOWEST_BYTES = 1 << 18  # per second, of a write
MAX_WORDS = 300  # of an error of an object store
S3 = {"s3", "s3a"}

_USER = re.compile(r"(?<=://)(?!arn:)(?:[^/@:]*:.*@|[^/]*@)")  # user and password of a URL, even with '/' in them
_ONE_SLASH = re.compile(r"^([a-z][a-z0-9+.-]+:)/(?!/)")


class Files(Protocol):
    """What a store needs of a file system."""

    @property
    def place(self) -> str:
        """How the user named it, for messages."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Bytes `start` to `stop` of a file; None where there is no such file."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, in order, in blocks of bounded size; nothing where there is no such file."""

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

    def sizes(self, folder: str = "") -> dict[str, int]:
        found: dict[str, int] = {}
        with self._errors(folder):
            for where, _, names in os.walk(self.root / folder, onerror=_unless_gone):
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
        with self._errors(""):
            return shutil.disk_usage(there).free

    def _check_there(self, name: str) -> None:
        """A store that went away, with its mount perhaps, must not come back as a few files in an empty folder."""
        if not (self.root / FIRST).is_file():
            raise StoreError(
                self.root,
                expected=f"the cache to be where it was, to write {name}",
                got="no such folder any more",
                fix="Bring the folder or its mount back and run the same command again.",
            )

    @contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        """The file, if it is a regular one and no link: a store must not lead out of itself, nor hang on a pipe."""
        try:
            fd = os.open(self.root / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            yield None
            return
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            yield None
            return
        with os.fdopen(fd, "rb", buffering=0) as file:
            yield file

    @contextmanager
    def _errors(self, name: str, needed_bytes: int = 0) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
            if not needed_bytes:
                raise
            raise self._error(name, error, needed_bytes) from error
        except OSError as error:
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
    """Everything under a URL, through fsspec. Credentials and endpoint come from its configuration or the environment.

    A file is put whole or not at all, as object stores do. The file system repeats requests that fail; one that has no
    answer within `LIMIT_S` is given up, where a write has a second more for each `SLOWEST_BYTES`.
    """

    def __init__(self, url: str) -> None:
        self.place = _USER.sub("***@", url).partition("?")[0].rstrip("/")
        self._url = url
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "_url": self._url, "_opened": None}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        with suppress(FileNotFoundError):
            return b"".join(self._ranges(name, start, stop))
        return None

    def blocks(self, name: str) -> Iterator[bytes]:
        with suppress(FileNotFoundError):
            yield from filter(None, self._ranges(name, 0, None))

    def replace(self, name: str, data: bytes) -> None:
        self._put(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Make a new file in one step. False where there is one already, with other bytes.

        The store decides between several at once, if it knows conditional writes; else two may both be told True.
        """
        if self.read(name, 0, 1) is not None:
            return False
        for wait_s in (0.2, 0.4, 0.8, 1.6, None):
            try:
                self._put(name, data, mode="create")
            except FileExistsError:  # perhaps by this very request, when its first answer was lost
                return self.read(name) == data
            except StoreError as error:
                code = _code(error.__cause__)
                if code in {"NotImplemented", "501"}:
                    self._put(name, data)
                elif wait_s is None or code not in {"ConditionalRequestConflict", "409"}:
                    raise
                else:
                    time.sleep(wait_s)
                    continue
            return True
        raise AssertionError

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._call("rm_file", name)

    def sizes(self, folder: str = "") -> dict[str, int]:
        found: dict[str, dict[str, Any]] = {}
        with suppress(FileNotFoundError):
            found = self._call("find", folder, detail=True)
        root = self._open()[1]
        names = {path.removeprefix(root).lstrip("/"): about for path, about in found.items()}
        return {  # some tools make empty objects like 'folder/', to show folders
            name: int(about["size"])
            for name, about in names.items()
            if name and not name.endswith("/") and about.get("type", "file") == "file"
        }

    def sweep(self) -> None:
        pass  # an object appears whole or not at all

    def free_bytes(self) -> int | None:
        return None

    def _ranges(self, name: str, start: int, stop: int | None) -> Iterator[bytes]:
        """Bytes `start` to `stop` in blocks, each asked for by itself: a short answer can never be filled up."""
        end = min(start + BLOCK_BYTES, start + BLOCK_BYTES if stop is None else stop)
        block = self._range(name, start, end)
        yield block
        if len(block) == BLOCK_BYTES and end != stop:
            size = int(self._call("info", name)["size"])
            stop = size if stop is None else min(stop, size)
            for begin in range(end, stop, BLOCK_BYTES):
                yield self._range(name, begin, min(begin + BLOCK_BYTES, stop))

    def _range(self, name: str, start: int, stop: int) -> bytes:
        if start >= stop:
            return b""
        try:
            return bytes(self._call("cat_file", name, start=start, end=stop))
        except StoreError as error:
            if _code(error.__cause__) in {"InvalidRange", "416"}:  # it ends before `start`
                return b""
            raise

    def _put(self, name: str, data: bytes, **options: Any) -> None:
        try:
            self._call("pipe_file", name, data, **options)
        except FileNotFoundError as error:
            raise self._error(name, error, 0) from None

    def _call(self, method: str, name: str, *args: Any, **options: Any) -> Any:
        """What a method of the file system answers.

        Raises
        ------
        FileNotFoundError, FileExistsError
            Of this very file.
        StoreError
            Anything else.
        """
        fs, root = self._open()
        limit_s = LIMIT_S + sum(len(data) for data in args) / SLOWEST_BYTES
        if fs.async_impl:
            options["timeout"] = limit_s
        try:
            if method in {"find", "info"}:
                fs.invalidate_cache()
            return getattr(fs, method)(f"{root}/{name}".rstrip("/"), *args, **options)
        except Exception as error:
            code = _code(error)
            if isinstance(error, FileExistsError) or code in {"PreconditionFailed", "412"}:
                raise FileExistsError(name) from None
            if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
                raise
            shown = _USER.search(self._url) is None
            raise self._error(name, error, limit_s) from (error if shown else None)

    def _error(self, name: str, error: Exception, limit_s: float) -> StoreError:
        kind, code, got = type(error).__name__, _code(error), self._words(error)
        fix = "Check the address and the network, then run the same command again: what was committed is kept."
        if isinstance(error, FileNotFoundError):
            got, fix = "no such bucket", "Create the bucket, or correct the address."
        elif isinstance(error, PermissionError) or any(
            word in kind + code for word in ("Credential", "Profile", "Token", "SSO")
        ):
            fix = (
                "Check the credentials, for s3:// AWS_ACCESS_KEY_ID and so on or a profile, and their rights "
                "to list, read, write and delete there."
            )
        elif isinstance(error, TimeoutError):
            got = f"no answer within {limit_s:.0f} s"
        return StoreError(f"{self.place}/{name}".rstrip("/"), expected="the object store to do it", got=got, fix=fix)

    def _words(self, error: Exception) -> str:
        kind, text = type(error).__name__, _USER.sub("***@", " ".join(str(error).split()))[:MAX_WORDS]
        return kind if _USER.search(self._url) else f"{kind}: {text}"  # the text may repeat a part of a password

    def _open(self) -> tuple[Any, str]:
        """fsspec's file system and the path in it; opened once in every process, since a fork breaks it."""
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec

            kind = self._url.partition("://")[0]
            try:
                fs, root = fsspec.core.url_to_fs(self._url, skip_instance_cache=True)
            except Exception as error:  # noqa: BLE001 - whatever a package of fsspec's raises
                fix = f"Install fsspec's package for {kind}://." if kind not in S3 else "Install bddn[s3] for s3://."
                raise StoreError(
                    self.place,
                    expected="a folder, or a URL that fsspec can open",
                    got=self._words(error),
                    fix=fix if isinstance(error, ImportError) else "Correct the URL, or fsspec's configuration.",
                ) from None
            self._opened = os.getpid(), fs, root.rstrip("/")
        return self._opened[1:]


def open_files(place: str | Path) -> Files:
    """The files at a local path, or under a URL such as s3://bucket/clip.zarr.

    Raises
    ------
    StoreError
        Where the URL has credentials or a query in it.
    """
    text = str(place)
    if isinstance(place, Path):  # a path has lost a slash of s3://
        text = _ONE_SLASH.sub(r"\1//", text)
    kind, is_url, rest = text.partition("://")
    if not is_url or kind in {"file", "local"}:
        return LocalFiles(Path(rest or text))
    files = RemoteFiles(text)
    if "?" in text or (kind in S3 and _USER.search(text)):
        raise StoreError(
            files.place,
            expected="a URL without a user, a password or a query",
            got="one with them",
            fix="Give credentials by the environment, for s3:// as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    return files


def _code(error: BaseException | None) -> str:
    """S3's name for an error, or its HTTP status; empty where there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def _twice(put: Callable[[], T]) -> T:
    """Once more where another process sealed the store meanwhile, and swept the folder of temporary files."""
    try:
        return put()
    except FileNotFoundError:
        return put()


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
