"""Download one file: continue a partial download, check the hash, and only then give the file its name."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bddn.errors import BackboneError
from bddn.files.atomic import fsync_path, make_folder

PART = ".part"  # suffix of a partial download


@dataclass(frozen=True)
class Digest:
    """The known hash of a file.

    Attributes
    ----------
    begins : str
        Its first digits, or all, in hexadecimal.
    source : str
        Where the hash is from, for messages.
    git : bool
        Whether it is git's SHA-1 of a blob; otherwise it is a SHA-256. The hub has the SHA-256 of large files only.
    """

    begins: str
    source: str
    git: bool = False

    def __str__(self) -> str:
        return f"{'git SHA-1' if self.git else 'SHA-256'} that begins with {self.begins}, as {self.source} says"

    def of(self, path: Path) -> str:
        """Return the hash of a file, all digits."""
        with path.open("rb") as file:
            if not self.git:
                return hashlib.file_digest(file, "sha256").hexdigest()
            begun = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
            return hashlib.file_digest(file, lambda: begun).hexdigest()


def download(
    url: str, path: Path, digest: Digest | None, *, size: int | None = None, headers: Mapping[str, str] | None = None
) -> None:
    """Download a file. A lost connection is continued, and so is a partial download that an earlier process left.

    A partial download is kept only if the hash of the file is known: nothing else could say afterwards that its parts
    belong together. Processes that download the same file at the same time do so one after the other, and only the
    first one has to.

    Parameters
    ----------
    url : str
        Address, http or https.
    path : Path
        Where the file will be. The partial download lies beside it.
    digest : Digest, optional
        Its hash, if known.
    size : int, optional
        Its size in bytes, if known; otherwise the server says it.
    headers : mapping of str to str, optional
        Of the request. A redirect to another host does not get `authorization`.

    Raises
    ------
    BackboneError
        If the file has another hash.
    OSError, huggingface_hub.errors.HfHubHTTPError, or an error of the HTTP library
        If the disk or the server refuses, or the connection is lost for good.
    """
    make_folder(path.parent)
    part = path.with_name(path.name + PART)
    with part.open("ab") as file:
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if path.is_file():  # another process has completed it while this one waited
                return
            if digest is None or (size is not None and _end(file) > size):
                _empty(file)
            _receive(url, file, size, {**(headers or {}), "accept-encoding": "identity"}, path.name)
            file.flush()
            fsync_path(part)
            if digest is not None and not (found := digest.of(part)).startswith(digest.begins):
                _empty(file)
                raise BackboneError(
                    url,
                    expected=f"a file of {digest}",
                    got=found,
                    fix="Run 'bddn fetch' again; if it fails again, do not use this address. Nothing was kept.",
                )
            part.replace(path)
            fsync_path(path.parent)
        finally:
            with contextlib.suppress(OSError):  # of a full disk
                file.flush()
            if part.is_file() and (digest is None or not part.stat().st_size):
                part.unlink()


def _receive(url: str, file: BinaryIO, size: int | None, headers: dict[str, str], name: str) -> None:
    """Append to a partial download what it lacks."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    try:
        http_get(url, file, resume_size=_end(file), headers=headers, expected_size=size, displayed_filename=name)
    except HfHubHTTPError as error:
        if error.response.status_code != 416 or not _end(file):
            raise
        _empty(file)  # because the server says that it is not shorter than the file
        http_get(url, file, headers=headers, expected_size=size, displayed_filename=name)


def _end(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _empty(file: BinaryIO) -> None:
    file.truncate(0)
    file.seek(0)
