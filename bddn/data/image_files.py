"""Find the files of an image set below a folder. Links that lead out of it are refused."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bddn.data.listing import is_hidden, is_printable
from bddn.errors import DataError
from bddn.files.filekind import ANNEX, FOLDER, MISSING, explain, explain_folder

SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Those of the formats in `bddn.data.decoding`."""


@dataclass(frozen=True)
class ImageFiles:
    """All files below a folder `root`, without hidden ones.

    Attributes
    ----------
    root : Path
    images : tuple of str
        Files whose suffix is that of an image: paths relative to `root`, with '/', sorted.
    folders, others : tuple of str
        Folders and other files, in the same form.
    """

    root: Path
    images: tuple[str, ...]
    folders: tuple[str, ...]
    others: tuple[str, ...]

    def below(self, folder: str) -> "ImageFiles":
        """Return the files below a folder, which is relative to `root`; '' is `root`."""
        if not folder:
            return self
        start = f"{folder}/"

        def inner(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name.removeprefix(start) for name in names if name.startswith(start))

        return ImageFiles(self.root / folder, *(inner(names) for names in (self.images, self.folders, self.others)))


def image_files(root: Path, expected: str, fix: str) -> ImageFiles:
    """List all files below a folder, except hidden ones. Broken links are included, because they are damage.

    Parameters
    ----------
    root : Path
    expected, fix : str
        What the folder should be, and the next step if it is not; for messages.

    Raises
    ------
    DataError
        If it is not a folder, cannot be listed, or contains a link that leads out of it.
    """
    if not root.is_dir():
        got, fix = explain(root, "no such folder", fix, MISSING, FOLDER)
        raise DataError(root, expected=expected, got=got, fix=_unpack(got, fix))
    images, folders, others = list[str](), list[str](), list[str]()
    for name, is_folder in _walk(root):
        is_image = Path(name).suffix.lower() in SUFFIXES
        (folders if is_folder else images if is_image else others).append(name)
    return ImageFiles(root, *(tuple(sorted(names)) for names in (images, folders, others)))


def lacking(found: ImageFiles, expected: str, got: str, fix: str) -> DataError:
    """Return the error for a folder in which something is missing; name an archive that was not unpacked."""
    got, fix = explain_folder(found.root, (name for name in found.others if "/" not in name), got, fix)
    return DataError(found.root, expected=expected, got=got, fix=_unpack(got, fix))


def _walk(root: Path) -> Iterator[tuple[str, bool]]:
    """Yield the relative path of every file and folder below `root`, and whether it is a folder."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(
                root / folder,
                expected="a folder that can be listed",
                got=error.strerror or str(error),
                fix="Change its permissions, or move it away.",
            ) from error
        for entry in entries:
            if is_hidden(entry.name):
                continue
            name = f"{folder}{entry.name}"
            if not is_printable(name):
                raise DataError(
                    root, expected="names that can be printed", got=ascii(name), fix="Rename this file or folder."
                )
            if entry.is_symlink():
                _check_link(root, Path(entry.path))
            yield name, entry.is_dir()
            if entry.is_dir():
                waiting.append(f"{name}/")


def _check_link(root: Path, link: Path) -> None:
    """Refuse links to folders, and links that lead out of `root`, except into the stores of git-annex (DataLad) and of
    the cache of the Hugging Face hub, where snapshots/VERSION/ links to blobs/."""
    target, whole = Path(os.path.realpath(link)), Path(os.path.realpath(root))
    hub = whole.parent.parent / "blobs" if whole.parent.name == "snapshots" else whole
    stored = ANNEX in target.as_posix() or target.is_relative_to(hub)
    if target.is_dir() or not (stored or target.is_relative_to(whole)):
        raise DataError(
            link,
            expected=f"a file in {root}, or a link to one",
            got=f"a link to {'the folder ' if target.is_dir() else ''}{target}",
            fix="Copy the images in place of the link, or describe them by a table (csv:FILE.csv,images=FOLDER).",
        )


def _unpack(got: str, fix: str) -> str:
    return "Unpack it, and give the unpacked folder." if got.endswith("archive") else fix
