"""The bytes of a shard file, as Zarr's sharding codec (version 1.0) has them: chunks, one after the other, then an
index of their offsets and lengths. Each of them ends with its CRC-32C.

They are made here, since zarr's own encoder takes several times as long for the same bytes.
"""

from collections.abc import Callable
from typing import Any

import crc32c
import numpy as np
import numpy.typing as npt

CRC_BYTES = 4
ABSENT = 2**64 - 1  # offset of a chunk that was never written, beyond the end of the last shard
ENTRY_BYTES = 16  # offset and length of a chunk, as uint64

Rows = npt.NDArray[Any]


def encode_shard(
    rows: Rows,
    chunk_images: int,
    shard_images: int,
    fill_value: float,
    compress: Callable[[Rows], bytes] | None = None,
) -> bytes:
    """The file that holds `rows` (n, ...), n ≤ `shard_images`; the last chunk is filled up with `fill_value`."""
    index = np.full((shard_images // chunk_images, 2), ABSENT, "<u8")
    parts: list[Any] = []  # the rows are copied once, when they are joined
    end = 0
    for k, at in enumerate(range(0, len(rows), chunk_images)):
        chunk = rows[at : at + chunk_images]
        if len(chunk) < chunk_images:
            missing = np.full((chunk_images - len(chunk), *rows.shape[1:]), fill_value, rows.dtype)
            chunk = np.concatenate([chunk, missing])
        chunk = np.ascontiguousarray(chunk)
        data: Any = chunk if compress is None else compress(chunk)
        size = memoryview(data).nbytes + CRC_BYTES
        index[k] = end, size
        end += size
        parts += [data, checksum(data)]
    parts += [index, checksum(index)]
    return b"".join(parts)


def checksum(data: Any) -> bytes:
    """CRC-32C, as it follows the bytes (any contiguous buffer) that it is of."""
    return int(crc32c.crc32c(data)).to_bytes(CRC_BYTES, "little")
