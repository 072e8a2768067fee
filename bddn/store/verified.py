"""Give Zarr access to the small files of a store: only recorded files, with every byte checked.

Zarr returns its fill value for a missing or empty file. This store prevents that: a recorded file that is missing, or
differs from its record in any byte, raises an error. Tokens are read by `shards.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from bddn.store.files import Files
from bddn.store.manifest import Record, corrupt, is_recorded


class VerifiedStore(Store):
    """A read-only Zarr store over recorded files.

    Parameters
    ----------
    files : Files
    records : mapping
        Size and SHA-256 of every readable file, by name.
    """

    supports_writes = supports_deletes = False
    supports_listing = True

    def __init__(self, files: Files, records: Mapping[str, Record]) -> None:
        super().__init__(read_only=True)
        self._files, self._records = files, records

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return bytes of a file, or None for a name that no sealed store has.

        Raises
        ------
        CorruptStoreError
            If the file is missing or differs from its record.
        """
        if key not in self._records:
            if "/c." in key and not key.endswith("zarr.json"):
                raise corrupt(self._files, [f"{key} is missing"])
            return None
        data = await asyncio.to_thread(self._bytes, key, byte_range)
        buffer = Buffer if prototype is None else prototype.buffer
        return buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        return key in self._records

    async def list(self) -> AsyncIterator[str]:
        for key in self._records:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in self._records:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        for name in sorted({key[len(start) :].split("/")[0] for key in self._records if key.startswith(start)}):
            yield name

    async def set(self, key: str, value: Buffer) -> None:
        raise NotImplementedError("a sealed store is read-only")

    async def delete(self, key: str) -> None:
        raise NotImplementedError("a sealed store is read-only")

    def _bytes(self, key: str, part: ByteRequest | None) -> bytes:
        record, data = self._records[key], self._files.read(key)
        if data is None:
            raise corrupt(self._files, [f"{key} is missing"])
        if len(data) != record["bytes"]:
            raise corrupt(self._files, [f"{key} has {len(data)} bytes, not {record['bytes']}"])
        if not is_recorded(data, record):
            raise corrupt(self._files, [f"{key} has other bytes"])
        start, stop = _range(part, len(data))
        return data[start:stop]


def _range(part: ByteRequest | None, size: int) -> tuple[int, int]:
    match part:
        case RangeByteRequest():
            return part.start, min(part.end, size)
        case OffsetByteRequest():
            return part.offset, size
        case SuffixByteRequest():
            return max(0, size - part.suffix), size
    return 0, size
