"""Save and load an encoder: one safetensors file that says by itself what it is."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bddn.encoder.factor_topy import FactorTopy
from bddn.errors import RunError
from bddn.spec import FitSpec

KEY = "bddn"  # one key only: the order of several is not kept, and equal fits shall give equal bytes


def save(model: FactorTopy, layer_channels: dict[str, int], spec: FitSpec, path: Path) -> None:
    """Write weights, buffers and whatever is needed to build the model again."""
    about = {"layers": list(layer_channels.items()), "grid": list(model.grid), "spec": spec.to_dict()}
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={KEY: json.dumps(about, sort_keys=True)})


def load(path: Path) -> FactorTopy:
    """Build the saved encoder again.

    Raises
    ------
    RunError
        Where the file is missing, damaged or not an encoder.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, KeyError, SafetensorError, ValueError) as error:
        raise RunError(
            path, expected="an encoder that 'bddn fit' wrote", got=f"{type(error).__name__}: {error}", fix="Fit again."
        ) from error
    model = FactorTopy(state["coords_mm"], dict(about["layers"]), tuple(about["grid"]), FitSpec(**about["spec"]))
    model.load_state_dict(state)
    return model
