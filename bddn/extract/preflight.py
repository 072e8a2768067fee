"""What is checked before the long work: every image, and the room on the disk."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bddn.data import Stimuli
from bddn.errors import DataError, StoreError
from bddn.output import check_folder, is_vacant
from bddn.parallel import n_threads
from bddn.progress import progress
from bddn.store.files import FIRST, Files, LocalFiles
from bddn.store.remote import open_files
from bddn.store.writer import is_there

SHOWN = 8


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


def check_images(stimuli: Stimuli, decode: bool = True) -> list[str]:
    """Hash every image and, where it will be needed, decode it; list all that are bad at once.

    Returns the SHA-256 of their files.

    Raises
    ------
    DataError
        Naming the files that are missing, damaged or no images.
    """
    bad: list[DataError] = []

    def check(i: int) -> str:
        try:
            return stimuli.read(i)[1] if decode else stimuli.sha256(i)
        except DataError as error:
            bad.append(error)
            return ""

    with ThreadPoolExecutor(n_threads()) as pool, progress("check", len(stimuli), "images") as advance:
        hashes = []
        for sha256 in pool.map(check, range(len(stimuli))):
            hashes.append(sha256)
            advance()
    if len(bad) == 1:
        raise bad[0]
    if bad:
        bad.sort(key=lambda error: error.place)
        shown = "; ".join(f"{error.place} ({error.got})" for error in bad[:SHOWN])
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise DataError(
            f"{len(bad)} images",
            expected="whole images",
            got=f"damaged files: {shown}{more}",
            fix="Restore these files from the original download.",
        )
    return hashes


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
