"""Replace files atomically: write a temporary file, flush it, rename it. All files of this project are written so."""

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bddn.errors import BddnError
from bddn.files.paths import refuse_unexpanded

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

REFUSED = {errno.EINVAL, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR, errno.ENOSYS, errno.ENOTSUP}
"""Errors of file systems that do not support an operation, such as some network shares and container mounts."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a disk, a quota or a file that is full."""
FOR_OWNER = 0o600
"""Permissions of files that libraries such as safetensors make under another name and rename: their owner's alone."""
MAX_NAME_BYTES = 200  # of the original name inside a temporary file's name; file systems allow 255 bytes in all


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk. Ignore file systems that cannot flush a folder."""
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
    """Return the beginning of a file name, at most `MAX_NAME_BYTES` bytes, for use inside another name."""
    return os.fsencode(name)[:MAX_NAME_BYTES].decode(errors="ignore")


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, and flush the entry of each new folder.

    Of a link, its target is made, as on a scratch disk.
    """
    refuse_unexpanded(path)
    if not path.is_dir():
        real = Path(os.path.realpath(path))
        make_folder(real.parent)
        real.mkdir(exist_ok=True)
        fsync_path(real.parent)


def share(path: Path, mode: int) -> None:
    """Give a file that only its owner may read, because a library has made it so, the permissions `mode`.

    File systems without permissions are ignored.
    """
    if path.stat().st_mode & 0o777 == FOR_OWNER:
        with contextlib.suppress(OSError):
            path.chmod(mode)


@contextlib.contextmanager
def names_if_full(path: Path) -> Iterator[None]:
    """Name `path` in the error of a full disk, which itself names no file, or the file that was copied.

    Libraries in Rust, such as safetensors, have errors of their own, which contain the number of the system's error.
    NumPy's has the numbers of values that it could and could not write.
    """
    try:
        yield
    except BddnError:
        raise
    except Exception as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        number = int(told[1]) if told else getattr(error, "errno", None)
        if isinstance(error, OSError) and re.search(r"requested and \d+ written", str(error)):
            number = errno.ENOSPC
        if number not in FULL:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def replace_file(path: Path, write: Callable[[Path], object], aside: Path | None = None) -> None:
    """Let `write` fill a temporary file, then rename it to `path`.

    A reader sees either the old file or the whole new one. The temporary file is made in the folder `aside` (by default
    the folder of `path`), which must be on the same file system. It keeps the suffix of `path`, because some writers
    choose their format by it.
    """
    _fill_aside(path, write, lambda temporary: temporary.replace(path), aside)


def create_file(path: Path, data: bytes, aside: Path | None = None) -> bool:
    """Create a file, whole or not at all. Return False, and change nothing, if it exists already.

    On a file system without hard links, two processes that create the file at the same time may both get True.
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
    """Replace `path` by `text` in UTF-8, with the same line ends on every system."""
    data = text.encode("utf-8", "backslashreplace")  # it may contain file names that are not valid UTF-8
    replace_file(path, lambda aside: aside.write_bytes(data))


def write_table(path: Path, table: "pd.DataFrame", index: bool | None = None) -> None:
    """Replace `path` by a Parquet table. The path may be invalid UTF-8, which pyarrow itself refuses."""
    replace_file(path, lambda aside: aside.write_bytes(table.to_parquet(index=index)))


def write_csv(path: Path, table: "pd.DataFrame", *, index: bool = False, float_format: str | None = None) -> None:
    """Replace `path` by a CSV table, with the same line ends on every system."""
    replace_file(path, lambda aside: table.to_csv(aside, index=index, float_format=float_format, lineterminator="\n"))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON. NaN and infinity raise ValueError, because JSON has no such numbers."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or contains something else.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} in {path.name}")
    return found


def _fill_aside(path: Path, write: Callable[[Path], object], publish: Callable[[Path], T], aside: Path | None) -> T:
    for folder in (path.parent, aside or path.parent):
        make_folder(folder)
    temporary = _new_file(aside or path.parent, path)
    mode = temporary.stat().st_mode & 0o777  # as the umask says
    try:
        with names_if_full(path):
            write(temporary)
            share(temporary, mode)
            fsync_path(temporary)
        published = publish(temporary)
        fsync_path(path.parent)
        return published
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _new_file(folder: Path, path: Path) -> Path:
    """Create an empty file in `folder` with a unique name and the suffix of `path`; its permissions follow the umask.

    `tempfile` makes files that only their owner can read, and the umask cannot be read without setting it.
    """
    while True:
        new = folder / f".{shorten(path.stem)}-{secrets.token_hex(4)}{path.suffix}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return new
