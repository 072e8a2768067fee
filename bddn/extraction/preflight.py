"""Check the place of the store and the free disk space before the long work. Images are checked in `bddn.data`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bddn.errors import StoreError
from bddn.files.output import check_folder, is_vacant
from bddn.identity import only_made_with
from bddn.store.files import FIRST, Files, LocalFiles
from bddn.store.layout import ALIASES
from bddn.store.manifest import content_of, is_sealed, read_header
from bddn.store.remote import open_files
from bddn.store.writer import is_there, other_content_error


def check_place(out: str | Path) -> str:
    """Check, before weights or images are read, that a store can be written at `out`. An old store is checked later.

    Returns
    -------
    str
        The place, without any password of a URL.

    Raises
    ------
    OutputError, StoreError
        If no store can be written there.
    """
    files = open_files(out)
    if isinstance(files, LocalFiles) and is_vacant(files.root, FIRST):
        check_folder(files.root)
    else:
        is_there(files)
    return files.place


def refuse_other_content(files: Files, header: Mapping[str, Any]) -> None:
    """Refuse a store of another network or other settings, with a MismatchError that names the differences.
    `Writer.prepare` compares the images later, as it is slow."""
    if not is_there(files):
        return
    of_images = ("n_images", "stimuli_sha256", "images_sha256", ALIASES)
    found = content_of(read_header(files)).differences(content_of(header))
    words = [word for word in found if not word.startswith(of_images)]
    if words and not (is_sealed(files) and only_made_with(words)):
        raise other_content_error(files, words)


def check_disk(files: Files, needed_bytes: int) -> None:
    """Raise a StoreError if the rest of the cache needs more than the free space of the disk."""
    free = files.free_bytes()
    if free is None or needed_bytes <= free:
        return  # no need to list existing files
    there = sum(size for name, size in files.sizes().items() if not name.startswith("manifest/"))
    if needed_bytes - there > free:
        raise StoreError(
            files.place,
            expected=f"{(needed_bytes - there) / 1e9:.2f} GB of free space for the rest of the cache",
            got=f"{free / 1e9:.2f} GB",
            fix="Free space, give another --out, or see 'bddn plan' for settings that need less.",
        )
