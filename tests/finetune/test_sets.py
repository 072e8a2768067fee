"""The command trains on the image sets of the papers as downloaded, and refuses bad ones before it trains."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.image_sets.kinds import open_images
from bddn.evaluation.forgetting.old_task import OldTask
from bddn.spec import CacheSpec
from data.image_trees import EUROSAT, ISIC, ISIC_START, NAMES, eurosat, folders, hub, isic2018, jpeg, table, write


@pytest.fixture
def spec_file(clip: CacheSpec, tmp_path: Path) -> Path:
    """The spec of a tiny CLIP."""
    path = tmp_path / "clip.yaml"
    path.write_text(yaml.safe_dump(clip.to_dict()))
    return path


def finetune(spec: Path, images: str, out: Path, per_class: int) -> tuple[int, str]:
    """Exit code and output of the command, with its lines joined; only the head is trained."""
    command = ["finetune", spec, "--images", images, "--out", out, "--method", "head", "--per-class", per_class]
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


SETS: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "folder": (lambda at: eurosat(at, 5), EUROSAT, "folder:{}"),
    "isic2018": (isic2018, ISIC, "isic2018:{}"),
    "huggingface": (hub, NAMES, "huggingface:{}"),
}


@pytest.mark.parametrize("kind", SETS)
def test_a_set_as_downloaded_trains_a_network(kind: str, spec_file: Path, tmp_path: Path) -> None:
    make, classes, name = SETS[kind]
    make(tmp_path / "set")
    code, output = finetune(spec_file, name.format(tmp_path / "set"), tmp_path / "net", 3)
    assert code == 0, output
    rows = pd.read_csv(tmp_path / "net/images.csv")
    train, test = (rows.loc[rows["part"] == part] for part in ("training", "held-out"))
    assert train["class"].value_counts().to_dict() == dict.fromkeys(classes, 3)
    assert set(test["class"]) == set(classes)
    if kind == "isic2018":
        lesions = pd.read_csv(tmp_path / f"set/{ISIC_START}LesionGroupings.csv").set_index("image")["lesion_id"]
        trained, evaluated = ({lesions[one.removesuffix(".jpg")] for one in part["id"]} for part in (train, test))
        assert not trained & evaluated


def test_copies_of_an_image_are_not_trained_on_and_evaluated_on(spec_file: Path, tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"cat": 4, "dog": 6})
    for i in (2, 3):
        shutil.copy(root / "cat/cat_1.jpg", root / f"cat/cat_{i}.jpg")
    code, output = finetune(spec_file, f"folder:{root}", tmp_path / "net", 1)
    assert code == 0, output
    assert "note: classes differ in size, from 4 (cat) to 6 (dog) images" in output
    assert "note: copies with the same bytes: 2, the first cat/cat_1.jpg = cat/cat_2.jpg" in output
    parts = pd.read_csv(tmp_path / "net/images.csv").set_index("id")["part"]
    copies = {parts.get(f"cat/cat_{i}.jpg") for i in (1, 2, 3)} - {None}  # those that are not needed are left out
    assert len(copies) == 1


def test_copies_are_not_in_both_parts_of_an_old_task(clip: CacheSpec, tmp_path: Path) -> None:
    """Classes of noise cannot be told apart, except by images that the probe has seen."""
    rng = np.random.default_rng(0)
    for name in ("first", "second"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(25):
            image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
            for copy in range(4):
                image.save(tmp_path / "set" / name / f"{i}_{copy}.png")
    found = OldTask(clip, open_images(f"folder:{tmp_path / 'set'}"), device="cpu").measure(clip)
    assert found["n_train"] == 100
    assert 0.2 < found["before"] < 0.8


def labels(root: Path) -> None:
    table(root / "t.csv", [["image", "label"], ["cat_1", "cat"], ["dog_1", "dog"], ["dog_9", "dog"]])


BAD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "too few images of a class": (
        lambda root: (root / "dog/dog_4.jpg").unlink(),
        "folder:{}",
        "expected 3 images of each class to train on, and at least one more to evaluate on; got 3 of class 'dog'. "
        "Use --per-class 2, or less.",
    ),
    "a corrupt image": (
        lambda root: write(root / "cat/cat_2.jpg", jpeg((1,))[:200]),
        "folder:{}",
        "cat/cat_2.jpg: expected a readable image for stimulus 'cat/cat_2.jpg'; got damaged",
    ),
    "one class": (
        lambda root: shutil.rmtree(root / "dog"),
        "folder:{}",
        "at least two classes; got only the class 'cat'",
    ),
    "labels without files": (
        labels,
        "csv:{}/t.csv",
        "for each of the 3 rows with a class; got none for 1 of them, dog_9",
    ),
    "a dataset of responses": (lambda root: None, "planted:{}", "expected an image set, KIND:PATH"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_set_is_refused_by_the_command(case: str, spec_file: Path, tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"cat": 4, "dog": 4})
    spoil, name, words = BAD[case]
    spoil(root)
    code, output = finetune(spec_file, name.format(root), tmp_path / "net", 3)
    assert code == 2, output
    assert output.count("error: ") == 1
    assert words in output
    assert not (tmp_path / "net").exists()
