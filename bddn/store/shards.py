"""Read rows from the shard files of a store directly, every chunk checked against the manifest.

A shard is a file of Zarr's sharding codec (see `sharding.py`). Going around zarr here makes small reads some twenty
times faster, and binds each chunk to the store: zarr compares a chunk only with the checksum that lies beside it, which
a chunk of another place or another store would have as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import crc32c
import numcodecs
import numpy as np

from bddn.store.files import Files
from bddn.store.layout import Layout
from bddn.store.manifest import Record, corrupt, file_record
from bddn.store.precision import Rows
from bddn.store.sharding import ABSENT, CRC_BYTES, ENTRY_BYTES

RESIDUE = 0x48674BC7  # the CRC-32C of any bytes followed by their CRC-32C


def shard_records(layout: Layout, shard: int, files: Mapping[str, bytes]) -> dict[str, Record]:
    """The records of the files of a shard, by name; those of tokens with the checksums of their chunks and index."""
    tokens = set(layout.token_files(shard).values())
    return {
        name: file_record(data) | ({"chunks": _checksums(layout, data)} if name in tokens else {})
        for name, data in files.items()
    }


def _checksums(layout: Layout, data: bytes) -> list[int]:
    """CRC-32C of every chunk of a shard file, and of its index at the end, as they stand in it."""
    ends = [offset + length for offset, length in _index(layout, data[-_index_bytes(layout) :])]
    return [int.from_bytes(data[end - CRC_BYTES : end], "little") for end in (*ends, len(data))]


@dataclass(frozen=True)
class _Seen:
    """A shard file as it was when it was looked at: its stamp, its index, and the chunks that were found good; and the
    checksums that they are to have."""

    name: str
    stamp: object
    index: list[tuple[int, int]]
    sums: list[int]
    good: set[int] = field(default_factory=set)


class Shards:
    """Reads rows of the arrays of tokens. It may be used from several threads at once.

    A chunk is checked when it is first read, and again when its file was touched since; on an object store, where that
    is not told, each time.

    Parameters
    ----------
    files : Files
    layout : Layout
    records : mapping
        Of every shard file: size and checksums of its chunks.
    """

    def __init__(self, files: Files, layout: Layout, records: dict[str, Record]) -> None:
        self._files, self._layout, self._records = files, layout, records
        self._shapes = layout.arrays()
        self._per_shard = layout.shard_images // layout.chunk_images
        self._seen: dict[tuple[str, int], _Seen] = {}

    def read(self, array: str, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` of an array as they are stored, (n, ...).

        Raises
        ------
        CorruptStoreError
            Where a byte of them is not what was sealed.
        """
        layout = self._layout
        shape, n_chunk, n_shard = self._shapes[array], layout.chunk_images, layout.shard_images
        out: Rows = np.empty((stop - start, *shape), layout.precision.stored)
        for shard in range(start // n_shard, -(-stop // n_shard)):
            first_row = shard * n_shard
            low, high = max(start - first_row, 0), min(stop - first_row, n_shard)
            chunks = range(low // n_chunk, -(-high // n_chunk))
            for chunk, rows in zip(chunks, self._chunks(array, shard, chunks), strict=True):
                at = chunk * n_chunk
                a, b = max(low, at), min(high, at + n_chunk)
                out[first_row + a - start : first_row + b - start] = rows[a - at : b - at]
        return out

    def read_chunks(self, array: str, first: int, rows: Rows) -> None:
        """Put the rows of chunks of one shard that follow each other as they are stored, those past the last image
        filled up, into the memory of `rows` (a multiple of chunk_images, ...), whatever the shape of one image in it.

        Errors as of `read`.
        """
        shard, start = divmod(first, self._per_shard)
        wanted = range(start, start + len(rows) // self._layout.chunk_images)
        if self._layout.precision.compressed:
            np.concatenate([found.reshape(-1) for found in self._chunks(array, shard, wanted)], out=rows.reshape(-1))
            return
        memory = rows.data.cast("B")
        size = len(memory) // len(wanted)
        pieces = [memory[at : at + size] for at in range(0, len(memory), size)]
        seen = self._seen.get((array, shard)) or self._seen_of(array, shard)
        n, stamp = self._read_into(pieces, seen, wanted)
        while stamp != seen.stamp:  # touched since
            index, seen = seen.index, self._seen_of(array, shard)
            if (stamp, index) != (seen.stamp, seen.index):
                n, stamp = self._read_into(pieces, seen, wanted)
        if n < len(memory) + CRC_BYTES * (len(wanted) - 1):
            raise corrupt(self._files, [f"{seen.name} is missing or cut"])
        for chunk, piece in zip(wanted, pieces, strict=True):
            if chunk not in seen.good:
                self._note(seen, chunk, crc32c.crc32c(piece) == seen.sums[chunk])

    def _read_into(self, pieces: Sequence[memoryview], seen: _Seen, wanted: range) -> tuple[int, object | None]:
        """Read chunks that lie one behind the other, with their checksums between them; as `Files.read_into`."""
        start, step = seen.index[wanted.start][0], len(pieces[0]) + CRC_BYTES
        expected = [(at, step) for at in range(start, start + step * len(wanted), step)]
        if seen.index[wanted.start : wanted.stop] != expected:
            raise corrupt(self._files, [f"{seen.name} has no rows in chunks {wanted.start} to {wanted.stop - 1}"])
        between = memoryview(bytearray(CRC_BYTES))
        memory = [part for piece in pieces for part in (piece, between)][:-1]
        return self._files.read_into(seen.name, start, memory)

    def _chunks(self, array: str, shard: int, wanted: range) -> list[Rows]:
        seen, found = self._seen_of(array, shard), []
        for chunk in wanted:
            offset, length = seen.index[chunk]
            data = self._files.read(seen.name, offset, offset + length)
            if data is None or len(data) != length:
                raise corrupt(self._files, [f"{seen.name} is missing or cut"])
            if chunk not in seen.good:
                self._note(seen, chunk, _is_good(data, seen.sums[chunk]))
            try:
                found.append(self._decoded(memoryview(data)[:-CRC_BYTES], self._shapes[array]))
            except (IndexError, ValueError, RuntimeError) as error:  # sealed so, by whoever wrote it
                raise corrupt(self._files, [f"{seen.name} has no rows in chunk {chunk} ({error})"]) from error
        return found

    def _note(self, seen: _Seen, chunk: int, is_good: bool) -> None:
        """Whether a chunk was good when it was looked at; what is not is an error."""
        if not is_good:
            raise corrupt(self._files, [f"{seen.name} has other bytes in chunk {chunk}"])
        if seen.stamp is not None:
            seen.good.add(chunk)

    def _decoded(self, stored: memoryview, shape: tuple[int, ...]) -> Rows:
        kept = self._layout.precision
        if not kept.compressed:
            return np.frombuffer(stored, kept.stored).reshape(self._layout.chunk_images, *shape)
        rows: Rows = np.empty((self._layout.chunk_images, *shape), kept.stored)
        if _claimed_bytes(stored) != rows.nbytes:  # fewer would leave old memory in the rows, more could fill all of it
            raise ValueError(f"{_claimed_bytes(stored)} bytes, not {rows.nbytes}")
        numcodecs.Zstd().decode(stored, out=rows)
        return rows

    def _seen_of(self, array: str, shard: int) -> _Seen:
        """What is known of a shard file, if it has not been touched since."""
        name = self._layout.token_file(array, shard)
        stamp = self._files.stamp(name)  # taken before any reading: what changes after it is looked at again
        seen = self._seen.get((array, shard))
        if seen is None or seen.stamp != stamp:
            seen = self._seen[array, shard] = _Seen(name, stamp, self._index_of(name), self._records[name]["chunks"])
        return seen

    def _index_of(self, name: str) -> list[tuple[int, int]]:
        """Offset and length of the chunks of a shard."""
        record, size = self._records[name], _index_bytes(self._layout)
        data = self._files.read(name, record["bytes"] - size, record["bytes"])
        if data is None or len(data) != size:
            raise corrupt(self._files, [f"{name} is missing or cut"])
        if not _is_good(data, record["chunks"][-1]):
            raise corrupt(self._files, [f"{name} has another index"])
        index = _index(self._layout, data)
        end = record["bytes"] - size
        if len(index) != len(record["chunks"]) - 1 or any(offset + length > end for offset, length in index):
            raise corrupt(self._files, [f"{name} has an index of other chunks"])
        return index


def _is_good(data: bytes, checksum: int) -> bool:
    """Whether bytes that end with their own CRC-32C are good, and their checksum is the one that was recorded."""
    return crc32c.crc32c(data) == RESIDUE and int.from_bytes(data[-CRC_BYTES:], "little") == checksum


def _claimed_bytes(frame: memoryview) -> int:
    """Bytes that a frame of Zstandard says it holds (RFC 8878, 3.1.1.1); -1 where it does not say."""
    about = frame[4]
    alone = about >> 5 & 1  # whether the frame has no byte for a window
    size = (alone, 2, 4, 8)[about >> 6]
    start = 6 - alone + (0, 1, 2, 4)[about & 3]
    claimed = int.from_bytes(frame[start : start + size], "little")
    return claimed + 256 * (size == 2) if size else -1


def _index_bytes(layout: Layout) -> int:
    return layout.shard_images // layout.chunk_images * ENTRY_BYTES + CRC_BYTES


def _index(layout: Layout, data: bytes) -> list[tuple[int, int]]:
    entries = np.frombuffer(data[:-CRC_BYTES], "<u8").reshape(-1, 2).tolist()
    return [(offset, length) for offset, length in entries if offset != ABSENT]
