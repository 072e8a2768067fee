"""Find the image files below a folder. Links that lead out of it are refused."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bddn.data.listing import is_hidden, is_printable
from bddn.errors import DataError
from bddn.files.filekind import ANNEX, FOLDER, MISSING, explain, explain_folder

SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Those of the formats in `bddn.data.decoding`."""
SHOWN = 5  # names in a message
LEFT_BY_SYSTEMS = {"__MACOSX", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class ImageFiles:
    """The files below a folder `root`, without hidden ones.

    Attributes
    ----------
    root : Path
    images : tuple of str
        Paths of image files, relative to `root` and with '/', sorted.
    folders : tuple of str
        All folders, in the same way.
    others : tuple of str
        Files that are not images by their names.
    """

    root: Path
    images: tuple[str, ...]
    folders: tuple[str, ...]
    others: tuple[str, ...]


def image_files(root: Path, expected: str, fix: str) -> ImageFiles:
    """List all image files below a folder by their suffix, except hidden ones.

    Broken links are included, so that reading them raises an error and no image is silently missing.

    Parameters
    ----------
    root : Path
    expected, fix : str
        What the folder should be, and the next step if it is not; for messages.

    Raises
    ------
    DataError
        If it is not a folder, contains no image, cannot be listed, or contains a link that leads out of it.
    """
    if not root.is_dir():
        got, fix = explain(root, "no such folder", fix, MISSING, FOLDER)
        raise DataError(root, expected=expected, got=got, fix=_unpack(got, fix))
    images, folders, others = list[str](), list[str](), list[str]()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(
                root / folder,
                expected="a folder that can be listed",
                got=f"{error.strerror}",
                fix="Change its permissions.",
            ) from error
        for entry in entries:
            if is_hidden(entry.name) or entry.name in LEFT_BY_SYSTEMS:
                continue
            name = f"{folder}{entry.name}"
            if not is_printable(name):
                raise DataError(
                    root, expected="names that can be printed", got=ascii(name), fix="Rename this file or folder."
                )
            if entry.is_symlink():
                _check_link(root, Path(entry.path))
            if entry.is_dir():
                folders.append(name)
                waiting.append(f"{name}/")
            else:
                (images if Path(name).suffix.lower() in SUFFIXES else others).append(name)
    if not images:
        named = f"{len(others)} other files, the first {sorted(others)[0]}" if others else "an empty folder"
        got, fix = explain_folder(root, sorted(name for name in others if "/" not in name), f"no image: {named}", fix)
        raise DataError(root, expected=expected, got=got, fix=_unpack(got, fix))
    return ImageFiles(root, *(tuple(sorted(names)) for names in (images, folders, others)))


def _unpack(got: str, fix: str) -> str:
    return "Unpack it, and give the unpacked folder." if got.endswith("archive") else fix


def _check_link(root: Path, link: Path) -> None:
    """Refuse links to folders and links that lead out of `root`, except those of git-annex (DataLad)."""
    target = Path(os.path.realpath(link))
    annexed = ANNEX in target.as_posix()
    if target.is_dir() or not (annexed or target.is_relative_to(os.path.realpath(root))):
        raise DataError(
            link,
            expected=f"a file in {root}, or a link to one",
            got=f"a link to {'the folder ' if target.is_dir() else ''}{target}",
            fix="Copy the images in place of the link, or describe them by a table (csv:FILE.csv,images=FOLDER).",
        )


def shorten(names: Sequence[str]) -> str:
    """Return the first names as text, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
