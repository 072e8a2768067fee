"""Array files that are filled through mapped memory."""

import os
from pathlib import Path

import numpy as np

from bddn.files.atomic import FULL, names_if_full


def new_array(path: Path, shape: tuple[int, ...]) -> "np.memmap[tuple[int, ...], np.dtype[np.float32]]":
    """Create a file of NumPy with an array of float32, and map it into memory.

    Its space is reserved now, as far as the file system can do that: if the disk becomes full while mapped memory is
    written, the system ends the process without a message (SIGBUS).

    Raises
    ------
    OSError
        If the disk or the quota has no space for it; it names the file.
    """
    with names_if_full(path):
        found = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with path.open("r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
                except OSError as error:
                    if error.errno in FULL:
                        raise
    return found
