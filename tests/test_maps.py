"""`bddn maps`: what it says about maps that are no finding, and what it refuses before it draws."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.run import Run


def _maps(run: Path) -> Any:
    return CliRunner().invoke(app, ["maps", str(run), "--views", "flat", "--dpi", "20"])


@pytest.fixture
def copy(quick_run: Run, tmp_path: Path) -> Path:
    return shutil.copytree(quick_run.folder, tmp_path / "run")


def test_a_map_of_what_the_settings_fixed_or_of_a_saturated_selector_says_so(copy: Path) -> None:
    about, metrics = (json.loads((copy / name).read_text()) for name in ("run.json", "metrics.json"))
    about["fit"]["fixed"], metrics["saturated_selectors"] = "layer", ["place x"]
    (copy / "run.json").write_text(json.dumps(about))
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert _maps(copy).exit_code == 0
    said = {kind: (copy / "maps" / f"{kind}_map.txt").read_text() for kind in ("layer", "place", "scale", "score")}
    assert "The settings fixed the layer: all layers have equal weights." in said["layer"]
    assert "The selector of the place is saturated, so that its values are meaningless." in said["place"]
    assert not [kind for kind in ("scale", "score") if "fixed" in said[kind] or "meaningless" in said[kind]]


def test_captions_where_no_voxel_has_evidence_make_sense(copy: Path) -> None:
    table = pd.read_parquet(copy / "voxels.parquet")
    table.assign(p_test=0.5, q_test=0.5).to_parquet(copy / "voxels.parquet")
    assert _maps(copy).exit_code == 0
    said = (copy / "maps/layer_map.txt").read_text()
    assert (
        "No voxel has evidence of a score above chance (false discovery rate 0.05). Voxels without evidence are" in said
    )


def test_a_run_without_what_methods_need_is_refused_before_anything_is_drawn(copy: Path) -> None:
    about = json.loads((copy / "run.json").read_text())
    del about["cache"]["spec"]
    (copy / "run.json").write_text(json.dumps(about))
    done = _maps(copy)
    assert done.exit_code == 2
    assert done.stderr.count("error: ") == 1
    assert not (copy / "maps").exists()
