"""The contract of a backbone, kept by every spec in cache_specs.

Each runs as a small network of its true class, saved in its true file format; at full size its architecture is built
without weights.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backbones.contract import DEPTH, Small, scenes, shrink
from bddn.backbones.backbone import Backbone
from bddn.backbones.family_kind import FAMILIES
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_spec, load_specs, open_backbone, spec_folder
from bddn.backbones.weights.pretrained import untrained
from bddn.errors import BackboneError, SpecError
from bddn.planted.scenes import draw_scene
from bddn.spec import CacheSpec, FamilySpec, WeightsSpec
from bddn.store.layout import Layer, Layout
from bddn.store.precision import precision
from bddn.testing import BackboneContract
from bddn.testing.contract_of_backbones import difference, global_of
from bddn.tokens import Tokens

NAMES = [name for name, spec in load_specs().items() if isinstance(spec.backbone, FamilySpec)]
HALF = 0.2  # largest difference that bfloat16 makes to a token, in standard deviations of its layer
PARAMETERS = {  # of the vision tower alone, in millions, as published
    "clip_vit_l14": 303,
    "clip_vit_b16": 86,
    "clip_vit_b32_m": 87,
    "clip_vit_b32_s": 87,
    "imagenet_vit_b": 86,
    "imagenet_vit_l": 303,
    "imagenet_vit_h": 631,
    "sam_b": 89,
    "sam_l": 308,
    "sam_h": 637,
    "dinov2_s": 22,
    "dinov2_b": 86,
    "dinov2_l": 304,
    "dinov2_g": 1136,
    "mae_b": 86,
    "mae_l": 303,
    "mae_h": 631,
    "mocov3_s": 22,
    "mocov3_b": 86,
}


@pytest.fixture(scope="module", params=[name for name in NAMES if name != "demo"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def small(name: str, tmp_path_factory: pytest.TempPathFactory) -> Small:
    return shrink(load_spec(name), tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def network(small: Small) -> Backbone:
    return open_backbone(small.spec)


@pytest.fixture(scope="module")
def pixels(network: Backbone) -> Tensor:
    """Five pictures, fewer than there are tokens."""
    return scenes(network)


@pytest.fixture(scope="module")
def tokens(network: Backbone, pixels: Tensor) -> Tokens:
    return network(pixels)


class TestSpecs(BackboneContract):
    """Each spec as a small network, unpooled."""

    @pytest.fixture
    def spec(self, small: Small) -> CacheSpec:
        return small.spec

    @pytest.fixture
    def backbone(self, network: Backbone) -> Backbone:
        return network


def test_layers_are_the_blocks_early_to_late(network: Backbone) -> None:
    assert network.layers == tuple(f"block_{i}" for i in range(DEPTH))


def test_tokens_are_those_of_the_class_that_published_it(small: Small, pixels: Tensor, tokens: Tokens) -> None:
    """Every token of every block: order, places, CLS, registers, and nothing of the final norm."""
    for (name, layer), (local, global_) in zip(tokens.items(), small.reference(pixels), strict=True):
        torch.testing.assert_close(layer.local_.permute(0, 2, 3, 1), local, rtol=0, atol=1e-5)
        torch.testing.assert_close(global_of(tokens, name), global_, rtol=0, atol=1e-5)
        assert local.std() > 0.1  # there is something to compare


def test_lower_precision_gives_nearly_the_same(small: Small, pixels: Tensor, tokens: Tokens) -> None:
    half = open_backbone(small.spec.model_copy(update={"autocast": "bfloat16"}))(pixels)
    for name, layer in half.items():
        far = (layer.local_ - tokens[name].local_).abs().max() / tokens[name].local_.std()
        assert layer.local_.dtype == torch.float32
        assert 0 < far < HALF


def test_pooling_is_that_of_the_whole_grid(small: Small, pixels: Tensor, tokens: Tokens) -> None:
    pooled = open_backbone(small.spec.model_copy(update={"grid": (3, 3)}))(pixels)
    for name, layer in tokens.items():
        expected = layer.local_.unflatten(3, (3, 2)).unflatten(2, (3, 2)).mean((3, 5))  # a half: means of four
        torch.testing.assert_close(pooled[name].local_, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(global_of(pooled, name), global_of(tokens, name), rtol=0, atol=1e-5)


def test_the_forward_ends_with_the_last_layer_that_is_needed(small: Small, pixels: Tensor, tokens: Tokens) -> None:
    about = small.spec.backbone
    assert about is not None
    first = open_backbone(small.spec.model_copy(update={"backbone": about.model_copy(update={"layers": (0,)})}))
    ran = []
    model = first._model  # type: ignore[attr-defined]
    for block in next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == DEPTH):
        block.register_forward_pre_hook(lambda *_: ran.append(1))
    found = first(pixels)
    assert tuple(found) == first.layers == ("block_0",)
    assert torch.equal(found["block_0"].local_, tokens["block_0"].local_)
    assert len(ran) == 1


def test_its_identity_is_stable_and_tells_the_weights(small: Small, network: Backbone) -> None:
    again = open_backbone(small.spec)
    assert again.identity == network.identity == json.loads(json.dumps(network.identity))
    twin = open_backbone(small.spec.model_copy(update={"weights": WeightsSpec(random=0)}))
    assert twin.identity["weights_sha256"] != network.identity["weights_sha256"]
    assert twin.identity["config"] == network.identity["config"]


def test_random_twins_are_as_their_seeds(small: Small, pixels: Tensor, tokens: Tokens) -> None:
    one, again, other = (
        open_backbone(small.spec.model_copy(update={"weights": WeightsSpec(random=seed)}))(pixels) for seed in (1, 1, 2)
    )
    assert difference(one, again) == 0
    assert difference(one, other) > 1e-3
    assert difference(one, tokens) > 1e-3


def test_another_architecture_than_the_specs_is_refused(small: Small) -> None:
    about = small.spec.backbone
    assert isinstance(about, FamilySpec)
    deeper = about.model_copy(update={"architecture": about.architecture | {"num_hidden_layers": DEPTH + 1}})
    with pytest.raises(BackboneError, match=r"num_hidden_layers 4 → 3|missing"):
        open_backbone(small.spec.model_copy(update={"backbone": deeper}))


# --- at full size


@cache
def full_size(name: str) -> Any:
    """The network of a spec without memory for its weights."""
    spec = load_spec(name)
    assert isinstance(spec.backbone, FamilySpec)
    with torch.device("meta"):
        return untrained(FAMILIES[spec.backbone.family], spec.backbone.architecture)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "demo"])
def test_the_full_architecture_has_the_depth_width_and_grid_of_its_spec(name: str) -> None:
    spec, model = load_spec(name), full_size(name)
    assert isinstance(spec.backbone, FamilySpec)
    about = spec.backbone.architecture
    height, width = (side // model.config.patch_size for side in spec.image_hw)
    shapes: list[tuple[int, ...]] = []
    blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) > 3)
    for block in blocks:
        block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    options = {"interpolate_pos_encoding": True} if FAMILIES[spec.backbone.family].interpolates else {}
    with torch.inference_mode():
        model(torch.empty(2, 3, *spec.image_hw, device="meta"), **options)
    channels = about["hidden_size"]
    n_leading = 1 + int(str(about.get("num_register_tokens", 0)))
    expected = (
        (2, height, width, channels) if spec.backbone.family == "sam" else (2, n_leading + height * width, channels)
    )
    assert shapes == [expected] * int(str(about["num_hidden_layers"]))
    words = "".join(line for line in (spec_folder() / f"{name}.yaml").read_text().splitlines() if line.startswith("#"))
    assert f"{about['num_hidden_layers']} blocks of {channels} channels" in words
    assert f"{height} × {width} patches" in words


@pytest.mark.parametrize("name", [name for name in NAMES if name != "demo"])
def test_an_image_has_the_bytes_that_its_shapes_tell(name: str) -> None:
    spec = load_spec(name)
    assert isinstance(spec.backbone, FamilySpec)
    about = spec.backbone.architecture
    layers = tuple(Layer(layer, channels) for layer, (channels, *_) in kind_of(spec).outline(spec).items())
    layout = Layout(1, layers, spec.grid, precision(spec.precision), spec.chunk_images, spec.shard_images)
    tokens = int(str(about["num_hidden_layers"])) * 65 * int(str(about["hidden_size"]))
    assert layout.image_bytes() == pytest.approx(tokens * 2, rel=1e-3)


@pytest.mark.parametrize(("name", "millions"), PARAMETERS.items())
def test_the_full_architecture_has_the_parameters_that_were_published(name: str, millions: int) -> None:
    assert sum(weight.numel() for weight in full_size(name).parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


def test_every_transformer_of_the_tables_is_there() -> None:
    assert PARAMETERS.keys() <= set(NAMES)
    assert {f"dinov2_registers_{size}" for size in "sblg"} <= set(NAMES)
    in_tables = {name for name, spec in load_specs().items() if {"table1", "table2"} & set(spec.groups)}
    assert in_tables == PARAMETERS.keys() - {"dinov2_s"} | {"sd_t20", "sd_t40"}


# --- the traps of each family


def of(name: str, folder: Path) -> Small:
    return shrink(load_spec(name), folder)


def test_a_sam_without_a_cls_token_asks_for_the_mean(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="global_token: mean"):
        open_backbone(of("sam_b", tmp_path).spec.model_copy(update={"global_token": "cls"}))


def test_the_global_token_of_sam_is_the_mean_of_the_full_map(tmp_path: Path) -> None:
    """Not that of the resized one, which sees some patches more than others."""
    small = of("sam_b", tmp_path)
    network = open_backbone(small.spec.model_copy(update={"grid": (4, 4)}))
    pixels = network.preprocess(draw_scene(np.random.default_rng(0)))[None]
    for layer, (local, _) in zip(network(pixels).values(), small.reference(pixels), strict=True):
        assert layer.global_ is not None
        torch.testing.assert_close(layer.global_, local.mean((1, 2)), rtol=0, atol=1e-5)
        assert (layer.local_.mean((2, 3)) - layer.global_).abs().max() > 1e-3


def test_a_sam_of_another_image_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="image_size: 96, the only size"):
        open_backbone(of("sam_b", tmp_path).spec.model_copy(update={"image_size": 64}))


@pytest.mark.parametrize("name", ["clip_vit_b16", "mae_b", "mocov3_s", "dinov2_b", "dinov2_registers_b"])
def test_images_that_are_not_square_have_a_grid_that_is_not(name: str, tmp_path: Path) -> None:
    small = of(name, tmp_path)
    patch = small.spec.image_hw[0] // 6
    network = open_backbone(small.spec.model_copy(update={"image_size": (4 * patch, 7 * patch), "grid": (4, 7)}))
    picture = network.preprocess(draw_scene(np.random.default_rng(0)))
    assert picture.shape == (3, 4 * patch, 7 * patch)
    changed = picture.clone()
    changed[:, 3 * patch :, 5 * patch : 6 * patch] *= -1
    before, after = network(torch.stack([picture, changed]))["block_0"].local_
    far = (after - before).square().sum(0)
    assert divmod(int(far.argmax()), 7) == (3, 5)


def test_registers_that_were_not_trained_are_not_taken_for_a_plain_network(tmp_path: Path) -> None:
    """A checkpoint with registers does not open as one without, where they would be dropped."""
    small = of("dinov2_registers_b", tmp_path)
    about = {"family": "dinov2", "architecture": {}}
    with pytest.raises(BackboneError, match="model_type 'dinov2_with_registers'"):
        open_backbone(CacheSpec.parse(small.spec.to_dict() | {"backbone": about}, "test"))


def test_a_folder_without_weights_as_transformers_saves_them_is_refused(tmp_path: Path) -> None:
    """FSDP and DeepSpeed save the parts of their processes."""
    small = of("dinov2_b", tmp_path)
    folder = Path(str(small.spec.weights.folder if small.spec.weights else ""))
    (folder / "model.safetensors").rename(folder / "mp_rank_00_model_states.pt")
    with pytest.raises(BackboneError, match=r"neither model\.safetensors nor pytorch_model\.bin.*save_pretrained"):
        open_backbone(small.spec)


def test_mae_read_by_its_own_class_would_shuffle_the_patches(tmp_path: Path) -> None:
    """The trap that the plain class avoids: at mask ratio 0, patches still come in a random order."""
    import transformers

    small = of("mae_b", tmp_path)
    assert small.spec.weights is not None
    network = open_backbone(small.spec)
    pixels = network.preprocess(draw_scene(np.random.default_rng(0)))[None]
    own: Any = transformers.ViTMAEModel.from_pretrained(small.spec.weights.folder, mask_ratio=0.0)
    with torch.inference_mode():
        shuffled = own.eval()(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
    ours = network(pixels)["block_2"].local_.flatten(2).transpose(1, 2)
    assert (shuffled - ours).abs().max() > 0.1
    order = (ours[0][:, None] - shuffled[0]).square().sum(2).argmin(1)
    assert sorted(order.tolist()) == list(range(36))  # the same tokens, elsewhere
    torch.testing.assert_close(shuffled[0, order], ours[0], rtol=0, atol=1e-4)


def test_blocks_that_the_config_does_not_tell_of_are_refused(tmp_path: Path) -> None:
    small = of("mae_b", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": DEPTH - 1}))
    about = small.spec.backbone
    assert isinstance(about, FamilySpec)
    with pytest.raises(BackboneError, match=r"blocks that config\.json does not contain.*layers\.2\."):
        open_backbone(small.spec.model_copy(update={"backbone": about.model_copy(update={"architecture": {}})}))


def test_open_clips_own_files_in_a_folder_of_the_hub_are_converted(tmp_path: Path) -> None:
    """As published by some repositories, without any file of transformers."""
    from backbones.sources import write_open_clip

    large = load_spec("clip_vit_b32_s")
    about = shrink(large, tmp_path).spec.backbone
    assert isinstance(about, FamilySpec)
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    small = [int(str(about.architecture[name])) for name in ("image_size", "patch_size", *sizes)]
    folder = tmp_path / "snapshot"
    folder.mkdir()
    source = write_open_clip(folder / "open_clip_pytorch_model.bin", 3, *small)
    (folder / "config.json").write_text("{}")  # as some have beside it
    spec = large.model_copy(
        update={"backbone": about, "weights": WeightsSpec(folder=str(folder)), "image_size": 192, "grid": (6, 6)}
    )
    network = open_backbone(spec)
    pixels = network.preprocess(draw_scene(np.random.default_rng(0)))[None]
    with torch.inference_mode():
        expected = source(pixels)[1]
    torch.testing.assert_close(global_of(network(pixels), "block_1"), expected[:, 0], rtol=0, atol=1e-5)
