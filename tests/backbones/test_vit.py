"""Vision transformers beyond the contract: image sizes, preprocessing, and what is refused of a checkpoint.

The network has 3 blocks of 24 channels and a grid of 8 by 8 patches.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPVisionModel, ViTConfig, ViTModel

from backbones.sources import WRITERS
from bddn.backbones.vit import VisionTransformer
from bddn.backbones.weights.convert import read_checkpoint
from bddn.errors import BackboneError, SpecError
from bddn.planted.scenes import draw_scene
from bddn.spec import CacheSpec, FamilySpec, WeightsSpec
from bddn.testing.contract_of_backbones import difference, global_of

SIZE, PATCH, SIDE, WIDTH = 112, 14, 8, 24
LAYERS = ("block_0", "block_1", "block_2")


@pytest.fixture(scope="session")
def folder(brain: Path) -> Path:
    """The weights; read only."""
    return brain / "backbone"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The weights, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "weights"))


def clip(folder: Path, **fields: Any) -> VisionTransformer:
    side = fields.get("image_size", SIZE) // PATCH
    given = {
        "title": "",
        "backbone": FamilySpec(family="clip"),
        "image_size": SIZE,
        "grid": (side, side),
        "weights": WeightsSpec(folder=str(folder)),
    }
    return VisionTransformer(CacheSpec(**(given | fields)))


@pytest.fixture(scope="session")
def network(folder: Path) -> VisionTransformer:
    return clip(folder)


@pytest.fixture(scope="session")
def scenes() -> list[Image.Image]:
    """Pictures that are neither square nor of the network's size."""
    return [draw_scene(np.random.default_rng([7, i])).crop((0, 0, 425, 300)) for i in range(5)]


@pytest.fixture(scope="session")
def pixels(network: VisionTransformer, scenes: list[Image.Image]) -> Tensor:
    return torch.stack([network.preprocess(scene) for scene in scenes])


def test_the_last_layer_is_taken_before_the_final_norm(copy: Path, network: VisionTransformer, pixels: Tensor) -> None:
    state = load_file(copy / "model.safetensors")
    changed = {k: v * 3 + 1 if "post_layernorm" in k else v for k, v in state.items()}
    save_file(changed, copy / "model.safetensors", {"format": "pt"})
    assert any("post_layernorm" in key for key in state)
    assert difference(clip(copy)(pixels), network(pixels)) == 0


def test_a_mean_global_token_is_the_mean_of_the_local_ones_without_cls(folder: Path, pixels: Tensor) -> None:
    tokens = clip(folder, **{"global_token": "mean"})(pixels)
    for name in LAYERS:
        expected = tokens[name].local_.mean((2, 3))
        torch.testing.assert_close(global_of(tokens, name), expected, rtol=0, atol=1e-5)


def test_two_copies_of_the_weights_give_the_same_tokens(copy: Path, network: VisionTransformer, pixels: Tensor) -> None:
    assert difference(clip(copy)(pixels), network(pixels)) == 0


def test_running_does_not_change_the_pixels(network: VisionTransformer, pixels: Tensor) -> None:
    before = pixels.clone()
    network(pixels)
    assert torch.equal(pixels, before)


def moved(network: VisionTransformer, pixels: Tensor, row: int, column: int) -> tuple[int, int]:
    """Where the local token of block 0 moves most when one patch of the image is inverted."""
    changed = pixels.clone()
    patch = (
        slice(None),
        slice(None),
        slice(row * PATCH, (row + 1) * PATCH),
        slice(column * PATCH, (column + 1) * PATCH),
    )
    changed[patch] = -changed[patch]
    before, after = (network(x)["block_0"].local_ for x in (pixels, changed))
    far = (after - before).square().sum((0, 1))
    return divmod(int(far.argmax()), far.shape[1])


@pytest.mark.parametrize(("size", "place"), [(56, (3, 1)), (168, (10, 3))])
def test_another_image_size_gives_the_grid_that_fits_it(
    folder: Path, scenes: list[Image.Image], size: int, place: tuple[int, int]
) -> None:
    network = clip(folder, image_size=size)
    pixels = network.preprocess(scenes[0])[None]
    assert pixels.shape == (1, 3, size, size)
    tokens = network(pixels)
    for layer in tokens.values():
        assert layer.local_.shape == (1, WIDTH, size // PATCH, size // PATCH)
    assert moved(network, pixels, *place) == place


def test_position_codes_of_another_image_size_are_interpolated_not_cut(folder: Path) -> None:
    """A uniform picture shows nothing but position codes: those of the bottom right reach the bottom right."""
    tokens = {size: clip(folder, image_size=size)(torch.zeros(1, 3, size, size)) for size in (112, 168)}
    native, larger = (tokens[size]["block_0"].local_[0] for size in (112, 168))
    resized = torch.nn.functional.interpolate(native[None], size=(12, 12), mode="bilinear")[0]

    def alike(a: Tensor, b: Tensor) -> float:
        a, b = a - native.mean((1, 2)), b - native.mean((1, 2))
        return float(torch.cosine_similarity(a, b, dim=0))

    for row, column in ((0, 0), (0, 11), (11, 0), (11, 11)):
        assert alike(larger[:, row, column], resized[:, row, column]) > 0.8


def test_an_image_size_that_patches_do_not_fill_is_refused(folder: Path) -> None:
    with pytest.raises(SpecError, match="multiple of the patch size 14"):
        clip(folder, image_size=100)


def test_paper_preprocessing_squashes_and_uses_imagenets_mean_and_deviation(
    network: VisionTransformer, scenes: list[Image.Image]
) -> None:
    squashed = np.asarray(scenes[0].resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float64)
    expected = (squashed / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = network.preprocess(scenes[0])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.permute(1, 2, 0), expected, atol=1e-5)


def test_paper_preprocessing_keeps_what_a_crop_would_lose(network: VisionTransformer) -> None:
    picture = Image.new("RGB", (300, 100))
    picture.paste((255, 0, 0), (0, 0, 50, 100))
    found = network.preprocess(picture)
    assert found[0, 50, 5] > 2
    assert found[0, 50, 60] < -2


def write_processor(folder: Path, **options: Any) -> CLIPImageProcessorPil:
    given: Any = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25], "do_convert_rgb": True} | options
    processor = CLIPImageProcessorPil(**given)
    processor.save_pretrained(folder)
    return processor


def test_native_preprocessing_is_that_of_the_checkpoints_processor(copy: Path, scenes: list[Image.Image]) -> None:
    crop = {"height": SIZE, "width": SIZE}
    processor: Any = write_processor(copy, size={"shortest_edge": SIZE}, crop_size=crop, do_center_crop=True)
    found = clip(copy, preprocess="native").preprocess(scenes[0])
    expected = processor(scenes[0], return_tensors="pt")["pixel_values"][0]
    assert found.shape == (3, SIZE, SIZE)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (found - clip(copy).preprocess(scenes[0])).abs().max() > 0.5  # it is not the paper's


def test_native_preprocessing_of_another_size_than_the_specs_is_refused(copy: Path, scenes: list[Image.Image]) -> None:
    write_processor(copy, size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, do_center_crop=True)
    with pytest.raises(SpecError, match=r"\[56, 56\]"):
        clip(copy, preprocess="native").preprocess(scenes[0])


def test_native_preprocessing_without_a_processor_is_refused(copy: Path) -> None:
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(BackboneError, match=r"preprocessor_config\.json"):
        clip(copy, preprocess="native")


def test_an_image_processor_that_cannot_read_the_image_is_one_message(copy: Path, scenes: list[Image.Image]) -> None:
    crop = {"height": SIZE, "width": SIZE}
    write_processor(copy, size={"shortest_edge": SIZE}, crop_size=crop, image_mean=[0.5] * 4, image_std=[0.5] * 4)
    with pytest.raises(BackboneError, match=r"takes an RGB image of 425 × 300 .*mean must have"):
        clip(copy, preprocess="native").preprocess(scenes[0])


def test_code_of_an_image_processor_is_neither_run_nor_asked_about(copy: Path, capsys: Any) -> None:
    told = {"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "code.Own"}}
    (copy / "preprocessor_config.json").write_text(json.dumps(told))
    (copy / "code.py").write_text("raise SystemExit('run')\n")
    with pytest.raises(BackboneError, match=r"preprocessor_config\.json for native preprocessing"):
        clip(copy, preprocess="native")
    assert "[y/N]" not in capsys.readouterr().out


VIT = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def vit(folder: Path, image_hw: tuple[int, int], **sizes: Any) -> tuple[Any, VisionTransformer]:
    """A plain ViT, saved and opened for images of this size."""
    model: Any = ViTModel(ViTConfig(**VIT, **sizes), add_pooling_layer=False).eval()
    model.save_pretrained(folder)
    weights = WeightsSpec(folder=str(folder))
    spec = CacheSpec(title="", backbone=FamilySpec(family="vit"), image_size=image_hw, grid=(2, 2), weights=weights)
    return model, VisionTransformer(spec)


def test_patches_and_images_of_training_may_have_two_sides(tmp_path: Path) -> None:
    model, network = vit(tmp_path, (16, 48), image_size=[16, 48], patch_size=[8, 8])
    pixels = torch.randn(2, 3, 16, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
    found = network.each_layer(pixels, lambda tokens: tokens.local_)["block_1"]
    torch.testing.assert_close(found, expected.transpose(1, 2).unflatten(2, (2, 6)))
    with pytest.raises(SpecError, match=r"image_size: \[16, 48\], the only size"):
        vit(tmp_path, (48, 16), image_size=[16, 48], patch_size=[8, 8])


def test_a_network_that_reads_other_channels_than_rgb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"reads RGB images; got one with num_channels: 1"):
        vit(tmp_path, (32, 32), image_size=32, patch_size=8, num_channels=1)


def test_a_checkpoint_whose_adapter_was_not_merged_says_how(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model: Any = ViTModel(ViTConfig(**VIT, image_size=32, patch_size=8), add_pooling_layer=False)
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["q_proj"]), model)
    save_file(model.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(tmp_path)
    weights = WeightsSpec(folder=str(tmp_path))
    spec = CacheSpec(title="", backbone=FamilySpec(family="vit"), image_size=32, grid=(2, 2), weights=weights)
    with pytest.raises(BackboneError, match=r"missing: .*q_proj.* Merge them .*merge_and_unload"):
        VisionTransformer(spec)


@pytest.mark.parametrize(("told", "words"), [({"quick_gelu": True}, 'hidden_act "gelu" → "quick_gelu"'), ({}, "heads")])
def test_what_open_clip_tells_of_its_weights_is_that_of_the_spec(tmp_path: Path, told: Any, words: str) -> None:
    """Neither activation nor number of heads shows in the weights."""
    sizes = {"image_size": 32, "patch_size": 8, "hidden_size": 24, "num_hidden_layers": 3, "intermediate_size": 40}
    architecture = sizes | {"num_attention_heads": 4, "hidden_act": "gelu"}
    WRITERS["open_clip"][0](tmp_path / "made.bin", seed=1, num_attention_heads=4, **sizes)
    save_file(read_checkpoint(tmp_path / "made.bin"), tmp_path / "open_clip_model.safetensors")
    spec: dict[str, Any] = {"title": "", "backbone": {"family": "clip", "architecture": architecture}}
    spec |= {"grid": [2, 2], "image_size": 32, "weights": {"folder": str(tmp_path)}}

    def tell(width_of_head: int, **more: Any) -> None:
        tower = {"width": 24, "head_width": width_of_head}
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"vision_cfg": tower, **more}}))

    tell(6)
    VisionTransformer(CacheSpec.parse(spec, "test"))
    tell(6 if told else 12, **told)
    with pytest.raises(BackboneError, match=rf"{words}.* in open_clip_config\.json"):
        VisionTransformer(CacheSpec.parse(spec, "test"))


def test_a_checkpoint_with_a_text_tower_gives_the_tokens_of_its_vision_tower(
    folder: Path, tmp_path: Path, network: VisionTransformer, pixels: Tensor
) -> None:
    tower: Any = CLIPVisionModel.from_pretrained(folder)
    text = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    whole: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=tower.config.to_dict(), projection_dim=16))
    own = dict(whole.vision_model.named_parameters())
    with torch.no_grad():
        for name, weight in tower.named_parameters():
            own[name].copy_(weight)
    whole.save_pretrained(tmp_path / "whole")
    assert any(key.startswith("text_model") for key in load_file(tmp_path / "whole" / "model.safetensors"))
    found = clip(tmp_path / "whole")
    assert difference(found(pixels), network(pixels)) == 0
    assert found.identity["weights_sha256"] == network.identity["weights_sha256"]


def test_missing_weights_are_refused_by_their_names(copy: Path) -> None:
    state = load_file(copy / "model.safetensors")
    gone = [key for key in state if "layers.1.mlp.fc1" in key]
    assert len(gone) == 2
    save_file({k: v for k, v in state.items() if k not in gone}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"layers\.1\.mlp\.fc1\.bias.*layers\.1\.mlp\.fc1\.weight") as caught:
        clip(copy)
    assert str(copy) in str(caught.value)


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    state = load_file(copy / "model.safetensors")
    key = next(key for key in state if "layers.1.mlp.fc1.weight" in key)
    state[key] = state[key][:-1].clone()
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"1 of another shape: .*layers\.1\.mlp\.fc1\.weight \(95, 24\)") as caught:
        clip(copy)
    assert str(copy) in str(caught.value)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    options: Any = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    ViTModel(ViTConfig(image_size=SIZE, patch_size=PATCH, **options)).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="CLIPVisionModel"):
        clip(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="no such folder"):
        clip(tmp_path / "nowhere")


def test_a_folder_without_config_is_refused(copy: Path) -> None:
    (copy / "config.json").unlink()
    with pytest.raises(BackboneError, match=r"a folder without config\.json"):
        clip(copy)


def test_a_folder_without_weights_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(BackboneError) as caught:
        clip(copy)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize("length", [0, 1_000, 60_000])
def test_weights_cut_short_are_refused(copy: Path, length: int) -> None:
    path = copy / "model.safetensors"
    assert path.stat().st_size > length
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BackboneError) as caught:
        clip(copy)
    assert str(copy) in str(caught.value)


def test_a_half_precision_checkpoint_still_gives_float32_tokens(
    copy: Path, network: VisionTransformer, pixels: Tensor
) -> None:
    state = {key: value.half() for key, value in load_file(copy / "model.safetensors").items()}
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    tokens = clip(copy)(pixels)
    assert all(layer.local_.dtype == torch.float32 for layer in tokens.values())
    assert difference(tokens, network(pixels)) < 0.5  # of a stream of standard deviation 6


def test_the_hash_of_the_weights_changes_with_any_weight(copy: Path, network: VisionTransformer) -> None:
    state = load_file(copy / "model.safetensors")
    key = next(key for key in state if "layers.2.mlp.fc2.bias" in key)
    state[key][3] += 1e-6
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    assert clip(copy).identity["weights_sha256"] != network.identity["weights_sha256"]


def test_the_hash_of_the_weights_does_not_depend_on_the_file_format(copy: Path, network: VisionTransformer) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert clip(copy).identity["weights_sha256"] == network.identity["weights_sha256"]


def test_the_identity_is_the_same_each_time_and_can_be_written_as_json(
    folder: Path, network: VisionTransformer
) -> None:
    assert clip(folder).identity == network.identity == json.loads(json.dumps(network.identity))


@pytest.mark.parametrize("change", [{"hidden_act": "quick_gelu"}, {"num_attention_heads": 2}, {"layer_norm_eps": 0.1}])
def test_the_identity_tells_networks_apart_that_use_the_same_weights_differently(
    copy: Path, network: VisionTransformer, pixels: Tensor, change: dict[str, Any]
) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | change))
    other = clip(copy)
    assert difference(other(pixels), network(pixels)) > 1e-3
    assert other.identity != network.identity


def test_the_identity_tells_native_preprocessings_apart(copy: Path, scenes: list[Image.Image]) -> None:
    size = {"height": SIZE, "width": SIZE}
    found = []
    for mean in ([0.4, 0.5, 0.6], [0.5, 0.5, 0.5]):
        write_processor(copy, size=size, crop_size=size, do_center_crop=False, image_mean=mean)
        found.append(clip(copy, preprocess="native"))
    assert (found[0].preprocess(scenes[0]) - found[1].preprocess(scenes[0])).abs().max() > 0.1
    assert found[0].identity != found[1].identity


def test_every_block_is_compiled_where_the_spec_asks_for_it(
    folder: Path, network: VisionTransformer, pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    plain = torch.compile

    def compile(forward: Any) -> Any:
        compiled.append(forward)
        return plain(forward, backend="eager")  # traced as ever, without a compiler of C++

    monkeypatch.setattr(torch, "compile", compile)
    found = clip(folder, compile=True)(pixels)
    assert len(compiled) == len(LAYERS)
    assert difference(found, network(pixels)) <= 1e-5
