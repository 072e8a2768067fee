"""The canonical JSON of a manifest: a value has exactly one encoding, and any other encoding is refused.

A manifest may hold millions of chunk checksums. So its text is made and compared piece by piece, without a second copy
of the whole, and checksums are kept in memory as 4 bytes each.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

CHUNKS = "chunks"  # key of the checksums in the record of a file
OUTER = 2  # levels of a manifest that may have very many entries: the top level and its files


def encode_json(value: Any) -> bytes:
    """Return `value` encoded as in a manifest: JSON with one space of indent and a final line end.

    Raises
    ------
    ValueError
        If it contains NaN or infinity.
    """
    return "".join(_pieces(value)).encode()


def decode_json(data: bytes) -> Any:
    """Return the value of an encoded manifest, with chunk checksums as `array('I')`.

    Raises
    ------
    ValueError, RecursionError
        If the data are not JSON, or not the JSON that `encode_json` writes.
    """
    value = json.loads(data, object_hook=_with_compact_chunks)
    at = 0
    for piece in _pieces(value):
        encoded = piece.encode()
        if data[at : at + len(encoded)] != encoded:
            break
        at += len(encoded)
    else:
        if at == len(data):
            return value
    raise ValueError("JSON that bddn did not write")


def digest_of(value: Any) -> str:
    """Return the same as `bddn.identity.digest`, for a value with compact checksums."""
    return hashlib.sha256(_compact(value).encode()).hexdigest()


def digest_of_texts(texts: Iterable[str]) -> str:
    """Return the same as `bddn.identity.digest(list(texts))`, without holding the whole JSON in memory."""
    sha256, before = hashlib.sha256(), "["
    for text in texts:
        sha256.update(f"{before}{json.dumps(text)}".encode())
        before = ","
    sha256.update(b"[]" if before == "[" else b"]")
    return sha256.hexdigest()


def digest_of_parts(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the same as `digest_of(parts)`, computed entry by entry, because a part may have very many entries."""
    sha256 = hashlib.sha256(b"{")
    for n, name in enumerate(sorted(parts)):
        sha256.update(f"{',' if n else ''}{json.dumps(name)}:{{".encode())
        for m, key in enumerate(sorted(parts[name])):
            sha256.update(f"{',' if m else ''}{json.dumps(key)}:{_compact(parts[name][key])}".encode())
        sha256.update(b"}")
    sha256.update(b"}")
    return sha256.hexdigest()


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=array.tolist)


def _with_compact_chunks(found: dict[str, Any]) -> dict[str, Any]:
    if "sha256" in found and isinstance(found.get(CHUNKS), list):
        with suppress(TypeError, OverflowError):  # not checksums; code that needs them will refuse the list
            found[CHUNKS] = array("I", found[CHUNKS])
    return found


def _pieces(value: Any) -> Iterator[str]:
    return chain(_outer(value, 0), ("\n",))


def _outer(value: Any, depth: int) -> Iterator[str]:
    """Yield the text of a value, in several pieces if it may be long."""
    if not isinstance(value, dict) or not value or depth == OUTER:
        yield _text(value, depth)
        return
    line = "\n" + " " * (depth + 1)
    for n, (key, inner) in enumerate(value.items()):
        yield f"{',' if n else '{'}{line}{json.dumps(key)}: "
        yield from _outer(inner, depth + 1)
    yield f"\n{' ' * depth}}}"


def _text(value: Any, depth: int) -> str:
    line, end = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict) and value:
        inner = [f"{json.dumps(key)}: {_text(one, depth + 1)}" for key, one in value.items()]
        return f"{{{line}{f',{line}'.join(inner)}{end}}}"
    if value and (isinstance(value, array) or (isinstance(value, list) and set(map(type, value)) == {int})):
        return f"[{line}{f',{line}'.join(map(str, value))}{end}]"
    if isinstance(value, list | tuple) and value:
        return f"[{line}{f',{line}'.join(_text(one, depth + 1) for one in value)}{end}]"
    return json.dumps(value.tolist() if isinstance(value, array) else value, allow_nan=False)
