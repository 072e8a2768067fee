"""LoRA (Hu et al., ICLR 2022) by the library peft: low-rank changes of linear layers, added to plain weights."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from bddn.errors import SpecError
from bddn.machine.settings import seeded

ADAPTER = "lora"


def check_installed() -> None:
    """Raise a SpecError if peft is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise SpecError(
            "method lora",
            expected="the package peft",
            got=str(error),
            fix="Run: pip install 'bddn[lora]'; or choose another method.",
        ) from error


def version() -> str:
    """Return the version of peft."""
    from importlib.metadata import version as version_of

    return version_of("peft")


def add(module: nn.Module, rank: int, seed: int) -> None:
    """Add a change of this rank to every linear layer and 1×1 convolution, and train only these changes.

    They are zero at the start. Layers whose output is read by a hook are left out, since the hook would read it without
    the change; so are layers that share their weight with another, since a state has one change for both.

    Raises
    ------
    SpecError
        If the network has no such layer, or has changes by peft already.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    if any(isinstance(one, BaseTunerLayer) for one in module.modules()):
        raise SpecError(
            "method lora",
            expected="a network of plain layers",
            got=f"a {type(module).__name__} whose layers have changes by peft already",
            fix="Merge them by merge_and_unload() in the function that makes the network, or choose another method.",
        )
    owners = Counter(weight.data_ptr() for _, weight in module.named_parameters(remove_duplicate=False))
    targets = [
        name
        for name, one in module.named_modules()
        if _is_linear(one) and not one._forward_hooks and owners[one.weight.data_ptr()] == 1
    ]
    if not targets:
        raise SpecError(
            "method lora",
            expected="a network with linear layers or 1×1 convolutions that share no weights",
            got=f"a {type(module).__name__} without",
            fix="Choose another method.",
        )
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, lora_dropout=0.0)
    with seeded(seed):
        inject_adapter_in_model(config, module, ADAPTER)


@torch.no_grad()
def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of the network as it was before `add`, by name, with the changes added to the weights."""
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {name: one for name, one in module.named_modules() if isinstance(one, LoraLayer)}
    state = {}
    for key, value in module.state_dict().items():
        owner = next((name for name in layers if key.startswith(f"{name}.")), None)
        if owner is None:
            state[key] = value
            continue
        own = key.removeprefix(f"{owner}.")
        if own == "base_layer.weight":
            change = layers[owner].get_delta_weight(ADAPTER)
            state[f"{owner}.weight"] = value + change if change.any() else value
        elif own.startswith("base_layer."):
            state[f"{owner}.{own.removeprefix('base_layer.')}"] = value
    return state


def _is_linear(module: nn.Module) -> bool:
    # Subclasses may read their weight in other ways, such as the output of torch's MultiheadAttention.
    if type(module) is nn.Conv2d:
        return module.kernel_size == (1, 1) and module.groups == 1
    return type(module) is nn.Linear
