"""Networks of timm: the contract for each spec, with timm's own intermediates as the reference, and what is refused.

Each spec runs as a small network of its true class, with weights in a safetensors file in timm's names.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from backbones.contract import scenes
from backbones.sources import seeded
from backbones.timm_here import timm
from bddn.backbones.backbone import Backbone
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_spec, load_specs, open_backbone
from bddn.backbones.untrained import untrained_spec
from bddn.cli import app
from bddn.errors import BackboneError, SpecError
from bddn.planted.scenes import draw_scene
from bddn.spec import CacheSpec, TimmSpec
from bddn.testing import BackboneContract
from bddn.testing.contract_of_backbones import difference
from bddn.tokens import Tokens

timm()
NAMES = [name for name, spec in load_specs().items() if isinstance(spec.backbone, TimmSpec)]
SMALL = [name for name in NAMES if "_l" not in name]  # the large ones have the same classes
PLACES, DEPTH = (5, 7), 3
SAVED = {"depth": 2, "embed_dim": 48, "num_heads": 4}  # of networks that timm saves
PUBLISHED = {"pe_core_b16": 0.09, "pe_core_l14": 0.32, "pe_spatial_b16": 0.09, "pe_spatial_l14": 0.30}  # in 10⁹
PUBLISHED |= {"eva02_b14": 0.086, "dinov3_b_timm": 0.086, "dinov3_l_timm": 0.30}


def small_spec(name: str, folder: Path, **fields: Any) -> CacheSpec:
    """The spec of a small network; its image is not square, so that rows and columns cannot be confused."""
    spec = load_spec(name)
    about = spec.section(TimmSpec)
    patch = int(str(about.architecture["patch_size"]))
    sizes = dict(about.architecture) | {"depth": DEPTH, "embed_dim": 48, "num_heads": 4}
    changed = {
        "backbone": about.to_dict() | {"architecture": sizes},
        "weights": {"folder": str(folder)},
        "image_size": [side * patch for side in PLACES],
        "grid": PLACES,
    }
    return CacheSpec.parse(spec.to_dict() | changed | fields, name)


def made(spec: CacheSpec, size: tuple[int, int]) -> Any:
    """The network as timm makes it for another image size, with weights that are all distinct."""
    about = spec.section(TimmSpec)
    return seeded(timm().create_model(about.model, img_size=size, **about.architecture), 3)


@pytest.fixture(scope="module", params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def small(name: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[CacheSpec, Any]:
    """A spec, and the network that wrote its weights."""
    folder = tmp_path_factory.mktemp(name)
    spec = small_spec(name, folder)
    network = made(spec, spec.image_hw)
    save_file(network.state_dict(), folder / "model.safetensors")
    return spec, network


@pytest.fixture(scope="module")
def network(small: tuple[CacheSpec, Any]) -> Backbone:
    return open_backbone(small[0])


@pytest.fixture(scope="module")
def pixels(network: Backbone) -> Tensor:
    return scenes(network)


@pytest.fixture(scope="module")
def tokens(network: Backbone, pixels: Tensor) -> Tokens:
    return network(pixels)


class TestTimm(BackboneContract):
    """Each spec as a small network, unpooled."""

    @pytest.fixture
    def spec(self, small: tuple[CacheSpec, Any]) -> CacheSpec:
        return small[0]

    @pytest.fixture
    def backbone(self, network: Backbone) -> Backbone:
        return network


def test_tokens_are_timms_intermediates(small: tuple[CacheSpec, Any], pixels: Tensor, tokens: Tokens) -> None:
    with torch.inference_mode():
        seen = small[1].forward_intermediates(
            pixels, norm=False, output_fmt="NCHW", return_prefix_tokens=True, intermediates_only=True
        )
    assert list(tokens) == [f"blocks.{i}" for i in range(DEPTH)]
    for layer, (local, prefix) in zip(tokens.values(), seen, strict=True):
        torch.testing.assert_close(layer.local_, local, rtol=0, atol=1e-4)
        assert layer.global_ is not None
        torch.testing.assert_close(layer.global_, prefix[:, 0], rtol=0, atol=1e-4)
        assert local.std() > 0.1


def test_the_network_is_known_by_name_weights_and_numbers_not_by_timms_source(
    small: tuple[CacheSpec, Any], network: Backbone
) -> None:
    spec, about = small[0], small[0].section(TimmSpec)
    identity = network.identity
    assert open_backbone(spec).identity == identity == json.loads(json.dumps(identity))
    assert identity["timm"] == {"model": about.model, "architecture": about.architecture}
    assert identity["code"]["source"] == {}
    assert identity["made_with"]["timm"] == timm().__version__
    kind = kind_of(spec)
    assert kind.may_match(spec, network.layers, identity)
    twin = untrained_spec({"backbone": identity, "spec": spec.identity()}, network.layers, 5)
    assert twin.section(TimmSpec).architecture == about.architecture
    assert kind.outline(twin) == kind.outline(spec)


def test_registers_are_neither_cls_nor_places(small: tuple[CacheSpec, Any], network: Any, pixels: Tensor) -> None:
    n = int(str(small[0].section(TimmSpec).architecture.get("num_reg_tokens", 0)))
    found = network.each_layer(pixels, lambda tokens: 0 if tokens.register is None else tokens.register.shape[1])
    assert set(found.values()) == {n}
    assert {one.n_registers for one in kind_of(small[0]).outline(small[0]).values()} == {n}


def test_weights_of_another_image_size_are_resized_by_timm(name: str, tmp_path: Path) -> None:
    """The position codes of a network with an image of 3 × 3 patches, seen with one of 5 × 7: as timm resizes them."""
    spec = small_spec(name, tmp_path)
    patch = int(str(spec.section(TimmSpec).architecture["patch_size"]))
    smaller = made(spec, (3 * patch, 3 * patch))
    save_file(smaller.state_dict(), tmp_path / "model.safetensors")
    network: Any = open_backbone(spec)
    assert {form.places for form in network.forms.values()} == {PLACES}
    smaller.set_input_size(img_size=spec.image_hw)
    pixels = torch.stack([network.preprocess(draw_scene(np.random.default_rng(i))) for i in range(2)])
    with torch.inference_mode():
        expected = smaller.forward_intermediates(pixels, norm=False, intermediates_only=True)
    for layer, local in zip(network(pixels).values(), expected, strict=True):
        torch.testing.assert_close(layer.local_, local, rtol=0, atol=1e-4)


def test_native_preprocessing_is_the_networks_own_mean_and_deviation(network: Backbone, small: Any) -> None:
    image = draw_scene(np.random.default_rng(0))
    h, w = small[0].image_hw
    raw = torch.from_numpy(np.asarray(image.resize((w, h), 2), np.float32) / 255).permute(2, 0, 1)
    own = small[1].pretrained_cfg
    mean, std = (torch.tensor(own[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close(network.preprocess(image), (raw - mean) / std, rtol=0, atol=1e-5)


# --- once, with one network


@pytest.fixture(scope="module")
def pe(tmp_path_factory: pytest.TempPathFactory) -> CacheSpec:
    folder = tmp_path_factory.mktemp("pe")
    spec = small_spec("pe_core_b16", folder)
    save_file(made(spec, spec.image_hw).state_dict(), folder / "model.safetensors")
    return spec


def test_a_tuned_network_is_saved_in_timms_names_and_opened_again(pe: CacheSpec, tmp_path: Path) -> None:
    network: Any = open_backbone(pe)
    state = {name: value * 1.01 for name, value in network.module.state_dict().items()}
    network.save(tmp_path, state)
    tuned = kind_of(pe).in_folder(pe, tmp_path)
    assert tuned.weights is not None
    assert tuned.weights.format == "timm"
    again: Any = open_backbone(tuned)
    network.module.load_state_dict(state)
    pixels = torch.zeros(1, 3, *pe.image_hw)
    assert difference(again(pixels), network(pixels)) == 0
    assert torch.equal(again.last_global(pixels), again(pixels)["blocks.2"].global_)


def test_the_card_tells_how_positions_fit_the_image(pe: CacheSpec, tmp_path: Path) -> None:
    (tmp_path / "pe.yaml").write_text(yaml.safe_dump(pe.to_dict()))
    card = " ".join(CliRunner().invoke(app, ["backbones", "show", str(tmp_path / "pe.yaml")]).output.split())
    assert "position codes interpolated from 224×224 pixels" in card
    assert "the network's own mean and deviation" in card
    assert "row by row: blocks.0" in card


def saved_spec(name: str, sizes: dict[str, int], folder: Path) -> CacheSpec:
    """The spec of a network that timm saved into a folder."""
    fields = {
        "title": name,
        "backbone": {"family": "timm", "model": name, "architecture": sizes},
        "weights": {"folder": str(folder)},
        "image_size": 64,
        "grid": [4, 4],
        "preprocess": "native",
    }
    return CacheSpec.parse(fields, name)


@pytest.mark.parametrize("n_classes", [3, 0])
def test_a_network_of_other_classes_than_timms_is_read_with_the_pixels_that_were_saved(
    n_classes: int, tmp_path: Path
) -> None:
    """As after a training on an own image set, which timm saves with its config.json."""
    name = "vit_base_patch16_224"
    network: Any = seeded(timm().create_model(name, num_classes=n_classes, img_size=64, **SAVED).eval(), 3)
    pixels = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    timm().models.save_for_hf(network, tmp_path, safe_serialization=True, data_config=pixels)
    opened = open_backbone(saved_spec(name, SAVED, tmp_path))
    white = opened.preprocess(Image.new("RGB", (9, 9), (255, 255, 255)))[:, 0, 0]
    np.testing.assert_allclose(white, (1 - np.array(pixels["mean"])) / pixels["std"], atol=1e-6)
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _, expected = network.forward_intermediates(noise)
    found = opened(noise)
    assert max(float((found[f"blocks.{i}"].local_ - one).abs().max()) for i, one in enumerate(expected)) < 1e-5


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("vit_base_patch16_clip_224", SAVED, "expected model: vit_base_patch16_clip_quickgelu_224, as"),
        ("vit_base_patch16_clip_quickgelu_224", {"depth": 2, "embed_dim": 48}, '{"num_heads": 4}, as config.json'),
    ],
    ids=["activation", "heads"],
)
def test_another_network_than_the_saved_one_is_refused_though_its_weights_fit(
    name: str, sizes: dict[str, int], words: str, tmp_path: Path
) -> None:
    network = timm().create_model("vit_base_patch16_clip_quickgelu_224", img_size=64, **SAVED)
    timm().models.save_for_hf(network, tmp_path, safe_serialization=True)
    with pytest.raises(BackboneError, match=re.escape(words)):
        open_backbone(saved_spec(name, sizes, tmp_path))


@pytest.mark.parametrize("fault", ["missing", "unknown", "another shape", "quantized"])
def test_weights_that_do_not_fit_are_refused(pe: CacheSpec, tmp_path: Path, fault: str) -> None:
    assert pe.weights is not None
    state = load_file(Path(str(pe.weights.folder)) / "model.safetensors")
    if fault == "missing":
        del state["blocks.1.mlp.fc1.bias"]
    elif fault == "unknown":
        state["blocks.9.mlp.fc1.bias"] = torch.zeros(3)
    elif fault == "quantized":
        state["blocks.1.mlp.fc1.bias"] = state["blocks.1.mlp.fc1.bias"].to(torch.int8)
    else:
        state["blocks.1.mlp.fc1.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(BackboneError, match=r"weights .*; got .*blocks\.\d\.mlp\.fc1\.bias"):
        open_backbone(pe.model_copy(update={"weights": pe.weights.model_copy(update={"folder": str(tmp_path)})}))


@pytest.mark.parametrize(
    ("changed", "fields", "words"),
    [
        (
            {"model": "vit_pe_core_base_patch16_225"},
            {},
            r"no such network\. Did you mean .*vit_pe_core_base_patch16_224",
        ),
        ({"model": "vit_pe_core_base_patch16_224.laion"}, {}, "a tag of weights that timm knows: .*fb"),
        ({"architecture": {"deepness": 3}}, {}, "arguments of vit_pe_core.*deepness"),
        (
            {"architecture": {"checkpoint_path": "/etc/passwd"}},
            {},
            "arguments of the network only; got checkpoint_path",
        ),
        ({"architecture": {"num_classes": 3}}, {}, "arguments of the network only; got num_classes"),
        ({"model": "hf-hub:someone/net"}, {}, "model"),
        ({}, {"image_size": 88}, "a multiple of the patch size 16 × 16; got 88 × 88"),
        ({}, {"weights": {"file": "a.pth", "format": "moco"}}, "weights of format: timm"),
        ({"layers": ["block.*"]}, {}, r"got 'block\.\*'"),
    ],
)
def test_what_timm_cannot_build_is_refused(changed: Any, fields: Any, words: str, pe: CacheSpec) -> None:
    small = pe.to_dict() | {"weights": {"random": 0}, "image_size": 32, "grid": [2, 2]}
    about = pe.section(TimmSpec).to_dict()
    changed = {key: about[key] | value if key == "architecture" else value for key, value in changed.items()}
    with pytest.raises(SpecError, match=words):
        open_backbone(CacheSpec.parse(small | {"backbone": about | changed} | fields, "test"))


def test_a_network_with_registers_and_no_cls_has_no_global_token_of_its_own() -> None:
    about = {
        "family": "timm",
        "model": "vit_base_patch16_reg4_gap_256",
        "architecture": {"depth": 2, "embed_dim": 24, "num_heads": 2},
    }
    value = {"title": "t", "backbone": about, "weights": "random", "image_size": 48, "grid": [3, 3]}
    network: Any = open_backbone(CacheSpec.parse(value | {"global_token": "mean"}, "test"))
    assert str(network.forms["blocks.1"]).startswith("13 tokens = 4 registers + 3×3")
    with pytest.raises(SpecError, match="expected a CLS token"):
        open_backbone(CacheSpec.parse(value | {"global_token": "cls"}, "test"))


def test_convolutions_of_timm_are_maps_by_name() -> None:
    about = {"family": "timm", "model": "convnext_tiny", "layers": ["stages.*"]}
    sizes = {"architecture": {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}}
    value = {
        "title": "t",
        "weights": "random",
        "image_size": [64, 96],
        "global_token": "mean",
    }
    overlapping = {"family": "timm", "model": "pvt_v2_b0", "layers": ["stages.*"]}  # 7 × 7 pixels in steps of 4
    for section in (about | sizes, overlapping):
        network: Any = open_backbone(CacheSpec.parse(value | {"backbone": section}, "test"))
        assert {name: form.places for name, form in network.forms.items()} == {
            "stages.0": (16, 24),
            "stages.1": (8, 12),
            "stages.2": (4, 6),
            "stages.3": (2, 3),
        }


def test_without_timm_one_message_says_what_to_install(pe: CacheSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BackboneError, match=r"the package timm.*got .*pip install 'bddn\[timm\]'"):
        open_backbone(pe)


@pytest.mark.parametrize("name", NAMES)
def test_the_full_architecture_is_that_of_its_spec(name: str) -> None:
    spec = load_spec(name)
    about = spec.section(TimmSpec)
    with torch.device("meta"):
        model = timm().create_model(about.model)
    own = {"depth": len(model.blocks), "embed_dim": model.embed_dim, "patch_size": model.patch_embed.patch_size[0]}
    n_registers = 0 if model.reg_token is None else model.reg_token.shape[1]
    assert own | ({"num_reg_tokens": n_registers} if n_registers else {}) == about.architecture
    assert spec.weights is not None
    assert spec.weights.hub == model.pretrained_cfg["hf_hub_id"]
    n = sum(weight.numel() for weight in model.parameters()) / 1e9
    digits = len(str(PUBLISHED[name])) - 2
    assert round(n, digits) == pytest.approx(PUBLISHED[name], abs=10**-digits / 2)
    side = spec.image_hw[0] // own["patch_size"]
    assert {one.places for one in kind_of(spec).outline(spec).values()} == {(side, side)}
