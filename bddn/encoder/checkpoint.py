"""Save and load encoders and checkpoints of a fit, as safetensors files that describe their content."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from bddn.encoder import saved
from bddn.encoder.factor_topy import FactorTopy
from bddn.machine.settings import own_settings
from bddn.spec import FitSpec


def save(model: FactorTopy, spec: FitSpec, path: Path) -> None:
    """Write the weights and buffers of an encoder, and everything that `load` needs to build it again."""
    same = {"grid": model.grid.grid, "has_global": True}  # the file repeats it for each layer
    layers = [[name, {"channels": width, **same}] for name, width in model.widths.items()]
    saved.write(_arrays(model.state_dict()), {"layers": layers, "spec": spec.to_dict()}, path)


@own_settings()
def load(path: Path) -> FactorTopy:
    """Build a saved encoder again.

    Raises
    ------
    RunError
        If the file is missing or damaged, or is not an encoder.
    """
    state, about = saved.read(path, saved.AN_ENCODER, "Fit again.", framework="pt")
    widths, (h, w) = {name: layer["channels"] for name, layer in about["layers"]}, about["layers"][0][1]["grid"]
    model = FactorTopy(state["coords_mm"], widths, (h, w), FitSpec(**about["spec"]))
    model.load_state_dict(state)
    return model


def save_checked(tensors: Mapping[str, Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Replace a file by tensors and JSON values, atomically, with a hash that reveals damage."""
    saved.save_checked(_arrays(tensors), about, path)


def load_checked(path: Path, expected: str, fix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `save_checked`. Parameters and errors as in `saved.load_checked`."""
    arrays, about = saved.load_checked(path, expected, fix)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, about


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    return {name: value.detach().cpu().contiguous().numpy() for name, value in tensors.items()}
