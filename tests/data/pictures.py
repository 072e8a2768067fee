"""Image files of every sort, made byte by byte where Pillow cannot write them."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.integer]

PNG_START = b"\x89PNG\r\n\x1a\n"


def scene(seed: int = 0, side: int = 112) -> npt.NDArray[np.uint8]:
    """A smooth picture (side, side, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def saved(image: Image.Image | Pixels, kind: str = "PNG", **options: Any) -> bytes:
    """An image as the bytes of a file."""
    data = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(data, kind, **options)
    return data.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels: Pixels, color: int, depth: int, *besides: bytes) -> bytes:
    """A PNG of these samples (H, W) or (H, W, channels), with chunks `besides` before its pixels.

    `color` is 0 for grey, 2 for RGB, 3 for a palette, 4 for grey with alpha, 6 for RGBA.
    """
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    if depth == 16:
        lines = [row.astype(">u2").tobytes() for row in rows]
    else:
        bits = (rows[:, :, None] >> np.arange(depth)[::-1]) & 1
        lines = [np.packbits(row).tobytes() for row in bits.reshape(height, -1).astype(np.uint8)]
    body = zlib.compress(b"".join(b"\0" + line for line in lines))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return PNG_START + chunk(b"IHDR", header) + b"".join(besides) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(pixels: Pixels, bits: int, *, extra: int | None = None, sample_format: int | None = None) -> bytes:
    """An uncompressed little-endian TIFF of these samples (H, W, channels), with a number of bits each."""
    height, width, n = pixels.shape
    body = pixels.astype({8: "<u1", 16: "<u2"}[bits]).tobytes()
    numbers = {256: [width], 257: [height], 258: [bits] * n, 259: [1], 262: [2 if n >= 3 else 1], 277: [n]}
    numbers |= {278: [height], 279: [len(body)]}
    if extra is not None:
        numbers[338] = [extra]
    if sample_format is not None:
        numbers[339] = [sample_format] * n
    n_tags = len(numbers) + 1
    after = 8 + 2 + 12 * n_tags + 4
    long_values = b"".join(struct.pack(f"<{len(v)}H", *v) for _, v in sorted(numbers.items()) if len(v) > 2)
    numbers[273] = [after + len(long_values)]
    entries, at = b"", after
    for tag, values in sorted(numbers.items()):
        if tag in (273, 279):
            entries += struct.pack("<HHII", tag, 4, 1, values[0])
        elif len(values) > 2:
            entries += struct.pack("<HHII", tag, 3, len(values), at)
            at += 2 * len(values)
        else:
            entries += struct.pack("<HHI", tag, 3, len(values)) + struct.pack("<2H", *[*values, 0][:2])
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", n_tags) + entries + bytes(4) + long_values + body
