"""`bddn controls`: all controls of one fit, their table, what is kept, and what is not available."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.dataset import Stimuli
from bddn.evaluation.controls import regressions
from bddn.evaluation.controls.controls import ABOUT, VARIANTS, run_controls
from bddn.evaluation.controls.regressions import REGRESSIONS
from bddn.evaluation.controls.table import BETTER, FIT, UNKNOWN, WORSE, Outcome, control_table, sentences, to_text
from bddn.machine import parallel
from bddn.planted.subject import Planted
from bddn.spec import FitSpec, SplitBy
from bddn.spec.fit import RECIPES
from bddn.stats.scores import ALL, robust_mean
from bddn.store.reader import Cache

RUNS = [name for name in ABOUT if name not in REGRESSIONS]
SPEC = """
channels: 8
selector_width: 16
epochs: 1
batch_size: 4
readout: root
features: whitened
blurs: [0, 1]
blurred_tokens: scaled
sample: 60
polish: true
schedule: one_cycle
learning_rate: 0.004
"""


def _run(sealed: Path, data: Path, out: Path, *words: object) -> Any:
    spec = out.with_name("spec.yaml")
    spec.write_text(SPEC)
    options = ["controls", sealed, "--data", f"planted:{data}", "--out", out, "--spec", spec, *words]
    return CliRunner().invoke(app, list(map(str, options)))


@pytest.fixture(scope="module")
def done(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All controls of a tiny brain, and what was printed; read only."""
    out = tmp_path_factory.mktemp("controls") / "all"
    found = _run(sealed, brain, out)
    assert found.exit_code == 0, found.output
    return out, found.stdout


def test_every_control_is_in_the_table_with_the_scores_of_its_voxels(done: tuple[Path, str]) -> None:
    out, printed = done
    table = pd.read_parquet(out / "controls.parquet")
    assert table["control"].unique().tolist() == list(ABOUT)
    assert (table["reason"] == "").all()
    pd.testing.assert_frame_equal(pd.read_csv(out / "controls.csv")[["r2", "slope"]], table[["r2", "slope"]])
    for name in ABOUT:
        voxels = pd.read_parquet(out / name / "voxels.parquet")
        rows = table[table["control"] == name].set_index("region")
        assert rows.loc[ALL, "r2"] == pytest.approx(robust_mean(voxels["r2_test"].to_numpy()), abs=1e-9)
        of_roi = voxels[voxels["roi"] == "EBA"]
        assert rows.loc["EBA", "r2"] == pytest.approx(robust_mean(of_roi["r2_test"].to_numpy()), abs=1e-9)
        assert rows.loc["EBA", "n_voxels"] == len(of_roi)
        assert len(of_roi) > 10
        assert rows.loc[ALL, "n_evident"] == (voxels["q_test"] <= 0.05).sum()
        assert (rows["seconds"] > 0).all()
        assert f"\n{name} " in f"\n{printed}"
    found = json.loads((out / "controls.json").read_text())
    assert len(found["table"]) == len(table)
    for words in found["sentences"]:
        assert words in printed
    assert len(found["sentences"]) == len(ABOUT) - 1
    assert (out / "controls.png").stat().st_size > 10_000


def test_all_controls_have_one_split_and_each_its_own_settings(done: tuple[Path, str], sealed: Path) -> None:
    out, _ = done
    splits = {(out / name / "split.json").read_text() for name in RUNS}
    assert len(splits) == 1
    about = {name: json.loads((out / name / "run.json").read_text()) for name in RUNS}
    for name, own in about.items():
        assert (own["cache"]["digest"] == about[FIT]["cache"]["digest"]) == (name != "untrained"), name
        same_responses = own["data"]["responses_sha256"] == about[FIT]["data"]["responses_sha256"]
        assert same_responses == (name != "shuffled"), name
        assert (own["fit"] == about[FIT]["fit"]) == (name in (FIT, "untrained", "shuffled")), name
    trained, twin = (about[name]["cache"]["backbone"] for name in (FIT, "untrained"))
    assert trained["config"] == twin["config"]
    assert trained["weights_sha256"] != twin["weights_sha256"]
    voxels = {name: pd.read_parquet(out / name / "voxels.parquet") for name in RUNS}
    assert voxels["no_layer"]["depth"].to_numpy() == pytest.approx(0.5)
    assert voxels["no_place"][["x", "y"]].eq(0).all(axis=None)
    assert voxels["no_scale"]["scale"].unique().tolist() == [0.5]
    assert "size" not in voxels["no_size"]
    assert "size" in voxels[FIT]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_all_controls(recipe: str) -> None:
    spec = FitSpec.recipe(recipe)
    for name, own in VARIANTS.items():
        FitSpec.parse(spec.to_dict() | dict(own), name)


def test_the_same_command_keeps_all(done: tuple[Path, str], sealed: Path, brain: Path) -> None:
    out, printed = done
    kept = sorted(path for path in out.rglob("*") if path.is_file() and path.parent != out)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept}
    tables = {path: path.read_bytes() for path in sorted(out.glob("controls.*"))}
    found = _run(sealed, brain, out)
    assert found.exit_code == 0, found.output
    assert found.stdout == printed
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept} == before
    assert sorted(path for path in out.rglob("*") if path.is_file() and path.parent != out) == kept
    assert {path: path.read_bytes() for path in sorted(out.glob("controls.*"))} == tables


def test_regressions_do_not_depend_on_the_number_of_threads(
    done: tuple[Path, str], sealed: Path, brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(parallel.THREADS, "3")
    parallel._pool.cache_clear()
    shutil.copytree(done[0] / FIT, tmp_path / "out" / FIT)
    spec = FitSpec.from_yaml(SPEC.encode(), "test")
    names = ("gabor", "ridge_layer", "banded")
    run_controls(Cache(sealed), Planted(brain), tmp_path / "out", spec, names, tell=lambda words: None)
    parallel._pool.cache_clear()
    for name in names:
        for file in ("voxels.parquet", "scores.npy", "control.json"):
            assert (tmp_path / "out" / name / file).read_bytes() == (done[0] / name / file).read_bytes(), name


class Gone(Planted):
    """Its images are not on this machine."""

    @property
    def stimuli(self) -> Stimuli:
        own = super().stimuli
        return Stimuli(own.ids, tuple(path.with_name("gone") for path in own.paths))


def test_what_is_not_available_is_told_with_its_reason(
    done: tuple[Path, str], sealed: Path, brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, names = tmp_path / "out", ("untrained", "pixels", "gabor", "banded")
    for kept in (FIT, "gabor"):
        shutil.copytree(done[0] / kept, out / kept)
    monkeypatch.setattr(regressions, "find_spec", lambda name: None)
    spec = FitSpec.from_yaml(SPEC.encode(), "test")
    found = run_controls(Cache(sealed), Gone(brain), out, spec, names, tell=lambda words: None)
    gone = found.table[found.table["reason"] != ""]
    assert gone["control"].tolist() == ["untrained", "pixels", "banded"]  # the finished one is kept
    assert gone["r2"].isna().all()
    assert "pixels: not available, because 48 images of the dataset are not on this machine." in found.sentences
    assert any(
        "banded: not available, because himalaya is not installed; 'pip in" in words for words in found.sentences
    )
    assert "not available" in to_text(found.table)[2]["R²"]
    assert json.loads((out / "controls.json").read_text())["table"][-1]["reason"].startswith(
        "himalaya is not installed"
    )


def test_clusters_of_tokens_have_no_untrained_twin(sealed: Path, brain: Path, tmp_path: Path) -> None:
    spec = FitSpec.from_yaml(SPEC.encode(), "test").model_copy(update={"split_by": SplitBy(clusters=12)})
    found = run_controls(Cache(sealed), Planted(brain), tmp_path, spec, ["untrained"], tell=lambda words: None)
    assert found.sentences == [
        "untrained: not available, because images are split by clusters of the network's tokens, so its twin has "
        "another split."
    ]


def test_wrong_requests_are_one_message_before_any_work(sealed: Path, brain: Path, tmp_path: Path) -> None:
    found = _run(sealed, brain, tmp_path / "out", "--only", "pixel")
    assert found.exit_code == 2
    assert "--only: expected names of controls: fit, no_topology" in found.stderr
    (tmp_path / "free.yaml").write_text("selection: free\n")
    found = _run(sealed, brain, tmp_path / "out", "--spec", tmp_path / "free.yaml")
    assert found.exit_code == 2
    assert "expected selection: topological, and nothing fixed" in found.stderr
    assert not (tmp_path / "out").exists()


def test_other_files_in_the_place_of_a_control_are_refused(
    done: tuple[Path, str], sealed: Path, brain: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done[0] / FIT, out / FIT)
    shutil.copytree(done[0] / "gabor", out / "pixels")
    found = _run(sealed, brain, out, "--only", "pixels")
    assert found.exit_code == 2
    assert (
        "expected a new or empty folder, or the same control; got a control that differs in: control gabor → pixels"
        in (found.stderr)
    )


def _outcome(means: list[float], reverse: bool = False) -> Outcome:
    """Pseudo-values of 41 images, evenly within 0.02 of the means of two regions."""
    away = np.linspace(-0.02, 0.02, 41)[:: -1 if reverse else 1]
    scores = np.stack([np.concatenate([[mean], mean + away]) for mean in means])
    voxels = pd.DataFrame({"r2_test": [0.1, np.nan, 0.3, 0.2], "q_test": [0.01, 1.0, 0.2, 0.05]})
    return Outcome(voxels, scores, None, 2.0)


def test_the_table_says_where_a_control_is_not_beaten() -> None:
    """By hand: differences of equal pseudo-values are constant, so their intervals have no width."""
    regions = {ALL: np.ones(4, bool), "V1": np.array([True, True, False, False])}
    others = {"weak": _outcome([0.1, 0.15]), "mixed": _outcome([0.3, 0.2]), "wide": _outcome([0.255, 0.21], True)}
    table = control_table({FIT: _outcome([0.25, 0.2]), **others}, regions, {"gone": "it is Sunday"})
    rows = {(row["control"], row["region"]): row for row in table.to_dict("records")}
    assert [rows[FIT, region][name] for region in regions for name in ("n_voxels", "n_evident")] == [3, 2, 1, 1]
    assert rows["weak", ALL]["difference"] == pytest.approx(0.15)
    error = 0.04 * np.sqrt(41**2 - 1) / 40 / np.sqrt(12 * 40)  # of a mean of evenly spaced numbers
    reach = rows["wide", ALL]["difference_high"] - rows["wide", ALL]["difference"]
    assert reach == pytest.approx(2 * 2.0 * error, rel=0.15)
    verdicts = {name: [rows[name, region]["verdict"] for region in regions] for name in others}
    assert verdicts == {"weak": [BETTER, BETTER], "mixed": [WORSE, UNKNOWN], "wide": [UNKNOWN, WORSE]}
    lone = rows["weak", ALL]
    assert lone["r2_low"] < lone["r2_expected"] < lone["r2_high"]
    assert lone["r2_expected"] == pytest.approx(lone["r2"])
    said = sentences(table)
    assert said[:2] == [
        "weak: FactorTopy predicts more in all voxels and in each ROI.",
        "mixed: FactorTopy predicts less than the control in all voxels (-0.050 [-0.050, -0.050]); no difference is "
        "shown in V1.",
    ]
    assert said[2].startswith("wide: FactorTopy predicts less than the control in V1 (-0.010 [-0.01")
    assert said[2].endswith("; no difference is shown in all voxels.")
    assert said[3:] == ["gone: not available, because it is Sunday."]
