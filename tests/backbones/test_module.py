"""A module of one's own: its tokens are those of its submodules, and it says how it reads them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL.Image import Image
from torch import Tensor, nn

from bddn import from_module
from bddn.backbones.module import HookedModule
from bddn.backbones.registry import load_spec, open_backbone, spec_names
from bddn.errors import BackboneError, SpecError
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec
from bddn.store.reader import Cache
from bddn.testing import BackboneContract

SIZE = 32


class Net(nn.Module):
    """Convolutions, then blocks on a sequence with a CLS token; then a head."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 12, 4, stride=4)
        self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(12, 2, 16, batch_first=True) for _ in range(3)])
        self.never = nn.Linear(12, 12)
        self.act = nn.ReLU()
        self.head = nn.Linear(12, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.act(self.stem(pixels)).flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1)
        for block in self.blocks:
            x = block(self.act(x))
        return self.head(x[:, 0])  # type: ignore[no-any-return]


class TestModule(BackboneContract):
    @pytest.fixture
    def backbone(self) -> HookedModule:
        return from_module(Net(), ["stem", "blocks.?"], image_size=SIZE, grid=(8, 8), global_token="mean")

    @pytest.fixture
    def spec(self, backbone: HookedModule) -> CacheSpec:
        return backbone.spec


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, where a module mynets.py lies."""
    text = (Path(__file__).parent / "own_nets.py").read_text()
    (tmp_path / "mynets.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("mynets", None)


def test_tokens_are_the_outputs_of_the_submodules_in_the_order_in_which_they_run() -> None:
    net, seen = Net(), []
    backbone = from_module(net, ["blocks.?", "stem"], image_size=SIZE, grid=(8, 8), global_token="mean")
    assert backbone.layers == ("stem", "blocks.0", "blocks.1", "blocks.2")
    assert str(backbone.forms["stem"]) == "a map of 8×8 places, 12 channels, which come first"
    assert str(backbone.forms["blocks.2"]) == "65 tokens = 1 CLS + 8×8, 12 channels"
    pixels = torch.randn(3, 3, SIZE, SIZE)
    net.blocks[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        stem = net.stem(pixels)
        net(pixels)
    tokens = backbone(pixels)
    torch.testing.assert_close(tokens["stem"].local_, stem)
    expected = seen[0][:, 1:].transpose(1, 2).unflatten(2, (8, 8))
    torch.testing.assert_close(tokens["blocks.1"].local_, expected, rtol=0, atol=1e-5)


def test_the_cls_token_is_the_global_one_where_all_layers_have_it() -> None:
    net, seen = Net(), []
    backbone = from_module(net, ["blocks.2"], image_size=SIZE)
    net.blocks[2].register_forward_hook(lambda module, inputs, output: seen.append(output))
    pixels = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        net(pixels)
    found = backbone(pixels)["blocks.2"].global_
    assert found is not None
    torch.testing.assert_close(found, seen[0][:, 0], rtol=0, atol=1e-5)


def test_the_network_is_frozen_and_in_eval_mode() -> None:
    net = Net()
    backbone = from_module(net, ["blocks.1"], image_size=SIZE)
    pixels = torch.randn(2, 3, SIZE, SIZE)
    first, second = backbone(pixels)["blocks.1"].local_, backbone(pixels)["blocks.1"].local_
    assert torch.equal(first, second)  # no dropout
    assert not first.requires_grad
    assert not net.training


@pytest.mark.parametrize(
    ("layers", "fields", "words"),
    [
        (None, {}, r"names or globs of the submodules.*blocks\.0"),
        (["block.*"], {}, r"got 'block\.\*'"),
        (["act"], {}, "run once per batch; got 'act', which runs 4 times"),
        (["never"], {}, "'never', which does not run"),
        (["head"], {}, "before places are pooled"),
        (["stem"], {}, "global_token: mean"),
        (["blocks.0"], {"image_size": 33, "global_token": "mean", "batch": 3}, "unknown key 'batch'"),
        (["blocks.0"], {"leading_tokens": 3}, "after 3 leading tokens"),
    ],
)
def test_what_cannot_be_a_layer_is_refused(layers: Any, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        from_module(Net(), layers, **({"image_size": SIZE} | fields))


def test_a_network_that_does_not_run_on_the_images_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"runs on pixels \(2, 3, 2, 2\)"):
        from_module(Net(), ["stem"], image_size=2, global_token="mean")


def test_what_follows_the_last_layer_need_not_run() -> None:
    net = Net()
    net.head = nn.Linear(3, 2)
    assert from_module(net, ["blocks.?"], image_size=SIZE).layers == ("blocks.0", "blocks.1", "blocks.2")
    with pytest.raises(BackboneError, match=r"runs on pixels .* shapes cannot be multiplied"):
        from_module(net, ["head"], image_size=SIZE)


def test_a_compiled_network_is_asked_for_as_it_was() -> None:
    compiled: Any = torch.compile(Net(), backend="eager")
    with pytest.raises(
        BackboneError, match=r"what torch.compile returned.*Give the module itself, its attribute _orig_mod"
    ):
        from_module(compiled, ["_orig_mod.stem"], image_size=SIZE)


def test_what_has_no_weights_is_refused() -> None:
    with torch.device("meta"):
        empty = Net()
    with pytest.raises(BackboneError, match=r"weights in memory; got \d+ weights without values: stem\.weight"):
        from_module(empty, ["stem"], image_size=SIZE)
    with pytest.raises(BackboneError, match="got no torch module"):
        from_module(Net, ["stem"], image_size=SIZE)  # type: ignore[arg-type]
    exported = torch.export.export(Net().eval(), (torch.zeros(2, 3, SIZE, SIZE),)).module()
    with pytest.raises(BackboneError, match=r"got one that cannot be set to eval mode.*before torch\.export"):
        from_module(exported, ["stem"], image_size=SIZE)
    for persistent in (True, False):
        half_empty = Net()
        half_empty.register_buffer("codes", torch.empty(3, device="meta"), persistent=persistent)
        with pytest.raises(BackboneError, match="1 weights without values: codes"):
            from_module(half_empty, ["blocks.?"], image_size=SIZE)
    sparse = Net()
    sparse.never.weight = nn.Parameter(sparse.never.weight.detach().to_sparse(), requires_grad=False)
    with pytest.raises(BackboneError, match=r"dense weights; got 1 others: never\.weight \(torch\.sparse_coo\)"):
        from_module(sparse, ["stem"], image_size=SIZE)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")  # torch will remove such networks
def test_a_quantized_network_is_asked_for_as_it_was() -> None:
    quantized: Any = Net()
    quantized.head = torch.ao.nn.quantized.dynamic.Linear(12, 2)
    with pytest.raises(BackboneError, match=r"_packed_params.*Give the network as it was before it was quantized"):
        from_module(quantized, ["stem"], image_size=SIZE)


def test_a_network_that_changed_since_it_was_given_is_refused(planted: Planted, tmp_path: Path) -> None:
    """A cache would name the weights that were, and hold the tokens of others."""
    net = Net()
    backbone = from_module(net, ["blocks.1"], image_size=SIZE, grid=(4, 4))
    net.blocks[0].train()
    with pytest.raises(BackboneError, match=r"in eval mode; got training mode in blocks\.0, .*Call from_module again"):
        extract(backbone.spec, planted, tmp_path / "a.zarr", device="cpu", backbone=backbone)
    net.eval()
    net.stem.weight.data.mul_(2)
    with pytest.raises(BackboneError, match="got other weights"):
        extract(backbone.spec, planted, tmp_path / "a.zarr", device="cpu", backbone=backbone)
    backbone = from_module(net, ["blocks.1"], image_size=SIZE, grid=(4, 4))
    net.blocks[0].register_forward_hook(lambda module, given, output: output * 2)
    with pytest.raises(BackboneError, match="got other outputs for the same image, with the same weights"):
        extract(backbone.spec, planted, tmp_path / "a.zarr", device="cpu", backbone=backbone)
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize(("what", "words"), [("flips", "when it is called again"), ("one buffer", "overwrites")])
def test_a_preprocessing_that_gives_other_pixels_for_the_same_image_is_refused(what: str, words: str) -> None:
    draw, buffer = np.random.default_rng(0), torch.zeros(3, SIZE, SIZE)

    def preprocess(image: Image) -> Tensor:
        pixels = torch.from_numpy(np.array(image.resize((SIZE, SIZE)))).permute(2, 0, 1) / 255
        if what == "flips":
            return pixels.flip(2) if draw.random() < 0.5 else pixels
        return buffer.copy_(pixels)

    with pytest.raises(BackboneError, match=words):
        from_module(Net(), ["blocks.1"], preprocess, image_size=SIZE, grid=(4, 4))


class OfRegisters(nn.Module):
    """Two tokens before 64 local ones, under names of weights."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.cut, self.block = nn.Conv2d(3, 8, 4, 4), nn.Identity()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.randn(1, 2 // len(names), 8)))
        self.names = names

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.cut(pixels).flatten(2).transpose(1, 2)
        before = [self.get_parameter(name).expand(len(x), -1, -1) for name in self.names]
        return self.block(torch.cat([*before, x], 1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["reg_token", "register_tokens", "registers"])
def test_registers_of_a_network_without_cls_token_are_not_taken_for_one(name: str) -> None:
    """Those of timm's vit_medium_patch16_reg4_gap, for instance."""
    with pytest.raises(SpecError, match=r"a CLS token, .*got 66 tokens = 2 registers \+ 8×8.*mean.*leading_tokens: 2"):
        from_module(OfRegisters(name), ["block"], image_size=SIZE)
    given: dict[str, Any] = {"image_size": SIZE, "grid": (8, 8)}
    backbone = from_module(OfRegisters(name), ["block"], global_token="mean", registers=True, **given)
    registers = backbone(torch.randn(1, 3, SIZE, SIZE))["block"].register
    assert registers is not None
    assert torch.equal(registers, backbone.module.get_parameter(name).detach())
    for net, leading in ((OfRegisters(name), 2), (OfRegisters("cls_token", name), None)):
        form = from_module(net, ["block"], leading_tokens=leading, **given).forms["block"]
        assert str(form).startswith("66 tokens = 1 CLS + 1 registers")


class Prompted(nn.Module):
    """Tokens before the patches, as visual prompts are; or patches of another form than the image."""

    def __init__(self, n_before: int, patch: tuple[int, int] = (4, 4), side: int = 0) -> None:
        super().__init__()
        self.merge = nn.AdaptiveAvgPool2d(side) if side else nn.Identity()
        self.cut, self.block = nn.Conv2d(3, 12, patch, patch), nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)
        self.before = nn.Parameter(torch.randn(1, n_before, 12))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.merge(self.cut(pixels)).flatten(2).transpose(1, 2)
        return self.block(torch.cat([self.before.expand(len(x), -1, -1), x], 1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("n_before", "read"), [(17, r"0 \+ 9×9"), (37, r"1 \+ 10×10")])
def test_tokens_that_form_a_grid_with_the_patches_are_not_taken_for_places(n_before: int, read: str) -> None:
    given: dict[str, Any] = {"image_size": SIZE, "grid": 8, "global_token": "mean"}
    answer = rf"leading_tokens: {n_before} if the 8×8 patches come last"
    with pytest.raises(SpecError, match=rf"8×8 patches .* got {64 + n_before} tokens = {read}.*{answer}"):
        from_module(Prompted(n_before), ["block"], **given)
    net = Prompted(n_before)
    found = from_module(net, ["block"], leading_tokens=n_before, **given)(pixels := torch.randn(2, 3, SIZE, SIZE))
    with torch.inference_mode():
        expected = net(pixels)[:, n_before:].transpose(1, 2).unflatten(2, (8, 8))
    torch.testing.assert_close(found["block"].local_, expected, rtol=0, atol=1e-5)


def test_group_tokens_are_not_taken_for_places() -> None:
    """GroupViT's first stage has 14 × 14 patches and 64 groups, 4 + 16 × 16 tokens, and its last one 8 = 4 + 2 × 2."""
    from transformers import GroupViTVisionConfig, GroupViTVisionModel

    sizes = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 24, "depths": [1, 1, 1]}
    net = GroupViTVisionModel(GroupViTVisionConfig(**sizes))
    for layer, read in {"0.layers.0": r"4 \+ 16×16", "2.layers.0": r"4 \+ 2×2"}.items():
        with pytest.raises(SpecError, match=rf"places of the 14×14 patches.*tokens = {read}"):
            from_module(net, [f"vision_model.encoder.stages.{layer}"], image_size=224, global_token="mean")


def test_patches_of_another_form_than_the_image_are_refused() -> None:
    """Read by their number alone, 4 × 16 patches of 8 × 2 pixels would be 8 × 8 places."""
    for answer in (None, 0):
        with pytest.raises(SpecError, match=r"places of the 4×16 patches .*Return a map of places as the image has"):
            from_module(Prompted(0, (8, 2)), ["block"], leading_tokens=answer, image_size=SIZE, global_token="mean")


@pytest.mark.parametrize("side", [3, 4, 5, 8, 9, 16])
def test_patches_may_be_merged_or_divided(side: int) -> None:
    given: dict[str, Any] = {"image_size": SIZE, "global_token": "mean"}
    net = Prompted(0, side=side)
    if side in (5, 9):  # not from 8 × 8, as the queries of a resampler
        with pytest.raises(SpecError, match=rf"leading_tokens: 0 if it has {side}×{side} places"):
            from_module(net, ["block"], **given)
    answer = 0 if side in (3, 5, 9) else None
    assert from_module(net, ["block"], leading_tokens=answer, **given).forms["block"].places == (side, side)


@pytest.mark.parametrize("size", [33, [32, 38]])
def test_pixels_that_would_be_left_over_at_the_edge_are_refused(size: Any) -> None:
    with pytest.raises(SpecError, match=r"a multiple of the patch size 4 × 4.*got 3[23] × 3[38]"):
        from_module(Net(), ["blocks.?"], image_size=size)


def test_tokens_that_float16_cannot_tell_from_zero_are_refused() -> None:
    """Those of deep convolutional networks of random weights, whose norms divide by a deviation of 1."""
    net = Net()
    for weight in net.stem.parameters():
        weight.data *= 1e-9
    with pytest.raises(BackboneError, match=r"layer 'stem': .* float16 can store; got .* almost zero"):
        from_module(net, ["stem"], image_size=SIZE, global_token="mean")


def test_a_preprocessing_is_part_of_the_fingerprint() -> None:
    def dark(image: Image) -> Tensor:
        return torch.zeros(3, SIZE, SIZE)

    def light(image: Image) -> Tensor:
        return torch.ones(3, SIZE, SIZE)

    of = [from_module(Net(), ["blocks.0"], one, image_size=SIZE).identity for one in (None, dark, light, dark)]
    assert of[1] == of[3]
    assert len({str(one) for one in of}) == 3
    with pytest.raises(BackboneError, match=r"float32 tensor of shape \(3, 48, 48\).*got \(3, 32, 32\)"):
        from_module(Net(), ["blocks.0"], dark, image_size=48)


def test_weights_and_structure_are_part_of_the_fingerprint() -> None:
    first, same, other = (from_module(Net(seed), ["blocks.0"], image_size=SIZE).identity for seed in (0, 0, 1))
    assert first == same
    assert first["weights_sha256"] != other["weights_sha256"]
    net = Net()
    net.act = nn.GELU()  # type: ignore[assignment]
    changed = from_module(net, ["blocks.0"], image_size=SIZE).identity
    assert changed["weights_sha256"] == first["weights_sha256"]
    assert changed["structure_sha256"] != first["structure_sha256"]


def test_it_is_extracted_like_any_other_and_the_same_from_an_import_path(
    own: Path, planted: Planted, tmp_path: Path
) -> None:
    spec = CacheSpec.parse(
        {"title": "t", "backbone": {"module": "mynets:build", "layers": ["blocks.*.norm2"]}, "image_size": SIZE}, "test"
    )
    done = extract(spec, planted, tmp_path / "a.zarr")
    import mynets  # type: ignore[import-not-found]

    backbone = from_module(mynets.build(), ["blocks.*.norm2"], image_size=SIZE, title="of one's own")
    again = extract(backbone.spec, planted, tmp_path / "a.zarr", device="cpu", backbone=backbone)
    assert again.reused
    assert again.digest == done.digest
    assert [layer.name for layer in Cache(tmp_path / "a.zarr").layers] == [f"blocks.{i}.norm2" for i in range(2)]


@pytest.mark.parametrize(
    ("path", "preprocess", "words"),
    [
        ("mynet:build", "paper", "No module named 'mynet'"),
        ("mynets:built", "paper", "no attribute 'built'"),
        ("mynets:number", "paper", "got a int"),
        ("mynets:fails", "paper", "RuntimeError: no weights"),
        ("mynets:build", "native", "preprocess: paper"),
        ("mynets:with_preprocess", "paper", "preprocess: native"),
        (
            "mynets:with_preprocess_that_fails",
            "native",
            "preprocess: expected a function .*425 × 300 .*only images of 7",
        ),
    ],
)
def test_an_import_path_that_gives_no_module_is_refused(own: Path, path: str, preprocess: str, words: str) -> None:
    about = {"module": path, "layers": ["blocks.*.norm2"]}
    spec = {"title": "t", "backbone": about, "image_size": SIZE, "preprocess": preprocess}
    with pytest.raises((BackboneError, SpecError), match=words):
        open_backbone(CacheSpec.parse(spec, "test"))


def test_a_spec_without_a_backbone_asks_for_one(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="the key 'backbone'"):
        extract(CacheSpec(title="t"), planted, tmp_path / "a.zarr")


def test_a_package_registers_its_specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = tmp_path / "mypackage" / "specs"
    specs.mkdir(parents=True)
    (tmp_path / "mypackage" / "__init__.py").touch()
    (specs / "__init__.py").touch()
    (specs / "mynet.yaml").write_text("title: mine\nbackbone: {module: mypackage:build, layers: [a]}\n")
    about = tmp_path / "mypackage-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[bddn.specs]\nmypackage = mypackage.specs\n")
    assert "mynet" not in spec_names()
    monkeypatch.syspath_prepend(tmp_path)
    assert "mynet" in spec_names()
    assert load_spec("mynet").title == "mine"
    (specs / "demo.yaml").write_text("title: another\nbackbone: {module: mypackage:build, layers: [a]}\n")
    with pytest.raises(SpecError, match=r"spec 'demo'.*two"):
        load_spec("demo")
