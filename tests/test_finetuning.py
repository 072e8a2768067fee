"""`pipelines/finetuning.py`: a tuned network predicts the planted brain of its parent worse, the same one as well."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from bddn.planted.plant import plant
from bddn.planted.subject import Planted
from bddn.spec import PlantSpec
from bddn.store.reader import Cache
from pipelines.finetuning import finetuning

PLANT = PlantSpec(seed=1, n_images=240, radius_rad=0.15, n_layers=3, width=24, image_size=56, mean_ceiling=0.6)
FIT: dict[str, Any] = {"channels": 16, "selector_width": 16, "epochs": 3, "sample": None, "split": [2, 1, 1]}
TUNE: dict[str, Any] = {"per_class": 8, "steps": 24, "batch_size": 4, "learning_rate": 3e-3, "evaluate_every": 12}
STEP = "step_000024"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted brain, the spec of its network, two image sets, and settings."""
    root = tmp_path_factory.mktemp("finetuning")
    plant(PLANT, root / "brain")
    about = {"title": "tower", "backbone": {"family": "clip"}, "weights": {"folder": str(root / "brain/backbone")}}
    _yaml(root / "tower.yaml", about | {"image_size": 56, "grid": [4, 4]})
    _yaml(root / "fit.yaml", FIT | {"readout": "root", "features": "whitened", "polish": True, "learning_rate": 4e-3})
    _yaml(root / "tune.yaml", TUNE | {"checkpoint_every": 12})
    _yaml(root / "zero.yaml", TUNE | {"steps": 0})
    rng = np.random.default_rng(0)
    for name, axis in (("rows", 0), ("colours", 2)):
        for k, kind in enumerate(("first", "second")):
            (root / name / kind).mkdir(parents=True)
            for i in range(14):
                pixels = rng.integers(0, 90, (32, 32, 3))
                pixels[(slice(None),) * axis + (slice(k, None, 2),)] += 160
                Image.fromarray(pixels.astype(np.uint8)).save(root / name / kind / f"{kind}_{i}.png")
    return root


def _yaml(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(fields))


def _run(folder: Path, out: str, settings: str, *more: str) -> str:
    arguments = [str(folder / out), "--network", str(folder / "tower.yaml"), "--images", f"folder:{folder / 'rows'}"]
    arguments += ["--data", f"planted:{folder / 'brain'}", "--settings", str(folder / settings)]
    app = typer.Typer()
    app.command()(finetuning)
    done = CliRunner().invoke(app, [*arguments, "--fit", str(folder / "fit.yaml"), *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Path:
    said = _run(folder, "tuned", "tune.yaml", "--old", f"folder:{folder / 'colours'}")
    assert "tower, rows, step 24: R²" in said
    assert "old task" in said
    return folder / "tuned"


def test_the_tuned_network_predicts_the_brain_of_its_parent_worse(folder: Path, tuned: Path) -> None:
    table = pd.read_csv(tuned / "forgetting.csv")
    assert table["step"].tolist() == [0, 12, 24]
    last = table.iloc[-1]
    assert last["r2_difference_high"] < 0
    assert last["r2_difference_p"] < 0.01
    assert last["r2"] - table["r2"].iloc[0] == pytest.approx(last["r2_difference"], abs=1e-3)
    truth, voxels = Planted(folder / "brain").truth(), pd.read_parquet(tuned / "tower/rows" / STEP / "voxels.parquet")
    assert truth is not None
    worse = (voxels["q"] <= 0.05) & (voxels["r2_difference"] < 0)
    clear = (truth["ceiling"] > truth["ceiling"].median()).to_numpy()
    assert worse[clear].mean() > worse[~clear].mean()
    assert worse[clear].mean() > 0.3
    assert last["n_worse"] == worse.sum()
    assert last["cka"] < table["cka"].iloc[1] < table["cka"].iloc[0] == 1
    assert table["accuracy"].notna().all()


def test_the_old_task_stands_beside_it(folder: Path, tuned: Path) -> None:
    table = pd.read_csv(tuned / "forgetting.csv")
    assert (table["old_images"] == f"folder:{folder / 'colours'}").all()
    assert table["old_kept"].iloc[0] == table["old_new"].iloc[0] == table["old_before"].iloc[0]
    kept = json.loads((tuned / "tower/rows" / STEP / "old_task.json").read_text())
    assert kept["kept"] == pytest.approx(table["old_kept"].iloc[-1])
    assert kept["kept_low"] <= kept["kept"] <= kept["kept_high"]
    assert kept["kept_difference"] == pytest.approx(kept["kept"] - kept["before"])
    assert kept["n_train"] == 26


def test_tables_and_figures_are_written_and_the_same_again(folder: Path, tuned: Path) -> None:
    rows: list[dict[Any, Any]] = pd.read_csv(tuned / "table_3.csv").to_dict("records")
    third = {(row["spec"], row["column"]): row for row in rows}
    assert third["clip_vit_b16", "isic"]["published"] == 0.115
    own = third["tower", "rows"]
    assert own["value_low"] < own["value"] < own["value_high"] < third["tower", "original"]["value"]
    assert "| tower | fine-tuned |" in (tuned / "table_3.md").read_text()
    assert "tower" in (tuned / "table_3.tex").read_text()
    about = json.loads((tuned / "forgetting.json").read_text())
    assert about["finetune"]["tower"]["rows"]["steps"] == 24
    assert {*about["columns"]} <= {*about["rows"][0]}
    with Image.open(tuned / "figure7_tower.png") as figure:
        assert figure.size[0] == 2200
    assert "Step 0 is the network before" in (tuned / "forgetting_curve.txt").read_text()
    before = {path: path.read_bytes() for path in tuned.rglob("*") if path.is_file() and path.suffix != ".png"}
    _run(folder, "tuned", "tune.yaml", "--old", f"folder:{folder / 'colours'}")
    assert {path: path.read_bytes() for path in before} == before


def test_zero_steps_change_no_byte_of_the_features_and_nothing_else(folder: Path) -> None:
    _run(folder, "zero", "zero.yaml", "--seeds", "1", "--old", f"folder:{folder / 'colours'}")
    place = folder / "zero/tower"
    caches = [Cache(place / name) for name in ("before.zarr", "rows/step_000000/after.zarr")]
    tokens = [
        {path: cache.records[path] for path in cache.records if path.startswith(("local", "global"))}
        for cache in caches
    ]
    assert tokens[0] == tokens[1]
    assert len(tokens[0]) >= 6
    found = json.loads((place / "rows/step_000000/forgetting.json").read_text())
    assert (found["score"]["difference"], found["score"]["p"], found["rewiring"]["distance"]) == (0, 1, 0)
    voxels = pd.read_parquet(place / "rows/step_000000/voxels.parquet")
    assert (voxels[["r2_difference", "depth_difference"]] == 0).all(axis=None)
    table = pd.read_csv(folder / "zero/forgetting.csv")
    assert table["step"].tolist() == [0]
    assert (table["cka"] == 1).all()
    old = json.loads((place / "rows/step_000000/old_task.json").read_text())
    assert old["kept"] == old["new"] == old["before"]


def test_what_does_not_fit_is_refused_before_any_work(folder: Path) -> None:
    app = typer.Typer()
    app.command()(finetuning)
    sets = ["--images", f"folder:{folder / 'rows'}"]
    common = [str(folder / "refused"), "--network", str(folder / "tower.yaml"), "--data", f"planted:{folder / 'brain'}"]
    done = CliRunner().invoke(app, [*common, *sets, *sets])
    assert done.exit_code == 2
    assert "'rows' twice" in done.output
    done = CliRunner().invoke(app, [*common, *common[3:], *sets])
    assert done.exit_code == 2
    assert "one for all networks, or one for each of the 1" in " ".join(done.output.split())
    three = ["--settings", str(folder / "tune.yaml")] * 3
    done = CliRunner().invoke(app, [*common, *sets, "--images", f"folder:{folder / 'colours'}", *three])
    assert done.exit_code == 2
    assert "one for each of the 2 pairs of network and image set" in " ".join(done.output.split())
    assert not (folder / "refused").exists()
