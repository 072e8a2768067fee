"""What every backbone keeps; see `bddn.backbones.backbone.Backbone`."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from bddn.backbones.backbone import Backbone
from bddn.backbones.kind import kind_of
from bddn.planted.scenes import draw_scene
from bddn.spec import CacheSpec
from bddn.tokens import LayerTokens, Tokens

N_IMAGES = 5
N_PREPROCESSED = 8  # a random flip shows in one of them in 255 of 256 cases


class BackboneContract:
    """Give the fixtures `spec` and `backbone`: a spec, and the network that was opened with it."""

    atol = 1e-5
    """Largest difference of a token that other images in the batch may make."""

    @pytest.fixture
    def spec(self) -> CacheSpec:
        raise NotImplementedError("expected a fixture 'spec' in the class that inherits from BackboneContract")

    @pytest.fixture
    def backbone(self) -> Backbone:
        raise NotImplementedError("expected a fixture 'backbone' in the class that inherits from BackboneContract")

    @pytest.fixture
    def pixels(self, backbone: Backbone) -> Tensor:
        return torch.stack([backbone.preprocess(draw_scene(np.random.default_rng([7, i]))) for i in range(N_IMAGES)])

    @pytest.fixture
    def tokens(self, backbone: Backbone, pixels: Tensor) -> Tokens:
        return backbone(pixels)

    def test_pixels_are_finite_float32_of_the_specs_size(self, spec: CacheSpec, pixels: Tensor) -> None:
        assert pixels.shape == (N_IMAGES, 3, *spec.image_hw)
        assert pixels.dtype == torch.float32
        assert pixels.isfinite().all()

    def test_an_image_gives_the_same_pixels_in_memory_of_their_own(self, backbone: Backbone) -> None:
        image, other = (draw_scene(np.random.default_rng([7, i])) for i in range(2))
        first, before = backbone.preprocess(image), np.asarray(image).copy()
        kept = first.clone()
        for _ in range(N_PREPROCESSED):
            backbone.preprocess(other)
            assert torch.equal(first, kept)
            assert torch.equal(backbone.preprocess(image), kept)
        np.testing.assert_array_equal(np.asarray(image), before)

    def test_images_of_any_shape_give_pixels_of_the_specs_size(self, spec: CacheSpec, backbone: Backbone) -> None:
        image = draw_scene(np.random.default_rng(7))
        for size in ((300, 200), (200, 300), (5, 40), (1, 1)):
            assert backbone.preprocess(image.resize(size)).shape == (3, *spec.image_hw)

    def test_layers_are_named_once(self, spec: CacheSpec, backbone: Backbone, tokens: Tokens) -> None:
        assert len(set(backbone.layers)) == len(backbone.layers) > 0
        assert tuple(tokens) == backbone.layers
        assert tuple(told(spec)) in ((), backbone.layers)

    def test_tokens_are_finite_float32_of_images_channels_rows_columns(self, spec: CacheSpec, tokens: Tokens) -> None:
        for name, layer in tokens.items():
            channels = told(spec).get(name, layer.local_.shape[1])
            assert layer.local_.shape == (N_IMAGES, channels, *spec.grid)
            assert layer.register is None
            for values in (layer.local_, global_of(tokens, name)):
                assert values.shape[:2] == (N_IMAGES, channels)
                assert values.dtype == torch.float32
                assert values.isfinite().all()
                assert not values.requires_grad

    def test_other_images_change_nothing(self, backbone: Backbone, pixels: Tensor, tokens: Tokens) -> None:
        for i in (0, N_IMAGES - 1):
            assert difference(backbone(pixels[i : i + 1]), rows(tokens, [i])) <= self.atol

    def test_rows_are_in_the_order_of_images(self, backbone: Backbone, pixels: Tensor, tokens: Tokens) -> None:
        order = [3, 0, 4, 1, 2]
        assert difference(backbone(pixels[order]), rows(tokens, order)) <= self.atol

    def test_the_same_images_give_the_same_bytes(self, backbone: Backbone, pixels: Tensor, tokens: Tokens) -> None:
        assert difference(backbone(pixels), tokens) == 0

    def test_batches_that_run_at_once_are_not_mixed(self, backbone: Backbone, pixels: Tensor, tokens: Tokens) -> None:
        order = [*range(N_IMAGES)] * 4
        with ThreadPoolExecutor(4) as pool:
            for i, found in zip(order, pool.map(lambda i: backbone(pixels[i : i + 1]), order), strict=True):
                assert difference(found, rows(tokens, [i])) <= self.atol

    def test_a_patch_of_the_image_moves_the_token_at_its_place_most(
        self, backbone: Backbone, spec: CacheSpec, pixels: Tensor, tokens: Tokens
    ) -> None:
        (height, width), (h, w), first = spec.image_hw, spec.grid, backbone.layers[0]
        for row, column in {(0, 0), (0, w - 1), (h - 1, 0), (h // 3, w // 2), (h // 2, w // 3)}:
            changed = pixels.clone()
            down = slice(row * height // h, (row + 1) * height // h)
            right = slice(column * width // w, (column + 1) * width // w)
            changed[:, :, down, right] *= -1
            far = (backbone(changed)[first].local_ - tokens[first].local_).square().sum((0, 1))
            assert divmod(int(far.argmax()), w) == (row, column)

    def test_its_identity_can_be_written_down(self, backbone: Backbone) -> None:
        assert json.loads(json.dumps(backbone.identity)) == backbone.identity


def told(spec: CacheSpec) -> dict[str, int]:
    """Return the channels of the layers, if the spec gives them without the network."""
    return {} if spec.backbone is None else {name: one.channels for name, one in kind_of(spec).outline(spec).items()}


def global_of(tokens: Tokens, layer: str) -> Tensor:
    """Return the global tokens (B, C) of a layer."""
    found = tokens[layer].global_
    assert found is not None
    return found


def difference(a: Tokens, b: Tokens) -> float:
    """Return the largest difference of any two tokens."""
    assert list(a) == list(b)
    local = max((a[name].local_ - b[name].local_).abs().max().item() for name in a)
    return max(local, *((global_of(a, name) - global_of(b, name)).abs().max().item() for name in a))


def rows(tokens: Tokens, index: list[int]) -> Tokens:
    """Return the tokens of some images."""
    return Tokens({n: LayerTokens(t.local_[index], global_of(tokens, n)[index]) for n, t in tokens.items()})
