"""Arrays in a page: little-endian bytes as base64, with kind and shape."""

import base64
import json
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = {"u1", "u2", "u4", "i2", "f4"}
"""Kinds that the page's script reads: integers of 8, 16 and 32 bits, and single precision."""

Packed = dict[str, Any]


def packed(values: npt.ArrayLike, kind: str) -> Packed:
    """Pack an array for the page.

    Parameters
    ----------
    values : array
        Numbers within the range of `kind`.
    kind : str
        One of `KINDS`.

    Returns
    -------
    dict
        With `kind`, `shape` and `data`, the bytes in base64.
    """
    assert kind in KINDS, kind
    array = np.ascontiguousarray(values, dtype=f"<{kind}")
    return {"kind": kind, "shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode("ascii")}


def unpacked(array: Packed) -> npt.NDArray[Any]:
    """Return the array of `packed`."""
    return np.frombuffer(base64.b64decode(array["data"]), dtype=f"<{array['kind']}").reshape(array["shape"])


def script_json(value: Any) -> str:
    """Return JSON for a script element. It contains no `<`, so it cannot end or open an element.

    Raises
    ------
    ValueError
        If a number is not finite, which JSON does not support.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
