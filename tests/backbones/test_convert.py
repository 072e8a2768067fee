"""Checkpoints of other libraries: the converted network computes what the source computes, or is refused by name.

The networks have 3 blocks of 24 channels, 4 heads and a grid of 4 by 4 patches.
"""

import argparse
import operator
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel

from backbones.sources import WRITERS, seeded
from bddn.backbones.weights.convert import FORMATS, Format, load_converted, read_checkpoint
from bddn.errors import BackboneError

ARCHITECTURE = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
}
FILES: list[tuple[Format, str]] = [(source, name) for source in FORMATS for name in WRITERS[source][1]]
BLOCK_1: dict[Format, str] = {  # what the names of the second block start with
    "open_clip": "visual.transformer.resblocks.1.",
    "torchvision": "encoder.layers.encoder_layer_1.",
    "timm": "blocks.1.",
    "moco": "module.base_encoder.blocks.1.",
}
FUSED: dict[Format, str] = {
    "open_clip": "attn.in_proj_weight",
    "torchvision": "self_attention.in_proj_weight",
    "timm": "attn.qkv.weight",
    "moco": "attn.qkv.weight",
}
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))

each_file = pytest.mark.parametrize(("source", "name"), FILES, ids=[name for _, name in FILES])
each_format = pytest.mark.parametrize("source", FORMATS)


def write(path: Path, source: Format, **changes: int) -> nn.Module:
    return WRITERS[source][0](path, **({"seed": 1} | ARCHITECTURE | changes))


def target(source: Format, **changes: Any) -> Any:
    """A model of `transformers` for that format, with weights of its own."""
    given: Any = ARCHITECTURE | {"hidden_act": "gelu"} | changes
    if source == "open_clip":
        return CLIPVisionModel(CLIPVisionConfig(layer_norm_eps=1e-5, **given)).eval()
    return ViTModel(ViTConfig(layer_norm_eps=1e-6, **given), add_pooling_layer=False).eval()


def loaded(path: Path, source: Format, **changes: Any) -> Any:
    model = target(source, **changes)
    load_converted(model, path, source)
    return model


def difference(model: nn.Module, network: nn.Module) -> float:
    """The largest over the outputs of all blocks."""
    with torch.inference_mode():
        found = model(PIXELS, output_hidden_states=True).hidden_states[1:]
        expected = network(PIXELS)
    assert len(expected) == 3
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


def state_of(path: Path) -> dict[str, Tensor]:
    """What the file holds, read without the package."""
    if path.suffix == ".safetensors":
        return load_file(path)
    content = torch.load(path, weights_only=True)
    found: dict[str, Tensor] = content.get("state_dict", content.get("model", content))
    return found


def change(path: Path, how: Callable[[dict[str, Tensor]], Any]) -> None:
    """Write the file again, its state dict changed in place."""
    state = state_of(path)
    how(state)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def refusal(path: Path, source: Format, **changes: Any) -> BackboneError:
    with pytest.raises(BackboneError) as caught:
        loaded(path, source, **changes)
    assert caught.value.place == str(path)
    return caught.value


@each_file
def test_every_block_gives_what_the_sources_gives(tmp_path: Path, source: Format, name: str) -> None:
    network = write(tmp_path / name, source)
    assert difference(target(source), network) > 1
    assert difference(loaded(tmp_path / name, source), network) <= 1e-5


@each_file
def test_no_weight_is_left_as_it_was(tmp_path: Path, source: Format, name: str) -> None:
    """Also those of the final norm, which no block's output shows."""
    write(tmp_path / name, source)
    model = target(source)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    load_converted(model, tmp_path / name, source)
    assert not any(parameter.isnan().any() for parameter in model.parameters())


@each_format
def test_the_final_norm_is_the_sources(tmp_path: Path, source: Format) -> None:
    network = write(tmp_path / "weights", source)
    final = "ln_post" if source == "open_clip" else "encoder.ln" if source == "torchvision" else "norm"
    found = loaded(tmp_path / "weights", source)
    norm = found.post_layernorm if source == "open_clip" else found.layernorm
    expected = operator.attrgetter(final)(network)
    assert torch.equal(norm.weight, expected.weight)
    assert torch.equal(norm.bias, expected.bias)


@each_format
@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_queries_keys_and_values_are_told_apart(tmp_path: Path, source: Format, order: tuple[int, int, int]) -> None:
    network = write(tmp_path / "weights", source)

    def permute(state: dict[str, Tensor]) -> None:
        key = BLOCK_1[source] + FUSED[source]
        state[key] = torch.cat([state[key].chunk(3)[i] for i in order])

    change(tmp_path / "weights", permute)
    assert difference(loaded(tmp_path / "weights", source), network) > 1e-2


@each_format
def test_the_number_of_heads_is_the_configs(tmp_path: Path, source: Format) -> None:
    """No weight tells it: MoCo's small ViT has 12 heads, timm's 6."""
    network = write(tmp_path / "weights", source, num_attention_heads=6)
    assert difference(loaded(tmp_path / "weights", source, num_attention_heads=6), network) <= 1e-5
    assert difference(loaded(tmp_path / "weights", source), network) > 1e-2


def test_the_momentum_encoder_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "moco.pth.tar"
    network = write(path, "moco")

    def only(state: dict[str, Tensor]) -> None:
        for key in [key for key in state if not key.startswith("module.base_encoder.")]:
            state[key] = torch.full_like(state[key], 7)

    change(path, only)
    assert difference(loaded(path, "moco"), network) <= 1e-5
    change(path, lambda s: [s.pop(key) for key in list(s) if key.startswith("module.base_encoder.")])
    assert "missing: module.base_encoder.cls_token" in str(refusal(path, "moco"))


def test_the_text_tower_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "open_clip.bin"
    network = write(path, "open_clip")
    key = "transformer.resblocks.1.attn.in_proj_weight"
    state = read_checkpoint(path)
    assert state[key].shape == state["visual." + key].shape
    assert not torch.equal(state[key], state["visual." + key])
    change(path, lambda s: [s.pop(key) for key in list(s) if not key.startswith("visual.")])
    assert difference(loaded(path, "open_clip"), network) <= 1e-5


def test_a_visual_tower_alone_is_loaded(tmp_path: Path) -> None:
    network = seeded(write(tmp_path / "whole.bin", "open_clip"), 5)
    torch.save(network.state_dict(), tmp_path / "visual.bin")
    assert difference(loaded(tmp_path / "visual.bin", "open_clip"), network) <= 1e-5


def test_torchvisions_former_names_are_known(tmp_path: Path) -> None:
    path = tmp_path / "vit.pth"
    network = write(path, "torchvision")
    former = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."}
    for now, then in former.items():
        change(path, lambda s, now=now, then=then: [s.update({k.replace(now, then): s.pop(k)}) for k in list(s)])  # type: ignore[misc]
    assert sum(".mlp.linear_" in key for key in state_of(path)) == 12
    assert difference(loaded(path, "torchvision"), network) <= 1e-5


def test_timms_heads_are_no_part_of_the_encoder(tmp_path: Path) -> None:
    path = tmp_path / "mae.pth"
    network = write(path, "timm")
    change(path, lambda s: s.update({"head.weight": torch.ones(10, 24), "fc_norm.bias": torch.ones(24)}))
    assert difference(loaded(path, "timm"), network) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "vit.pth"
    write(path, "torchvision")
    change(path, lambda s: s.update({key: value.to(dtype) for key, value in s.items()}))
    model = target("torchvision").to(dtype)
    load_converted(model, path, "torchvision")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    expected = state_of(path)[BLOCK_1["torchvision"] + "mlp.0.weight"].float()
    assert torch.equal(dict(model.named_parameters())["layers.1.mlp.fc1.weight"], expected)


def test_files_of_torch_before_zip_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mae.pth"
    network = write(path, "timm")
    torch.save({"model": state_of(path)}, path, _use_new_zipfile_serialization=False)
    assert difference(loaded(path, "timm"), network) <= 1e-5


@each_format
def test_a_renamed_key_is_refused_under_both_names(tmp_path: Path, source: Format) -> None:
    path = tmp_path / "weights"
    write(path, source)
    key = BLOCK_1[source] + FUSED[source]
    change(path, lambda s: s.update({BLOCK_1[source] + "attn.all": s.pop(key)}))
    message = str(refusal(path, source))
    assert f"1 missing: {key}" in message
    assert f"1 unknown: {BLOCK_1[source]}attn.all" in message


@each_format
def test_every_key_of_the_tower_is_needed(tmp_path: Path, source: Format) -> None:
    path = tmp_path / "weights"
    network = write(path, source)
    prefix = BLOCK_1[source].partition("blocks")[0] if source == "moco" else "visual." if source == "open_clip" else ""
    keys = [prefix + key for key in network.state_dict() if not key.startswith(("head", "proj"))]
    whole = state_of(path)
    assert len(keys) == {"open_clip": 43, "torchvision": 42, "timm": 42, "moco": 42}[source]
    for key in keys:
        torch.save({k: v for k, v in whole.items() if k != key}, path)
        assert f"got 1 missing: {key}. " in str(refusal(path, source))


@each_format
def test_a_key_of_another_shape_is_refused_in_the_files_name(tmp_path: Path, source: Format) -> None:
    path = tmp_path / "weights"
    write(path, source)
    key = BLOCK_1[source] + FUSED[source]
    change(path, lambda s: s.update({key: s[key][:-1].clone()}))
    assert f"1 of another shape or type: {key} float32 (71, 24), not (72, 24)" in str(refusal(path, source))


@each_format
def test_an_unknown_key_is_refused(tmp_path: Path, source: Format) -> None:
    path = tmp_path / "weights"
    write(path, source)
    change(path, lambda s: s.update({BLOCK_1[source] + "ls1.gamma": torch.ones(24)}))
    assert f"got 1 unknown: {BLOCK_1[source]}ls1.gamma. " in str(refusal(path, source))


@pytest.mark.parametrize(
    ("first", "second", "wrapped"), [("state_dict", "state_dict_ema", ""), ("model", "model_ema", "module.")]
)
def test_a_file_with_the_weights_and_their_average_is_refused(
    tmp_path: Path, first: str, second: str, wrapped: str
) -> None:
    """As training scripts of timm and torchvision write it; which of both was evaluated only their owner knows."""
    path = tmp_path / "timm.pth"
    write(path, "timm")
    state = state_of(path)
    average = {wrapped + key: value + 1 for key, value in state.items()}
    torch.save({first: state, second: average, "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, path)
    assert f"several under the same names: {first}, {second}" in str(refusal(path, "timm"))
    torch.save({first: state, "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, path)
    loaded(path, "timm")


@pytest.mark.parametrize("before", ["module", "_orig_mod", "model"])
def test_what_precedes_all_names_is_told(tmp_path: Path, before: str) -> None:
    path = tmp_path / "timm.pth"
    write(path, "timm")
    torch.save({f"{before}.{key}": value for key, value in state_of(path).items()}, path)
    assert f"names that do not begin with '{before}.'" in str(refusal(path, "timm"))


def test_weights_that_are_whole_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write(path, "timm")
    change(path, lambda s: s.update({"blocks.0.mlp.fc1.weight": s["blocks.0.mlp.fc1.weight"].to(torch.int8)}))
    assert "blocks.0.mlp.fc1.weight int8 (40, 24)" in str(refusal(path, "timm"))


@pytest.mark.parametrize("kind", ["sparse_coo", "sparse_csr", "without values"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
def test_weights_that_are_no_plain_arrays_are_refused(tmp_path: Path, kind: str) -> None:
    path, name = tmp_path / "weights", "blocks.0.mlp.fc1.weight"
    write(path, "timm")
    convert: dict[str, Callable[[Tensor], Tensor]] = {
        "sparse_coo": Tensor.to_sparse,
        "sparse_csr": Tensor.to_sparse_csr,
        "without values": lambda weight: weight.to("meta"),
    }
    change(path, lambda s: s.update({name: convert[kind](s[name])}))
    assert f"dense weights; got 1 others: {name} (" in (message := str(refusal(path, "timm")))
    assert kind in message


@each_format
@pytest.mark.parametrize(("depth", "kind"), [(2, "unknown"), (4, "missing")])
def test_another_depth_is_refused(tmp_path: Path, source: Format, depth: int, kind: str) -> None:
    write(tmp_path / "weights", source)
    message = str(refusal(tmp_path / "weights", source, num_hidden_layers=depth))
    assert f"got 12 {kind}: " in message
    assert " and 4 more" in message


@each_format
def test_another_image_size_or_width_is_refused(tmp_path: Path, source: Format) -> None:
    write(tmp_path / "weights", source)
    message = str(refusal(tmp_path / "weights", source, image_size=48))
    assert "1 of another shape or type: " in message
    assert "pos" in message
    assert "of another shape or type: " in str(refusal(tmp_path / "weights", source, hidden_size=48))


def test_all_kinds_of_mistakes_are_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write(path, "timm")
    change(path, lambda s: [s.pop("norm.bias"), s.update({"more": torch.ones(1), "cls_token": torch.ones(1, 1, 5)})])
    message = str(refusal(path, "timm"))
    for part in ("1 missing: norm.bias", "1 unknown: more", "cls_token float32 (1, 1, 5), not (1, 1, 24)"):
        assert part in message


@each_format
@pytest.mark.parametrize("other", FORMATS)
def test_a_file_of_another_format_is_refused(tmp_path: Path, source: Format, other: Format) -> None:
    write(tmp_path / "weights", source)
    if source != other:
        assert " missing: " in str(refusal(tmp_path / "weights", other))


def test_a_refused_file_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write(path, "timm")
    change(path, lambda s: s.pop("norm.bias"))
    model = target("timm")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(BackboneError):
        load_converted(model, path, "timm")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_that_no_format_has_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "weights", "timm")
    config: Any = ViTConfig(**ARCHITECTURE)
    with pytest.raises(BackboneError, match=r"pooler\.dense\.weight"):
        load_converted(ViTModel(config, add_pooling_layer=True), tmp_path / "weights", "timm")


class Trap:
    """On unpickling, makes a folder."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, made = tmp_path / "weights.pth", tmp_path / "made"
    torch.save({"model": {"a": torch.ones(3)}, "more": Trap(made)}, path, _use_new_zipfile_serialization=zipped)
    message = str(refusal(path, "timm"))
    assert "a pickle that needs posix.mkdir" in message
    assert "weights_only" not in message  # torch's advice would be to run it
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists()  # it would have been


@each_file
@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, source: Format, name: str, part: float) -> None:
    path = tmp_path / name
    write(path, source)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert ("truncated" if part else "an empty file (0 bytes)") in str(refusal(path, source))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for place, got in ((tmp_path / "nowhere.pth", "no such file"), (tmp_path, "got a folder")):
        assert got in str(refusal(place, "timm"))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("404 Not Found" * 50)
    assert "another format" in str(refusal(tmp_path / name, "timm"))
    (tmp_path / name).write_text("<html>404 Not Found</html>" * 50)
    assert "an HTML page" in str(refusal(tmp_path / name, "timm"))


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ({}, "no tensors"),
        ({"model": {}}, "no tensors"),
        ([torch.ones(2)], "other objects: list"),
        (torch.ones(2), "other objects: Tensor"),
        ({"teacher": {"a": torch.ones(2)}, "epoch": 3}, "other objects: teacher, epoch"),
        ({"model": {"a": torch.ones(2), "step": 3}}, "other objects: step"),
    ],
)
def test_a_file_without_tensors_or_with_other_things_is_refused(tmp_path: Path, content: object, got: str) -> None:
    torch.save(content, tmp_path / "weights.pth")
    assert f"got {got}. " in str(refusal(tmp_path / "weights.pth", "timm"))


def test_a_file_with_the_options_of_its_training_is_refused_by_their_class(tmp_path: Path) -> None:
    """As MAE's training writes it: harmless, but no tensor."""
    torch.save({"model": {"a": torch.ones(2)}, "args": argparse.Namespace(lr=1.0)}, tmp_path / "weights.pth")
    assert "a pickle that needs argparse.Namespace. " in str(refusal(tmp_path / "weights.pth", "timm"))


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"a": [1.0]}))
    refusal(tmp_path / "weights.pkl", "timm")
