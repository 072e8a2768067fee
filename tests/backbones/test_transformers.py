"""Every spec of `family: transformers`, as a small network of its true class in its true file format, and at full size
without memory for its weights."""

from functools import cache
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from backbones.contract import scenes
from backbones.small_transformers import TINY, Small, distinct, shrink
from bddn.backbones import probe
from bddn.backbones.forward_inputs import arguments
from bddn.backbones.hooks import LayerHooks
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_spec, load_specs, open_backbone, spec_folder
from bddn.backbones.transformers_kind import family_of, stages_of
from bddn.backbones.transformers_network import TransformersNetwork, find_blocks
from bddn.backbones.weights.pretrained import untrained
from bddn.spec import CacheSpec, TransformersSpec, WeightsSpec
from bddn.store.layout import Layout
from bddn.testing import BackboneContract
from bddn.tokens import LayerTokens, Tokens

SPECS = {name: spec for name, spec in load_specs().items() if isinstance(spec.backbone, TransformersSpec)}
CLEAR = 0.9  # agreement of the order of places, of networks that keep places apart; 0.5 is chance


DISTINCT = distinct(SPECS)  # others differ in sizes, so not once they are small


@pytest.fixture(scope="module", params=DISTINCT)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def small(name: str, tmp_path_factory: pytest.TempPathFactory) -> Small:
    return shrink(load_spec(name), tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def network(small: Small) -> TransformersNetwork:
    found = open_backbone(small.spec)
    assert isinstance(found, TransformersNetwork)
    return found


@pytest.fixture(scope="module")
def shown(network: TransformersNetwork) -> Tensor:
    """Pixels of five scenes."""
    return scenes(network)


@pytest.fixture(scope="module")
def given(network: TransformersNetwork, shown: Tensor) -> Tokens:
    """Their tokens."""
    return network(shown)


class TestSpecs(BackboneContract):
    """Each spec as a small network."""

    @pytest.fixture
    def spec(self, small: Small) -> CacheSpec:
        return small.spec

    @pytest.fixture
    def backbone(self, network: TransformersNetwork) -> TransformersNetwork:
        return network

    @pytest.fixture
    def pixels(self, shown: Tensor) -> Tensor:
        return shown

    @pytest.fixture
    def tokens(self, given: Tokens) -> Tokens:
        return given


def test_tokens_are_the_hidden_states_of_the_class_that_published_it(
    small: Small, network: TransformersNetwork, shown: Tensor
) -> None:
    """Of every block of which the class tells: the order of places, what comes before them, and nothing of the final
    norm."""
    full: dict[str, LayerTokens] = network.each_layer(shown, lambda tokens: tokens)
    states = small.states(shown)
    assert states.keys() <= full.keys() == network.forms.keys()
    assert network.layers[-1] in states
    for layer, state in states.items():
        torch.testing.assert_close(full[layer].local_, state, rtol=0, atol=1e-5)
        assert state.std() > 0.1  # there is something to compare


def test_the_global_token_is_the_first_cls_token_or_the_mean(small: Small, shown: Tensor, given: Tokens) -> None:
    about = small.spec.section(TransformersSpec)
    assert (small.spec.global_token == "cls") == (about.prefix.cls > 0)
    found = small.sequences(shown) if about.prefix.cls else small.states(shown)
    for layer, state in found.items():
        expected = state[:, 0] if about.prefix.cls else state.mean((2, 3))
        torch.testing.assert_close(given[layer].global_, expected, rtol=0, atol=1e-5)


def test_places_come_row_by_row(small: Small, network: TransformersNetwork) -> None:
    found = probe.measure_orders(network, small.spec)
    assert {order.kind for order in found.values()} <= {"rows", "mixed"}
    assert found[network.layers[0]].agreement >= CLEAR


def test_its_identity_builds_its_untrained_twin(small: Small, network: TransformersNetwork) -> None:
    section = kind_of(small.spec).section_of(network.identity, network.layers)
    assert section is not None
    update = {"backbone": section, "weights": WeightsSpec(random=0)}
    twin = open_backbone(small.spec.model_copy(update=update)).identity
    assert {name for name in twin if twin[name] != network.identity[name]} == {"weights_sha256"}


# --- at full size

README = "table of pretrained models in the publisher's repository"
PUBLISHED: dict[str, tuple[float, str]] = {  # millions of parameters, and where the number stands
    "dinov3_b": (86, README),
    "dinov3_l": (300, README),
    "dinov3_convnext_b": (89, README),
    "siglip2_b16": (86, "SigLIP 2, section 2, without pooling head"),
    "siglip2_naflex_b16": (86, "SigLIP 2, section 2, without pooling head"),
    "siglip2_so400m14": (412, "the same shape in the report of C-RADIOv4; 'So400m' is rounded"),
    "clip_openai_b32": (87.8, "open_clip, docs/model_profile.csv, with projection"),
    "clip_openai_b16": (86.2, "open_clip, docs/model_profile.csv, with projection"),
    "clip_openai_l14": (304, "open_clip, docs/model_profile.csv, with projection"),
    "clip_openai_l336": (304.3, "open_clip, docs/model_profile.csv, with projection"),
    "metaclip2_h14": (632, "open_clip, docs/model_profile.csv, ViT-H-14, with projection"),
    "convnext_b": (89, "ConvNeXt, table 1, with classifier"),
    "convnextv2_b": (89, "ConvNeXt V2, table 5, with classifier"),
    "swinv2_b": (88, f"{README}, with classifier"),
    "beit_b": (86, "BEiT, section 3, as ViT-B"),
    "data2vec_b": (86, "data2vec, section 4, as ViT-B"),
    "ijepa_h14": (632, "ViT, table 1, ViT-H"),
    "vjepa2_l": (300, f"{README}, the encoder"),
    "aimv2_l14": (309, "AIMv2, table 1, without pooling head"),
    "cradio_v4_h": (653, "model card"),
    "sam21_b_plus": (80.8, f"{README}, with memory and decoder"),
    "hiera_b": (50.75, "203 MB of float32 in the hub repository"),
    "depth_anything2_s": (24.8, f"{README}, with its head"),
    "depth_anything2_b": (97.5, f"{README}, with its head"),
    "resnet50": (23.5, "torchvision's 25,557,032, without the classifier's 2,049,000"),
}
UNPUBLISHED = {"qwen25_vl_7b", "qwen3_vl_8b"}  # only the size of the whole model is told
NOT_COUNTED = {"siglip": "head.", "aimv2": "head.", "vjepa2": "predictor."}  # parts that published numbers leave out


@cache
def full_size(name: str) -> Any:
    """The network of a spec without memory for its weights."""
    about = load_spec(name).section(TransformersSpec)
    with torch.device("meta"):
        return untrained(family_of(about), about.architecture)


@pytest.mark.parametrize("name", SPECS)
def test_the_full_architecture_has_the_blocks_of_its_spec(name: str) -> None:
    """Depth, width, grid, the words of the comment, and the bytes of an image."""
    spec, model = load_spec(name), full_size(name)
    about, outline = spec.section(TransformersSpec), kind_of(spec).outline(spec)
    blocks = find_blocks(model, about.blocks)
    assert list(blocks) == list(outline)
    if about.input in ("image", "video"):  # the others read numbers of patches, which have no values here
        n_leading = about.prefix.cls + about.prefix.registers
        stages = stages_of(spec)
        shapes = _first_of_each_stage(about, len(stages), spec.image_hw)
        for shape, (_, channels, side) in zip(shapes, stages, strict=True):
            h, w = (pixels // side for pixels in spec.image_hw)
            assert shape in {(2, n_leading + h * w, channels), (2, channels, h, w), (2, h, w, channels)}
    text = (spec_folder() / f"{name}.yaml").read_text()
    words = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    widths, places = ({getattr(layer, name) for layer in outline.values()} for name in ("channels", "places"))
    assert all(f"{number} " in words or f"{number}," in words for number in (len(blocks), *widths))
    assert all(f"{h} × {w}" in words for h, w in places)
    channels_of = {layer: size.channels for layer, size in outline.items()}
    layout = Layout.of_spec(spec, channels_of, 1)
    assert layout.image_bytes() == pytest.approx(2 * 65 * sum(channels_of.values()), rel=1e-3)


def _first_of_each_stage(about: TransformersSpec, n_stages: int, image_hw: tuple[int, int]) -> list[tuple[int, ...]]:
    """Shapes of the outputs of the first block of each stage, of which the others are copies."""
    one_each: dict[str, Any] = dict(about.architecture)
    if "depths" in one_each:
        one_each["depths"] = [1] * n_stages
    elif n_stages > 1:
        one_each["backbone_config"] |= {"blocks_per_stage": [1] * n_stages}
    with torch.device("meta"):
        model = untrained(family_of(about), one_each)
    blocks = dict(list(find_blocks(model, about.blocks).items())[:n_stages])
    shapes: dict[str, tuple[int, ...]] = {}

    def read(layer: str, output: Any) -> LayerTokens:
        shapes[layer] = tuple((output[0] if isinstance(output, tuple) else output).shape)
        return LayerTokens(torch.empty(0, 0, 0, 0))

    pixels = torch.empty(2, 3, *image_hw, device="meta")
    with torch.inference_mode():
        run = LayerHooks(blocks, read).run
        run(lambda: model(*arguments(about, model.config)(pixels), **about.forward), list(blocks), id)
    return list(shapes.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_full_architecture_has_the_parameters_that_were_published(name: str) -> None:
    model = full_size(name)
    if name == "sam21_b_plus":
        with torch.device("meta"):
            model = transformers.Sam2VideoModel(transformers.Sam2VideoConfig(vision_config=model.config.to_dict()))
    left_out = next((part for key, part in NOT_COUNTED.items() if name.startswith(key)), "-")
    n = sum(weight.numel() for key, weight in model.named_parameters() if not key.startswith(left_out))
    assert n / 1e6 == pytest.approx(PUBLISHED[name][0], rel=0.02)


def test_every_spec_and_class_is_tested() -> None:
    assert PUBLISHED.keys() | UNPUBLISHED == set(SPECS)
    assert sorted(name for names in DISTINCT.values() for name in names) == sorted(SPECS)
    assert {spec.section(TransformersSpec).model for spec in SPECS.values()} == TINY.keys()
