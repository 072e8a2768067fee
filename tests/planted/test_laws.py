"""Brains of every kind: what is planted is what its spec says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bddn.cli import app
from bddn.errors import MismatchError, SpecError
from bddn.planted import laws
from bddn.planted.brain import RESPONSE_STD, true_maps, true_responses
from bddn.planted.plant import plant
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec, ModuleSpec, PlantSpec

SMALL = {"n_images": 24, "radius_rad": 0.2, "n_layers": 3, "width": 24, "image_size": 28}


@pytest.mark.parametrize("law", laws.DEPTH)
def test_depth_follows_its_law_over_the_whole_network(law: str) -> None:
    truth = true_maps(PlantSpec.parse({"depth_law": law}, "test"), 8)
    depth, reach = truth["depth"].to_numpy(), truth["reach"].to_numpy()
    assert depth.min() >= 0
    assert depth.max() <= 1
    assert np.ptp(depth) > 0.6
    rises = np.corrcoef(depth[reach < 0.45], reach[reach < 0.45])[0, 1]
    falls = np.corrcoef(depth[reach > 0.55], reach[reach > 0.55])[0, 1]
    assert rises > 0.7
    assert falls < -0.9 if law == "peaked" else falls > 0.6
    if law == "borders":
        assert truth["nominal"].nunique() == laws.N_STEPS


@pytest.mark.parametrize("kind", ["gaussian", "heavy", "correlated", "shared"])
def test_noise_has_variance_1_and_is_what_it_is_called(kind: str) -> None:
    p, q = np.linspace(-0.5, 0.5, 300), np.linspace(-0.3, 0.3, 300)
    noise = laws.unit_noise(kind, np.random.default_rng(0), 4000, 300, p, q)
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.var() == pytest.approx(1, rel=0.1)
    beyond = (np.abs(noise) > 4).mean()
    assert beyond > 1e-3 if kind == "heavy" else beyond < 3e-4
    shared = {"correlated": (0.5, 0), "shared": (0.77, 0.77)}.get(kind, (0, 0))
    for apart, expected in zip((1, 150), shared, strict=True):
        found = np.mean([np.corrcoef(noise[:, k], noise[:, k + apart])[0, 1] for k in range(0, 150, 5)])
        assert found == pytest.approx(expected, abs=0.06)


def test_shared_tuning_is_the_part_of_a_mixture_that_all_voxels_read() -> None:
    own, shared = (laws.mixtures(np.random.default_rng(0), 3000, 8, share) for share in (0.0, 0.8))
    assert own.var(0).mean() == pytest.approx(1, abs=0.05)
    assert shared.var(0).mean() == pytest.approx(0.2, abs=0.02)
    assert np.corrcoef(shared[:1500].mean(0), shared[1500:].mean(0))[0, 1] > 0.99


def test_silent_cortex_has_no_signal_and_the_rest_keeps_its_ceiling() -> None:
    spec = PlantSpec(n_images=2000, radius_rad=0.2, silent=0.3, mean_ceiling=0.5)
    truth = true_maps(spec, 2)
    silent = (truth["ceiling"] == 0).to_numpy()
    assert silent.mean() == pytest.approx(0.3, abs=0.03)
    rng = np.random.default_rng(0)
    local, global_ = rng.normal(size=(2, 2000, 4, 4, 24)), rng.normal(size=(2, 2000, 24))
    quiet = true_responses(local, global_, truth.assign(ceiling=1.0), spec) / RESPONSE_STD
    loud = true_responses(local, global_, truth, spec) / RESPONSE_STD
    shared = np.array([np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(quiet.T, loud.T, strict=True)])
    assert shared[silent].mean() < 0.01
    assert shared[~silent].mean() == pytest.approx(truth["ceiling"][~silent].mean(), abs=0.02)


def test_fields_are_elongated_along_their_angle() -> None:
    """A voxel answers more to a token along its field than to one as far across it."""
    spec = PlantSpec(n_images=400, radius_rad=0.12, elongation=3.0)
    truth = (
        true_maps(spec, 1)
        .iloc[:2]
        .assign(x=0.0, y=0.0, scale=0.0, sigma=0.4, ceiling=1.0, nominal=0.0, angle=[0.0, np.pi / 2])
    )
    far = np.zeros((1, 400, 24))
    far[:, 0] = 1
    answers = []
    for column, row in ((7, 3), (3, 7)):
        rng = np.random.default_rng(0)
        local = np.zeros((1, 400, 8, 8, 24))
        local[0, :, row, column] = rng.normal(size=(400, 24))
        local[0, :, 3, 3] = rng.normal(size=(400, 24))
        both = true_responses(local, far, truth, spec)
        local[0, :, 3, 3] = 0
        alone = true_responses(local, far, truth, spec)
        answers.append([np.corrcoef(both[:, k], alone[:, k])[0, 1] ** 2 for k in range(2)])
    right, below = answers
    assert right[0] > 2 * below[0]
    assert below[1] > 2 * right[1]


@pytest.mark.parametrize("scenes", ["leaves", "gratings", "photographs"])
def test_scenes_differ_from_each_other_and_repeat(scenes: str, tmp_path: Path) -> None:
    values: dict[str, object] = {**SMALL, "scenes": scenes}
    if scenes == "photographs":
        folder = tmp_path / "photos"
        folder.mkdir()
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(folder / "a.png")
        values["photographs"] = str(folder)
    spec = PlantSpec.parse(values, "test")
    plant(spec, tmp_path / "one")
    plant(spec, tmp_path / "two")
    first, second = Planted(tmp_path / "one"), Planted(tmp_path / "two")
    hashes = [first.stimuli.sha256(i) for i in range(24)]
    assert len(set(hashes)) == 24
    assert hashes == [second.stimuli.sha256(i) for i in range(24)]
    np.testing.assert_array_equal(first.responses(), second.responses())


def test_a_brain_sees_through_any_network(tmp_path: Path) -> None:
    network = CacheSpec(
        title="pyramid",
        backbone=ModuleSpec(module="bench.networks:pyramid", layers=("blocks.*",)),
        image_size=56,
        grid=(4, 4),
        global_token="mean",
    )
    spec = PlantSpec.parse(SMALL, "test")
    about = plant(spec, tmp_path / "brain", network)
    assert about["network"]["weights_sha256"]
    assert plant(spec, tmp_path / "brain", network) == about
    with pytest.raises(MismatchError, match="made with other options"):
        plant(spec, tmp_path / "brain")
    truth = Planted(tmp_path / "brain").truth()
    assert truth is not None
    assert truth["depth"].between(0, 1).all()


def test_the_command_plants_by_a_law_and_by_a_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["plant", str(tmp_path / "a"), "--images", "24", "--radius", "0.15", "--layers", "2", "--law", "peaked"]
    )
    assert done.exit_code == 0, done.output
    (tmp_path / "brain.yaml").write_text("n_images: 24\nradius_rad: 0.15\nn_layers: 2\nnoise: heavy\n")
    done = CliRunner().invoke(app, ["plant", str(tmp_path / "b"), "--spec", str(tmp_path / "brain.yaml")])
    assert done.exit_code == 0, done.output
    wrong = CliRunner().invoke(app, ["plant", str(tmp_path / "c"), "--law", "steep"])
    assert wrong.exit_code == 2
    assert "'steep'" in wrong.output
    assert not (tmp_path / "c").exists()


def test_photographs_go_with_their_folder() -> None:
    with pytest.raises(SpecError, match="photographs"):
        PlantSpec.parse({"scenes": "photographs"}, "test")
