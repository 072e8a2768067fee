"""Where results go: what can be known of an --out before any work, and folders that appear whole or not at all.

A new folder is filled aside, beside its place, and put there by one rename. A folder that is there already, such as a
mount point, what a link leads to, or the working directory, cannot be replaced: it is filled inside. Its files are
first gathered in `.bddn-publishing`, then moved to their places one by one, and last the one by which readers know that
the folder is whole. Where a process is killed between two of them, the next one moves the rest.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bddn.errors import OutputError
from bddn.files import atomic
from bddn.files.paths import refuse_unexpanded

HIDDEN = ".bddn-"  # what begins so belongs to a process of bddn
PUBLISHING = f"{HIDDEN}publishing"
FOREIGN = {"lost+found"}  # in the root of some file systems
TAKEN = {errno.ENOTEMPTY, errno.EEXIST}


def check_folder(path: Path, option: str = "--out") -> None:
    """Refuse a folder in which no files can be made, before the work whose results it is for.

    Nothing is left behind, not even missing parents.

    Raises
    ------
    OutputError
        Naming the option that the folder was given by.
    """
    with _trial(path, option) as trial:
        trial.mkdir(parents=True, exist_ok=True)
        (trial / f"{HIDDEN}trial").touch()


def check_file(path: Path, option: str = "--out") -> Path:
    """Refuse a file that cannot be written, before the work whose result it is for.

    Returns
    -------
    Path
        The same file, links followed: replacing a link would leave what it leads to as it was.

    Raises
    ------
    OutputError
        Naming the option that the file was given by.
    """
    real = _real(path)
    with _trial(real.parent, option, path) as trial:
        if real.exists() and not real.is_file():
            kind = "a folder" if real.is_dir() else "a device or a pipe"
            raise OutputError(f"{option} {path}", expected="a file", got=kind, fix=f"Give another {option}.")
        trial.mkdir(parents=True, exist_ok=True)
        tried = trial / real.name
        if not tried.exists():
            tried.touch()
            tried.unlink()
        (trial / f"{HIDDEN}trial").touch()
    return real


def is_vacant(path: Path, last: str, option: str = "--out") -> bool:
    """Whether a new folder may be put at `path`: there is nothing, or a folder that is empty but for files of bddn.

    What a killed process had begun to put there is finished first; `last` as in `new_folder`.

    Raises
    ------
    OutputError
        Where there is a file, or what cannot be looked into.
    """
    real = _real(path)
    with _named(path, option):
        _publish(real, last)
        try:
            return all(name.startswith(HIDDEN) or name in FOREIGN for name in os.listdir(real))  # noqa: PTH208
        except FileNotFoundError:
            return True


def hidden_folder(path: Path, label: str) -> Path:
    """Where unfinished work on a future folder lies: inside it where it is there already, else beside it."""
    real = _real(path)
    return real / f"{HIDDEN}{label}" if real.is_dir() else real.with_name(f".{atomic.shorten(real.name)}-{label}")


@contextlib.contextmanager
def new_folder(path: Path, last: str) -> Iterator[Path]:
    """Fill a folder aside, then put it in `path`'s place: it appears whole or not at all.

    Parameters
    ----------
    path : Path
        What is not there yet, or an empty folder, also by a link. That it can be written is known before any work.
    last : str
        The file by which readers know that the folder is whole.

    Raises
    ------
    FileExistsError
        Where something else was put there meanwhile, which is left as it is.
    """
    real = _real(path)
    inside = real.is_dir()
    if not inside:
        atomic.make_folder(real.parent)
    where, prefix = (real, HIDDEN) if inside else (real.parent, f".{atomic.shorten(real.name)}-")
    with tempfile.TemporaryDirectory(dir=where, prefix=prefix) as folder:
        aside = Path(folder) / "new"
        aside.mkdir()
        yield aside
        try:
            aside.rename(real / PUBLISHING if inside else real)
        except OSError as error:
            if error.errno not in TAKEN:
                raise
            _publish(real, last)
            raise FileExistsError(errno.EEXIST, "not empty any more", str(path)) from error
        if inside and not _publish(real, last):
            (real / PUBLISHING).rename(aside)
            raise FileExistsError(errno.EEXIST, "not empty any more", str(path))
    if not inside:
        atomic.fsync_path(real.parent)


def _publish(folder: Path, last: str) -> bool:
    """Move what was gathered to its place, in as many steps as there are files; several processes may do so at once.

    False where the folder is whole already and what was gathered is another one.
    """
    gathered = folder / PUBLISHING
    try:
        names = os.listdir(gathered)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return True
    if names and (folder / last).exists():
        return False
    for name in sorted(names, key=lambda name: (name == last, name)):
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            (gathered / name).rename(folder / name)
    with contextlib.suppress(OSError):
        gathered.rmdir()
    atomic.fsync_path(folder)
    return True


def _real(path: Path) -> Path:
    """The absolute path, links followed, of what need not be there."""
    refuse_unexpanded(path)
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def _trial(folder: Path, option: str, shown: Path | None = None) -> Iterator[Path]:
    """A folder to try things in: this one, or where it is not there yet one like it in its first parent that is."""
    real, trial = _real(folder), None
    with _named(shown or folder, option):
        there = next(parent for parent in (real, *real.parents) if os.path.lexists(parent))
        before = there.stat()
        try:
            trial = Path(tempfile.mkdtemp(prefix=HIDDEN, dir=there))
            yield trial / real.relative_to(there)
        finally:
            if trial is not None:
                shutil.rmtree(trial, ignore_errors=True)
                with contextlib.suppress(OSError):
                    os.utime(there, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextlib.contextmanager
def _named(path: Path, option: str) -> Iterator[None]:
    """Make an error of the file system one that names the option."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{option} {path}",
            expected="a place where this user can write",
            got=error.strerror or str(error),
            fix=f"Give another {option}, or check what is there, its permissions and the free space.",
        ) from error
