"""Save and load encoders and checkpoints of a fit, as safetensors files that describe their content."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from bddn.encoder import saved
from bddn.encoder.factor_topy import FactorTopy
from bddn.errors import RunError
from bddn.machine.settings import own_settings
from bddn.spec import FitSpec

FIX = "Fit again, or copy the file again."
VOXELS = "voxels"  # in the checkpoint of a fit, those that it trains; earlier versions did not write them
MAX_PLACES = 1 << 14  # of a grid; blurs need memory for its square


def save(model: FactorTopy, spec: FitSpec, path: Path) -> None:
    """Write the weights and buffers of an encoder, and everything that `load` needs to build it again."""
    same = {"grid": model.grid.grid, "has_global": True}  # the file repeats it for each layer
    layers = [[name, {"channels": width, **same}] for name, width in model.widths.items()]
    saved.write(_arrays(model.state_dict()), {"layers": layers, "spec": spec.to_dict()}, path)


@own_settings()
def load(path: Path) -> FactorTopy:
    """Build a saved encoder again.

    The file may be a stranger's: nothing in it is run, and nothing is made that is larger than its tensors.

    Raises
    ------
    RunError
        If the file is missing or damaged, or is not an encoder.
    """
    state, about = saved.read(path, saved.AN_ENCODER, FIX, framework="pt")
    try:
        widths, grid, spec = _described(about, state)
        model = FactorTopy(state["coords_mm"], widths, grid, spec)
        model.load_state_dict(state)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        got = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise RunError(path, expected=saved.AN_ENCODER, got=got, fix=FIX) from error
    return model


def _described(
    about: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, int], tuple[int, int], FitSpec]:
    """Return the widths of the layers, the grid and the settings that a file describes.

    Raises
    ------
    ValueError
        If they do not agree with the shapes of its tensors.
    """
    spec, layers = FitSpec(**about["spec"]), list(about["layers"])
    widths = {str(name): int(layer["channels"]) for name, layer in layers}
    h, w = map(int, layers[0][1]["grid"])
    n, d = len(state["coords_mm"]), spec.channels
    shapes = {"coords_mm": (n, 3), "channels": (n, d), "bias": (n,)}
    for kind in ("local", "global"):
        shapes |= {f"align_{kind}.{k}": (width, d) for k, width in enumerate(widths.values())}
    if spec.selection == "topological":
        code = 6 * spec.code_frequencies  # a sine and a cosine for each of three axes
        shapes["selectors.space.0.weight"] = (spec.selector_width, code)
    for name, shape in shapes.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(f"'{name}' of shape {tuple(state[name].shape)}, not {shape}")
    if len(widths) < len(layers) or not 0 < h * w <= MAX_PLACES:
        raise ValueError(f"{len(layers)} layers, a grid of {h} × {w}")
    return widths, (h, w), spec


def save_checked(tensors: Mapping[str, Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Replace a file by tensors and JSON values, atomically, with a hash that reveals damage."""
    saved.save_checked(_arrays(tensors), about, path)


def load_checked(path: Path, expected: str, fix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `save_checked`. Parameters and errors as in `saved.load_checked`."""
    arrays, about = saved.load_checked(path, expected, fix)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, about


def load_training(path: Path | None) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the checkpoint of a fit: its tensors and JSON values; None if there is none.

    Raises
    ------
    RunError
        If it is damaged.
    """
    if path is None or not path.exists():
        return None
    return load_checked(path, "the checkpoint of a fit", "Delete this file and fit again.")


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    return {name: value.detach().cpu().contiguous().numpy() for name, value in tensors.items()}
