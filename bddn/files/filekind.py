"""The real kind of a file whose name is misleading, so that an error message can name the true cause.

Users get datasets and weights through downloads, Git LFS, git-annex (DataLad) and archives. Each of these can leave
something else under the name of a file. The library that fails to read it only reports that the content is wrong.
"""

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

USER_BLOCK = 512  # bytes of any content before an HDF5 file, as those of Julia and MATLAB
HEAD_BYTES = 1024  # first bytes of a file, enough to identify its kind
ANNEX = "annex/objects/"  # part of every git-annex key


@dataclass(frozen=True)
class FileKind:
    """A kind of file: `name` is a noun for an error message, `fix` is the next step or ''."""

    name: str
    fix: str = ""


GET = "Run 'git annex get' (or 'datalad get') on it, then run the same command again."
DOWNLOAD = "Download the file again; open it in a text editor to read the message of the server."
UNPACK = "Unpack it, and give the unpacked file."

MISSING = FileKind("no such file")
EMPTY = FileKind("an empty file (0 bytes)", "Download or copy the file again.")
ZEROS = FileKind("a file that begins with zeros, as an interrupted copy leaves it", "Download or copy the file again.")
FOLDER = FileKind("a folder")
UNREADABLE = FileKind("a file that this user may not read", "Change its permissions, or ask its owner to do so.")
SPECIAL = FileKind("not a regular file (a pipe, socket or device)")
LFS = FileKind("a Git LFS pointer, not the content", "Run 'git lfs pull' in its repository, then run the same command.")
ANNEX_POINTER = FileKind("a git-annex pointer, not the content", GET)
ANNEX_LINK = FileKind("a git-annex link whose content is not on this machine", GET)
ANNEX_TEXT = FileKind(
    "a git-annex link that was copied as a text, not the content",
    "Copy the content instead of the link, e.g. with 'cp -L' or 'rsync -L'.",
)
NPY = FileKind("a NumPy .npy file")
NPY_OBJECTS = FileKind(
    "a NumPy file of Python objects (a pickle)",
    "Save only the numbers: use numpy.save on an array of a numeric dtype.",
)
SAFETENSORS = FileKind("a safetensors file")
TORCH = FileKind("a PyTorch file written by torch.save")
PICKLE = FileKind("a Python pickle")
PARQUET = FileKind("a Parquet table")
GZIP = FileKind("a gzip archive", UNPACK)
MATLAB = FileKind(
    "a MATLAB file of a version before 7.3",
    "Save it again with save(…, '-v7.3') in MATLAB, or with scipy.io.loadmat and numpy.save in Python.",
)
HDF5 = FileKind("an HDF5 file (as written by MATLAB 7.3 and Keras)")
IMAGE = FileKind("an image")

_STARTS: tuple[tuple[bytes, FileKind], ...] = (
    (b"version https://git-lfs.github.com/spec/", LFS),
    (b"/" + ANNEX.encode(), ANNEX_POINTER),
    (b"\x1f\x8b", GZIP),
    (b"BZh", FileKind("a bzip2 archive", UNPACK)),
    (b"\xfd7zXZ\x00", FileKind("an xz archive", UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind("a Zstandard archive", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("a 7-Zip archive", UNPACK)),
    (b"Rar!", FileKind("a RAR archive", UNPACK)),
    (b"\x89HDF\r\n", HDF5),
    (b"MATLAB 7.3 MAT-file", HDF5),  # 512 bytes of text come first
    (b"MATLAB 5.0 MAT-file", MATLAB),
    (b"PAR1", PARQUET),
    (b"%PDF", FileKind("a PDF document")),
    (
        b"\xff\xff\xff",
        FileKind(
            "a FreeSurfer file of one number per vertex, such as curvature or thickness",
            "Read it with nibabel.freesurfer.read_morph_data, and save it with numpy.save.",
        ),
    ),
    (b"\x89PNG\r\n\x1a\n", IMAGE),
    (b"\xff\xd8\xff", IMAGE),
    (b"GIF8", IMAGE),
)
_BY_SUFFIX = {".safetensors": (SAFETENSORS,), ".bin": (TORCH, PICKLE), ".parquet": (PARQUET,)}
_TEXT_LINK = re.compile(rb"(?:\.\./)*\.git/annex/objects/\S+\s?")
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")


def kind_of_bytes(head: bytes) -> FileKind | None:
    """Return the kind of a file from its first `HEAD_BYTES` bytes, or None if they do not show it."""
    if not head:
        return EMPTY
    if len(head) >= HEAD_BYTES and not any(head):
        return ZEROS
    if _TEXT_LINK.fullmatch(head):
        return ANNEX_TEXT
    starting = next((kind for start, kind in _STARTS if head.startswith(start)), None)
    if starting is None and head.startswith(b"\x89HDF\r\n", USER_BLOCK):
        return HDF5
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
            return FileKind("a NumPy .npz archive", "Save the single array with numpy.save.")
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
    """Return whether a folder lists this name. A broken link counts: it is damage, not absence."""
    return os.path.lexists(path)


def link_kind(path: Path) -> FileKind | None:
    """Return the kind of the symbolic link `path` (of git-annex, broken, or other), or None if it is not a link."""
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
    """Return the kind of `path`, or None if it cannot be read or is a regular file of unknown kind."""
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
    except PermissionError:
        return UNREADABLE
    except (OSError, ValueError):  # a name with a null byte
        return None


def require_no_pipe(path: Path) -> None:
    """Refuse a pipe, socket or device, before a reader waits in it for ever.

    Raises
    ------
    OSError
        Its cause is what `explain` says of the path.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(SPECIAL.name)


def explain(path: Path, got: str, fix: str, *own: FileKind) -> tuple[str, str]:
    """Return the true cause why a file could not be read, and the next step.

    Parameters
    ----------
    path : Path
    got, fix : str
        Returned if the content of the file does not show a better cause.
    own : FileKind
        The kinds that the file should have; they are never reported as the cause.
    """
    return _explained(kind_of(path), got, fix, own)


def explain_folder(folder: Path, names: Iterable[str], got: str, fix: str) -> tuple[str, str]:
    """Do the same as `explain` for the first of these files in a folder whose kind does not fit its suffix."""
    for name in names:
        own = _BY_SUFFIX.get(Path(name).suffix, ())
        kind = kind_of(folder / name)
        if kind is not None and kind != MISSING and kind not in own:
            return f"{name} that is {kind.name}", kind.fix or fix
    return got, fix


def explain_bytes(head: bytes, got: str, fix: str, *own: FileKind) -> tuple[str, str]:
    """Do the same as `explain` for the first bytes of a file."""
    return _explained(kind_of_bytes(head), got, fix, own)


def _explained(kind: FileKind | None, got: str, fix: str, own: tuple[FileKind, ...]) -> tuple[str, str]:
    return (got, fix) if kind is None or kind in own else (kind.name, kind.fix or fix)
