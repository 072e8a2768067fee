"""Read the challenge's `mapping_*.npy`, a pickled dict, without executing any of its code.

Such a file is a numpy header and a pickle of a 0-d object array. The pickle may name four harmless constructors of
numpy, which are replaced by classes that only record their arguments. Any other name is refused.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from bddn.errors import DataError
from bddn.files.filekind import NPY, NPY_OBJECTS, explain

MAX_BYTES = 1 << 20


class _Recorded:
    """A record of the arguments and state that a pickle passed to a constructor."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


_ALLOWED_NAMES = {
    *(
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    ),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # the form of bytes in older protocols
            return lambda text, encoding: text.encode("latin1")
        if (module, name) not in _ALLOWED_NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Recorded


def read_label_map(path: Path) -> dict[int, str]:
    """Return the names of an atlas's labels, e.g. {0: 'Unknown', 1: 'V1v'}.

    Raises
    ------
    DataError
        If the file is missing, or is not a pickled dict of int to str.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        file = io.BytesIO(path.read_bytes())
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if shape != () or dtype != np.dtype(object):
            raise ValueError(f"an array of {dtype}, shape {shape}")
        array = _InertUnpickler(file).load()
        (value,) = array.state[-1]
        return {_int(k): _text(v) for k, v in value.items()}
    except Exception as error:  # noqa: BLE001 - any error that a malicious file causes leads to one message
        got = f"something else ({error or type(error).__name__})"
    got, fix = explain(path, got, "Restore the file from the challenge's download.", NPY, NPY_OBJECTS)
    raise DataError(path, expected="a pickled dict from label numbers to names", got=got, fix=fix)


def _int(value: object) -> int:
    if isinstance(value, _Recorded):  # a numpy scalar: its dtype and its bytes
        dtype, raw = value.arguments
        kind = dtype.arguments[0]  # type: ignore[attr-defined]
        if kind[0] not in "iu":
            raise ValueError(f"label of type {kind}")
        order: Any = "big" if dtype.state[1] == ">" else "little"  # type: ignore[attr-defined]
        return int.from_bytes(raw, order, signed=kind[0] == "i")  # type: ignore[arg-type]
    if type(value) is not int:
        raise ValueError(f"label {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"name {value!r}")
    return value
