"""Check from the structure of an image file that it is complete, and read how many bits per channel it stores.

Pillow does not detect all damage: it skips checksums of parts that it does not need, and stops at the last pixel. It
also reduces channels of more than 8 bits without notice. Sources: the PNG specification (W3C), ITU-T T.81 (JPEG), the
GIF89a specification, the WebP container specification, ISO/IEC 14496-12 (boxes of AVIF and JPEG 2000), ITU-T T.800
(JPEG 2000).
"""

import re
import zlib
from collections.abc import Callable, Iterator
from math import ceil

CUT = "the file is cut short"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH = 24  # offset of the bits per channel in a PNG
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # frame headers
_SOS, _EOI, _DRI = 0xDA, 0xD9, 0xDD
_PPM_HEADER = re.compile(rb"P[2356](?:\s+|#[^\r\n]*)+\d+(?:\s+|#[^\r\n]*)+\d+(?:\s+|#[^\r\n]*)+(\d+)")


def bits_per_channel(name: str, data: bytes) -> int:
    """Check, as far as the format allows, that a file is complete, and return its bits per channel.

    Parameters
    ----------
    name : str
        Pillow's name of the format.
    data : bytes
        The whole file, which Pillow has opened in this format.

    Raises
    ------
    ValueError
        If a part is damaged or missing. The message describes it.
    """
    examine = _EXAMINERS.get(name)
    try:
        return 8 if examine is None else examine(data)
    except IndexError:
        raise ValueError(CUT) from None


def _png(data: bytes) -> int:
    at, last = len(PNG_START), b""
    while last != b"IEND":
        last, end = data[at + 4 : at + 8], at + 12 + _big(data, at, 4)
        if end > len(data):
            raise ValueError(CUT)
        if zlib.crc32(data[at + 4 : end - 4]) != _big(data, end - 4, 4):
            raise ValueError(f"damaged: the checksum of its chunk {last.decode('latin-1')!r} at byte {at} is wrong")
        at = end
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes follow the end of the PNG")
    return data[PNG_DEPTH]


def jpeg_end(data: bytes) -> tuple[int, int]:
    """Walk over all segments of a JPEG to the end of its first image; other images and camera data may follow.

    Returns
    -------
    bits : int
        Bits per channel.
    end : int
        Offset of the end marker.

    Raises
    ------
    ValueError
        See `bits_per_channel`.
    """
    at, bits, interval = 2, 0, 0
    sides, sampling = (0, 0), dict[int, tuple[int, int]]()
    sent = dict[int, set[int]]()  # by component, the coefficients that are complete to the last bit
    while True:
        match = _MARKER.search(data, at)
        if match is None:
            raise ValueError(CUT)
        code, at = data[match.start() + 1], match.end()
        if code == _EOI:
            if any(len(sent.get(component, ())) < 64 for component in sampling):
                raise ValueError("damaged: the file ends before its last scan")
            return bits, match.start()
        if code == 0x01 or 0xD0 <= code <= 0xD8:  # markers without a length
            continue
        segment = data[at + 2 : at + _big(data, at, 2)]
        at += _big(data, at, 2)
        if at > len(data):
            raise ValueError(CUT)
        if code == _DRI:
            interval = _big(segment, 0, 2)
        elif code in _SOF:
            bits, sides = segment[0], (_big(segment, 1, 2), _big(segment, 3, 2))
            parts = [segment[k : k + 2] for k in range(6, 6 + 3 * segment[5], 3)]
            sampling = {part[0]: (part[1] & 15, part[1] >> 4) for part in parts}
        elif code == _SOS:
            components = [segment[1 + 2 * k] for k in range(segment[0])]
            first, last, low_bit = segment[-3], segment[-2], segment[-1] & 15
            for component in components if low_bit == 0 else ():
                sent.setdefault(component, set()).update(range(first, last + 1))
            at = _scan(data, at, interval, _n_units(sides, sampling, components))


def _jpeg(data: bytes) -> int:
    return jpeg_end(data)[0]


def _scan(data: bytes, at: int, interval: int, n_units: int) -> int:
    """Return the offset at which the coded data of a scan end, after checking their restart markers."""
    found = list[int]()
    for match in _MARKER.finditer(data, at):
        code = data[match.start() + 1]
        if not 0xD0 <= code <= 0xD7:
            n_restarts = ceil(n_units / interval) - 1 if interval else 0
            if interval and (len(found) < n_restarts or found != [k % 8 for k in range(len(found))]):
                raise ValueError(f"damaged: {len(found)} restart markers, not {n_restarts}, or in a wrong order")
            return match.start()
        found.append(code & 7)
    raise ValueError(CUT)


def _n_units(sides: tuple[int, int], sampling: dict[int, tuple[int, int]], components: list[int]) -> int:
    """Return the number of coding units of a scan (T.81, A.2): blocks of one component, or block groups of several."""
    if not sampling or any(component not in sampling for component in components):
        raise ValueError("damaged: a scan without its frame")
    n = 1
    for axis in (0, 1):
        most = max(factors[axis] for factors in sampling.values())
        if not all(factors[axis] for factors in sampling.values()):
            raise ValueError("damaged: a sampling factor of 0")
        side = sides[axis]
        if len(components) == 1:
            n *= ceil(ceil(side * sampling[components[0]][axis] / most) / 8)
        else:
            n *= ceil(side / (8 * most))
    return n


def _gif(data: bytes) -> int:
    """Walk over all blocks to the trailer, and return 8."""
    at = 13 + _palette(data[10])
    while (kind := data[at]) != 0x3B:
        if kind == 0x2C:  # an image: its descriptor, palette and code size
            at += 11 + _palette(data[at + 9])
        elif kind == 0x21:  # an extension: its label
            at += 2
        else:
            raise ValueError(f"damaged: no GIF block begins with byte {kind} at {at}")
        while data[at]:
            at += 1 + data[at]
        at += 1
    return 8


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> int:
    end, at = 8 + int.from_bytes(data[4:8], "little"), 12
    while at < end:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    if at > len(data) or end > len(data):
        raise ValueError(CUT)
    return 8


def _bmp(data: bytes) -> int:
    if int.from_bytes(data[2:6], "little") > len(data):
        raise ValueError(CUT)
    return 8


def _ppm(data: bytes) -> int:
    header = _PPM_HEADER.match(data)
    return 8 if header is None else max(8, int(header[1]).bit_length())


def _jpeg2000(data: bytes) -> int:
    parts = [data[start:end] for kind, start, end in _boxes(data) if kind == b"jp2c"] if data[:1] == b"\0" else [data]
    for stream in parts:
        if not stream.endswith(b"\xff\xd9"):
            raise ValueError(CUT)
        n_components = _big(stream, 40, 2)  # of the segment SIZ
        return max(((stream[42 + 3 * k] & 0x7F) + 1 for k in range(n_components)), default=8)
    raise ValueError(CUT)


def _avif(data: bytes) -> int:
    if not any(kind == b"mdat" for kind, _, _ in _boxes(data)):
        raise ValueError(CUT)
    flags = [data[match.end() + 2] for match in re.finditer(rb"av1C(?=\x81)", data[: 1 << 16])]
    return max((8 + 2 * (flag >> 6 & 1) + 2 * (flag >> 6 & flag >> 5 & 1) for flag in flags), default=8)


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, start and end of every box. A box that exceeds the file raises ValueError."""
    at = 0
    while at < len(data):
        size, head = _big(data, at, 4), 8
        if size == 1:
            size, head = _big(data, at + 8, 8), 16
        end = at + size if size else len(data)
        if end > len(data) or (size and size < head):
            raise ValueError(CUT)
        yield data[at + 4 : at + 8], at + head, end
        at = end


def _big(data: bytes, at: int, n: int) -> int:
    """Return the big-endian number of n bytes at an offset."""
    if at + n > len(data):
        raise ValueError(CUT)
    return int.from_bytes(data[at : at + n], "big")


_EXAMINERS: dict[str, Callable[[bytes], int]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "MPO": _jpeg,
    "GIF": _gif,
    "WEBP": _webp,
    "BMP": _bmp,
    "PPM": _ppm,
    "JPEG2000": _jpeg2000,
    "AVIF": _avif,
}
