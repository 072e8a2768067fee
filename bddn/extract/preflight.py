"""What is checked before the long work besides the images: the place of the store, and the room on the disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bddn.errors import StoreError
from bddn.files.output import check_folder, is_vacant
from bddn.identity import Identity, only_made_with
from bddn.store.files import FIRST, Files, LocalFiles
from bddn.store.manifest import is_sealed, read_header
from bddn.store.remote import open_files
from bddn.store.writer import is_there, other_work


def check_place(out: str | Path) -> str:
    """Refuse a folder into which no store can be written; one that is there already is looked at later.

    Returns
    -------
    str
        The place, without what a URL may hold of passwords.

    Raises
    ------
    OutputError, StoreError
        Before any weights or images are read.
    """
    files = open_files(out)
    if isinstance(files, LocalFiles) and is_vacant(files.root, FIRST):
        check_folder(files.root)
    else:
        is_there(files)
    return files.place


def refuse_other_work(files: Files, header: Mapping[str, Any]) -> None:
    """Refuse a store of another network or other settings, before the images are decoded. Which images it is of is
    compared later, by `Writer.prepare`, since it takes longer to know.

    Raises
    ------
    MismatchError
        Naming what differs.
    """
    if not is_there(files):
        return
    of_images = ("n_images", "stimuli_sha256", "images_sha256")
    words = [
        word for word in Identity(read_header(files)).differences(Identity(header)) if not word.startswith(of_images)
    ]
    if words and not (is_sealed(files) and only_made_with(words)):
        raise other_work(files, words)


def check_disk(files: Files, needed_bytes: int) -> None:
    """Refuse to start what the disk cannot hold.

    Raises
    ------
    StoreError
    """
    free = files.free_bytes()
    if free is None or needed_bytes <= free:
        return  # what is there already need not be listed
    there = sum(size for name, size in files.sizes().items() if not name.startswith("manifest/"))
    if needed_bytes - there > free:
        raise StoreError(
            files.place,
            expected=f"{(needed_bytes - there) / 1e9:.2f} GB of free space for the rest of the cache",
            got=f"{free / 1e9:.2f} GB",
            fix="Free space, give another --out, or see 'bddn plan' for settings that need less.",
        )
