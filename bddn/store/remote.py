"""The files of a store under any URL that fsspec knows, S3 first of all; and which kind of files a place has."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from bddn.errors import StoreError
from bddn.files.paths import expand_home
from bddn.store.files import BLOCK_BYTES, Files, LocalFiles

LIMIT_S = 60.0  # for one request to an object store, with all its repetitions
SLOWEST_BYTES = 1 << 18  # per second, of a write
MAX_WORDS = 300  # of an error of an object store
DELETED_AT_ONCE = 1000  # as S3 allows
S3 = {"s3", "s3a"}

_USER = re.compile(r"(?<=://)(?!arn:)(?:[^/@:]*:.*@|[^/]*@)")  # user and password of a URL, even with '/' in them
_ONE_SLASH = re.compile(r"^([a-z][a-z0-9+.-]+:)/(?!/)")


class RemoteFiles:
    """Everything under a URL, through fsspec. Credentials and endpoint come from its configuration or the environment.

    A file is put whole or not at all, as object stores do. The file system repeats requests that fail; one that has no
    answer within `LIMIT_S` is given up, where a write has a second more for each `SLOWEST_BYTES`.
    """

    at_once = 16  # requests are waited for, so that more of them take no longer

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

    def read_into(self, name: str, start: int, memory: Sequence[memoryview]) -> tuple[int, object | None]:
        data, at = self.read(name, start, start + sum(map(len, memory))) or b"", 0
        for piece in memory:
            part = data[at : at + len(piece)]
            piece[: len(part)] = part
            at += len(piece)
        return len(data), None

    def blocks(self, name: str) -> Iterator[bytes]:
        with suppress(FileNotFoundError):
            yield from filter(None, self._ranges(name, 0, None))

    def stamp(self, name: str) -> object | None:
        return None

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

    def delete_all(self, names: Sequence[str]) -> None:
        if self._open()[0].async_impl and not set("*?[") & set(self._url):  # others would take them for patterns
            for first in range(0, len(names), DELETED_AT_ONCE):
                with suppress(StoreError, FileNotFoundError):  # not every server can; s3fs does not tell
                    self._call("rm", names[first : first + DELETED_AT_ONCE])
            folders = {name.rpartition("/")[0] for name in names}
            there = {name for folder in folders for name in self.sizes(folder)}
            names = [name for name in names if name in there]
        with ThreadPoolExecutor(self.at_once) as pool:
            list(pool.map(self.delete, names))

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
        """Yield the bytes `start` to `stop` in blocks, each with its own request, so that a short answer is noticed."""
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

    def _call(self, method: str, name: str | Sequence[str], *args: Any, **options: Any) -> Any:
        """Call a method of the file system for one file, or many, and return its result.

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
            path = f"{root}/{name}".rstrip("/") if isinstance(name, str) else [f"{root}/{one}" for one in name]
            return getattr(fs, method)(path, *args, **options)
        except Exception as error:
            code, name = _code(error), name if isinstance(name, str) else name[0]
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
        """Return the fsspec file system and the path in it. Each process opens its own, because a fork breaks it."""
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
    """Return the files at a local path, or under a URL such as s3://bucket/clip.zarr.

    Raises
    ------
    StoreError
        If the URL has credentials or a query in it.
    """
    text = str(place)
    if isinstance(place, Path):  # a path has lost a slash of s3://
        text = _ONE_SLASH.sub(r"\1//", text)
    kind, is_url, rest = text.partition("://")
    if not is_url or kind in {"file", "local"}:
        return LocalFiles(Path(expand_home(rest or text)))
    files = RemoteFiles(text)
    if "?" in text or (kind in S3 and _USER.search(text)):
        raise StoreError(
            files.place,
            expected="a URL without a user, a password or a query",
            got="one with them",
            fix="Give credentials in environment variables, for s3:// as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    return files


def _code(error: BaseException | None) -> str:
    """Return the S3 code of an error, or its HTTP status; '' if it has none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""
