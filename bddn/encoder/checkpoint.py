"""Save and load encoders, and what else a fit keeps: safetensors files that say what they are."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bddn.encoder.factor_topy import FactorTopy
from bddn.errors import RunError
from bddn.files.atomic import replace_file
from bddn.files.filekind import SAFETENSORS, explain
from bddn.files.paths import printable
from bddn.machine.settings import own_settings
from bddn.spec import FitSpec

KEY = "bddn"  # one key only: the order of several is not kept, and equal fits shall give equal bytes


def save(model: FactorTopy, spec: FitSpec, path: Path) -> None:
    """Write weights, buffers and whatever is needed to build the model again."""
    same = {"grid": model.grid.grid, "has_global": True}  # of all layers, and yet said of each in the file
    layers = [[name, {"channels": width, **same}] for name, width in model.widths.items()]
    _write(model.state_dict(), {"layers": layers, "spec": spec.to_dict()}, path)


@own_settings()
def load(path: Path) -> FactorTopy:
    """Build the saved encoder again.

    Raises
    ------
    RunError
        Where the file is missing, damaged or not an encoder.
    """
    state, about = _read(path, "an encoder that 'bddn fit' wrote", "Fit again.")
    widths, (h, w) = {name: layer["channels"] for name, layer in about["layers"]}, about["layers"][0][1]["grid"]
    model = FactorTopy(state["coords_mm"], widths, (h, w), FitSpec(**about["spec"]))
    model.load_state_dict(state)
    return model


def save_checked(tensors: Mapping[str, Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Replace a file by tensors and JSON values, in one step, with a hash by which damage is seen."""
    replace_file(path, lambda aside: _write(tensors, {**about, "sha256": _sha256(tensors)}, aside))


def load_checked(path: Path, expected: str, fix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checked` wrote.

    Parameters
    ----------
    path : Path
    expected, fix : str
        What the file should be, and what to do where it is not.

    Raises
    ------
    RunError
        Where it is not what was saved.
    """
    tensors, about = _read(path, expected, fix)
    if about.pop("sha256", None) != _sha256(tensors):
        raise RunError(path, expected=f"{expected}, as it was saved", got="other bytes", fix=fix)
    return tensors, about


def _write(tensors: Mapping[str, Tensor], about: Mapping[str, Any], path: Path) -> None:
    state = {name: value.contiguous() for name, value in tensors.items()}
    save_file(state, path, metadata={KEY: json.dumps(about)})


def _read(path: Path, expected: str, fix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with path.open("rb") as opened, safe_open(_in_utf8(path, opened.fileno()), framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 - not a mapping
    except (OSError, KeyError, SafetensorError, ValueError) as error:
        got, fix = explain(path, f"{type(error).__name__}: {error}", fix, SAFETENSORS)
        raise RunError(path, expected=expected, got=got, fix=fix) from error


def _in_utf8(path: Path, fd: int) -> Path:
    """The path, or where its name is in no valid encoding, which safetensors refuses, that of the opened file."""
    return path if printable(str(path)) == str(path) else Path(f"/proc/self/fd/{fd}")


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].detach().cpu().contiguous().numpy().data)
    return found.hexdigest()
