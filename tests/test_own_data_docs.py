"""docs/own_data.md as its reader follows it: from a folder of each kind to a fit, its maps and its table."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.own.own_data import OwnData
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.run import Run, fit_run
from bddn.spec import CacheSpec, FitSpec
from data.own_trees import MAKERS, Lab, blocks, make

TINY: dict[str, Any] = {"epochs": 1, "channels": 8, "selector_width": 8, "code_frequencies": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def lab(brain: Path) -> Lab:
    planted = Planted(brain)
    voxels, stimuli = planted.voxels(), planted.stimuli
    pictures = dict(zip(stimuli.ids, stimuli.paths, strict=True))
    n_left = int((voxels["hemi"] == "lh").sum())
    return Lab(pictures, planted.responses(), n_left, voxels["vertex"].to_numpy())


@pytest.fixture(scope="module")
def labs(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one folder of each kind."""
    folder = tmp_path_factory.mktemp("labs")
    for kind in MAKERS:
        make(folder / kind, kind, lab)
    return folder


def test_the_commands_run_as_written(
    labs: Path, spec: CacheSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the network, the recipe and the maps' resolution are replaced, by small ones."""
    monkeypatch.chdir(labs)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(spec.to_dict()))
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(TINY))
    tiny = {"clip_vit_b16": str(tmp_path / "tiny.yaml"), "fast": str(tmp_path / "short.yaml")}
    (commands,) = (text for language, _, text in blocks() if language == "bash")
    said = []
    for line in commands.splitlines():
        words = [tiny.get(word, word) for word in shlex.split(line)]
        words += ["--dpi", "30", "--views", "flat"] if words[1] == "maps" else []
        assert words.pop(0) == "bddn"
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        said.append(done.output)
    assert "good: all images and responses can be read" in said[0]
    assert "Data terms: CC BY 4.0." in " ".join(said[0].split())
    assert list((labs / "build/run/maps").glob("*.png"))
    table = pd.read_parquet(labs / "build/run/voxels.parquet")
    assert set(table["roi"]) == {"", "V1", "V2", "hV4"}
    assert table["ceiling"].between(0.1, 0.8).all()


@pytest.fixture(scope="module", params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run(kind: str, labs: Path, sealed: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> Run:
    data, folder = OwnData(labs / kind / "data.yaml"), tmp_path_factory.mktemp(kind)
    cache = sealed
    if kind == "hdf5":  # its images are other bytes
        cache = folder / "cache.zarr"
        extract(spec, data, cache)
    return fit_run(cache, data, folder / "run", FitSpec(**TINY))[0]


def test_every_kind_goes_to_a_table(kind: str, run: Run, lab: Lab) -> None:
    table = run.voxels
    assert len(table) == lab.responses.shape[1]
    assert table["depth"].between(0, 1).all()
    assert np.isfinite(table["r2_test"]).all()
    assert run.metrics["dataset"]["name"] == "table"
    if kind in ("cifti", "native"):
        assert table["voxel"].tolist() == lab.vertex.tolist()
    if kind in ("electrodes", "nifti"):
        assert (table["vertex"] == -1).all()
        assert {"voxel", "x_mm", "y_mm", "z_mm"} <= set(table.columns)


def test_every_kind_goes_to_a_map(kind: str, run: Run) -> None:
    done = CliRunner().invoke(app, ["maps", str(run.folder), "--columns", "depth", "--dpi", "60"])
    assert done.exit_code == 0, done.output
    maps = {path.name for path in (run.folder / "maps").iterdir()}
    assert any(name.endswith(".png") for name in maps)
    assert any(name.endswith(".nii.gz") for name in maps) == (kind == "nifti")
    assert any(name.endswith(".gii") for name in maps) == (kind not in ("nifti", "electrodes"))
