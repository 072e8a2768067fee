"""Arrays in a page: little-endian bytes as base64, with what is needed to read them back."""

import base64
import json
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = {"u1", "u2", "i2", "f4"}
"""What the page's script reads: whole numbers of 8 and 16 bits, and single precision."""

Packed = dict[str, Any]


def packed(values: npt.ArrayLike, kind: str) -> Packed:
    """An array for the page.

    Parameters
    ----------
    values : array
        Numbers that `kind` can hold.
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
    """The array that `packed` took."""
    return np.frombuffer(base64.b64decode(array["data"]), dtype=f"<{array['kind']}").reshape(array["shape"])


def script_json(value: Any) -> str:
    """JSON that can stand in a script element: it holds no `<`, so that nothing in it ends or opens an element.

    Raises
    ------
    ValueError
        Where a number is not finite, since JSON has none of these.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
