"""Fine-tuning: the promises of `finetune()` on tiny networks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from bddn.backbones.registry import load_spec, open_backbone
from bddn.data.image_sets.kinds import open_images
from bddn.data.image_sets.labelled import LabelledImages
from bddn.data.image_sets.set_check import check_image_set
from bddn.errors import RunError, SpecError
from bddn.extraction import extract
from bddn.finetune import Finetuned, finetune, read_finetuned
from bddn.finetune.finetuning import open_trainable
from bddn.finetune.image_batches import Inputs
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec, FinetuneSpec
from bddn.spec.finetune import Method
from bddn.store.reader import Cache
from finetune.conftest import ARCHITECTURES, SETTINGS, family_spec

OWN = {"title": "own", "backbone": {"module": "backbones.own_nets:build", "layers": ["blocks.*"]}, "image_size": 32}
CONVOLUTIONS = {
    "title": "convolutions",
    "backbone": {"module": "finetune.tuned_nets:convolutions", "layers": ["2", "5"]},
    "image_size": 32,
    "global_token": "mean",
}


def files(folder: Path, *apart: str) -> dict[str, bytes]:
    """All files of a folder by path, without those of these names."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in apart]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def tuned(clip: CacheSpec, colors: LabelledImages, tmp_path_factory: pytest.TempPathFactory) -> Finetuned:
    """The tiny CLIP, trained with `SETTINGS`; read only."""
    return finetune(clip, colors, tmp_path_factory.mktemp("tuned") / "net", SETTINGS)


def _predicted(folder: Path, images: LabelledImages) -> list[str]:
    """Classes of all held-out images by the checkpoint as it is on disk: its tokens, and its head."""
    network, head = open_backbone(load_spec(str(folder))), load_file(folder / "head.safetensors")
    table = pd.read_csv(folder / "images.csv").query("part == 'held-out'")
    rows = [images.stimuli.ids.index(stimulus) for stimulus in table["id"]]
    pixels = torch.stack([network.preprocess(images.stimuli.image(row)) for row in rows])
    token = network(pixels)[network.layers[-1]].global_
    assert token is not None
    return [images.classes[k] for k in (token @ head["weight"].T + head["bias"]).argmax(1)]


@pytest.mark.parametrize(
    ("family", "method"),
    [
        *((family, "full") for family in (*ARCHITECTURES, "own")),
        *(("clip", "head"), ("sam", "lp_ft"), ("clip", "lora"), ("own", "lora"), ("convolutions", "lora")),
    ],
)
def test_a_checkpoint_is_the_network_that_was_measured(
    family: str, method: str, colors: LabelledImages, tmp_path: Path
) -> None:
    own = {"own": OWN, "convolutions": CONVOLUTIONS}.get(family)
    spec = family_spec(family, tmp_path / "weights") if own is None else CacheSpec.parse(own, "test")
    settings = SETTINGS.model_copy(update={"method": method, "steps": 4, "checkpoint_every": None})
    found = finetune(spec, colors, tmp_path / "out", settings)
    assert found.fresh
    before, after = open_backbone(spec).identity, open_backbone(load_spec(str(found.folder))).identity
    assert after["weights_sha256"] == found.about["result"]["weights_sha256"]
    assert (after["weights_sha256"] == before["weights_sha256"]) == (method == "head")
    assert found.about["parent"]["backbone"]["weights_sha256"] == before["weights_sha256"]
    same = {"class", "config", "processor", "structure_sha256", "layers"} & before.keys()
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    table = pd.read_csv(found.folder / "images.csv").query("part == 'held-out'")
    assert _predicted(found.folder, colors) == table["predicted"].tolist()
    right = table["predicted"] == table["class"]
    last = found.accuracy.iloc[-1]
    assert (last["accuracy"], last["n_images"]) == (pytest.approx(right.mean(), rel=1e-12), 15)


def test_it_learns_and_keeps_the_curve(tuned: Finetuned) -> None:
    table = tuned.accuracy
    assert table["step"].tolist() == [0, 3, 4, 6]
    assert table["accuracy"].iloc[-1] == 1.0
    assert table["loss"].iloc[-1] < 0.5 * table["loss"].iloc[1]
    assert tuned.checkpoints == {3: tuned.folder / "steps/000003", 6: tuned.folder}
    three = read_finetuned(tuned.checkpoints[3])
    pd.testing.assert_frame_equal(three.accuracy, table[:2])
    assert three.about["result"]["weights_sha256"] != tuned.about["result"]["weights_sha256"]
    parts = pd.read_csv(tuned.folder / "images.csv")
    assert parts.groupby(["part", "class"]).size().to_dict() == {
        (part, name): n for part, n in (("training", 4), ("held-out", 5)) for name in ("blue", "green", "red")
    }


def test_the_same_command_keeps_it_and_another_is_refused_in_words(
    tuned: Finetuned, clip: CacheSpec, colors: LabelledImages, tmp_path: Path
) -> None:
    before = files(tuned.folder)
    again = finetune(clip, colors, tuned.folder, SETTINGS)
    assert (again.fresh, again.checkpoints, again.notes) == (False, tuned.checkpoints, ())
    other_images = LabelledImages(colors.name, colors.stimuli, colors.labels[::-1].copy(), colors.classes)
    others: list[tuple[CacheSpec, LabelledImages, FinetuneSpec, str]] = [
        (clip, colors, SETTINGS.model_copy(update={"seed": 1}), r"settings\.seed 0 → 1"),
        (clip, colors, SETTINGS.model_copy(update={"steps": 3}), r"settings\.steps 6 → 3.*step 6 → 3"),
        (clip, other_images, SETTINGS, r"images\.sha256"),
        (family_spec("clip", tmp_path / "weights"), colors, SETTINGS, r"parent\.backbone\.weights_sha256"),
    ]
    for spec, images, settings, words in others:
        with pytest.raises(RunError, match=words):
            finetune(spec, images, tuned.folder, settings)
    with pytest.raises(RunError, match="step 3 → 6"):
        finetune(clip, colors, tuned.checkpoints[3], SETTINGS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    with pytest.raises(RunError, match="not empty and is not a fine-tuned network"):
        finetune(clip, colors, tmp_path / "full", SETTINGS)
    assert files(tuned.folder) == before


@pytest.mark.parametrize("kind", ["clip", "own"])
def test_zero_steps_give_the_parents_tokens_to_the_last_byte(
    kind: str, clip: CacheSpec, colors: LabelledImages, planted: Planted, tmp_path: Path
) -> None:
    parent = clip if kind == "clip" else CacheSpec.parse({**OWN, "grid": [2, 2]}, "test")
    found = finetune(parent, colors, tmp_path / "net", SETTINGS.model_copy(update={"steps": 0}))
    extract(parent, planted, tmp_path / "parent.zarr")
    extract(load_spec(str(found.folder)), planted, tmp_path / "child.zarr")
    one, two = (files(tmp_path / name) for name in ("parent.zarr", "child.zarr"))
    chunks = [name for name in one if name.startswith(("local/", "global/"))]
    assert len(chunks) > 4
    assert {name: one[name] for name in chunks} == {name: two[name] for name in chunks}
    about = Cache(tmp_path / "child.zarr").header
    assert about["backbone"] == Cache(tmp_path / "parent.zarr").header["backbone"]
    recorded = about["made_with"]["parent"]
    assert recorded["title"] == parent.title
    assert recorded["weights_sha256"] == about["backbone"]["weights_sha256"]
    assert (recorded["images"], recorded["steps"]) == (colors.name, 0)


def test_a_folder_may_move_and_be_tuned_again(tuned: Finetuned, colors: LabelledImages, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(tuned.folder, tmp_path / "elsewhere/net"))
    spec = load_spec(str(moved / "spec.yaml"))
    assert spec == load_spec(str(moved))
    found = finetune(spec, colors, tmp_path / "second", SETTINGS.model_copy(update={"steps": 1}))
    assert found.about["parent"]["backbone"]["weights_sha256"] == tuned.about["result"]["weights_sha256"]
    child = load_spec(str(found.folder))
    assert child.parent is not None
    assert child.parent.title == spec.title == f"tiny clip, fine-tuned on {colors.name}, 6 steps"
    shutil.rmtree(moved)
    assert open_backbone(child).layers == ("block_0", "block_1")


def test_numbers_are_json(tuned: Finetuned) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    for path in tuned.folder.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)
    timing = json.loads((tuned.folder / "timing.json").read_text())
    assert timing["training_images"] == 24
    assert timing["training_images_per_s"] > 0
    assert np.isfinite(tuned.accuracy["accuracy_low"]).all()


@pytest.mark.parametrize(
    ("name", "last", "method"), [("tied", "last", "full"), ("tied", "last", "lora"), ("double", "stem", "full")]
)
def test_the_network_that_is_written_is_the_one_that_was_measured(
    name: str, last: str, method: Method, colors: LabelledImages, tmp_path: Path
) -> None:
    backbone = {"module": f"finetune.tuned_nets:{name}", "layers": [last]}
    spec = CacheSpec.parse(CONVOLUTIONS | {"backbone": backbone, "grid": [2, 2]}, "test")
    settings = SETTINGS.model_copy(update={"method": method, "learning_rate": 0.02})
    found = finetune(spec, colors, tmp_path / "net", settings, device="cpu")
    table = pd.read_csv(found.folder / "images.csv").query("part == 'held-out'")
    assert table["predicted"].nunique() > 1
    rows = np.array([colors.stimuli.ids.index(one) for one in table["id"]])
    inputs = Inputs(
        open_trainable(load_spec(str(found.folder)), "cpu"), colors, check_image_set(colors).sha256, "cpu", None
    )
    head = load_file(found.folder / "head.safetensors")
    logits = inputs.tokens(rows, lambda n: None) @ head["weight"].T + head["bias"]
    assert [colors.classes[k] for k in logits.argmax(1)] == table["predicted"].tolist()


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("model.safetensors", "the weights in net"),
        ("cut short", r"damaged: steps/000003/model\.safetensors"),
        ("steps/000003", "steps/000003/finetune.json, .*the weights in steps/000003"),
        ("spec.yaml", r"damaged: spec\.yaml"),
        ("images.csv", r"damaged: images\.csv"),
    ],
)
def test_a_result_that_has_lost_files_is_not_called_kept(
    lost: str, words: str, tuned: Finetuned, clip: CacheSpec, colors: LabelledImages, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tuned.folder, tmp_path / "net"))
    if lost == "cut short":
        with (copy / "steps/000003/model.safetensors").open("r+b") as file:
            file.truncate(1000)
    elif (copy / lost).is_dir():
        shutil.rmtree(copy / lost)
    else:
        (copy / lost).unlink()
    before = files(copy)
    with pytest.raises(RunError, match=words):
        finetune(clip, colors, copy, SETTINGS)
    assert files(copy) == before


def test_a_result_beside_which_a_system_left_files_is_kept(
    tuned: Finetuned, clip: CacheSpec, colors: LabelledImages, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tuned.folder, tmp_path / "net"))
    for path in [path for path in copy.rglob("*") if path.is_file()]:  # as macOS writes on a disk for all systems
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    before = files(copy)
    assert finetune(clip, colors, copy, SETTINGS).about == tuned.about
    assert files(copy) == before


def test_stable_diffusion_is_refused(colors: LabelledImages, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a network that can be fine-tuned"):
        finetune(load_spec("sd_t20"), colors, tmp_path / "out", SETTINGS)


def test_names_of_image_sets_open(tmp_path: Path, colors: LabelledImages) -> None:
    assert open_images(colors.name).classes == ("blue", "green", "red")
