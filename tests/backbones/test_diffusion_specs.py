"""The contract of a backbone, kept by every spec of a diffusion pipeline in cache_specs, on a small pipeline folder."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import Tensor

from backbones.contract import scenes
from backbones.small_diffusion import ARCHITECTURE, write_small_diffusion
from backbones.small_pipelines import small_spec
from bddn.backbones.backbone import Backbone
from bddn.backbones.diffusion.families import FAMILIES, outline_of
from bddn.backbones.kind import Outline, kind_of
from bddn.backbones.probe import measure_orders
from bddn.backbones.registry import load_spec, load_specs, open_backbone
from bddn.spec import CacheSpec, DiffusionSpec
from bddn.tokens import Tokens

SECTIONS = {name: about for name, spec in load_specs().items() if isinstance(about := spec.backbone, DiffusionSpec)}
NAMES = [name for name, about in SECTIONS.items() if about.family == "stable_diffusion"]
LATER = [name for name in SECTIONS if name not in NAMES]
PARAMETERS = {"unet": 859.5, "vae": 83.7, "text_encoder": 123.1}  # of Stable Diffusion 1.5, in millions


PUBLISHED = {  # millions of parameters; those of Stable Diffusion 3.5 medium with its table of positions
    "sdxl": 2567,
    "sd3_medium": 2028,
    "sd35_medium": 2470,
    "sd35_large": 8057,
    "flux_schnell": 11_900,
    "flux_dev": 11_900,
}


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
    small = SECTIONS[name].to_dict() | {"architecture": ARCHITECTURE}
    changed = {"backbone": small, "weights": {"folder": str(folder)}, "image_size": 64, "grid": [8, 8]}
    return open_backbone(CacheSpec.parse(load_spec(name).to_dict() | changed, name))


@pytest.fixture(scope="module")
def pixels(network: Backbone) -> Tensor:
    return scenes(network, 3)


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
    architectures = [about.architecture for about in SECTIONS.values() if about.family == "stable_diffusion"]
    assert all(one == architectures[0] for one in architectures)
    found: Any = architectures[0]
    with torch.device("meta"):
        models: dict[str, Any] = {
            "unet": diffusers.UNet2DConditionModel(**found["unet"]),
            "vae": diffusers.AutoencoderKL(**found["vae"]),
            "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**found["text_encoder"])),
        }
    for part, model in models.items():
        millions = sum(weight.numel() for weight in model.parameters()) / 1e6
        assert millions == pytest.approx(PARAMETERS[part], abs=0.1), part


@pytest.mark.parametrize("name", LATER)
def test_a_spec_of_a_later_pipeline_keeps_the_contract(name: str, tmp_path: Path) -> None:
    spec = small_spec(load_spec(name), tmp_path)
    network = open_backbone(spec)
    pixels = scenes(network, 2)
    tokens = network(pixels)
    told = kind_of(load_spec(name)).outline(load_spec(name))
    assert list(network.layers) == list(tokens) == list(told)
    for layer, small in kind_of(spec).outline(spec).items():
        assert tokens[layer].local_.shape == (2, small.channels, *spec.grid)
    assert (stacked(tokens)[0] - stacked(tokens)[1]).abs().max() > 0.01  # images differ
    orders = measure_orders(network, spec)
    coarse = ("mid", "down_2", "up_0")  # 4 × 4 places of random weights, which mix much of the image
    assert all(order.kind == "rows" or layer.startswith(coarse) for layer, order in orders.items()), orders
    assert max(order.agreement for order in orders.values()) > 0.9


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_is_as_large_as_published(name: str) -> None:
    about = SECTIONS[name]
    family = FAMILIES[about.family]
    with torch.device("meta"):
        model = getattr(diffusers, family.model)(**about.architecture[family.network])
        diffusers.AutoencoderKL(**about.architecture["vae"])
    weights = [*model.parameters(), *(model.buffers() if name == "sd35_medium" else ())]
    assert sum(weight.numel() for weight in weights) / 1e6 == pytest.approx(PUBLISHED[name], rel=0.02)
    blocks = outline_of(about.family, about.architecture, load_spec(name).image_hw)
    if family.is_flow:
        modules = [*model.transformer_blocks, *getattr(model, "single_transformer_blocks", ())]
        assert len(blocks) == len(modules)
        assert {block.channels for block in blocks.values()} == {model.inner_dim}
        assert {block.places for block in blocks.values()} == {(64, 64)}
    else:
        assert sum("resnet" in block for block in blocks) == 6 + 2 + 9
        assert blocks["down_0.resnet_0"] == Outline(320, (128, 128))
        assert blocks["mid.attention_0"] == Outline(1280, (32, 32))


def test_every_later_spec_has_one_of_these_networks() -> None:
    for name in LATER:
        assert SECTIONS[name].architecture == SECTIONS[name.removesuffix("_grid")].architecture
    assert {name.removesuffix("_grid") for name in LATER} == PUBLISHED.keys()


@pytest.mark.parametrize(
    ("name", "n_layers", "channels"),
    [
        ("sd_t20", 20, {320, 640, 1280}),
        ("sd_t25", 20, {320, 640, 1280}),
        ("sd_t40", 20, {320, 640, 1280}),
        ("sd_steps", 50, {640}),
        ("sd_grid", 40, {320, 640, 1280}),
        ("sdxl", 15, {320, 640, 1280}),
        ("sdxl_grid", 30, {320, 640, 1280}),
        ("sd3_medium", 24, {1536}),
        ("sd35_medium", 24, {1536}),
        ("sd35_large", 19, {2432}),
        ("flux_schnell", 19, {3072}),
        ("flux_schnell_grid", 25, {3072}),
        ("flux_dev", 19, {3072}),
    ],
)
def test_every_row_and_panel_is_there(name: str, n_layers: int, channels: set[int]) -> None:
    assert name in SECTIONS
    found = kind_of(load_spec(name)).outline(load_spec(name))
    assert len(found) == n_layers
    assert {layer.channels for layer in found.values()} == channels
