"""The contract of a backbone, kept by every spec of Stable Diffusion in cache_specs, on a small pipeline folder."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from backbones.small_diffusion import ARCHITECTURE, write_small_diffusion
from bddn.backbones.backbone import Backbone
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_spec, open_backbone, spec_names
from bddn.planted.scenes import draw_scene
from bddn.spec import CacheSpec, DiffusionSpec
from bddn.tokens import Tokens

NAMES = [name for name in spec_names() if isinstance(load_spec(name).backbone, DiffusionSpec)]
PARAMETERS = {"unet": 859.5, "vae": 83.7, "text_encoder": 123.1}  # of Stable Diffusion 1.5, in millions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "sd"
    write_small_diffusion(folder)
    return folder


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(name: str, folder: Path) -> Backbone:
    large = load_spec(name)
    assert isinstance(large.backbone, DiffusionSpec)
    small = large.backbone.to_dict() | {"architecture": ARCHITECTURE}
    changed = {"backbone": small, "weights": {"folder": str(folder)}, "image_size": 64, "grid": [8, 8]}
    return open_backbone(CacheSpec.parse(large.to_dict() | changed, name))


@pytest.fixture(scope="module")
def pixels(network: Backbone) -> Tensor:
    return torch.stack([network.preprocess(draw_scene(np.random.default_rng([7, i]))) for i in range(3)])


@pytest.fixture(scope="module")
def tokens(network: Backbone, pixels: Tensor) -> Tokens:
    return network(pixels)


def stacked(tokens: Tokens) -> Tensor:
    """All tokens of an image side by side, (B, …)."""
    return torch.cat(
        [part.flatten(1) for t in tokens.values() for part in (t.local_, t.global_) if part is not None], 1
    )


def test_layers_are_those_that_the_spec_tells_of(name: str, network: Backbone, tokens: Tokens) -> None:
    told = kind_of(load_spec(name)).outline(load_spec(name))
    assert list(network.layers) == list(tokens) == list(told)
    widths = dict(zip([320, 640, 1280], [8, 16, 24], strict=True))
    for layer, (channels, *_) in told.items():
        small = tokens[layer].local_.shape[1]
        assert small == widths[channels] or (channels, small) == (1280, 32)
        assert tokens[layer].local_.shape == (3, small, 8, 8)
        assert tokens[layer].local_.dtype == torch.float32


def test_rows_are_those_of_the_images_whatever_their_batch(network: Backbone, pixels: Tensor, tokens: Tokens) -> None:
    order = [2, 0, 1]
    expected = stacked(tokens)
    assert (stacked(network(pixels[order])) - expected[order]).abs().max() <= 1e-4
    assert (stacked(network(pixels[:1])) - expected[:1]).abs().max() <= 1e-4
    assert (expected[0] - expected[1]).abs().max() > 0.1  # images differ


def test_the_same_images_give_the_same_bytes(network: Backbone, pixels: Tensor, tokens: Tokens) -> None:
    assert torch.equal(stacked(network(pixels)), stacked(tokens))


def test_half_precision_gives_nearly_the_same(name: str, network: Backbone, pixels: Tensor, tokens: Tokens) -> None:
    spec = network._spec.model_copy(update={"autocast": "bfloat16"})  # type: ignore[attr-defined]
    half, full = stacked(open_backbone(spec)(pixels)), stacked(tokens)
    far = (half - full).square().mean() / full.var()
    assert 0 < far < 0.01


def test_the_full_architecture_is_stable_diffusion_1_5() -> None:
    architectures: list[Any] = []
    for name in NAMES:
        about = load_spec(name).backbone
        assert isinstance(about, DiffusionSpec)
        architectures.append(about.architecture)
    assert all(one == architectures[0] for one in architectures)
    found = architectures[0]
    with torch.device("meta"):
        models: dict[str, Any] = {
            "unet": diffusers.UNet2DConditionModel(**found["unet"]),
            "vae": diffusers.AutoencoderKL(**found["vae"]),
            "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**found["text_encoder"])),
        }
    for part, model in models.items():
        millions = sum(weight.numel() for weight in model.parameters()) / 1e6
        assert millions == pytest.approx(PARAMETERS[part], abs=0.1), part


@pytest.mark.parametrize(
    ("name", "n_layers", "channels"),
    [
        ("sd_t20", 20, {320, 640, 1280}),
        ("sd_t25", 20, {320, 640, 1280}),
        ("sd_t40", 20, {320, 640, 1280}),
        ("sd_steps", 50, {640}),
        ("sd_grid", 40, {320, 640, 1280}),
    ],
)
def test_every_row_and_panel_is_there(name: str, n_layers: int, channels: set[int]) -> None:
    assert name in NAMES
    found = kind_of(load_spec(name)).outline(load_spec(name))
    assert len(found) == n_layers
    assert {layer.channels for layer in found.values()} == channels
