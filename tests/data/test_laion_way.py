"""LAION-fMRI from the folder to a map: a planted brain in its layout, and the commands."""

import json
from pathlib import Path

import numpy as np
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.laion import Laion
from bddn.planted.subject import Planted
from bddn.run import fit_run
from bddn.spec import FitSpec
from bddn.store.reader import Cache
from data import laion_tree as tree


def test_a_planted_brain_is_followed_from_trial_to_map(
    brain: Path, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    tree.planted(planted, tmp_path / "laion")
    data = Laion(tmp_path / "laion", subject="01", place="fsaverage")
    rows = [planted.stimuli.ids.index(name) for name in data.stimuli.ids]
    ours, theirs = data.voxels(), planted.voxels()
    row_of = {key: k for k, key in enumerate(zip(theirs["hemi"], theirs["vertex"], strict=True))}
    order = [row_of[key] for key in zip(ours["hemi"], ours["vertex"], strict=True)]
    assert sorted(order) == list(range(len(theirs)))
    expected = StandardScaler().fit_transform(planted.responses().astype(float))[np.ix_(rows, order)]
    np.testing.assert_allclose(data.responses(), expected, atol=1e-4)
    np.testing.assert_allclose(data.coords_mm(), planted.coords_mm()[order], atol=1e-3)
    assert [data.stimuli.sha256(i) for i in range(3)] == [planted.stimuli.sha256(row) for row in rows[:3]]

    settings = FitSpec.recipe("fast").model_copy(update={"epochs": 6})
    cache = Cache(sealed)
    maps = fit_run(cache, data, tmp_path / "ours", settings)[0].voxels
    known = fit_run(cache, planted, tmp_path / "theirs", settings)[0].voxels.iloc[order].reset_index(drop=True)
    assert (maps["layer_argmax"] == known["layer_argmax"]).mean() > 0.95
    for column in ("depth", "r2_test"):
        np.testing.assert_allclose(maps[column], known[column], atol=0.03, err_msg=column)
    said = json.loads((tmp_path / "ours/metrics.json").read_text())["dataset"]["responses"]
    assert "sub-01 of LAION-fMRI" in said
    result = CliRunner().invoke(app, ["maps", str(tmp_path / "ours"), "--columns", "depth", "--dpi", "40"])
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "ours/maps").glob("*.png"))
