"""What a file really is, where it is not what its name says: for error messages that name the true cause.

Data sets and weights reach people through downloads, Git LFS, git-annex (DataLad) and archives. Each of them can leave
something else under the name of a file. The libraries that then fail to read it only report that the content is wrong.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HEAD_BYTES = 1024  # of a file, enough to know its kind
ANNEX = "annex/objects/"  # in every key of git-annex


@dataclass(frozen=True)
class FileKind:
    """A kind of file: `name` as a noun in an error message, and the next step, '' where no step is known."""

    name: str
    fix: str = ""


GET = "Run 'git annex get' (or 'datalad get') on it, then the same command again."
DOWNLOAD = "Download the file again; look at its content in a text editor to see the message of the server."
UNPACK = "Unpack it, and give the unpacked file."

MISSING = FileKind("no such file")
EMPTY = FileKind("an empty file (0 bytes)", "Download or copy the file again.")
ZEROS = FileKind("a file that begins with zeros, as an interrupted copy leaves it", "Download or copy the file again.")
FOLDER = FileKind("a folder")
SPECIAL = FileKind("no regular file (a pipe, socket or device)")
LFS = FileKind("a Git LFS pointer, not the content", "Run 'git lfs pull' in its repository, then the same command.")
ANNEX_POINTER = FileKind("a git-annex pointer, not the content", GET)
ANNEX_LINK = FileKind("a git-annex link whose content is not on this machine", GET)
NPY = FileKind("a NumPy .npy file")
NPY_OBJECTS = FileKind(
    "a NumPy file of Python objects (a pickle)",
    "Save the numbers alone: numpy.save of an array whose dtype is a number.",
)
SAFETENSORS = FileKind("a safetensors file")
TORCH = FileKind("a PyTorch file of torch.save")
PICKLE = FileKind("a Python pickle")
PARQUET = FileKind("a Parquet table")
IMAGE = FileKind("an image")

_STARTS: tuple[tuple[bytes, FileKind], ...] = (
    (b"version https://git-lfs.github.com/spec/", LFS),
    (b"/" + ANNEX.encode(), ANNEX_POINTER),
    (b"\x1f\x8b", FileKind("a gzip archive", UNPACK)),
    (b"BZh", FileKind("a bzip2 archive", UNPACK)),
    (b"\xfd7zXZ\x00", FileKind("an xz archive", UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind("a Zstandard archive", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7-Zip archive", UNPACK)),
    (b"Rar!", FileKind("a RAR archive", UNPACK)),
    (b"\x89HDF\r\n", FileKind("an HDF5 file (as MATLAB 7.3 and Keras write it)")),
    (b"MATLAB 5.0 MAT-file", FileKind("a MATLAB file")),
    (b"PAR1", PARQUET),
    (b"%PDF", FileKind("a PDF document")),
    (b"\x89PNG\r\n\x1a\n", IMAGE),
    (b"\xff\xd8\xff", IMAGE),
    (b"GIF8", IMAGE),
)
_BY_SUFFIX = {".safetensors": (SAFETENSORS,), ".bin": (TORCH, PICKLE), ".parquet": (PARQUET,)}
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")


def kind_of_bytes(head: bytes) -> FileKind | None:
    """The kind of a file by its first `HEAD_BYTES` bytes; None where they tell nothing."""
    if not head:
        return EMPTY
    if len(head) >= HEAD_BYTES and not any(head):
        return ZEROS
    starting = next((kind for start, kind in _STARTS if head.startswith(start)), None)
    return starting or _of_arrays(head) or _of_archive(head) or _of_page(head)


def _of_arrays(head: bytes) -> FileKind | None:
    if head.startswith(b"\x93NUMPY"):
        return NPY_OBJECTS if b"'descr': '|O'" in head or b"'descr': 'O'" in head else NPY
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 27:
        return SAFETENSORS
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    return None


def _of_archive(head: bytes) -> FileKind | None:
    if head.startswith(b"PK\x03\x04"):
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        if first.endswith(b".npy"):
            return FileKind("a NumPy .npz archive", "Save the array alone with numpy.save.")
        return TORCH if first.endswith((b"/data.pkl", b"/.format_version")) else FileKind("a ZIP archive", UNPACK)
    return FileKind("a tar archive", UNPACK) if head[257:262] == b"ustar" else None


def _of_page(head: bytes) -> FileKind | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGES) or (text.startswith(b"<?xml") and b"<html" in text):
        return FileKind("an HTML page, perhaps the error or login page of a server", DOWNLOAD)
    if text.startswith(b"<?xml") and b"<error>" in text:
        return FileKind("an XML error message of a server", DOWNLOAD)
    return None


def is_listed(path: Path) -> bool:
    """Whether a folder lists this name, also where it is a link that leads nowhere: that is damage, not absence."""
    return os.path.lexists(path)


def link_kind(path: Path) -> FileKind | None:
    """The kind of a link: one of git-annex, or one that leads nowhere; None where `path` is no such link."""
    try:
        target = str(path.readlink())
    except OSError:
        return None
    annexed = ANNEX in target.replace("\\", "/")
    if not path.exists():
        return ANNEX_LINK if annexed else FileKind(f"a link to {target}, which does not exist", "Restore its target.")
    if annexed:
        return FileKind("a git-annex link in place of the file", "Run 'git annex unlock' on it.")
    return FileKind(f"a link to {target}")


def kind_of(path: Path) -> FileKind | None:
    """What lies at `path`; None where it is a regular file that says nothing of its kind, or cannot be read."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return FOLDER
        if not stat.S_ISREG(status.st_mode):
            return SPECIAL
        with path.open("rb") as file:
            return kind_of_bytes(file.read(HEAD_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return link_kind(path) or MISSING
    except (OSError, ValueError):  # a name with a null byte
        return None


def explain(path: Path, got: str, fix: str, *own: FileKind) -> tuple[str, str]:
    """The true cause of a file that could not be read, and the next step.

    Parameters
    ----------
    path : Path
    got, fix : str
        What to say where the file's content tells nothing better.
    own : FileKind
        The kinds that the file should have had: these explain nothing.
    """
    return _explained(kind_of(path), got, fix, own)


def explain_folder(folder: Path, names: Iterable[str], got: str, fix: str) -> tuple[str, str]:
    """As `explain`, of the first of some files in a folder that is not what its name says."""
    for name in names:
        own = _BY_SUFFIX.get(Path(name).suffix, ())
        kind = kind_of(folder / name)
        if kind is not None and kind != MISSING and kind not in own:
            return f"{name} that is {kind.name}", kind.fix or fix
    return got, fix


def explain_bytes(head: bytes, got: str, fix: str, *own: FileKind) -> tuple[str, str]:
    """As `explain`, of the first bytes of a file."""
    return _explained(kind_of_bytes(head), got, fix, own)


def _explained(kind: FileKind | None, got: str, fix: str, own: tuple[FileKind, ...]) -> tuple[str, str]:
    return (got, fix) if kind is None or kind in own else (kind.name, kind.fix or fix)
