"""Read rows directly from the shard files of a store, and check every chunk against the manifest.

A shard is a file of Zarr's sharding codec (see `sharding.py`). Reading it without zarr makes small reads about twenty
times faster. It also detects exchanged chunks: zarr compares a chunk only with the checksum stored beside it, which is
also correct for a chunk of another position or store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import crc32c
import numcodecs
import numpy as np

from bddn.store.files import Files
from bddn.store.layout import Layout
from bddn.store.manifest import Record, corrupt, file_record
from bddn.store.precision import TokenRows
from bddn.store.sharding import ABSENT, CRC_BYTES, ENTRY_BYTES

RESIDUE = 0x48674BC7  # the CRC-32C of any bytes followed by their CRC-32C


def shard_records(layout: Layout, shard: int, files: Mapping[str, bytes]) -> dict[str, Record]:
    """Return the records of the files of a shard, by name; for token files with the checksums of chunks and index."""
    tokens = set(layout.token_files(shard).values())
    return {
        name: file_record(data) | ({"chunks": _checksums(layout, data)} if name in tokens else {})
        for name, data in files.items()
    }


def _checksums(layout: Layout, data: bytes) -> list[int]:
    """Return the stored CRC-32C of every chunk of a shard file and, last, of its index."""
    ends = [offset + length for offset, length in _index(data[-_index_bytes(layout) :])]
    return [int.from_bytes(data[end - CRC_BYTES : end], "little") for end in (*ends, len(data))]


@dataclass(frozen=True)
class _ShardState:
    """What is known of a shard file: its stamp and index when last read, its expected checksums, and the chunks that
    were found good."""

    name: str
    stamp: object
    index: list[tuple[int, int]]
    sums: list[int]
    good: set[int] = field(default_factory=set)


class Shards:
    """A thread-safe reader of rows of the token arrays.

    A chunk is checked when it is first read, and again after its file has changed. An object store does not report
    changes, so there it is checked at every read.

    Parameters
    ----------
    files : Files
    layout : Layout
    records : mapping
        Size and chunk checksums of every shard file, by name.
    """

    def __init__(self, files: Files, layout: Layout, records: dict[str, Record]) -> None:
        self._files, self._layout, self._records = files, layout, records
        self._shapes = layout.arrays()
        self._per_shard = layout.shard_images // layout.chunk_images
        self._states: dict[tuple[str, int], _ShardState] = {}

    def read(self, array: str, start: int, stop: int) -> TokenRows:
        """Return rows `start` to `stop` of an array in their stored form, (n, ...).

        Raises
        ------
        CorruptStoreError
            If a byte of them differs from the seal.
        """
        layout = self._layout
        shape, n_chunk, n_shard = self._shapes[array], layout.chunk_images, layout.shard_images
        out: TokenRows = np.empty((stop - start, *shape), layout.precision.stored)
        for shard in range(start // n_shard, -(-stop // n_shard)):
            first_row = shard * n_shard
            low, high = max(start - first_row, 0), min(stop - first_row, n_shard)
            chunks = range(low // n_chunk, -(-high // n_chunk))
            for chunk, rows in zip(chunks, self._chunks(array, shard, chunks), strict=True):
                at = chunk * n_chunk
                a, b = max(low, at), min(high, at + n_chunk)
                out[first_row + a - start : first_row + b - start] = rows[a - at : b - at]
        return out

    def read_chunks(self, array: str, first: int, rows: TokenRows) -> None:
        """Read consecutive chunks of one shard, in their stored form, into the memory of `rows`.

        The length of `rows` is a multiple of chunk_images; the shape of one image in it is free. Rows past the last
        image get the fill value. It raises the errors of `read`.
        """
        shard, start = divmod(first, self._per_shard)
        wanted = range(start, start + len(rows) // self._layout.chunk_images)
        if self._layout.precision.compressed:
            np.concatenate([found.reshape(-1) for found in self._chunks(array, shard, wanted)], out=rows.reshape(-1))
            return
        memory = rows.data.cast("B")
        size = len(memory) // len(wanted)
        pieces = [memory[at : at + size] for at in range(0, len(memory), size)]
        state = self._states.get((array, shard)) or self._state(array, shard)
        n, stamp = self._read_into(pieces, state, wanted)
        while stamp != state.stamp:  # the file has changed since
            index, state = state.index, self._state(array, shard)
            if (stamp, index) != (state.stamp, state.index):
                n, stamp = self._read_into(pieces, state, wanted)
        if n < len(memory) + CRC_BYTES * (len(wanted) - 1):
            raise corrupt(self._files, [f"{state.name} is missing or cut"])
        for chunk, piece in zip(wanted, pieces, strict=True):
            if chunk not in state.good:
                self._mark(state, chunk, crc32c.crc32c(piece) == state.sums[chunk])

    def _read_into(self, pieces: Sequence[memoryview], state: _ShardState, wanted: range) -> tuple[int, object | None]:
        """Read adjacent chunks with one call of `Files.read_into`, and return its result."""
        start, step = state.index[wanted.start][0], len(pieces[0]) + CRC_BYTES
        expected = [(at, step) for at in range(start, start + step * len(wanted), step)]
        if state.index[wanted.start : wanted.stop] != expected:
            raise corrupt(self._files, [f"{state.name} has no rows in chunks {wanted.start} to {wanted.stop - 1}"])
        between = memoryview(bytearray(CRC_BYTES))
        memory = [part for piece in pieces for part in (piece, between)][:-1]
        return self._files.read_into(state.name, start, memory)

    def _chunks(self, array: str, shard: int, wanted: range) -> list[TokenRows]:
        state, found = self._state(array, shard), []
        for chunk in wanted:
            offset, length = state.index[chunk]
            data = self._files.read(state.name, offset, offset + length)
            if data is None or len(data) != length:
                raise corrupt(self._files, [f"{state.name} is missing or cut"])
            if chunk not in state.good:
                self._mark(state, chunk, _is_good(data, state.sums[chunk]))
            try:
                found.append(self._decoded(memoryview(data)[:-CRC_BYTES], self._shapes[array]))
            except (IndexError, ValueError, RuntimeError) as error:  # the store was sealed with this content
                raise corrupt(self._files, [f"{state.name} has no rows in chunk {chunk} ({error})"]) from error
        return found

    def _mark(self, state: _ShardState, chunk: int, is_good: bool) -> None:
        """Remember that a chunk is good, or raise `CorruptStoreError` if it is not."""
        if not is_good:
            raise corrupt(self._files, [f"{state.name} has other bytes in chunk {chunk}"])
        if state.stamp is not None:
            state.good.add(chunk)

    def _decoded(self, stored: memoryview, shape: tuple[int, ...]) -> TokenRows:
        kept = self._layout.precision
        if not kept.compressed:
            return np.frombuffer(stored, kept.stored).reshape(self._layout.chunk_images, *shape)
        rows: TokenRows = np.empty((self._layout.chunk_images, *shape), kept.stored)
        if _claimed_bytes(stored) != rows.nbytes:  # fewer would leave rows uninitialised, more could exhaust the memory
            raise ValueError(f"{_claimed_bytes(stored)} bytes, not {rows.nbytes}")
        numcodecs.Zstd().decode(stored, out=rows)
        return rows

    def _state(self, array: str, shard: int) -> _ShardState:
        """Return what is known of a shard file; read its index again if the file has changed."""
        name = self._layout.token_file(array, shard)
        stamp = self._files.stamp(name)  # taken before reading, so that a later change is noticed
        state = self._states.get((array, shard))
        if state is None or state.stamp != stamp:
            sums = self._records[name]["chunks"]
            state = self._states[array, shard] = _ShardState(name, stamp, self._index_of(name), sums)
        return state

    def _index_of(self, name: str) -> list[tuple[int, int]]:
        """Return the offset and length of every chunk of a shard."""
        record, size = self._records[name], _index_bytes(self._layout)
        data = self._files.read(name, record["bytes"] - size, record["bytes"])
        if data is None or len(data) != size:
            raise corrupt(self._files, [f"{name} is missing or cut"])
        if not _is_good(data, record["chunks"][-1]):
            raise corrupt(self._files, [f"{name} has another index"])
        index = _index(data)
        end = record["bytes"] - size
        if len(index) != len(record["chunks"]) - 1 or any(offset + length > end for offset, length in index):
            raise corrupt(self._files, [f"{name} has an index of other chunks"])
        return index


def _is_good(data: bytes, checksum: int) -> bool:
    """Return whether bytes that end with their CRC-32C are intact, and have the recorded checksum."""
    return crc32c.crc32c(data) == RESIDUE and int.from_bytes(data[-CRC_BYTES:], "little") == checksum


def _claimed_bytes(frame: memoryview) -> int:
    """Return the decoded size in bytes that a Zstandard frame declares (RFC 8878, 3.1.1.1), or -1 if it has none."""
    about = frame[4]
    alone = about >> 5 & 1  # flag Single_Segment: the frame has no window byte
    size = (alone, 2, 4, 8)[about >> 6]
    start = 6 - alone + (0, 1, 2, 4)[about & 3]
    claimed = int.from_bytes(frame[start : start + size], "little")
    return claimed + 256 * (size == 2) if size else -1


def _index_bytes(layout: Layout) -> int:
    return layout.shard_images // layout.chunk_images * ENTRY_BYTES + CRC_BYTES


def _index(data: bytes) -> list[tuple[int, int]]:
    entries = np.frombuffer(data[:-CRC_BYTES], "<u8").reshape(-1, 2).tolist()
    return [(offset, length) for offset, length in entries if offset != ABSENT]
