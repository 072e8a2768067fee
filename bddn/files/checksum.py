"""Whether a file is still the same: its SHA-256, and what changes when it is written or replaced."""

import hashlib
import os
from pathlib import Path


def file_sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal. Raises an OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes when a file is written or replaced: number, size, and both times.

    Its time of modification is not enough, because archives and copies set it, often to the same for all files.
    """
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
