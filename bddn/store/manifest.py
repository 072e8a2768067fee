"""The manifest: what was written, by whom and with which bytes. What has no record does not exist."""

import hashlib
import json
from pathlib import Path
from typing import Any

from bddn.atomic import write_json
from bddn.errors import CorruptStoreError, IncompleteStoreError, StoreError
from bddn.spec import digest
from bddn.store.layout import FORMAT, MANIFEST

RESTORE = "Restore the cache from a good copy, or delete it and run 'bddn extract' again."
READ_BYTES = 1 << 24


def header_path(root: Path) -> Path:
    """The file that says what the store is for, written before any tokens."""
    return root / MANIFEST / "header.json"


def record_path(root: Path, shard: int) -> Path:
    """The record of one shard, present while the store is not sealed."""
    return root / MANIFEST / f"shard-{shard:06d}.json"


def seal_path(root: Path) -> Path:
    """The file whose presence closes the store."""
    return root / MANIFEST / "seal.json"


def is_sealed(root: Path) -> bool:
    """Whether a seal is there; `read_seal` says whether it is good."""
    return seal_path(root).is_file()


def file_record(path: Path) -> dict[str, Any]:
    """Size and hash of a file."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            sha256.update(block)
    return {"bytes": path.stat().st_size, "sha256": sha256.hexdigest()}


def read_header(root: Path) -> dict[str, Any]:
    """The header of a store.

    Raises
    ------
    StoreError
        Where `root` is no store of ours, or of another format.
    """
    path = header_path(root)
    if not path.is_file():
        raise StoreError(
            root,
            expected="a feature cache of bddn",
            got="no such folder" if not root.exists() else f"no {MANIFEST}/{path.name} in it",
            fix="Give the path of a cache that 'bddn extract' wrote.",
        )
    header = _read_json(path)
    if header.get("format") != FORMAT:
        raise StoreError(
            root,
            expected=f"store format {FORMAT}",
            got=f"format {header.get('format')!r}",
            fix="Use the version of bddn that wrote it, or extract again.",
        )
    return header


def read_record(root: Path, shard: int) -> dict[str, Any] | None:
    """The record of a shard, or None where it has not been committed."""
    path = record_path(root, shard)
    return _read_json(path) if path.is_file() else None


def metadata_files(root: Path) -> list[str]:
    """Every file of the store that is neither tokens nor manifest: zarr's metadata and the stimulus ids."""
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file()
        and path.relative_to(root).parts[0] != MANIFEST
        and (path.name == "zarr.json" or path.relative_to(root).parts[0] == "stimulus")
    )


def write_seal(root: Path, header: dict[str, Any], files: dict[str, dict[str, Any]]) -> str:
    """Close the store: one atomic file with the records of all its files. Returns the store's digest."""
    body = {"header": header, "files": dict(sorted(files.items()))}
    store_digest = digest(body)
    write_json(seal_path(root), {"digest": store_digest, "files": body["files"]})
    return store_digest


def unsealed(root: Path, n_shards: int) -> IncompleteStoreError:
    """The error of a store that is not sealed, with how far it got."""
    done = sum(record_path(root, k).is_file() for k in range(n_shards))
    return IncompleteStoreError(
        root,
        expected="a sealed cache",
        got=f"an unfinished one: {done} of {n_shards} shards are written",
        fix="Run the same 'bddn extract' again: it goes on where it stopped.",
    )


def read_seal(root: Path) -> dict[str, Any]:
    """The seal of a sealed store.

    Raises
    ------
    CorruptStoreError
        Where the manifest itself was changed.
    """
    seal = _read_json(seal_path(root))
    if digest({"header": read_header(root), "files": seal.get("files")}) != seal.get("digest"):
        raise CorruptStoreError(
            root / MANIFEST, expected="the manifest that was sealed", got="a changed one", fix=RESTORE
        )
    return seal


def differing(root: Path, files: dict[str, dict[str, Any]]) -> list[str]:
    """In words, every file that is missing or differs from its record in any byte."""
    bad = []
    for name, record in files.items():
        path = root / name
        if not path.is_file():
            bad.append(f"{name} is missing")
        elif path.stat().st_size != record["bytes"]:
            bad.append(f"{name} has {path.stat().st_size} bytes, not {record['bytes']}")
        elif file_record(path) != record:
            bad.append(f"{name} has other bytes")
    return bad


def verify(root: Path, files: dict[str, dict[str, Any]]) -> None:
    """Compare files with their records, byte for byte.

    Raises
    ------
    CorruptStoreError
        Naming the files that are missing or differ.
    """
    bad = differing(root, files)
    if bad:
        more = f" and {len(bad) - 8} more" if len(bad) > 8 else ""
        raise CorruptStoreError(
            root, expected=f"the {len(files)} files that were sealed", got="; ".join(bad[:8]) + more, fix=RESTORE
        )


def differences(stored: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """In words, the fields in which two headers differ."""
    words = []
    for key in sorted(stored.keys() | wanted.keys()):
        a, b, name = stored.get(key), wanted.get(key), f"{prefix}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            words += differences(a, b, f"{name}.")
        elif a != b:
            words.append(f"{name} {a} → {b}")
    return words


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptStoreError(path, expected="JSON", got=str(error), fix=RESTORE) from error
    if not isinstance(value, dict):
        raise CorruptStoreError(path, expected="a JSON object", got=type(value).__name__, fix=RESTORE)
    return value
