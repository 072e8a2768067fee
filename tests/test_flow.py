"""The whole way as a user goes it: plant, extract, fit, maps, on the command line and on disk."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import quick_commands
from bddn.encoder import checkpoint
from bddn.stats.truth import worse_hemisphere

FIT = "epochs: 15\nlearning_rate: 0.006\nregularizer_steps: 150\n"


def bddn(*arguments: object) -> str:
    done = quick_commands.run("bddn", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("flow")
    (root / "fit.yaml").write_text(FIT)
    bddn("plant", root / "brain", "--images", 240, "--radius", 0.28, "--layers", 4)
    data = f"planted:{root / 'brain'}"
    bddn("extract", "demo", "--weights", root / "brain/backbone", "--data", data, "--out", root / "demo.zarr")
    bddn("fit", root / "demo.zarr", "--data", data, "--out", root / "run", "--spec", root / "fit.yaml")
    return root


def test_the_planted_maps_are_recovered(flow: Path) -> None:
    truth = worse_hemisphere(json.loads((flow / "run/truth.json").read_text()))
    assert truth["depth_r"] > 0.8
    assert truth["y_r"] > 0.4  # a quarter of the demo's patch and of its steps: still on its way
    assert truth["scale_r"] > 0.7
    assert truth["r2_over_ceiling"] > 0.25
    assert 0.3 < truth["mean_ceiling"] < 0.5


def test_the_run_folder_explains_itself(flow: Path) -> None:
    run = flow / "run"
    split = json.loads((run / "split.json").read_text())
    ids = [i for part in split.values() for i in part]
    assert [len(split[part]) for part in ("train", "val", "test")] == [192, 24, 24]
    assert len(set(ids)) == 240
    about = json.loads((run / "run.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    voxels = pd.read_parquet(run / "voxels.parquet")
    assert about["layers"] == [f"block_{i}" for i in range(4)]
    assert about["fit"]["learning_rate"] == 0.006
    assert metrics["cache_digest"] == about["cache"]["digest"]
    assert metrics["n_voxels"] == len(voxels)
    assert metrics["r2_test"] == pytest.approx(voxels["r2_test"].mean())
    assert metrics["epochs"][metrics["best_epoch"]]["r2_val"] == pytest.approx(voxels["r2_val"].mean())
    weights = voxels[[f"weight_block_{i}" for i in range(4)]].to_numpy()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    assert voxels["layer_argmax"].tolist() == [f"block_{k}" for k in weights.argmax(1)]
    assert set(voxels["hemi"]) == {"lh", "rh"}
    assert (voxels["roi"] == "V1v").any()
    assert checkpoint.load(run / "encoder.safetensors").layers == tuple(about["layers"])


def test_maps_on_a_mesh_that_is_not_here_are_refused_in_one_message(flow: Path) -> None:
    nowhere = {"HOME": str(flow), "NILEARN_DATA": "", "SUBJECTS_DIR": "", "FREESURFER_HOME": ""}
    done = quick_commands.run("bddn", "maps", flow / "run", "--mesh", "fsaverage7", env=os.environ | nowhere)
    assert done.returncode == 2
    assert "--fetch" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_maps_come_with_their_numbers(flow: Path) -> None:
    out = bddn("maps", flow / "run", "--dpi", 40)
    assert "truth, lh: depth r" in out
    voxels = pd.read_parquet(flow / "run/voxels.parquet")
    for name, column in (("layer_map", "depth"), ("score_map", "r2_test"), ("scale_map", "scale")):
        base = flow / "run/maps" / name
        assert f"{base}.png" in out
        with Image.open(f"{base}.png") as picture:
            assert np.asarray(picture.convert("RGB")).std() > 10  # something is drawn
        table = pd.read_csv(f"{base}.csv", keep_default_na=False)
        np.testing.assert_allclose(table[column], voxels[column], rtol=1e-5)
        for hemi in ("lh", "rh"):
            image = nibabel.load(f"{base}.{hemi}.func.gii")
            arrays = {a.meta["Name"]: a.data for a in image.darrays}  # type: ignore[attr-defined]
            mine = voxels[voxels["hemi"] == hemi]
            np.testing.assert_allclose(arrays[column][mine["vertex"]], mine[column], rtol=1e-5)
            assert np.isnan(arrays[column]).sum() == 163_842 - len(mine)
