"""`bddn hierarchy` and `bddn calibrate`: what they print, write and refuse; one fit and few planted brains."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.errors import SpecError
from bddn.evaluation.calibration import refits
from bddn.evaluation.calibration.brains_like import Brain, BrainsLike
from bddn.evaluation.calibration.calibration import Refit, calibrate, corrected_in_words, line_of
from bddn.evaluation.slopes import ordered_rois
from bddn.planted.simulated import Simulated, simulate
from bddn.planted.subject import Planted
from bddn.run import fit_run, read_run
from bddn.spec import FitSpec
from bddn.stats.hierarchy import hierarchy_slope

SMALL = {"channels": 8, "selector_width": 16, "epochs": 1, "batch_size": 4}
FIT = FitSpec.parse({**FitSpec.recipe("fast").to_dict(), **SMALL}, "test")
ROIS = "V2,V3d,EBA"


def _run(*words: object) -> Any:
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="module")
def options(sealed: Path, brain: Path) -> list[str]:
    return ["--cache", str(sealed), "--data", f"planted:{brain}"]


def _with_evidence(folder: Path) -> Path:
    """Give all voxels evidence, which fits of one epoch hardly have, and say that the fit has not converged."""
    table = pd.read_parquet(folder / "voxels.parquet")
    table.assign(q_test=0.01, p_test=0.01).to_parquet(folder / "voxels.parquet")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["convergence"]["converged"] = False
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture(scope="module")
def runs(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fits of three seeds, and three bootstraps of the first."""
    out, found = tmp_path_factory.mktemp("runs"), []
    for seed, drawn in ((0, None), (1, None), (2, None), (0, 0), (0, 1), (0, 2)):
        spec = FIT.model_copy(update={"seed": seed, "bootstrap": drawn})
        found.append(_with_evidence(fit_run(sealed, Planted(brain), out / f"seed{seed}-{drawn}", spec)[0].folder))
    return found


@pytest.fixture(scope="module")
def calibrated(runs: list[Path], options: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A copy of the first run, calibrated with four brains, and what was printed."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(runs[0], folder)
    done = _run("calibrate", folder, *options, "--brains", 4, "--rois", ROIS)
    assert done.exit_code == 0, done.output
    return folder, done


def test_one_run_has_the_interval_over_blocks_and_says_what_is_missing(runs: list[Path]) -> None:
    done = _run("hierarchy", runs[0], "--rois", ROIS)
    assert done.exit_code == 0, done.output
    for words in (
        "not known",
        "--bootstraps 0-19",
        "--seeds 0-4",
        "bddn calibrate",
        "all 6 orders of the layers: p = ",
        "as smooth but have nothing to do with ROIs: p = ",
        "Not converged: The fit has not converged",
    ):
        assert words in done.output
    found = json.loads((runs[0] / "hierarchy" / "hierarchy.json").read_text())
    own = hierarchy_slope(read_run(runs[0]).voxels, ordered_rois(ROIS))
    assert own is not None
    assert [found[name] for name in ("slope", "b0", "b1")] == pytest.approx(
        [own[name] for name in ("slope", "b0", "b1")]
    )
    assert [*found["intervals"]] == ["blocks"]
    assert found["intervals"]["blocks"]["low"] == pytest.approx(own["slope_low"])
    assert found["ideal"] == {"V2": 0, "V3d": 0.5, "EBA": 1}
    table = pd.read_csv(runs[0] / "hierarchy" / "hierarchy.csv")
    assert table.loc[table["quantity"] == "slope", "value"].item() == pytest.approx(found["slope"], rel=1e-12)
    assert set(table["quantity"]) >= {"slope over blocks", "slope against other maps", "depth of EBA"}


def test_a_hierarchy_of_other_rois_or_runs_is_kept(runs: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run, ignore=shutil.ignore_patterns("hierarchy*"))
    asked: list[tuple[object, ...]] = [(run, "--rois", ROIS), (run, "--rois", "V2,EBA"), (run, runs[1], "--rois", ROIS)]
    names, first = ["hierarchy", "hierarchy_2", "hierarchy_3"], {}
    for words, name in zip(asked, names, strict=True):
        done = _run("hierarchy", *words)
        assert f"hierarchy: {run / name / 'hierarchy.json'}" in done.output, done.output
        first[name] = (run / name / "hierarchy.json").read_bytes()
    for words, name in zip(asked, names, strict=True):  # the same one is found again
        assert f"hierarchy: {run / name / 'hierarchy.json'}" in _run("hierarchy", *words).output
        assert (run / name / "hierarchy.json").read_bytes() == first[name]
    other = _run("hierarchy", run, "--rois", "V3d,EBA", "--out", run / "hierarchy")
    assert other.exit_code == 2
    assert "expected a new folder, or a hierarchy of the same ROIs and runs" in other.output
    assert (run / "hierarchy" / "hierarchy.json").read_bytes() == first["hierarchy"]


def test_intervals_over_images_and_seeds_are_kept_apart(runs: list[Path], tmp_path: Path) -> None:
    done = _run("hierarchy", *runs, "--rois", ROIS, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "hierarchy.json").read_text())
    assert {over: one["n"] for over, one in found["intervals"].items()} == {"blocks": 4, "images": 3, "seeds": 3}
    tables = [read_run(run).voxels for run in runs]
    mean = tables[0].assign(depth=np.mean([table["depth"] for table in tables[:3]], axis=0))
    slopes = [hierarchy_slope(table, ordered_rois(ROIS)) for table in [mean, *tables]]
    values = [one["slope"] for one in slopes if one is not None]
    assert found["slope"] == pytest.approx(values[0], abs=1e-6)
    for over, some in (("images", values[4:]), ("seeds", values[1:4])):
        low, high = (found["intervals"][over][end] for end in ("low", "high"))
        assert (low + high) / 2 == pytest.approx(found["slope"])
        assert (high - low) / 2 == pytest.approx(4.303 * np.std(some, ddof=1), rel=1e-3)
    assert "not known" not in done.output
    assert "Not converged: 6 of 6 fits have not converged" in done.output


def test_a_calibration_corrects_the_slope_and_tells_the_error_of_depth(calibrated: tuple[Path, Any]) -> None:
    folder, done = calibrated
    assert "corrected slope" in done.output
    assert "depth of single voxels: RMSE" in done.output
    assert "of 5 fits, the run among them" in done.output
    found = json.loads((folder / "calibration" / "calibration.json").read_text())
    table = pd.read_csv(folder / "calibration" / "brains.csv")
    assert found["curve"]["planted"] == pytest.approx(table["planted"])
    assert found["curve"]["recovered"] == pytest.approx(table["recovered"])
    low, high = found["corrected"]["intervals"]["90"]
    assert found["bounds"][0] <= low <= found["corrected"]["slope"] <= high <= found["bounds"][1]
    assert found["depth"]["n_voxels"] == 4 * len(read_run(folder).voxels)
    assert sum(one["n"] for one in found["depth"]["by_recovered"]) == found["depth"]["n_voxels"]
    assert (folder / "calibration" / "calibration.png").is_file()
    for row in table.to_dict("records"):  # the fits are those of the run's spec, on brains of its voxels
        fitted = read_run(folder / "calibration" / "brains" / row["folder"])
        assert fitted.about["fit"] == read_run(folder).about["fit"]
        assert fitted.truth is not None
        assert fitted.about["data"]["responses_sha256"] != read_run(folder).about["data"]["responses_sha256"]
    assert table["used"].all()
    assert table["planted"].std() > 0.2
    shown = _run("hierarchy", folder, "--rois", ROIS)
    assert "Corrected slope" in shown.output
    assert "bddn calibrate" not in shown.output
    assert "bddn calibrate" in _run("hierarchy", folder, "--rois", "V2,EBA").output  # which it was not made for


def test_fits_that_collapsed_are_left_out(runs: list[Path], brain: Path) -> None:
    """Each brain is given back with half of its depth, every fifth with one layer for all voxels."""
    run, data = read_run(runs[0]), Planted(brain)
    like = BrainsLike(run, line_of(run, ordered_rois(ROIS)), ordered_rois(ROIS), data.coords_mm(), (4, 3))

    def refit(brain: Brain, signal: float) -> Refit:
        collapsed = brain.number % 5 == 0
        depth = 0.5 if collapsed else 0.25 + 0.5 * brain.maps["depth"].to_numpy()
        return Refit(run.voxels.assign(depth=depth), True, collapsed, "")

    found = calibrate(like, refit, 10)
    assert found.brains["used"].tolist() == [number % 5 != 0 for number in range(1, 11)]
    assert (found.line.gain, found.line.scatter) == pytest.approx((0.5, 0), abs=1e-6)
    assert (found.depth["gain"], found.depth["offset"]) == pytest.approx((0.5, 0.25))
    assert found.to_dict()["corrected"]["slope"] == pytest.approx(2 * found.slope, abs=1e-2)
    assert "2 with a saturated layer selector are left out" in corrected_in_words(found.to_dict())


def test_fits_that_collapsed_are_used_and_told_where_too_few_have_not(runs: list[Path], brain: Path) -> None:
    run, data = read_run(runs[0]), Planted(brain)
    like = BrainsLike(run, line_of(run, ordered_rois(ROIS)), ordered_rois(ROIS), data.coords_mm(), (4, 3))

    def refit(brain: Brain, signal: float) -> Refit:
        depth = 0.25 + 0.5 * brain.maps["depth"].to_numpy()
        return Refit(run.voxels.assign(depth=depth), True, brain.number == 2, "")

    found = calibrate(like, refit, 4)
    assert found.brains["used"].tolist() == [True] * 4
    words = corrected_in_words(found.to_dict())
    assert "4 brains; the layer selector of 1 is saturated, but fewer than 4 are left without them" in words


def test_a_calibration_goes_on_where_it_stopped(
    calibrated: tuple[Path, Any], options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = calibrated
    before = (folder / "calibration" / "calibration.json").read_bytes()
    made: list[int] = []

    def noted(*some: Any) -> Simulated:
        made.append(some[5])
        return simulate(*some)

    monkeypatch.setattr(refits, "simulate", noted)
    for brains in (5, 4):
        assert _run("calibrate", folder, *options, "--brains", brains, "--rois", ROIS).exit_code == 0
    assert made == [5]
    assert (folder / "calibration" / "calibration.json").read_bytes() == before


def test_responses_that_do_not_fit_into_memory_are_kept_on_disk(
    calibrated: tuple[Path, Any], runs: list[Path], options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = calibrated[0], tmp_path / "run"
    shutil.copytree(runs[0], other)
    monkeypatch.setattr(refits, "MEMORY_BYTES", 0)
    monkeypatch.setattr(refits, "TOKEN_SHARE", 0)
    assert _run("calibrate", other, *options, "--brains", 4, "--rois", ROIS).exit_code == 0
    for name in ("calibration.json", "brains.csv"):
        assert (other / "calibration" / name).read_bytes() == (first / "calibration" / name).read_bytes()
    assert not [*other.rglob("*.npy")]


@pytest.mark.parametrize("text", ["V1", "V1,V1", "V1,,V2", "V1=0,V2", "V1=0,V2=2", "V1=0,V2=0", "V1=a,V2=1", ""])
def test_rois_that_make_no_hierarchy_are_refused(text: str, runs: list[Path]) -> None:
    with pytest.raises(SpecError, match="--rois"):
        ordered_rois(text)


def test_rois_have_equal_steps_or_their_own_depths() -> None:
    assert ordered_rois("V1, V2,V4") == {"V1": 0, "V2": 0.5, "V4": 1}
    assert ordered_rois("V1=0.1,V4=0.9") == {"V1": 0.1, "V4": 0.9}


def test_what_does_not_belong_together_is_refused(
    runs: list[Path], sealed: Path, brain: Path, options: list[str], tmp_path: Path
) -> None:
    unknown = _run("hierarchy", runs[0], "--rois", "V2,nowhere")
    assert unknown.exit_code == 2
    assert "none in nowhere" in unknown.output
    assert "V3d" in unknown.output  # what there is
    undecodable = _run("hierarchy", runs[0], "--rois", "V2,caf\udce9")  # as sys.argv has bytes that are not UTF-8
    assert undecodable.exit_code == 2
    assert "none in caf" in undecodable.output
    other = fit_run(sealed, Planted(brain), tmp_path / "other", FIT.model_copy(update={"channels": 6}))[0].folder
    different = _run("hierarchy", runs[0], other, "--rois", ROIS)
    assert different.exit_code == 2
    assert "another seed or bootstrap" in different.output
    copied = shutil.copytree(runs[0], tmp_path / "copied")
    for again, said in ((runs[0], "this one twice"), (copied, "a copy of")):
        twice = _run("hierarchy", runs[0], runs[1], again, "--rois", ROIS)
        assert twice.exit_code == 2
        assert said in twice.output
    weaker = [shutil.copytree(runs[k], tmp_path / f"weaker{k}") for k in (0, 1)]
    for name, folder in zip(("lh", "rh"), weaker, strict=True):  # every voxel has evidence in one fit, but not in both
        table = pd.read_parquet(folder / "voxels.parquet")
        table.assign(p_test=np.where(table["hemi"] == name, 1e-9, 0.2)).to_parquet(folder / "voxels.parquet")
    lost = _run("hierarchy", *weaker, "--rois", ROIS)
    assert lost.exit_code == 2
    assert "none in V2, V3d, EBA in the average of 2 fits" in lost.output
    wrong = _run("calibrate", runs[0], *options, "--rois", "V2,nowhere")
    assert wrong.exit_code == 2
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    saturated = shutil.copytree(runs[0], tmp_path / "saturated")
    (saturated / "metrics.json").write_text(json.dumps(metrics | {"saturated_selectors": ["layer"]}))
    collapsed = _run("calibrate", saturated, *options, "--rois", ROIS)
    assert collapsed.exit_code == 2
    assert "a saturated layer selector" in collapsed.output
    about = json.loads((runs[0] / "run.json").read_text())
    fixed = shutil.copytree(runs[0], tmp_path / "fixed")
    (fixed / "run.json").write_text(json.dumps(about | {"fit": about["fit"] | {"fixed": "layer"}}))
    equal = _run("calibrate", fixed, *options, "--rois", ROIS)
    assert equal.exit_code == 2
    assert "The settings fixed the layer" in equal.output
    assert not (runs[0] / "calibration").exists()
