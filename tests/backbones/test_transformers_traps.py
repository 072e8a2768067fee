"""The traps of networks of transformers: each is refused in words, or avoided, where a plain reading would be wrong."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from backbones.contract import scenes
from backbones.small_transformers import VIT, Small, shrink
from bddn.backbones import probe
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_spec, open_backbone
from bddn.backbones.transformers_network import TransformersNetwork
from bddn.cli import app
from bddn.errors import BackboneError, BddnError, SpecError
from bddn.planted.scenes import draw_scene
from bddn.spec import CacheSpec, TransformersSpec
from bddn.testing.contract_of_backbones import difference

Make = Callable[[str], Small]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Small networks by the names of their specs, each made once; read only."""
    made: dict[str, Small] = {}

    def make(name: str) -> Small:
        if name not in made:
            made[name] = shrink(load_spec(name), tmp_path_factory.mktemp(name))
        return made[name]

    return make


def other(spec: CacheSpec, section: dict[str, Any] | None = None, **fields: Any) -> CacheSpec:
    """A spec in which fields of the section `backbone`, or of itself, are changed."""
    about = spec.section(TransformersSpec).to_dict() | (section or {})
    return CacheSpec.parse(spec.to_dict() | {"backbone": about} | fields, spec.title)


def opened(spec: CacheSpec) -> TransformersNetwork:
    found = open_backbone(spec)
    assert isinstance(found, TransformersNetwork)
    return found


# --- where blocks are


def test_blocks_that_are_not_at_the_top_are_named(small: Make) -> None:
    with pytest.raises(SpecError, match=r"blocks of a DINOv3ViTModel; got layer\.\*.*model\.layer\.\*"):
        open_backbone(other(small("dinov3_b").spec, {"blocks": "layer.*"}))
    with pytest.raises(SpecError, match=r"blocks of a BeitModel; got encoder\.layer\.\*.* layers\.\*"):
        open_backbone(other(small("beit_b").spec, {"blocks": "encoder.layer.*"}))


@pytest.mark.parametrize("blocks", ["encoder.layers", "**.layers.*", "a.*.b.*.c.*"])
def test_a_path_without_one_or_two_wildcards_is_refused(small: Make, blocks: str) -> None:
    with pytest.raises(SpecError, match="one or two levels that have a wildcard"):
        other(small("dinov3_b").spec, {"blocks": blocks})


def test_the_first_hidden_state_of_a_dinov3_convnext_is_the_image_and_no_layer(small: Make) -> None:
    one = small("dinov3_convnext_b")
    network = opened(one.spec)
    pixels = scenes(network, 1)
    states = one.tower(pixels, output_hidden_states=True).hidden_states
    assert torch.equal(states[0], pixels)
    assert len(states) == 5
    assert [form.channels for form in network.forms.values()] == [16, 24, 32, 32, 40]


def test_hidden_states_of_swin_come_after_down_sampling_and_layers_before(small: Make) -> None:
    one = small("swinv2_b")
    network = opened(one.spec)
    state = one.tower(scenes(network, 1), output_hidden_states=True).reshaped_hidden_states[1]
    assert tuple(state.shape[1:]) == (32, 8, 8)
    assert (network.forms["stage_0.block_0"].channels, network.forms["stage_0.block_0"].places) == (16, (16, 16))


def test_a_class_that_transformers_does_not_export_is_refused(small: Make) -> None:
    with pytest.raises(
        SpecError, match=r"that transformers .* exports; got DINOv3VitModel\. Did you mean DINOv3ViTModel"
    ):
        open_backbone(other(small("dinov3_b").spec, {"model": "DINOv3VitModel"}))
    with pytest.raises(SpecError, match="exports; got DINOv3ViTConfig"):
        open_backbone(other(small("dinov3_b").spec, {"model": "DINOv3ViTConfig"}))


def test_stages_that_are_not_those_of_the_network_are_refused(small: Make) -> None:
    one = small("sam21_b_plus")
    about = one.spec.section(TransformersSpec)
    assert about.stages is not None
    (n, channels, side), *rest = about.stages
    for first, words in (((n, channels + 1, side), "17 channels"), ((n + 1, channels, side), "got 32 channels at 8×8")):
        with pytest.raises(BackboneError, match=words):
            open_backbone(other(one.spec, {"stages": [first, *rest]}))
    with pytest.raises(SpecError, match="image_size to be a multiple of 32 pixels"):
        open_backbone(other(one.spec, image_size=48))


# --- tokens before the local ones


@pytest.mark.parametrize("prefix", [{"cls": 1}, {"registers": 5}, {"cls": 5}, {"cls": 1, "registers": 3}, {}])
def test_the_registers_of_dinov3_are_not_taken_for_something_else(small: Make, prefix: dict[str, int]) -> None:
    spec = other(small("dinov3_b").spec, {"prefix": prefix}, global_token="cls" if prefix.get("cls") else "mean")
    with pytest.raises(SpecError, match="prefix"):
        open_backbone(spec)


@pytest.mark.parametrize("name", ["siglip2_b16", "ijepa_h14", "aimv2_l14", "vjepa2_l", "convnext_b", "qwen3_vl_8b"])
def test_a_network_without_cls_token_asks_for_the_mean(small: Make, name: str) -> None:
    with pytest.raises(SpecError, match="global_token: mean"):
        open_backbone(other(small(name).spec, global_token="cls"))


def test_any_of_the_cls_tokens_of_radio_can_be_the_global_one(small: Make) -> None:
    one = small("cradio_v4_h")
    pixels = scenes(opened(one.spec), 1)
    state = one.sequences(pixels)["block_1"]
    for i in range(3):
        network = opened(other(one.spec, {"prefix": {"cls": 3, "registers": 7, "global_cls": i}}))
        torch.testing.assert_close(network(pixels)["block_1"].global_, state[:, i], rtol=0, atol=1e-5)
        full = network.each_layer(pixels, lambda tokens: tokens)["block_1"]
        torch.testing.assert_close(full.register, state[:, 3:10], rtol=0, atol=1e-5)
    with pytest.raises(SpecError, match="global_cls below the number of CLS tokens, 3"):
        other(one.spec, {"prefix": {"cls": 3, "registers": 7, "global_cls": 3}})


# --- pixels


def test_radio_normalizes_inside_and_is_not_given_normalized_pixels(small: Make) -> None:
    one = small("cradio_v4_h")
    pixels = scenes(opened(one.spec), 1)
    assert 0 <= pixels.min() < 0.2
    assert 0.8 < pixels.max() <= 1
    inside = one.tower.input_conditioner(pixels)
    assert inside.min() < -1
    with pytest.raises(SpecError, match="paper, which would normalize them twice"):
        open_backbone(other(one.spec, preprocess="paper"))


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [("siglip2_b16", -1.0, 1.0), ("clip_openai_b16", -1.7923, 1.9303), ("dinov3_b", -2.1179, 2.2489)],
)
def test_native_pixels_are_of_the_whole_image_with_the_networks_own_values(
    small: Make, name: str, black: float, white: float
) -> None:
    from PIL import Image

    network = opened(other(small(name).spec, preprocess="native"))
    picture = Image.new("RGB", (200, 100))
    picture.paste((255, 255, 255), (100, 0, 200, 100))
    pixels = network.preprocess(picture)
    assert pixels[0, :, :20].flatten().tolist() == pytest.approx([black] * 48 * 20, abs=1e-4)
    assert pixels[0, :, 28:].flatten().tolist() == pytest.approx([white] * 48 * 20, abs=1e-4)


def test_values_of_pixels_may_be_given_and_wrong_ones_are_refused(small: Make) -> None:
    one = small("dinov3_b").spec
    own = {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]}
    white = draw_scene(np.random.default_rng(0)).point(lambda _: 255)
    pixels = opened(other(one, {"pixels": own}, preprocess="native")).preprocess(white)
    assert pixels[:, 0, 0].tolist() == pytest.approx([0.9, 0.4, 0.175])
    for wrong in ("siglip", {"mean": [0, 0, 0], "std": [1, 1, 0]}, {"mean": [0, 0]}):
        with pytest.raises(SpecError, match=r"backbone\.pixels"):
            other(one, {"pixels": wrong})


PROCESSORS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "no normalization": ("preprocessor_config.json", {"do_normalize": False}, "unit"),
    "one number for all channels": ("preprocessor_config.json", {"image_mean": 0.5, "image_std": 0.5}, "half"),
    "another scale": (
        "preprocessor_config.json",
        {"image_mean": [1.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 2 / 255},
        "half",
    ),
    "normalized twice, as EfficientNet": (
        "preprocessor_config.json",
        {"image_processor_type": "EfficientNetImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        {"mean": [0.5] * 3, "std": [0.25] * 3},
    ),
    "beside other processors": (
        "processor_config.json",
        {"image_processor": {"image_processor_type": "SiglipImageProcessor", "image_mean": [0.5] * 3}},
        "half",
    ),
    "of a class that is not known": (
        "preprocessor_config.json",
        {"image_processor_type": "NewImageProcessor", "do_normalize": False},
        "unit",
    ),
    "of a class that is not known, with another scale": (
        "preprocessor_config.json",
        {"image_processor_type": "New", "image_mean": [1.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 2 / 255},
        "half",
    ),
    "one number in a list, which it does not read": (
        "preprocessor_config.json",
        {"image_mean": [0.5], "image_std": [0.5]},
        "half",
    ),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_pixels_are_compared_with_those_that_the_image_processor_makes(small: Make, tmp_path: Path, case: str) -> None:
    name, fields, right = PROCESSORS[case]
    usual: dict[str, Any] = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.485, 0.456, 0.406]}
    usual |= {"image_std": [0.229, 0.224, 0.225], "do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
    spec = _with_processor(small, tmp_path, name, usual | fields if "image_processor" not in fields else fields)
    opened(other(spec, {"pixels": right}))
    for wrong in {"imagenet", "half", "unit"} - {right if isinstance(right, str) else ""}:
        with pytest.raises(SpecError, match=rf"backbone\.pixels.*as {name} of the weights says"):
            open_backbone(other(spec, {"pixels": wrong}))


def test_a_network_that_reads_blue_first_is_refused(small: Make, tmp_path: Path) -> None:
    processor = {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True}
    spec = _with_processor(small, tmp_path, "preprocessor_config.json", processor)
    with pytest.raises(SpecError, match=r"backbone\.pixels.*red, green and blue.*do_flip_channel_order"):
        open_backbone(other(spec, {"pixels": "unit"}))


def _with_processor(small: Make, folder: Path, name: str, fields: dict[str, Any]) -> CacheSpec:
    one = small("dinov3_b")
    one.tower.save_pretrained(folder)
    (folder / name).write_text(json.dumps(fields))
    return other(one.spec, preprocess="native", weights={"folder": str(folder)})


# --- the order of places


@pytest.mark.parametrize(
    ("name", "section", "size", "words"),
    [
        ("hiera_b", {"order": "rows"}, 64, r"stage_0\.block_0.*mask units of 8×8 places, as Hiera's"),
        ("dinov3_b", {"order": [4]}, 128, r"block_0.*another order"),
        ("siglip2_naflex_b16", {"order": [8, 2]}, 128, r"block_0.*another order"),
    ],
)
def test_a_wrong_order_is_measured_and_refused(
    small: Make, name: str, section: dict[str, Any], size: int, words: str
) -> None:
    spec = other(small(name).spec, section, image_size=size)
    with pytest.raises(BackboneError, match=words):
        probe.check_order(opened(spec), spec)


@pytest.mark.parametrize(("name", "order"), [("qwen3_vl_8b", [1]), ("qwen25_vl_7b", [2]), ("qwen25_vl_7b", [4, 1])])
def test_windows_that_are_not_those_of_qwen_are_refused(small: Make, name: str, order: list[int]) -> None:
    with pytest.raises(SpecError, match=r"order: \[(4, )?2\], as the network's configuration says"):
        open_backbone(other(small(name).spec, {"order": order}))


def test_an_order_of_tokens_is_not_for_maps(small: Make) -> None:
    with pytest.raises(SpecError, match="prefix or order"):
        open_backbone(other(small("convnext_b").spec, {"order": "mask_units"}))
    with pytest.raises(SpecError, match="rows, mask_units, or a list"):
        other(small("convnext_b").spec, {"order": "columns"})


@pytest.mark.parametrize("name", ["qwen25_vl_7b", "qwen3_vl_8b"])
@pytest.mark.parametrize("size", [(32, 48), (40, 24)])
def test_windows_of_qwen_may_be_cut_and_images_are_read_one_by_one(
    small: Make, name: str, size: tuple[int, int]
) -> None:
    """The places of 10 × 6 patches do not fill windows of 4 × 4."""
    one = small(name)
    places = size[0] // 4, size[1] // 4
    network = opened(other(one.spec, image_size=size, grid=places))
    pixels = scenes(network, 3)
    full = network.each_layer(pixels, lambda tokens: tokens)
    for layer, state in one.states(pixels).items():
        torch.testing.assert_close(full[layer].local_, state, rtol=0, atol=1e-5)
    alone = network(pixels[1:2])["block_1"].local_
    torch.testing.assert_close(network(pixels)["block_1"].local_[1:2], alone, rtol=0, atol=1e-5)
    with pytest.raises(SpecError, match="'order' where input is packed"):
        other(one.spec, {"order": "rows"})


@pytest.mark.parametrize(
    ("model", "blocks", "processor"),
    [
        ("Cosmos3EdgeVisionModel", "encoder.layers.*", "Cosmos3EdgeImageProcessorPil"),
        ("HunYuanVLVisionTransformer", "layers.*", "HunYuanVLImageProcessorPil"),
    ],
)
def test_patches_that_a_network_reads_in_another_way_are_refused(model: str, blocks: str, processor: str) -> None:
    """The first wants the channels of a pixel together, the second its patches row by row. The first also runs on those
    of Qwen-VL, and the places that a bright patch changes are right."""
    try:
        getattr(transformers, processor)()
    except ImportError as error:
        pytest.skip(f"{processor} of this version of transformers: {error}")
    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    section = {"family": "transformers", "model": model, "blocks": blocks, "input": "packed", "order": [2], "frames": 1}
    given = {"architecture": sizes | {"patch_size": 4}}
    spec = {"title": model, "backbone": section | given, "weights": "random", "image_size": [16, 24], "grid": [4, 6]}
    with pytest.raises(SpecError, match=f"patches as {processor} .* makes them"):
        open_backbone(CacheSpec.parse(spec | {"global_token": "mean"}, "test"))


@pytest.mark.parametrize("name", ["dinov3_b", "siglip2_naflex_b16", "convnext_b"])
def test_images_that_are_not_square_have_a_grid_that_is_not(small: Make, name: str) -> None:
    one = small(name)
    size = (64, 96) if name == "convnext_b" else (48, 32)
    network = opened(other(one.spec, image_size=size, grid=(4, 6)))
    picture = scenes(network, 1)
    changed = picture.clone()
    changed[:, :, :8, -8:] *= -1
    h, w = size[0] // 8, size[1] // 8
    before, after = network.each_layer(torch.cat([picture, changed]), lambda tokens: tokens)[network.layers[0]].local_
    far = torch.nn.functional.adaptive_avg_pool2d((after - before).square().sum(0)[None], (h, w))
    assert divmod(int(far.argmax()), w) == (0, w - 1)


# --- maps


def test_the_maps_of_sam_shrink_and_have_channels_last(small: Make) -> None:
    network = opened(small("sam21_b_plus").spec)
    forms = list(network.forms.values())
    assert [form.places[0] for form in forms] == [16, 8, 4, 4, 2]
    assert [form.channels for form in forms] == [16, 32, 64, 64, 128]
    with pytest.raises(SpecError, match=r"channels in the spec: first \(16 channels\) or last \(16 channels\)"):
        open_backbone(other(small("sam21_b_plus").spec, {"channels": None}))


# --- videos


def test_an_image_is_one_step_of_a_video(small: Make) -> None:
    one = small("vjepa2_l").spec
    with pytest.raises(BackboneError, match="expected a network that runs on pixels"):
        open_backbone(other(one, {"input": "image"}))  # pixels have no axis of frames
    with pytest.raises(BddnError, match=r"72 tokens|12×6|6×12"):
        open_backbone(other(one, {"frames": 4}))  # two steps in time of 36 places each
    still = opened(one)
    pixels = scenes(still, 1)
    assert difference(opened(other(one, {"frames": 1}))(pixels), still(pixels)) == 0  # the class repeats a single frame


# --- weights


def test_the_tower_of_a_larger_model_is_read_alone_and_whole(small: Make, tmp_path: Path) -> None:
    one = small("qwen3_vl_8b")
    assert one.spec.weights is not None
    assert one.spec.weights.folder is not None
    folder = Path(one.spec.weights.folder)
    state = load_file(folder / "model.safetensors")
    assert any("language_model" in key for key in state)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    gone = next(key for key in state if "visual.blocks.1." in key)
    save_file(
        {key: value for key, value in state.items() if key != gone}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(BackboneError, match=r"1 missing: blocks\.1\."):
        open_backbone(other(one.spec, weights={"folder": str(tmp_path)}))
    with pytest.raises(BackboneError, match="missing"):
        open_backbone(other(one.spec, {"tower": None}))


def test_blocks_that_the_config_does_not_tell_of_are_refused(small: Make, tmp_path: Path) -> None:
    one = small("ijepa_h14")
    assert one.spec.weights is not None
    assert one.spec.weights.folder is not None
    folder = Path(one.spec.weights.folder)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    spec = other(one.spec, {"architecture": {}}, weights={"folder": str(tmp_path)})
    with pytest.raises(BackboneError, match=r"blocks that config\.json does not contain.*layers\.1\."):
        open_backbone(spec)


@pytest.mark.parametrize(
    ("name", "field", "words"),
    [
        ("siglip2_b16", {"num_attention_heads": 4}, "num_attention_heads 4 → 2"),
        ("clip_openai_b16", {"hidden_act": "gelu"}, 'hidden_act "gelu" → "quick_gelu"'),
        (
            "depth_anything2_b",
            {"backbone_config": {"hidden_act": "relu"}},
            'backbone_config.hidden_act "relu" → "gelu"',
        ),
    ],
)
def test_another_architecture_than_the_specs_is_refused(
    small: Make, name: str, field: dict[str, Any], words: str
) -> None:
    spec = small(name).spec
    with pytest.raises(BackboneError, match=words):
        open_backbone(other(spec, {"architecture": spec.section(TransformersSpec).architecture | field}))


def test_weights_of_another_class_are_refused(small: Make) -> None:
    place = small("dinov3_b").spec.weights
    assert place is not None
    with pytest.raises(BackboneError, match=r"model_type 'dinov3_vit' in config\.json, not ijepa"):
        open_backbone(other(small("ijepa_h14").spec, weights=place.to_dict()))


@pytest.mark.parametrize("name", ["dinov3_b", "hiera_b", "qwen25_vl_7b"])
def test_a_trained_network_is_saved_and_opened(small: Make, name: str, tmp_path: Path) -> None:
    spec = small(name).spec
    network = opened(spec)
    pixels = scenes(network, 1)
    state = {key: value * 1.1 for key, value in network.module.state_dict().items()}
    network.save(tmp_path, state)
    tuned = opened(kind_of(spec).in_folder(spec, tmp_path))
    found = tuned.module.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())
    assert difference(tuned(pixels), network(pixels)) > 1e-3
    last = network.last_global(pixels)
    torch.testing.assert_close(last, network(pixels)[network.layers[-1]].global_, rtol=0, atol=1e-5)


def test_the_card_of_a_spec_without_sizes_tells_what_the_network_gives(small: Make, tmp_path: Path) -> None:
    spec = other(small("hiera_b").spec, {"stages": None, "architecture": {}})
    assert kind_of(spec).outline(spec) == {}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(spec.to_dict()))))
    card = CliRunner().invoke(app, ["backbones", "show", str(tmp_path / "mine.yaml")]).output
    assert "stage_0.block_0 → 256 tokens = 16×16, 16 channels" in card
    assert "stage_3.block_0 → 4 tokens = 2×2, 128 channels" in card
    assert "order         row by row: stage_0.block_0" in card


def test_fewer_layers_have_the_same_identity_and_the_forward_ends_with_the_last(small: Make) -> None:
    spec = small("hiera_b").spec
    whole, part = opened(spec), opened(other(spec, {"layers": ["stage_0.*", "50%"]}))
    assert part.layers == ("stage_0.block_0", "stage_2.block_0")
    assert part.identity == whole.identity
    ran = []
    part.module.encoder.stages[2].layers[1].register_forward_pre_hook(lambda *_: ran.append(1))  # type: ignore[union-attr,index]
    found = part(scenes(part, 1))
    assert tuple(found) == part.layers
    assert not ran
    with pytest.raises(SpecError, match="stage_9"):
        kind_of(spec).outline(other(spec, {"layers": ["stage_9.block_0"]}))


def bare(model: str, blocks: str, sizes: dict[str, Any], **section: Any) -> CacheSpec:
    """A spec of random weights, and images of 48 × 48."""
    about = {"family": "transformers", "model": model, "blocks": blocks, "architecture": sizes, **section}
    token = "cls" if {"prefix", "suffix"} & section.keys() else "mean"
    given = {"title": model, "backbone": about, "weights": "random", "image_size": 48, "global_token": token}
    return CacheSpec.parse(given, "test")


def test_a_class_that_shuffles_its_patches_is_refused() -> None:
    """MAE's own class does so in every run, also if it masks none."""
    with pytest.raises(BackboneError, match=r"same tokens for the same image in every run; got .* random numbers"):
        open_backbone(bare("ViTMAEModel", "layers.*", VIT | {"mask_ratio": 0.0}, prefix={"cls": 1}))


def test_a_cls_token_that_comes_last_is_noticed_and_read() -> None:
    """Llama 4 has one. Its adapter after the last block does not fit the small blocks, and need not run."""
    of_llama = partial(bare, "Llama4VisionModel", "model.layers.*", VIT)
    taken_as_first = opened(of_llama(prefix={"cls": 1}))
    with pytest.raises(BackboneError, match="one of its leading tokens comes last"):
        probe.check_order(taken_as_first, taken_as_first.spec)
    network = opened(of_llama(suffix={"cls": 1}))
    probe.check_order(network, network.spec)
    assert all(order.kind == "rows" for order in probe.measure_orders(network, network.spec).values())
    seen: list[Tensor] = []
    block = network.module.get_submodule("model.layers.0")
    block.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    found = network.each_layer(scenes(network, 2), lambda tokens: tokens)["block_0"]
    (state,) = seen
    assert found.global_ is not None
    assert torch.equal(found.global_, state[:, -1])
    assert torch.equal(found.local_, state[:, :-1].transpose(1, 2).unflatten(2, (6, 6)))


def test_blocks_that_are_not_stored_may_have_other_tokens() -> None:
    """The last stage of PVT has a CLS token."""
    sizes = {"image_size": 48, "hidden_sizes": [16, 24, 32, 40], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    sizes |= {"patch_sizes": [4, 2, 2, 3], "strides": [4, 2, 2, 3], "sequence_reduction_ratios": [4, 2, 1, 1]}
    stages = [[1, 16, 4], [1, 24, 8], [1, 32, 16]]
    with pytest.raises(BddnError, match=r"stage_3\.block_0"):
        open_backbone(bare("PvtModel", "encoder.block.*.*", sizes))
    network = opened(bare("PvtModel", "encoder.block.*.*", sizes, layers=["stage_[0-2].*"]))
    assert [[1, form.channels, 48 // form.places[0]] for form in network.forms.values()] == stages


def test_inputs_that_bddn_does_not_make_are_refused() -> None:
    sizes = {name: value for name, value in VIT.items() if name != "image_size"}
    of_patches = {"input": "packed", "order": [1], "stages": [[2, 32, 8]]}
    with pytest.raises(BackboneError, match=r"missing 1 required positional argument.*by input and forward"):
        open_backbone(bare("VideoLlama3VisionModel", "encoder.layers.*", sizes, **of_patches))


@pytest.mark.parametrize(
    ("model", "sizes", "size", "words"),
    [
        (
            "Dinov2Model",
            {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8},
            60,
            "8 × 8",
        ),
        ("SwinModel", {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2]}, 60, r"8 × 8 places: .*pads"),
    ],
)
def test_places_that_do_not_fill_the_image_are_refused_without_sizes_in_the_spec(
    model: str, sizes: dict[str, Any], size: int, words: str, tmp_path: Path
) -> None:
    """They would lie elsewhere than the cache says, at the right and at the bottom."""
    config = getattr(transformers, model).config_class(image_size=64, **sizes)
    getattr(transformers, model)(config).save_pretrained(tmp_path)
    blocks, n_cls = ("encoder.layer.*", 1) if model == "Dinov2Model" else ("encoder.layers.*.blocks.*", 0)
    spec = bare(model, blocks, {}, **({"prefix": {"cls": 1}} if n_cls else {}))
    spec = other(spec, weights={"folder": str(tmp_path)}, image_size=64)
    opened(spec)
    with pytest.raises(SpecError, match=rf"image_size.*{words}"):
        open_backbone(other(spec, image_size=size))


@pytest.mark.parametrize("fault", ["int8", "uint8", "complex64", "quantization_config"])
def test_quantized_weights_are_not_taken_for_values(small: Make, tmp_path: Path, fault: str) -> None:
    one = small("dinov3_b")
    one.tower.save_pretrained(tmp_path)
    spec = other(one.spec, weights={"folder": str(tmp_path)})
    opened(spec)
    if fault == "quantization_config":
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {fault: {"quant_method": "none of those known"}}))
    else:
        state = load_file(tmp_path / "model.safetensors")
        name = next(name for name in state if name.endswith("mlp.up_proj.weight"))
        state[name] = state[name].to(getattr(torch, fault))
        save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        BackboneError, match=r"weights in float32, float16 or bfloat16; got .*(mlp\.up_proj|none of those)"
    ):
        open_backbone(spec)


@pytest.mark.parametrize("where", ["shards of other names", "a pickle"])
def test_quantized_weights_are_noticed_in_all_files_that_transformers_reads(
    small: Make, tmp_path: Path, where: str
) -> None:
    one = small("dinov3_b")
    spec = other(one.spec, weights={"folder": str(tmp_path)})
    one.tower.config.save_pretrained(tmp_path)
    state = one.tower.state_dict()

    def write() -> None:
        if where == "a pickle":
            torch.save(state, tmp_path / "pytorch_model.bin")
            return
        save_file(state, tmp_path / "all.safetensors", {"format": "pt"})
        index = {"metadata": {}, "weight_map": dict.fromkeys(state, "all.safetensors")}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    write()
    opened(spec)
    name = next(name for name in state if name.endswith("mlp.up_proj.weight"))
    state[name] = (state[name] * 100).to(torch.int8)
    write()
    with pytest.raises(BackboneError, match=r"weights in float32, float16 or bfloat16; got .*mlp\.up_proj"):
        open_backbone(spec)


def test_weights_that_are_in_two_files_of_an_index_are_refused(small: Make, tmp_path: Path) -> None:
    """As in a folder into which two networks were saved; transformers takes the last file, whatever the index says."""
    one = small("dinov3_b")
    spec = other(one.spec, weights={"folder": str(tmp_path)})
    one.tower.save_pretrained(tmp_path, max_shard_size="20KB")
    opened(spec)
    first, *_, last = sorted(tmp_path.glob("model-*.safetensors"))
    changed = {name: value + 1 for name, value in load_file(first).items()}
    save_file(load_file(last) | changed, last, {"format": "pt"})
    with pytest.raises(BackboneError, match=rf"that model\.safetensors\.index\.json names; got .* also in {last.name}"):
        open_backbone(spec)


def test_a_patch_may_be_given_by_its_two_sides() -> None:
    specs = [bare("InternVLVisionModel", "encoder.layer.*", VIT | {"patch_size": side}) for side in (8, [8, 8])]
    of = [kind_of(spec).outline(spec) for spec in specs]
    assert of[0] == of[1]
    assert len(of[0]) == 2


def test_folders_of_weights_that_are_not_of_this_network_are_told_apart(small: Make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    transformers.ViTModel(transformers.ViTConfig(**VIT)).save_pretrained(tmp_path)
    spec = other(bare("ViTModel", "layers.*", {}, prefix={"cls": 1}), weights={"folder": str(tmp_path)})
    opened(spec)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    with pytest.raises(SpecError, match=r"mean \[0\.5, 0\.5, 0\.5\].*as preprocessor_config\.json"):
        open_backbone(other(spec, preprocess="native"))
    opened(other(spec, {"pixels": "half"}, preprocess="native"))
    state = load_file(tmp_path / "model.safetensors")

    def rewritten(state: dict[str, Tensor]) -> None:
        save_file(state, tmp_path / "model.safetensors", {"format": "pt"})

    rewritten({key: value for key, value in state.items() if not key.startswith("pooler")})
    with pytest.raises(BackboneError, match=r"2 missing: pooler.*Set options: \{add_pooling_layer: false\}"):
        open_backbone(spec)
    rewritten({f"model.vision_tower.{key}": value for key, value in state.items()})
    with pytest.raises(BackboneError, match=r"Set tower: model\.vision_tower"):
        open_backbone(spec)
    opened(other(spec, {"tower": "model.vision_tower"}))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BackboneError, match=r"an adapter, such as LoRA.*merge_and_unload"):
        open_backbone(spec)
    with pytest.raises(BackboneError, match=r"'clip_vision_model' in config\.json, not chinese_clip"):
        open_backbone(other(small("clip_openai_b16").spec, {"model": "ChineseCLIPVisionModel"}))
