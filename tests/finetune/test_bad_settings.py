"""What cannot be trained is refused in words, before the long work."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from bddn.backbones.registry import load_spec, open_backbone
from bddn.cli import app
from bddn.data.image_sets.kinds import open_images
from bddn.data.image_sets.labelled import LabelledImages
from bddn.errors import BackboneError, BddnError, DataError, FitError, OutputError, SpecError
from bddn.finetune import finetune
from bddn.spec import CacheSpec, FinetuneSpec
from finetune.conftest import SETTINGS, write_images


def own(function: str) -> CacheSpec:
    """The spec of a network in `tuned_nets`."""
    layer = {"convolutions": "5", "depthwise": "0"}.get(function, "stem")
    about = {"backbone": {"module": f"finetune.tuned_nets:{function}", "layers": [layer]}, "global_token": "mean"}
    return CacheSpec.parse({"title": function, **about, "image_size": 32, "grid": [2, 2]}, "test")


@pytest.mark.parametrize(
    ("function", "settings", "error", "words"),
    [
        ("detached", {}, BackboneError, "no gradient of any of its weights: its forward detaches"),
        ("half", {}, BackboneError, r"expected weights in float32.*a lower precision in stem\.weight, stem\.bias"),
        ("depthwise", {"method": "lora"}, SpecError, "expected a network with linear layers or 1×1 convolutions"),
        ("adapted", {"method": "lora"}, SpecError, r"changes by peft already.*merge_and_unload"),
        ("convolutions", {"autocast": "bfloat16"}, SpecError, "expected float32 on a CPU"),
        ("convolutions", {"per_class": 9}, DataError, r"expected 9 images of each class.*Use --per-class 8"),
        ("number", {}, BackboneError, "backbone.module 'finetune.tuned_nets:number'"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    function: str,
    settings: dict[str, object],
    error: type[BddnError],
    words: str,
    colors: LabelledImages,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=words):
        finetune(own(function), colors, tmp_path / "net", SETTINGS.model_copy(update=settings), device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_batch_norm_and_dropout_stay_as_in_eval_mode(colors: LabelledImages, tmp_path: Path) -> None:
    spec = own("convolutions")
    found = finetune(spec, colors, tmp_path / "net", SETTINGS)
    before = open_backbone(spec).module.state_dict()  # type: ignore[attr-defined]
    after = load_file(found.folder / "state.safetensors")
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value) == ("running" in name or "tracked" in name), name
    lora = finetune(spec, colors, tmp_path / "lora", SETTINGS.model_copy(update={"method": "lora"}))
    after = load_file(lora.folder / "state.safetensors")
    assert [name for name, value in before.items() if not torch.equal(after[name], value)] == ["4.weight"]


def test_without_peft_there_is_one_message(
    clip: CacheSpec, colors: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SpecError, match=r"pip install 'bddn\[lora\]'"):
        finetune(clip, colors, tmp_path / "net", SETTINGS.model_copy(update={"method": "lora"}))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    clip: CacheSpec, colors: LabelledImages, tmp_path: Path
) -> None:
    wild = SETTINGS.model_copy(update={"learning_rate": 1e15, "checkpoint_every": 1})
    with pytest.raises(FitError, match=r"step 2 of 6: expected a finite loss and gradient; got loss") as raised:
        finetune(clip, colors, tmp_path / "net", wild)
    assert not (tmp_path / "net").exists()
    (kept,) = tmp_path.glob(".net-*/steps/*")
    assert f"The network after step 1 is kept in {kept}." in str(raised.value)
    assert load_spec(str(kept)).parent is not None


def test_a_full_disk_is_found_before_the_first_step(
    clip: CacheSpec, colors: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="2 checkpoints and the state"):
        finetune(clip, colors, tmp_path / "net", SETTINGS)


def test_a_corrupt_image_is_named(clip: CacheSpec, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set")
    for name in ("red_2", "red_5"):
        path = folder / "red" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"(?s)2 images: .*red_2\.png.*red_5\.png"):
        finetune(clip, open_images(f"folder:{folder}"), tmp_path / "net", SETTINGS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("4.bias"), "1 missing: 4.bias"),
        (lambda state: state.update(more=torch.zeros(1)), "1 unknown: more"),
        (lambda state: state.update({"4.bias": torch.zeros(3)}), r"4\.bias float32 \(3,\), not float32 \(16,\)"),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_a_state_that_does_not_fit_is_refused(change: object, words: str, tmp_path: Path) -> None:
    spec = own("convolutions")
    state = dict(open_backbone(spec).module.state_dict())  # type: ignore[attr-defined]
    change(state)  # type: ignore[operator]
    save_file(state, tmp_path / "state.safetensors")
    section = spec.to_dict()["backbone"] | {"state": str(tmp_path / "state.safetensors")}
    with pytest.raises(BackboneError, match=words):
        open_backbone(CacheSpec.parse(spec.to_dict() | {"backbone": section}, "test"))


def test_the_command(clip: CacheSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "set")
    Path("clip.yaml").write_text(yaml.safe_dump(clip.to_dict()))
    Path("settings.yaml").write_text("per_class: 4\nevaluate_every: 2\nlearning_rate: 1e-3\n")
    command = ["finetune", "clip.yaml", "--images", "folder:set", "--out", "net", "--settings", "settings.yaml"]
    command += ["--steps", "3", "--device", "cpu"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "network: net, trained, 3 steps, 1 checkpoint," in done.output
    again = CliRunner().invoke(app, command)
    assert "network: net, the same, trained before, kept" in again.output
    shown = CliRunner().invoke(app, ["backbones", "show", "net"])
    words = " ".join(shown.output.split())
    assert "fine-tuned from tiny clip (weights " in words
    assert "method full, 3 steps, seed 0" in words
    other = CliRunner().invoke(app, [*command, "--seed", "1"])
    assert (other.exit_code, "settings.seed 0 → 1" in other.output) == (2, True)
    wrong = CliRunner().invoke(app, [*command[:4], "--out", "new", "--per-class", "0", "--learning-rate", "-1"])
    assert wrong.exit_code == 2
    assert "'per_class' to be greater than 0" in wrong.output
    assert "'learning_rate' to be greater than 0" in wrong.output


def test_settings_say_what_is_measured_when() -> None:
    settings = FinetuneSpec(steps=10, evaluate_every=4, checkpoint_every=5)
    assert settings.checkpoint_steps == (5,)
    assert settings.evaluated_steps == (0, 4, 5, 8, 10)
    assert FinetuneSpec(method="head").evaluated_steps == (0,)
    assert np.isclose(FinetuneSpec().learning_rate, 3e-5)
