"""The experiment on hierarchy and forgetting runs end to end, and says how many networks it rests on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image

from bddn.evaluation.forgetting.experiment import COLUMNS, PREDICTORS, read_experiment
from pipelines import hierarchy_and_forgetting as claim


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, a task and an old one, all tiny."""
    folder, rng = tmp_path_factory.mktemp("claim"), np.random.default_rng(0)
    for task, contrast in {"bright": 60, "old": 40}.items():
        for k, name in enumerate(("dark", "light")):
            (folder / task / name).mkdir(parents=True)
            for i in range(7):
                pixels = rng.normal(90 + contrast * k, 25, (28, 28, 3))
                Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(folder / task / name / f"{i}.png")
    architecture = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    backbone = {"family": "clip", "architecture": {**architecture, "image_size": 28, "patch_size": 14}}
    spec = {"title": "tiny", "backbone": backbone, "weights": {"random": 1}, "image_size": 28, "grid": [2, 2]}
    (folder / "tiny.yaml").write_text(json.dumps(spec))  # JSON is YAML
    (folder / "tune.yaml").write_text("steps: 2\nbatch_size: 2\nper_class: 4\nlearning_rate: 0.01\n")
    (folder / "fit.yaml").write_text("epochs: 1\nchannels: 8\nselector_width: 16\nsplit: [3, 1, 2]\n")
    return folder


def run(place: Path, brain: Path, networks: list[str], out: str) -> None:
    claim.hierarchy_and_forgetting(
        place / out,
        [str(place / name) for name in networks],
        [f"folder:{place / 'bright'}"],
        f"planted:{brain}",
        f"folder:{place / 'old'}",
        "0",
        place / "tune.yaml",
        str(place / "fit.yaml"),
        "cpu",
    )


def test_it_runs_and_is_kept(place: Path, brain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(place, brain, ["tiny.yaml"], "out")
    table = read_experiment(place / "out" / claim.TABLE)
    made = {path: path.stat().st_mtime_ns for path in (place / "out" / "tiny").rglob("*") if path.is_file()}
    run(place, brain, ["tiny.yaml"], "out")
    assert made
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())  # nothing was made again
    pd.testing.assert_frame_equal(read_experiment(place / "out" / claim.TABLE), table)
    assert {*table} >= {*COLUMNS}
    assert table[["network", "task", "seed"]].to_numpy().tolist() == [["tiny", "bright", 0]]
    known = ["r2_before", "r2_after", "old_accuracy_before", "old_accuracy_after", "accuracy", "cka", "neighbours"]
    assert np.isfinite(table[known].to_numpy()).all()
    assert table["r2_before"].iloc[0] != table["r2_after"].iloc[0]
    assert table["cka"].iloc[0] < 1
    about = json.loads((place / "out" / claim.ABOUT).read_text(), parse_constant=pytest.fail)
    assert about["n_networks"] == 0  # the brain has no voxels in some of the ROIs
    assert about["notes"] == ["tiny is left out: 1 of its 1 fine-tunings have no slope or no score."]
    assert about["sentences"][0].startswith("This rests on 0 networks.")
    assert {row["predictor"] for row in about["associations"]} == {*PREDICTORS}
    assert about["published_association"]["n"] == 4
    assert about["published"][1].startswith("4 networks cannot decide")
    assert (place / "out" / f"{claim.FIGURE}.png").is_file()
    assert "tiny, bright, seed 0: no slope, R² " in capsys.readouterr().out


def test_two_networks_of_one_name_are_refused_before_the_work(
    place: Path, brain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stopped:
        run(place, brain, ["tiny.yaml", "tiny.yaml"], "nothing")
    assert stopped.value.exit_code == 2
    assert "expected different names; got 'tiny' twice" in capsys.readouterr().err
    assert not (place / "nothing").exists()
