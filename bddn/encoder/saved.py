"""The safetensors files of a fit as NumPy arrays, written and read without building a network or loading torch."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bddn.errors import RunError
from bddn.files.atomic import replace_file
from bddn.files.filekind import SAFETENSORS, explain
from bddn.files.paths import printable

KEY = "bddn"  # one key, because the order of several is not kept, and equal fits must give equal bytes
AN_ENCODER = "an encoder written by 'bddn fit'"

Arrays = Mapping[str, npt.NDArray[Any]]


def write(arrays: Arrays, about: Mapping[str, Any], path: Path) -> None:
    """Write contiguous arrays, and JSON values that describe them."""
    save_file(dict(arrays), path, metadata={KEY: json.dumps(about)})


def read(
    path: Path, expected: str, fix: str, names: Iterable[str] | None = None, framework: str = "numpy"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read arrays by name, and the JSON values that describe them.

    Parameters
    ----------
    path : Path
    expected, fix : str
        Text of the error: what the file should be, and the next step.
    names : iterable of str, optional
        Arrays to read; by default all.
    framework : {'numpy', 'pt'}
        Return NumPy arrays or torch tensors.

    Raises
    ------
    RunError
        If the file is missing or damaged, is another kind of file, or lacks one of the names.
    """
    try:
        with path.open("rb") as opened, safe_open(_in_utf8(path, opened.fileno()), framework=framework) as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
            return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}, about
    except (OSError, KeyError, SafetensorError, ValueError) as error:
        got, fix = explain(path, f"{type(error).__name__}: {error}", fix, SAFETENSORS)
        raise RunError(path, expected=expected, got=got, fix=fix) from error


def save_checked(arrays: Arrays, about: Mapping[str, Any], path: Path) -> None:
    """Replace a file by arrays and JSON values, atomically, with a hash that reveals damage."""
    replace_file(path, lambda aside: write(arrays, {**about, "sha256": _sha256(arrays)}, aside))


def load_checked(path: Path, expected: str, fix: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read a file of `save_checked`. Parameters as in `read`.

    Raises
    ------
    RunError
        If the content differs from what was saved.
    """
    arrays, about = read(path, expected, fix)
    if about.pop("sha256", None) != _sha256(arrays):
        raise RunError(path, expected=f"{expected}, as it was saved", got="other bytes", fix=fix)
    return arrays, about


def _in_utf8(path: Path, fd: int) -> Path:
    """Return the path, or that of the opened file if the name has no valid encoding, which safetensors refuses."""
    return path if printable(str(path)) == str(path) else Path(f"/proc/self/fd/{fd}")


def _sha256(arrays: Arrays) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(name.encode())
        found.update(np.ascontiguousarray(arrays[name]).data)
    return found.hexdigest()
