"""The manifest: records of what was written, by which backbone, with which bytes. Only recorded data count."""

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

from bddn.errors import CorruptStoreError, IncompleteStoreError, SpecError, StoreError
from bddn.files.filekind import HEAD_BYTES, explain_bytes
from bddn.identity import Identity, digest
from bddn.store.canonical import decode_json, digest_of, digest_of_parts, encode_json
from bddn.store.files import FIRST, Files
from bddn.store.layout import ALIASES, FORMAT, IDS, IMAGES, SCALE, Layout
from bddn.store.replaced import describe_replaced, kind_in_store, kind_of_place

FOLDER = "manifest"
HEADER = FIRST
SEAL = f"{FOLDER}/seal.json"
RESTORE = "Restore the cache from a good copy, or delete it and run 'bddn extract' again."
MAX_JSON_BYTES = 1 << 27  # limit for a header or a record; for a seal see `largest_seal`
RECORD_BYTES = 200  # limit for a file's record without its name and checksums
CHECKSUM_BYTES = 16  # limit for the checksum of a chunk

Record = dict[str, Any]


def record_name(shard: int) -> str:
    """Return the name of the record of one shard, which exists while the store is not sealed."""
    return f"{FOLDER}/shard-{shard:06d}.json"


def file_record(data: bytes) -> Record:
    """Return the size and SHA-256 of a file. Records of token shards also hold the checksums of their `chunks`."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def is_recorded(data: bytes | None, record: Record) -> bool:
    """Return whether these bytes agree with a record."""
    return data is not None and file_record(data).items() <= record.items()


def is_sealed(files: Files) -> bool:
    """Return whether a seal exists; `read_seal` checks whether it is valid."""
    return is_there(files, SEAL)


def is_there(files: Files, name: str) -> bool:
    """Return whether a file of exactly this name exists, without listing the folder."""
    return files.read(name, 0, 1) is not None


def read_header(files: Files) -> dict[str, Any]:
    """Return the header of a store.

    Raises
    ------
    StoreError
        If there is no store of bddn, or its format is another one.
    """
    header = _read_json(files, HEADER)
    if header is None:
        got, fix = (
            f"no {HEADER} in it" if files.sizes() else "no such folder",
            "Give a cache that 'bddn extract' wrote.",
        )
        if kind := kind_in_store(files, HEADER):
            got, fix = f"{HEADER} that is {kind.name}", kind.fix or fix
        elif kind := kind_of_place(files):
            got, fix = kind.name, kind.fix or fix
        raise StoreError(files.place, expected="a feature cache of bddn", got=got, fix=fix)
    if header.get("format") != FORMAT:
        raise StoreError(
            files.place,
            expected=f"store format {FORMAT}",
            got=f"format {header.get('format')!r}",
            fix="Use the version of bddn that wrote it, or run 'bddn extract' again.",
        )
    return header


def content_of(header: Mapping[str, Any]) -> Identity:
    """Return the identity of the content of a store. It has the digest of the aliases, which may be very many."""
    return Identity({**header, ALIASES: digest(header.get(ALIASES, {}))})


def read_layout(files: Files, header: Mapping[str, Any]) -> Layout:
    """Return the layout that the header describes.

    Raises
    ------
    CorruptStoreError
        If the header is inconsistent.
    """
    try:
        return Layout.of(header)
    except (KeyError, TypeError, ValueError, AttributeError, SpecError) as error:
        raise CorruptStoreError(
            f"{files.place}/{HEADER}",
            expected="the header of a cache",
            got=f"an inconsistent one ({type(error).__name__}: {error})",
            fix=RESTORE,
        ) from error


def record_bytes(body: Mapping[str, Any]) -> bytes:
    """Return the encoded record of a shard, with a digest over its content."""
    return encode_json({"digest": digest_of(dict(body)), **body})


def read_record(files: Files, shard: int) -> Record | None:
    """Return the record of a shard, or None if it has not been committed.

    Raises
    ------
    CorruptStoreError
        If the record has changed since it was committed.
    """
    record = _read_json(files, record_name(shard))
    if record is not None and record.pop("digest", None) != digest_of(record):
        raise CorruptStoreError(
            f"{files.place}/{record_name(shard)}",
            expected="the record that was committed",
            got="a changed record",
            fix="Run the same 'bddn extract' again: it writes this shard again.",
        )
    return record


def read_seal(files: Files, header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the seal of a sealed store: `digest`, the records of all `files`, and the statistics of all `layers`.

    Raises
    ------
    IncompleteStoreError
        If there is no seal.
    CorruptStoreError
        If the manifest has changed, or does not list exactly the files that the header implies.
    """
    layout = read_layout(files, header)
    seal = _read_json(files, SEAL, largest_seal(layout))
    if seal is None:
        raise unsealed(files, layout)
    if not _names_all(seal, layout) or not _is_sealed_digest(seal, header):
        raise CorruptStoreError(
            f"{files.place}/{FOLDER}", expected="the manifest that was sealed", got="a changed manifest", fix=RESTORE
        )
    return seal


def seal_bytes(header: Mapping[str, Any], records: Mapping[str, Record], layers: Mapping[str, Any]) -> bytes:
    """Return the encoded seal, the file that completes a store, with the digest of header, files and layers."""
    content = {"files": dict(sorted(records.items())), "layers": dict(layers)}
    return encode_json({"digest": digest_of_parts({"header": header, **content}), **content})


def largest_seal(layout: Layout) -> int:
    """Return an upper bound in bytes for the seal of a store of this layout."""
    files = len(layout.shard_files(0)) * layout.n_shards + 6 * len(layout.arrays())
    longest = max(len(name) for name in layout.shard_files(layout.n_shards - 1))
    sums = len(layout.arrays()) * (layout.n_chunks + layout.n_shards)
    return files * (longest + RECORD_BYTES) + sums * CHECKSUM_BYTES + (1 << 20)


def expected_files(layout: Layout) -> Iterator[str]:
    """Yield the names of all files of a complete store, except its manifest, each once."""
    scales = [SCALE, *(f"{SCALE}/{name}" for name in (*layout.kinds, *layout.arrays()))]
    folders = ["", IDS, IMAGES, *layout.kinds, *layout.arrays(), *(scales if layout.precision.scaled else [])]
    yield from (f"{folder}/zarr.json".lstrip("/") for folder in folders)
    yield from (f"{IDS}/c.0", f"{IMAGES}/c.0.0")
    for shard in range(layout.n_shards):
        yield from layout.shard_files(shard)


def _names_all(seal: Mapping[str, Any], layout: Layout) -> bool:
    """Return whether the seal has a well-formed record of every file, and the statistics of every array."""
    records, layers = seal.get("files"), seal.get("layers")
    if not isinstance(records, dict) or not isinstance(layers, dict) or layers.keys() != layout.arrays().keys():
        return False
    n_files = 0
    for name in expected_files(layout):
        n_files += 1
        if not _is_record(records.get(name)):
            return False
    if n_files != len(records):
        return False
    return all(
        _has_sums(records[name], 1 + layout.shard_chunks(shard))
        for shard in range(layout.n_shards)
        for name in layout.token_files(shard).values()
    )


def _is_record(record: object) -> bool:
    return (
        isinstance(record, dict)
        and type(record.get("bytes")) is int
        and record["bytes"] > 0  # zarr treats an empty file as a missing one
        and type(record.get("sha256")) is str
    )


def _has_sums(record: Record, n: int) -> bool:
    sums = record.get("chunks")
    return isinstance(sums, array) and len(sums) == n


def _is_sealed_digest(seal: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    try:
        content = {key: seal[key] for key in ("files", "layers")}
        return bool(seal.get("digest") == digest_of_parts({"header": header, **content}))
    except ValueError:  # values that bddn never writes as JSON
        return False


def unsealed(files: Files, layout: Layout) -> IncompleteStoreError:
    """Return the error for a store that is not sealed, with the number of written shards."""
    there, n = files.sizes(FOLDER), layout.n_shards
    missing = [rows for k, rows in enumerate(layout.shards) if record_name(k) not in there]
    first = f"; rows {missing[0][0]} to {missing[0][1] - 1} are missing first" if missing else "; the seal is missing"
    return IncompleteStoreError(
        files.place,
        expected="a sealed cache",
        got=f"an unfinished one: {n - len(missing)} of {n} shards are written{first}",
        fix="Run the same 'bddn extract' again: it resumes.",
    )


def wrong_bytes(files: Files, name: str, record: Record) -> str | None:
    """Compare every byte of a file with its record; return a description of the difference, or None."""
    sha256, size = hashlib.sha256(), 0
    for block in files.blocks(name):
        sha256.update(block)
        size += len(block)
    if size == record["bytes"] and sha256.hexdigest() == record["sha256"]:
        return None
    words = f"has {size} bytes, not {record['bytes']}" if size != record["bytes"] else "has other bytes"
    return describe_replaced(files, name, f"{name} {words if size else 'is missing or empty'}")


def wrong_sizes(files: Files, records: Mapping[str, Record]) -> list[str]:
    """Return a description of every recorded file that is missing or has another size."""
    there = files.sizes()
    bad = {name: record["bytes"] for name, record in records.items() if there.get(name) != record["bytes"]}
    words = [
        f"{name} is missing" if name not in there else f"{name} has {there[name]} bytes, not {size}"
        for name, size in bad.items()
    ]
    first = next(iter(bad), None)
    return words if first is None else [describe_replaced(files, first, words[0]), *words[1:]]


def corrupt(files: Files, bad: list[str]) -> CorruptStoreError:
    """Return the error for files that differ from the seal; `bad` describes each of them."""
    more = f" and {len(bad) - 8} more" if len(bad) > 8 else ""
    return CorruptStoreError(
        files.place, expected="the files that were sealed", got="; ".join(bad[:8]) + more, fix=RESTORE
    )


def _read_json(files: Files, name: str, limit: int | None = None) -> dict[str, Any] | None:
    place, limit = f"{files.place}/{name}", MAX_JSON_BYTES if limit is None else limit
    data = files.read(name, 0, limit + 1)
    if data is None:
        return None
    try:
        if len(data) > limit:
            raise ValueError(f"more than {limit >> 20} MiB")
        value = decode_json(data)
    except (ValueError, RecursionError) as error:
        got, fix = explain_bytes(data[:HEAD_BYTES], str(error), RESTORE)
        raise CorruptStoreError(place, expected="JSON written by bddn", got=got, fix=fix) from error
    if not isinstance(value, dict):
        raise CorruptStoreError(place, expected="a JSON object", got=type(value).__name__, fix=RESTORE)
    return value
