"""The weights of a user's own network in a safetensors file, apart from the code that builds it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bddn.errors import BackboneError
from bddn.files.atomic import replace_file


def write_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write the weights and buffers of a module. Equal ones give equal bytes."""
    from safetensors.torch import save_file

    # clones, because safetensors refuses weights that two parts of a network share
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in sorted(state.items())}
    replace_file(path, lambda aside: save_file(tensors, aside))


def load_state(module: nn.Module, path: Path) -> None:
    """Replace all weights and buffers of a module, or none.

    Raises
    ------
    BackboneError
        If the file is missing, damaged or another format; if it lacks a weight or buffer of the module, has an unknown
        one, or one of another shape or type.
    """
    from bddn.backbones.weights.convert import read_checkpoint
    from bddn.backbones.weights.loading import refuse_misfits

    refuse_other_state(module)
    found, own = read_checkpoint(path), module.state_dict()
    misfits = {
        "missing": sorted(own.keys() - found.keys()),
        "unknown": sorted(found.keys() - own.keys()),
        "of another shape or type": [
            f"{name} {_form(found[name])}, not {_form(value)}"
            for name, value in sorted(own.items())
            if name in found and _form(found[name]) != _form(value)
        ],
    }
    expected = f"the {len(own)} weights and buffers of this {type(module).__name__}"
    refuse_misfits(path, expected, misfits, "Use the file of this network, or correct 'state' in the spec.")
    module.load_state_dict(found)


def refuse_other_state(module: nn.Module) -> None:
    """Refuse a module whose state is not dense tensors alone, for a safetensors file cannot contain others.

    Raises
    ------
    BackboneError
    """
    from bddn.backbones.weights.convert import refuse_not_dense

    others = [name for name, value in module.state_dict().items() if not isinstance(value, torch.Tensor)]
    if others:
        raise BackboneError(
            type(module).__name__,
            expected="a state of tensors only",
            got=f"other objects: {', '.join(others[:8])}",
            fix="Give the network as it was before it was quantized."
            if any("_packed_params" in name for name in others)
            else "Remove get_extra_state from the module, or keep this state in its code.",
        )
    refuse_not_dense(type(module).__name__, module.state_dict())


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
