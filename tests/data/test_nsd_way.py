"""NSD from the folder to a map: a planted brain in its layout, NSD-synthetic, and the commands."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from bddn.cli import app
from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES
from bddn.data.nsd.ceilings import MEDIANS
from bddn.data.nsd.nsd import Nsd
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.run import fit_run
from bddn.spec import CacheSpec, FitSpec
from bddn.store.reader import Cache
from data import nsd_tree as tree
from data import planted_layouts

RUNNER = CliRunner()


def said(*words: object, code: int = 0) -> str:
    """What a command prints, in one line."""
    result = RUNNER.invoke(app, [*map(str, words)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def nsd(brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted brain as subject 2: sessions 1 and 3 show each image once, in other orders and units."""
    root = tmp_path_factory.mktemp("nsd") / "nsd"
    planted_layouts.nsd(Planted(brain), root)
    return root


def test_a_planted_brain_is_followed_from_trial_to_map(
    nsd: Path, planted: Planted, spec: CacheSpec, sealed: Path, tmp_path: Path
) -> None:
    data = Nsd(nsd, subject="2")
    assert data.stimuli.ids == planted.stimuli.ids
    keys = ["hemi", "vertex"]
    assert data.voxels()[keys].equals(planted.voxels()[keys])
    expected = StandardScaler().fit_transform(planted.responses().astype(float))
    np.testing.assert_allclose(data.responses(), expected, atol=1e-4)

    extract(spec, data, tmp_path / "nsd.zarr")
    ours, theirs = Cache(tmp_path / "nsd.zarr"), Cache(sealed)
    assert ours.images != theirs.images  # PPM of the array against the bytes of PNG files
    settings = FitSpec.recipe("fast").model_copy(update={"epochs": 6})
    maps = fit_run(ours, data, tmp_path / "ours", settings)[0].voxels
    known = fit_run(theirs, planted, tmp_path / "theirs", settings)[0].voxels
    assert (maps["layer_argmax"] == known["layer_argmax"]).mean() > 0.95
    for column in ("depth", "x", "y", "r2_test"):
        np.testing.assert_allclose(maps[column], known[column], atol=0.02, err_msg=column)
    said_of = json.loads((tmp_path / "ours/metrics.json").read_text())["dataset"]["responses"]
    assert "subject 2 of the Natural Scenes Dataset" in said_of


SYNTHETIC = (0, 3, 219, 220, 283, 3, 220, 0)
"""Images of the trials of NSD-synthetic, from 0; from 220 on they are of the subject."""


def grid(k: int) -> np.ndarray:
    """A picture that is wider than high."""
    return np.random.default_rng(k).integers(0, 256, (4, 9, 3), np.uint8)


@pytest.fixture(scope="module")
def synthetic(nsd: Path) -> Path:
    """NSD-synthetic of subject 2 beside the planted brain."""
    design = nsd / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"
    design.parent.mkdir(parents=True)
    savemat(design, {"masterordering": np.array(SYNTHETIC)[None] + 1})
    folder = nsd / "nsddata_stimuli/stimuli/nsdsynthetic"
    tree.write_images(folder / "nsdsynthetic_stimuli.hdf5", 220, {k: grid(k) for k in SYNTHETIC if k < 220})
    own = {k - 220: grid(k) for k in SYNTHETIC if k >= 220}
    tree.write_images(folder / "nsdsynthetic_colorstimuli_subj02.hdf5", 64, own)
    voxels = Nsd(nsd, subject="2").voxels()
    for hemi in HEMISPHERES:
        vertices = voxels.loc[voxels["hemi"] == hemi, "vertex"].to_numpy()
        values = np.array(SYNTHETIC)[:, None] + np.linspace(0.1, 0.5, len(vertices)) + (hemi == "rh")
        core = tree.betas_path(nsd, hemi, 1, 2).parent
        tree.write_mgh(core.with_name(f"nsdsynthetic{core.name}") / f"{hemi}.betas_nsdsynthetic.mgh", vertices, values)
    return nsd


def test_nsd_synthetic_has_its_own_images_brightness_and_session(synthetic: Path) -> None:
    data = Nsd(synthetic, subject="2", synthetic="yes", zscore="no")
    shared = [f"nsdsynthetic-{k:03d}" for k in (0, 3, 219)]
    names = (*shared, "nsdsynthetic-subj02-220", "nsdsynthetic-subj02-283")
    assert data.named_tests()["synthetic"] == data.stimuli.ids[-5:] == names
    assert data.stimuli.ids[:-5] == Nsd(synthetic, subject="2").stimuli.ids
    for row, k in enumerate((0, 3, 219, 220, 283)):
        seen = np.asarray(data.stimuli.image(len(data.stimuli) - 5 + row))
        expected = (np.sqrt(grid(k)[:, 2:6] / 255) * 255).astype(np.uint8)  # the central square
        np.testing.assert_array_equal(seen, expected)
    found = data.responses()[-5:]
    np.testing.assert_allclose(found[:, 0], np.array([0, 3, 219, 220, 283]) + 0.1, rtol=1e-6)
    assert data.n_trials[-5:].tolist() == [2, 2, 1, 2, 1]
    scored = Nsd(synthetic, subject="2", synthetic="yes")
    trials = scored.responses()[-5:] * np.array([2, 2, 1, 2, 1])[:, None]
    np.testing.assert_allclose(trials.sum(0), 0, atol=1e-4)
    assert scored.responses(np.arange(48)).tobytes() == Nsd(synthetic, subject="2").responses().tobytes()


def test_a_named_split_is_written_for_a_fit(synthetic: Path, tmp_path: Path) -> None:
    name, out = f"nsd:{synthetic},subject=2,synthetic=yes", tmp_path / "ood.json"
    assert f"{out}: 43 train, 5 validate, 5 test (synthetic)" in said("data", "split", name, "synthetic", "--out", out)
    parts = json.loads(out.read_text())
    data = Nsd(synthetic, subject="2", synthetic="yes")
    assert tuple(parts["test"]) == data.named_tests()["synthetic"]
    assert sorted(chain.from_iterable(parts.values())) == sorted(data.stimuli.ids)
    assert "expected a test set of" in said("data", "split", name, "shared515", "--out", out, code=2)


def test_check_compares_the_ncsnr_with_what_is_published(nsd: Path, tmp_path: Path) -> None:
    rng, name = np.random.default_rng(0), f"nsd:{nsd},subject=2"
    first = said("data", "check", name)
    assert "48 images" in first or "images 48" in first
    assert "noise ceilings are unknown without" in first
    assert "good: all images and responses can be read" in first
    for subject, median in enumerate(MEDIANS, 1):
        values = median * np.exp(0.5 * rng.normal(size=(2, N_VERTICES)))
        values *= median / np.median(values[masked(nsd)])
        tree.write_ncsnr(nsd, subject, list(values))
    second = said("data", "check", name)
    assert "subject 1 0.490 (published 0.490), subject 2 0.510 (published 0.510)" in second
    assert "mean ceiling at k = 3: 36.2" in second
    assert "(published 36.20 %)" in second
    tree.write_ncsnr(nsd, 4, [np.full(N_VERTICES, 0.5)] * 2)
    assert "Subject 4 differs from what is published" in said("data", "check", name)


def masked(root: Path) -> np.ndarray:
    voxels = Nsd(root, subject="2").voxels()
    mask = np.zeros((2, N_VERTICES), np.bool_)
    for row, hemi in enumerate(HEMISPHERES):
        mask[row, voxels.loc[voxels["hemi"] == hemi, "vertex"]] = True
    return mask
