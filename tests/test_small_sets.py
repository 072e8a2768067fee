"""The image sets and the networks for trials of fine-tuning, which are made from what packages ship."""

import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch

from bddn.backbones.registry import load_spec, open_backbone
from bddn.errors import DataError, MismatchError
from pipelines import small_networks, small_tasks

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "tasks"
    small_tasks.write_small_tasks(out)
    return out


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def test_the_sets_are_folders_per_class_with_enough_images(tasks: Path) -> None:
    sets = [folder for folder in tasks.iterdir() if folder.is_dir()]
    n = {folder.name: {c.name: len([*c.glob("*.png")]) for c in folder.iterdir()} for folder in sets}
    assert {name: len(classes) for name, classes in n.items()} == {"digits": 10, "textures": 6, "photographs": 5}
    assert sum(n["digits"].values()) == 1797
    assert min(min(classes.values()) for classes in n.values()) >= 70  # 50 to train on, and some to test


def test_no_two_images_are_equal_and_no_two_crops_share_a_pixel(tasks: Path) -> None:
    files = _files(tasks)
    assert len({*files.values()}) == len(files)
    rng = np.random.default_rng(0)
    covered = np.zeros((500, 700), np.int64)
    corners = small_tasks.places(rng.uniform(0, 255, covered.shape), rng)
    for top, left in corners:
        covered[top : top + small_tasks.CROP, left : left + small_tasks.CROP] += 1
    assert covered.max() == 1
    assert covered.sum() == len(corners) * small_tasks.CROP**2


def test_an_existing_set_is_kept_and_another_seed_is_refused(tasks: Path) -> None:
    before = _files(tasks)
    assert small_tasks.write_small_tasks(tasks)["textures"]["brick"] == 100
    with pytest.raises(MismatchError, match="another seed"):
        small_tasks.write_small_tasks(tasks, seed=1)
    assert _files(tasks) == before


def test_a_missing_package_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find: Callable[[str], ModuleSpec | None] = importlib.util.find_spec
    monkeypatch.setattr(small_tasks, "find_spec", lambda name: None if name == "skimage" else find(name))
    with pytest.raises(DataError, match="expected the package scikit-image with its photograph"):
        small_tasks.write_small_tasks(tmp_path / "tasks")
    assert not (tmp_path / "tasks").exists()


def test_networks_open_from_their_files_and_say_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    small_networks.small_networks(tmp_path)
    assert capfd.readouterr().out.count(".yaml: ") >= 6
    specs = {path.stem: load_spec(str(path)) for path in tmp_path.glob("*.yaml")}
    assert {*specs} == {*small_networks.SPECS}
    pixels = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    for name in ("efficientnet_permuted", "clip_tower_shallow", "cnn"):
        for layer, tokens in open_backbone(specs[name])(pixels).items():
            assert 0.01 < float(tokens.local_.std(0).mean()) < 100, f"{name}, {layer}"
    assert capfd.readouterr() == ("", "")


def test_permuted_weights_are_the_trained_ones_elsewhere() -> None:
    trained, late = small_networks.efficientnet(), small_networks.efficientnet_late_permuted()
    before, after = trained.state_dict(), late.state_dict()
    kept = [name for name in before if name.startswith(("_conv_stem", "_bn0", "_blocks.0.", "_blocks.7."))]
    assert all(torch.equal(before[name], after[name]) for name in kept)
    weights = [name for name in before if name.startswith("_blocks.9.") and name.endswith("conv.weight")]
    assert weights
    for name in weights:
        assert not torch.equal(before[name], after[name])
        assert torch.equal(before[name].flatten().sort().values, after[name].flatten().sort().values)
