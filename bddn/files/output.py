"""Check an output path before any work, and create output folders that appear whole or not at all.

A new folder is filled under a temporary name beside its path and then renamed. An existing folder, such as a mount
point, the target of a link, or the working directory, cannot be replaced, so it is filled from inside. Its files are
collected in `.bddn-publishing`, then moved one by one; the file that marks the folder as complete is moved last. If a
process is killed between two moves, the next process moves the rest.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bddn.errors import BddnError, OutputError, RunError
from bddn.files import atomic
from bddn.files.paths import is_left_by_system, refuse_unexpanded

HIDDEN = ".bddn-"  # prefix of the working files of bddn
PUBLISHING = f"{HIDDEN}publishing"
NOT_EMPTY = {errno.ENOTEMPTY, errno.EEXIST}


def check_folder(path: Path, option: str = "--out") -> None:
    """Check, before the work, that files can be made in an output folder. Leave nothing behind.

    Raises
    ------
    OutputError
        If no file can be made there. The message names the option.
    """
    with _trial(path, option) as trial:
        trial.mkdir(parents=True, exist_ok=True)
        (trial / f"{HIDDEN}trial").touch()


def check_file(path: Path) -> Path:
    """Check, before the work, that an output file can be written.

    Returns
    -------
    Path
        The path with links resolved, because replacing a link would not change its target.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    real = _real(path)
    with _trial(real.parent, "--out", path) as trial:
        if real.exists() and not real.is_file():
            kind = "a folder" if real.is_dir() else "a device or a pipe"
            raise OutputError(f"--out {path}", expected="a file", got=kind, fix="Give another --out.")
        trial.mkdir(parents=True, exist_ok=True)
        tried = trial / real.name
        if not tried.exists():
            tried.touch()
            tried.unlink()
        (trial / f"{HIDDEN}trial").touch()
    return real


def is_vacant(path: Path, last: str, option: str = "--out") -> bool:
    """Return whether `path` is free for a new folder: it does not exist, or it holds only working files of bddn.

    If a killed process had begun to move results there, finish that first. For `last` see `new_folder`.

    Raises
    ------
    OutputError
        If `path` is a file, or a folder that cannot be listed.
    """
    real = _real(path)
    with _named(path, option):
        _publish(real, last)
        try:
            return all(name.startswith(HIDDEN) or is_left_by_system(name) for name in os.listdir(real))  # noqa: PTH208
        except FileNotFoundError:
            return True


def check_new_or_result(path: Path, last: str, occupied: Callable[[], BddnError]) -> None:
    """Check, before the work, an output folder that may contain an earlier result, which has the file `last`.

    Parameters
    ----------
    path : Path
    last : str
        See `new_folder`.
    occupied : function
        Returns the error for a folder with other files.

    Raises
    ------
    OutputError
        If it is free, but no file can be made there.
    BddnError
        That of `occupied`.
    """
    if is_vacant(path, last):
        check_folder(path)
    elif not (path / last).is_file():
        raise occupied()


def occupied(path: Path, got: str, mine: str, fix: str = "Nothing was written. Give another --out.") -> RunError:
    """Return the error of an output folder that contains something else than an earlier result, `mine`."""
    return RunError(path, expected=f"a new or empty folder, or {mine}", got=got, fix=fix)


def hidden_folder(path: Path, label: str) -> Path:
    """Return the folder for unfinished work on `path`: inside it if it exists, else beside it."""
    real = _real(path)
    return real / f"{HIDDEN}{label}" if real.is_dir() else real.with_name(f".{atomic.shorten(real.name)}-{label}")


@contextlib.contextmanager
def new_folder(path: Path, last: str) -> Iterator[Path]:
    """Yield a temporary folder, and move it to `path` at the end: `path` appears whole or not at all.

    Parameters
    ----------
    path : Path
        A path that does not exist, or an empty folder or a link to one. `check_folder` has checked it.
    last : str
        The file that marks the folder as complete.

    Raises
    ------
    FileExistsError
        If another process has put other files there meanwhile; they are not changed.
    """
    real = _real(path)
    inside = real.is_dir()
    if not inside:
        atomic.make_folder(real.parent)
    where, prefix = (real, HIDDEN) if inside else (real.parent, f".{atomic.shorten(real.name)}-")
    with tempfile.TemporaryDirectory(dir=where, prefix=prefix) as folder:
        aside = Path(folder) / "new"
        aside.mkdir()
        with atomic.names_if_full(path):
            yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                atomic.share(file, aside.stat().st_mode & 0o666)
        try:
            aside.rename(real / PUBLISHING if inside else real)
        except OSError as error:
            if error.errno not in NOT_EMPTY:
                raise
            _publish(real, last)
            raise FileExistsError(errno.EEXIST, "no longer empty", str(path)) from error
        if inside and not _publish(real, last):
            (real / PUBLISHING).rename(aside)
            raise FileExistsError(errno.EEXIST, "no longer empty", str(path))
    if not inside:
        atomic.fsync_path(real.parent)


def _publish(folder: Path, last: str) -> bool:
    """Move the collected files into `folder`, one by one. Several processes may do this at the same time.

    Return False if the folder is complete already and the collected files belong to another result.
    """
    gathered = folder / PUBLISHING
    try:
        names = os.listdir(gathered)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return True
    if names and (folder / last).exists():
        return False
    for name in sorted(names, key=lambda name: (name == last, name)):
        with contextlib.suppress(FileNotFoundError):  # another process has moved it
            (gathered / name).rename(folder / name)
    with contextlib.suppress(OSError):
        gathered.rmdir()
    atomic.fsync_path(folder)
    return True


def _real(path: Path) -> Path:
    """Return the absolute path with links resolved; it need not exist."""
    refuse_unexpanded(path)
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def _trial(folder: Path, option: str, shown: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder for trial writes, in `folder` or, if that does not exist, in its nearest parent."""
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
    """Convert errors of the file system to an `OutputError` that names the option."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{option} {path}",
            expected="a path that this user can write to",
            got=error.strerror or str(error),
            fix=f"Give another {option}, or check its permissions and the free space.",
        ) from error
