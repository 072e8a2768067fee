"""Layers, channels and places told from a spec alone are those that the network has."""

from typing import Any

import diffusers
import pytest
import torch

from backbones.small_diffusion import ARCHITECTURE, UNET
from bddn.backbones.kind import Outline, kind_of
from bddn.backbones.registry import load_spec, open_backbone, spec_names
from bddn.errors import SpecError
from bddn.spec import CacheSpec

VIT = {"num_hidden_layers": 4, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 32}


def _spec(family: str = "vit", architecture: Any = None, layers: Any = None, **fields: Any) -> CacheSpec:
    backbone = {"family": family, "architecture": architecture or VIT | {"patch_size": 8}, "layers": layers}
    value = {"title": "t", "backbone": backbone, "weights": "random", "image_size": 32, "grid": [2, 2]} | fields
    return CacheSpec.parse(value, "test")


def outline(spec: CacheSpec) -> dict[str, Outline]:
    return kind_of(spec).outline(spec)


def test_the_outline_is_what_the_network_gives() -> None:
    spec = _spec(layers=["block_3", 0, "50%"])
    backbone = open_backbone(spec)
    tokens = backbone(torch.zeros(1, 3, 32, 32))
    assert {name: layer.channels for name, layer in outline(spec).items()} == {
        name: tokens[name].local_.shape[1] for name in backbone.layers
    }
    assert list(outline(spec)) == ["block_0", "block_2", "block_3"]


def test_places_are_patches_of_the_image_that_is_seen_not_of_the_architectures() -> None:
    told = outline(_spec(image_size=[48, 64]))
    assert told == dict.fromkeys((f"block_{i}" for i in range(4)), Outline(24, (6, 8)))


@pytest.mark.parametrize("image", [(64, 64), (128, 64)])
def test_channels_and_places_of_a_u_net_are_those_of_its_blocks(image: tuple[int, int]) -> None:
    about = {"preprocess": "native", "global_token": "mean", "image_size": list(image)}
    spec = _spec("stable_diffusion", ARCHITECTURE, ["**@t2"], **about)
    unet: Any = diffusers.UNet2DConditionModel(**UNET)
    seen: dict[str, tuple[int, ...]] = {}

    def look(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            seen[f"{name}@t2"] = tuple((output if torch.is_tensor(output) else output[0]).shape[1:])

        return hook

    sides = [(f"down_{i}", one) for i, one in enumerate(unet.down_blocks)] + [("mid", unet.mid_block)]
    for side, block in sides + [(f"up_{i}", one) for i, one in enumerate(unet.up_blocks)]:
        for kind in ("resnet", "attention"):
            for j, one in enumerate(getattr(block, f"{kind}s", ())):
                one.register_forward_hook(look(f"{side}.{kind}_{j}"))
    latent = torch.zeros(1, 4, image[0] // 8, image[1] // 8)
    unet(latent, 1, encoder_hidden_states=torch.zeros(1, 3, UNET["cross_attention_dim"]))
    assert outline(spec) == {name: Outline(shape[0], (shape[1], shape[2])) for name, shape in seen.items()}


@pytest.mark.parametrize("name", [name for name in spec_names() if name != "demo"])  # whose network is what is planted
def test_every_spec_tells_its_layers(name: str) -> None:
    assert outline(load_spec(name))


@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "patch_size"])
def test_an_architecture_that_does_not_tell_or_tells_nonsense(field: str) -> None:
    architecture = {name: value for name, value in (VIT | {"patch_size": 8}).items() if name != field}
    assert outline(_spec(architecture=architecture)) == {}
    with pytest.raises(SpecError, match=f"{field}.*got 'many'"):
        outline(_spec(architecture=architecture | {field: "many"}))


def test_a_layer_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SpecError, match="block_4"):
        outline(_spec(layers=["block_4"]))
