"""Verify the bytes of a cache, describe its content, and compare it with another cache."""

import time
from dataclasses import dataclass
from pathlib import Path

from bddn.store import manifest
from bddn.store.files import Files
from bddn.store.map_files import map_files
from bddn.store.reader import Cache, first_difference, read_images
from bddn.store.remote import open_files
from bddn.text import shorten


@dataclass(frozen=True)
class Verified:
    """The result of `verify`.

    Attributes
    ----------
    n_files, n_bytes : int
    seconds : float
    bad : list of str
        A description of every file that differs from the seal.
    """

    n_files: int
    n_bytes: int
    seconds: float
    bad: list[str]


def verify(place: str | Path) -> Verified:
    """Compare every byte of a sealed cache with its SHA-256, on all cores.

    Parameters
    ----------
    place : str or Path

    Raises
    ------
    StoreError
        If `place` is not a cache, or the cache is not sealed or its manifest is damaged.
    """
    files = open_files(place)
    records = manifest.read_seal(files, manifest.read_header(files))["files"]
    started = time.perf_counter()

    found = map_files(
        files, lambda name: manifest.wrong_bytes(files, name, records[name]), list(records), "verify", "files"
    )
    bad = [words for words in found if words is not None]
    n_bytes = sum(record["bytes"] for record in records.values())
    return Verified(len(records), n_bytes, time.perf_counter() - started, bad)


def diff(a: str | Path, b: str | Path) -> list[str]:
    """Return a description of each difference between two caches, sealed or not: first of their headers, then of files.

    Raises
    ------
    StoreError
        If one of them is not a cache, or its manifest is damaged.
    """
    one, other = open_files(a), open_files(b)
    words = manifest.content_of(manifest.read_header(one)).differences(manifest.content_of(manifest.read_header(other)))
    images = [found for found in (read_images(one), read_images(other)) if found]
    if len(images) == 2 and images[0] != images[1]:
        words.append(_first_other(*images))
    states = ["sealed" if manifest.is_sealed(files) else "unfinished" for files in (one, other)]
    if states[0] != states[1]:
        words.append(f"state {states[0]} → {states[1]}")
    elif states[0] == "sealed" and not words:
        words += _other_files(one, other)
    return words


def _first_other(a: list[tuple[str, str]], b: list[tuple[str, str]]) -> str:
    row = first_difference(a, b)
    if row is None:
        return f"images {len(a)} → {len(b)}, equal up to the shorter length"
    what = "bytes" if a[row][0] == b[row][0] else "id"
    return f"row {row} is the first image with another {what}: '{a[row][0]}' → '{b[row][0]}'"


def _other_files(a: Files, b: Files) -> list[str]:
    records = [manifest.read_seal(files, manifest.read_header(files))["files"] for files in (a, b)]
    names = [name for name in records[0] if records[0][name] != records[1][name]]
    return [f"other bytes in {shorten(names, 8)}"] if names else []


def describe(cache: Cache) -> list[dict[str, str]]:
    """Return one table row per array of tokens: its shape and statistics, and a note on suspicious values."""
    rows = []
    for path, shape in cache.layout.arrays().items():
        held = cache.contents[path]
        note = "constant" if held.is_constant else "not finite" if held.non_finite else ""
        rows.append(
            {
                "array": path,
                "shape": " × ".join(str(n) for n in (cache.layout.n_images, *shape)),
                "mean": f"{held.mean:.4g}",
                "norm": f"{held.rms * shape[-1] ** 0.5:.4g}",
                "min": f"{held.min:.4g}",
                "max": f"{held.max:.4g}",
                "non-finite": str(held.non_finite),
                "note": note,
            }
        )
    return rows
