"""Write aside, flush, rename: the one way this project replaces a file."""

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bddn.files.paths import refuse_unexpanded

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

REFUSED = {errno.EINVAL, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP}
"""What file systems answer that do not offer an operation, such as some network shares and mounts of containers."""
MAX_NAME_BYTES = 200  # of a file's name within that of a temporary one; file systems allow 255 bytes in all


def fsync_path(path: Path) -> None:
    """Flush a file or a folder's entries to the disk. A file system that cannot flush a folder is left alone."""
    is_folder = path.is_dir()
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if not is_folder or error.errno not in REFUSED:
            raise


def shorten(name: str) -> str:
    """The beginning of a file's name, short enough to be a part of another one."""
    return os.fsencode(name)[:MAX_NAME_BYTES].decode(errors="ignore")


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, and flush the entry of each that is new."""
    refuse_unexpanded(path)
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync_path(path.parent)


def replace_file(path: Path, write: Callable[[Path], object], aside: Path | None = None) -> None:
    """Let `write` fill a temporary file, then put it in `path`'s place in one step.

    A reader sees the old file or the new one, never a half. The temporary file lies in the folder `aside` (by default
    beside `path`) on the same file system, and keeps `path`'s suffix, since some writers choose their format by it.
    """
    _fill_aside(path, write, lambda temporary: temporary.replace(path), aside)


def create_file(path: Path, data: bytes, aside: Path | None = None) -> bool:
    """Make a new file, whole or not at all. False where there is one already, which is left as it is.

    Where the file system has no hard links, two that create at once may both be told True.
    """

    def link(temporary: Path) -> bool:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            if path.exists():
                return False
            temporary.replace(path)
        return True

    return _fill_aside(path, lambda temporary: temporary.write_bytes(data), link, aside)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, in UTF-8 with lines that end alike everywhere."""
    data = text.encode("utf-8", "backslashreplace")  # parts of it may be names in no valid encoding
    replace_file(path, lambda aside: aside.write_bytes(data))


def write_table(path: Path, table: "pd.DataFrame", index: bool | None = None) -> None:
    """Replace `path` by a table in the format Parquet; its name may be in no valid encoding, which pyarrow refuses."""
    replace_file(path, lambda aside: aside.write_bytes(table.to_parquet(index=index)))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON; NaN and infinity are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _fill_aside(path: Path, write: Callable[[Path], object], publish: Callable[[Path], T], aside: Path | None) -> T:
    for folder in (path.parent, aside or path.parent):
        make_folder(folder)
    temporary = _new_file(aside or path.parent, path)
    try:
        write(temporary)
        fsync_path(temporary)
        published = publish(temporary)
        fsync_path(path.parent)
        return published
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _new_file(folder: Path, path: Path) -> Path:
    """An empty file in `folder` with the suffix of `path` and a name of its own, as readable as the umask lets it be.

    `tempfile` makes files that no other user can read, and the umask cannot be asked for without setting it.
    """
    while True:
        new = folder / f".{shorten(path.stem)}-{secrets.token_hex(4)}{path.suffix}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return new
