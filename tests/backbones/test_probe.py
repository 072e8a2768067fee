"""The order of places, measured: good networks of every kind pass, and those in another order are refused in words."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from backbones.contract import shrink
from backbones.foreign import NETWORKS, SIZE, Foreign, PlainViT
from backbones.small_pipelines import small_spec
from bddn import from_module
from bddn.backbones import probe
from bddn.backbones.module import HookedModule
from bddn.backbones.orders import known_orders
from bddn.backbones.registry import load_spec, open_backbone, spec_names
from bddn.cli import app
from bddn.errors import BackboneError, BddnError
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec, DiffusionSpec, FamilySpec, WeightsSpec
from bddn.tokens import LayerTokens, Tokens

CLEAR = 0.9  # agreement of networks that keep places apart; 0.75 is enough, 0.5 is chance


def orders(net: nn.Module, layers: list[str], size: Any = SIZE, **fields: Any) -> dict[str, probe.Order]:
    backbone = from_module(net, layers, image_size=size, **({"global_token": "mean"} | fields))
    return probe.measure_orders(backbone, backbone.spec)


def small(name: str, folder: Path) -> CacheSpec:
    """A spec of cache_specs with a small network of its class, of random weights."""
    spec = load_spec(name)
    if isinstance(spec.backbone, DiffusionSpec):
        return small_spec(spec, folder)
    assert isinstance(spec.backbone, FamilySpec)
    folder.mkdir(parents=True)
    return shrink(spec, folder).spec.model_copy(update={"weights": WeightsSpec(random=0)})


PROBED = [
    name
    for name in spec_names()
    if isinstance(about := load_spec(name).backbone, FamilySpec | DiffusionSpec)
    and about.family not in ("sdxl", "sd3", "flux")
]


@pytest.mark.parametrize("name", [name for name in PROBED if name != "demo"])  # other kinds: beside their own tests
def test_every_spec_gives_places_row_by_row(name: str, tmp_path: Path) -> None:
    spec = small(name, tmp_path / "weights")
    backbone = open_backbone(spec)
    probe.check_order(backbone, spec)
    found = probe.measure_orders(backbone, spec)
    unclear = [layer for layer, order in found.items() if order.kind != "rows"]
    assert all(layer.startswith(("mid", "down_2", "down_3", "up_0", "up_1")) for layer in unclear)  # of 2×2 places or 1
    assert found.keys() == {layer.partition("@")[0] for layer in backbone.layers}
    # The small U-Net of random weights has norms over 4 places of 8 channels, which mix much of the image.
    clear = CLEAR if isinstance(spec.backbone, FamilySpec) else probe.MIN_ROWS_AGREEMENT
    assert max(order.agreement for order in found.values()) >= clear


def test_the_planted_network_gives_places_row_by_row(spec: CacheSpec) -> None:
    found = probe.measure_orders(open_backbone(spec), spec)
    assert {order.kind for order in found.values()} == {"rows"}


def _checked(about: Foreign) -> HookedModule:
    backbone = from_module(about.make(), about.layers, image_size=SIZE, **about.fields)
    probe.check_order(backbone, backbone.spec)
    return backbone


@pytest.mark.parametrize("name", NETWORKS)
def test_a_foreign_network_is_right_or_refused_in_words(name: str) -> None:
    about = NETWORKS[name]
    torch.manual_seed(0)
    if about.refused:
        with pytest.raises(BddnError, match=f"layer '.*{about.refused}"):
            _checked(about)
        return
    backbone = _checked(about)
    for layer, order in probe.measure_orders(backbone, backbone.spec).items():
        assert (order.kind, order.agreement > CLEAR) == ("rows", True), layer


KNOWN = {name: order.reshape(-1) for name, order in known_orders(16, 16)}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("before", [0, 2])
def test_a_known_order_is_named_from_the_layer_on_in_which_it_begins(name: str, before: int) -> None:
    found = orders(PlainViT(order=KNOWN[name], before=before), ["blocks.*"], global_token="cls")
    assert [order.kind for order in found.values()] == ["rows"] * before + ["other"] * (3 - before)
    assert {order.name for order in found.values()} <= {"", name}


def test_known_orders_are_orders_and_none_is_row_by_row() -> None:
    for h, w in ((2, 2), (3, 5), (14, 14), (16, 24), (7, 7), (1, 6), (32, 32)):
        seen = set()
        for name, order in known_orders(h, w):
            assert sorted(order.reshape(-1).tolist()) == list(range(h * w)), name
            if min(h, w) > 1:
                assert order.reshape(-1).tolist() != list(range(h * w)), name
            assert name not in seen
            seen.add(name)


def _shuffled(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(1))


UNKNOWN: dict[str, tuple[tuple[int, int], Tensor]] = {
    "shuffled": ((SIZE, SIZE), _shuffled(256)),
    "shuffled, on a wide grid": ((64, SIZE), _shuffled(128)),
    "rolled by half": ((SIZE, SIZE), torch.arange(256).roll(128)),
    "rolled sideways": ((SIZE, SIZE), torch.arange(256).view(16, 16).roll(6, 1).reshape(-1)),
    "columns in another order": ((SIZE, SIZE), torch.arange(256).view(16, 16)[:, _shuffled(16)].reshape(-1)),
    "rows in another order": ((SIZE, SIZE), torch.arange(256).view(16, 16)[_shuffled(16)].reshape(-1)),
    "a Hilbert-like walk": ((SIZE, SIZE), torch.arange(256).view(2, 8, 2, 8).permute(2, 0, 3, 1).reshape(-1)),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_order_that_is_not_known_is_refused_too(case: str) -> None:
    size, order = UNKNOWN[case]
    backbone = from_module(PlainViT(size, order=order, before=1), ["blocks.*"], image_size=size)
    with pytest.raises(
        BackboneError, match=r"layer 'blocks\.1': expected local tokens in the order of the image.*another order"
    ):
        probe.check_order(backbone, backbone.spec)


class Turned(nn.Module):
    """A convolutional network that gives its map in another layout."""

    def __init__(self, turn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.turn = nn.Conv2d(3, 12, 5, stride=4, padding=2), turn

    def forward(self, pixels: Tensor) -> Tensor:
        return self.turn(self.conv(pixels))


@pytest.mark.parametrize(
    ("turn", "name"),
    [
        (lambda x: x.transpose(2, 3), "column by column"),
        (lambda x: x.flip(3), "mirrored left to right"),
        (lambda x: x.flip(2), "upside down"),
        (lambda x: x.rot90(1, (2, 3)), "turned by"),
        (lambda x: x.permute(0, 3, 2, 1).flatten(1, 2), "column by column"),  # (B, W × H, C), as of a careless reshape
    ],
)
def test_a_map_that_is_turned_is_refused(turn: Callable[[Tensor], Tensor], name: str) -> None:
    backbone = from_module(nn.Sequential(Turned(turn)), ["0"], image_size=SIZE, global_token="mean")
    with pytest.raises(BackboneError, match=f"another order: {name}"):
        probe.check_order(backbone, backbone.spec)


def test_a_preprocessing_that_turns_the_image_is_refused() -> None:
    def turned(image: Image.Image) -> Tensor:
        flat = torch.frombuffer(bytearray(image.resize((SIZE, SIZE)).tobytes()), dtype=torch.uint8)
        return flat.view(SIZE, SIZE, 3).permute(2, 1, 0).float() / 255  # channels, columns, rows

    backbone = from_module(PlainViT(), ["blocks.*"], turned, image_size=SIZE)
    with pytest.raises(BackboneError, match="column by column"):
        probe.check_order(backbone, backbone.spec)


def _cnn(*widths: int, kernel: int = 3, padding: int | None = None, act: type[nn.Module] = nn.ReLU) -> nn.Module:
    torch.manual_seed(0)
    stages, before = [], 3
    for width in widths:
        padding_ = kernel // 2 if padding is None else padding
        stages.append(nn.Sequential(nn.Conv2d(before, width, kernel, 2, padding_), act()))
        before = width
    return nn.Sequential(*stages)


class UNet(nn.Module):
    """Down to a map of 2 × 2 and up again."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = (3, 8, 16, 24, 32, 32, 32)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList([nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs])
        self.up = nn.ModuleList([nn.Conv2d(b + a, a, 3, 1, 1) for a, b in pairs[:0:-1]])

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for conv in self.down:
            x = F.silu(conv(x))
            maps.append(x)
        for conv, skipped in zip(self.up, maps[-2::-1], strict=True):
            x = F.silu(conv(torch.cat([F.interpolate(x, scale_factor=2.0), skipped], 1)))
        return x


class Mixer(nn.Module):
    """Mixes all places by a random matrix, again and again; with a share of what was there."""

    class Layer(nn.Module):
        def __init__(self, kept: float) -> None:
            super().__init__()
            self.mix, self.kept = nn.Linear(256, 256), kept

        def forward(self, x: Tensor) -> Tensor:
            return self.kept * x + torch.tanh(self.mix(x.transpose(1, 2)).transpose(1, 2) * 4)

    def __init__(self, kept: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cut, self.layers = nn.Conv2d(3, 24, 8, stride=8), nn.Sequential(*[self.Layer(kept) for _ in range(3)])

    def forward(self, pixels: Tensor) -> Any:
        return self.layers(self.cut(pixels).flatten(2).transpose(1, 2))


class Averaged(nn.Module):
    """The same token at all places: the mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 4, stride=4)

    def forward(self, pixels: Tensor) -> Any:
        return self.conv(pixels).mean((2, 3), keepdim=True).expand(-1, -1, 32, 32)


def _gained(gain: float, post: bool = False, seed: int = 0) -> nn.Module:
    """A transformer whose random weights are so large that its tokens hardly remember their places."""
    torch.manual_seed(seed)
    net = PlainViT()
    if post:
        net.blocks = nn.ModuleList([nn.TransformerEncoderLayer(48, 4, 96, batch_first=True) for _ in range(4)])
    for weight in net.blocks.parameters():
        weight.data.mul_(gain if weight.ndim > 1 else 1)
    return net


GOOD: dict[str, tuple[Callable[[], nn.Module], list[str], dict[str, Any]]] = {
    "a CNN": (lambda: _cnn(8, 16, 24, 32, 32), ["*"], {}),
    "a CNN that sees far": (lambda: _cnn(8, 16, 24, 32, 32, kernel=9), ["*"], {}),
    "a CNN without padding": (lambda: _cnn(8, 16, 24, 32, kernel=5, padding=0), ["*"], {}),
    "a CNN of saturating units": (lambda: _cnn(8, 16, 24, 32, act=nn.Tanh), ["*"], {}),
    "a CNN with channels last": (lambda: nn.Sequential(Turned(lambda x: x.permute(0, 2, 3, 1))), ["0"], {}),
    "a U-Net down to 2×2": (UNet, ["down.*", "up.*"], {}),
    "a wide image": (lambda: PlainViT((64, 192)), ["blocks.*"], {"image_size": (64, 192)}),
    "a high image, with registers": (
        lambda: PlainViT((192, 64), n_registers=3),
        ["blocks.*"],
        {"image_size": (192, 64)},
    ),
    "an image that patches do not divide by 8": (lambda: PlainViT((99, 99), 9), ["blocks.*"], {"image_size": 99}),
    "a grid of 2×2": (lambda: PlainViT((32, 32), 16), ["blocks.*"], {"image_size": 32}),
    "a grid of 3×3": (lambda: PlainViT((27, 27), 9), ["blocks.*"], {"image_size": 27, "leading_tokens": 1}),
    "images of 8 pixels": (lambda: PlainViT((8, 8), 2), ["blocks.*"], {"image_size": 8}),
    "one image at a time": (PlainViT, ["blocks.*"], {"batch_size": 1}),
    "bfloat16": (PlainViT, ["blocks.*"], {"autocast": "bfloat16"}),
    "a mixer that keeps places": (lambda: Mixer(1.0), ["layers.*"], {}),
    "a mixer that does not": (lambda: Mixer(0.0), ["layers.*"], {}),
    "a mean at all places": (lambda: nn.Sequential(Averaged()), ["0"], {}),
    "large random weights": (lambda: _gained(4), ["blocks.*"], {}),
    **{f"chaos {seed}": (partial(_gained, 5, True, seed), ["blocks.*"], {}) for seed in range(6)},
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_network_is_not_refused(case: str) -> None:
    make, layers, fields = GOOD[case]
    given: dict[str, Any] = {"image_size": SIZE, "global_token": "mean"} | fields
    backbone = from_module(make(), layers, **given)
    probe.check_order(backbone, backbone.spec)


@pytest.mark.parametrize("case", ["a mixer that does not", "a mean at all places"])
def test_what_mixes_all_places_is_said_to_do_so(case: str) -> None:
    make, layers, _ = GOOD[case]
    found = orders(make(), layers)
    assert found[list(found)[-1]].kind == "mixed"
    assert "unknown, because each place changes with the whole image" in probe.summary(found)[-1]


@pytest.mark.parametrize("n_channels", [64, 65])
@pytest.mark.parametrize("n_leading", [0, 1])
def test_channels_before_tokens_are_not_taken_for_places(n_channels: int, n_leading: int) -> None:
    """64 channels of 256 places have the shape of 8 × 8 places with 256 channels."""

    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cut, self.mix = nn.Conv2d(3, n_channels, 8, 8), nn.Conv1d(n_channels, n_channels, 1)

        def forward(self, pixels: Tensor) -> Tensor:
            x = self.cut(pixels).flatten(2)
            return self.mix(torch.cat([x[..., :n_leading] * 0, x], 2))  # type: ignore[no-any-return]

    backbone = from_module(Before(), ["mix"], image_size=SIZE, global_token="mean")
    with pytest.raises(
        BackboneError, match=r"layer 'mix'.*places on the axis that is taken for channels, as in \(B, C"
    ):
        probe.check_order(backbone, backbone.spec)


@pytest.mark.parametrize(("size", "patch"), [(224, 32), (224, 16), (378, 14)])
@pytest.mark.parametrize(("where", "words"), [("middle", "comes in the middle"), ("end", "comes last"), ("start", "")])
def test_a_cls_token_elsewhere_is_noticed_at_any_size_of_patches(size: int, patch: int, where: str, words: str) -> None:
    """In Vision Mamba, it is in the middle: half of the places would be one place off."""

    class Elsewhere(PlainViT):
        def forward(self, pixels: Tensor) -> Any:
            x = self.patch_embed(pixels).flatten(2).transpose(1, 2) + self.pos_embed
            n = {"start": 0, "middle": x.shape[1] // 2, "end": x.shape[1]}[where]
            x = torch.cat([x[:, :n], self.leading.expand(len(x), -1, -1), x[:, n:]], 1)
            for block in self.blocks:
                x = block(x)
            return x

    backbone = from_module(Elsewhere((size, size), patch), ["blocks.*"], image_size=size)
    found = probe.measure_orders(backbone, backbone.spec)
    for order in found.values():
        assert order.kind == ("other" if words else "rows")
        assert words in order.name


def test_tokens_that_do_not_depend_on_the_image_are_refused() -> None:
    class Codes(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.arange(64.0).view(1, 64, 1).expand(len(pixels), -1, 4)

    backbone = from_module(nn.Sequential(Codes()), ["0"], image_size=SIZE, global_token="mean")
    with pytest.raises(BackboneError, match="the same tokens for different images"):
        probe.check_order(backbone, backbone.spec)


def test_a_backbone_of_other_makers_is_measured_on_the_grid_that_is_stored() -> None:
    class Theirs:
        def __init__(self, order: Tensor | None) -> None:
            self.inner = from_module(PlainViT(order=order), ["blocks.*"], image_size=SIZE, grid=(8, 8))
            self.layers, self.preprocess = self.inner.layers, self.inner.preprocess
            self.identity: dict[str, Any] = {"made_with": {}}

        def __call__(self, pixels: Tensor) -> Tokens:
            return self.inner(pixels)

    spec = Theirs(None).inner.spec
    probe.check_order(Theirs(None), spec)
    with pytest.raises(BackboneError, match="mirrored left to right"):
        probe.check_order(Theirs(KNOWN["mirrored left to right"]), spec)


class Counted:
    """A backbone that counts the images that it is given."""

    def __init__(self) -> None:
        self.inner = from_module(PlainViT(), ["blocks.*"], image_size=SIZE)
        self.layers, self.identity, self.preprocess = self.inner.layers, self.inner.identity, self.inner.preprocess
        self.batches: list[int] = []

    def __call__(self, pixels: Tensor) -> Tokens:
        return self.inner(pixels)

    def each_layer(self, pixels: Tensor, keep: Callable[[LayerTokens], Any]) -> dict[str, Any]:
        self.batches.append(len(pixels))
        return self.inner.each_layer(pixels, keep)


@pytest.mark.parametrize(("batch_size", "batches"), [(32, [8]), (8, [8]), (4, [4, 4, 2]), (1, [2] * 7)])
def test_it_costs_a_few_images_in_batches_no_larger_than_the_specs(batch_size: int, batches: list[int]) -> None:
    backbone = Counted()
    probe.measure_orders(backbone, CacheSpec(title="t", image_size=SIZE, batch_size=batch_size))
    assert backbone.batches == batches


HIERA = """
import torch, transformers

def build():
    torch.manual_seed(0)
    config = transformers.HieraConfig(embed_dim=24, image_size=[128, 128], depths=[1] * 4, num_heads=[1, 2, 4, 8])
    return transformers.HieraModel(config)
"""


def test_an_extraction_refuses_before_anything_is_written_and_show_says_why(
    brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hiera_of_test.py").write_text(HIERA)
    layers = "backbone: {module: 'hiera_of_test:build', layers: ['encoder.stages.*.layers.*']}"
    (tmp_path / "own.yaml").write_text(f"title: t\n{layers}\nimage_size: 128\nglobal_token: mean\ngrid: [4, 4]\n")
    command = ["extract", "own.yaml", "--data", f"planted:{brain}", "--out", "a.zarr"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert result.output.count("error: ") == 1
    assert "encoder.stages.0.layers.0" in result.output
    assert "mask units of 8×8 places, as Hiera's" in result.output
    assert "layers: encoder.stages.*.layers.* → 4: encoder.stages.0.layers.0 …" in result.output
    assert not (tmp_path / "a.zarr").exists()
    shown = " ".join(CliRunner(env={"COLUMNS": "100"}).invoke(app, ["backbones", "show", "own.yaml"]).output.split())
    assert "order NOT row by row, but mask units of 8×8 places, as Hiera's: encoder.stages.0.layers.0" in shown
    assert "row by row: encoder.stages.3.layers.0" in shown


def test_a_network_in_which_only_one_layer_is_reordered_is_refused_and_its_others_are_not(
    planted: Planted, tmp_path: Path
) -> None:
    class Beside(nn.Module):
        """A ViT, and beside it a map that is mirrored."""

        def __init__(self) -> None:
            super().__init__()
            self.vit, self.odd = PlainViT(), Turned(lambda x: x.flip(3))

        def forward(self, pixels: Tensor) -> Any:
            self.odd(pixels)
            return self.vit(pixels)

    def build(layers: list[str]) -> HookedModule:
        return from_module(Beside(), layers, image_size=SIZE, global_token="mean", grid=(4, 4), shard_images=48)

    backbone = build(["vit.blocks.0", "odd", "vit.blocks.2"])
    with pytest.raises(BackboneError, match=r"layer 'odd'.*mirrored left to right"):
        extract(backbone.spec, planted, tmp_path / "a.zarr", device="cpu", backbone=backbone)
    backbone = build(["vit.blocks.0", "vit.blocks.2"])
    assert extract(backbone.spec, planted, tmp_path / "a.zarr", device="cpu", backbone=backbone).n_computed == 1


def test_maes_weights_are_read_by_a_class_that_keeps_places() -> None:
    """Its own class would be refused as random; see test_code. The plain ViT that bddn reads it with is not."""
    config = transformers.ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=SIZE, patch_size=8
    )
    found = orders(transformers.ViTModel(config), ["**.layer*.?"], global_token="cls")
    assert {order.kind for order in found.values()} == {"rows"}
