"""Write aside, flush, rename: the one way this project replaces a file."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def fsync_path(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, and flush the entry of each that is new."""
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


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder aside, then put it in `path`'s place in one step: it appears whole or not at all.

    `path` must not exist or be empty. That its parent can be written to is known before any work is done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        aside = Path(folder) / "new"
        aside.mkdir()
        yield aside
        aside.rename(path)
    fsync_path(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8)."""
    replace_file(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON; NaN and infinity are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _fill_aside(path: Path, write: Callable[[Path], object], publish: Callable[[Path], T], aside: Path | None) -> T:
    for folder in (path.parent, aside or path.parent):
        make_folder(folder)
    fd, name = tempfile.mkstemp(dir=aside or path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(fd)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~UMASK)
        fsync_path(temporary)
        published = publish(temporary)
        fsync_path(path.parent)
        return published
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


UMASK = _umask()  # read once: reading it means setting it, for all threads
