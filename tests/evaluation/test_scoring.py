"""`bddn score`: what it writes and prints, from which inputs, and what it says where the data know less."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from typer.testing import CliRunner

from bddn.cli import app
from bddn.evaluation.kept_responses import read_held_out
from bddn.evaluation.scoring import COLUMNS, RELIABLE, SUMMARY_COLUMNS
from bddn.planted.subject import Planted
from bddn.run import fit_run, read_run
from bddn.run.folder import about_data
from bddn.spec import FitSpec
from bddn.stats.scores import in_roi, labels_of, robust_mean

FIT = FitSpec(channels=8, selector_width=16, epochs=1, batch_size=4, split=(20, 8, 20))
FILES = ("voxels.parquet", "summary.csv", "summary.json")


def _score(*words: object) -> Any:
    return CliRunner().invoke(app, ["score", *map(str, words)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def run(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored run with 20 test images; read only."""
    folder = fit_run(sealed, Planted(brain), tmp_path_factory.mktemp("runs") / "run", FIT)[0].folder
    done = _score(folder, "--cache", sealed, "--data", f"planted:{brain}")
    assert done.exit_code == 0, done.output
    assert "20 test images, averages over repetitions" in done.output
    assert "R² (averaged)" in done.output
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copy")


def _changed(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_scores_of_voxels(run: Path) -> None:
    found, held_out, voxels = pd.read_parquet(run / "score/voxels.parquet"), *_held_out(run)
    assert list(found) == list(COLUMNS)
    assert (found["trials"] == "averaged").all()
    assert (found["n_images"] == len(held_out.ids)).all()
    pd.testing.assert_frame_equal(found[["hemi", "vertex", "roi"]], voxels[["hemi", "vertex", "roi"]])
    np.testing.assert_allclose(found["r2"], voxels["r2_test"], atol=1e-10)
    r = [pearsonr(y, p)[0] for y, p in zip(held_out.measured.T, held_out.predicted.T, strict=True)]
    np.testing.assert_allclose(found["r"], r, atol=1e-6)  # SciPy computes in float32
    ceiling = voxels["ceiling"]
    np.testing.assert_allclose(found["r2_normalised"], found["r2"] / ceiling)
    np.testing.assert_allclose(found["challenge_score"], np.clip(np.clip(found["r"], 0, 1) ** 2 / ceiling, 0, 1))
    assert (found["reliable"] == (ceiling >= RELIABLE)).all()
    assert (found["evident"] == (voxels["q_test"] <= 0.05)).all()
    assert (found["r2_low"] < found["r2_high"]).all()


def test_the_summary_is_of_these_voxels(run: Path) -> None:
    found, _, voxels = pd.read_parquet(run / "score/voxels.parquet"), *_held_out(run)
    told, table = json.loads((run / "score/summary.json").read_text()), pd.read_csv(run / "score/summary.csv")
    assert list(table) == list(SUMMARY_COLUMNS)
    rows = pd.DataFrame(told["rows"])
    pd.testing.assert_frame_equal(rows, table, check_dtype=False)
    assert told["columns"] == {"summary.csv": SUMMARY_COLUMNS, "voxels.parquet": COLUMNS}
    assert told["inputs"]["cache_digest"] == read_run(run).about["cache"]["digest"]
    assert {"V3", "EBA", "all"} <= set(table["roi"])
    assert not table.duplicated(["roi", "hemi", "voxels"]).any()
    for row in table.to_dict("records"):
        of = found if row["roi"] == "all" else found[in_roi(voxels, row["roi"])]
        of = of if row["hemi"] == "both" else of[of["hemi"] == row["hemi"]]
        of = of if row["voxels"] == "all" else of[of[row["voxels"]]]
        assert row["n"] == len(of) > 0
        expected = [robust_mean(of["r2"].to_numpy()), of["r2"].median(), of["ceiling"].mean()]
        expected += [expected[0] / expected[2], of["challenge_score"].mean(), (of["r2_normalised"] > 1).sum()]
        names = ["r2_mean", "r2_median", "ceiling_mean", "ratio_of_means", "challenge_score", "n_above_1"]
        np.testing.assert_allclose([row[name] for name in names], expected)
        ends = [row[f"r2_{end}"] for end in ("low_95", "low_90", "expected", "high_90", "high_95")]
        if row["voxels"] == "evident":  # chosen by the same images
            assert np.isnan(ends).all()
        else:
            assert (np.diff(ends) > 0).all()
            assert row["r2_mean"] < row["r2_expected"]


def test_a_scored_run_needs_no_cache_and_gives_the_same_bytes(run: Path, copy: Path) -> None:
    for name in FILES:
        (copy / "score" / name).unlink()
    done = _score(copy)
    assert done.exit_code == 0, done.output
    for name in FILES:
        assert (copy / "score" / name).read_bytes() == (run / "score" / name).read_bytes(), name


def test_what_is_needed_and_missing_is_told(run: Path, copy: Path, sealed: Path, brain: Path) -> None:
    for options, missing in ((("--cache", sealed), "--data"), (("--data", f"planted:{brain}"), "--cache")):
        done = _score(run, *options)
        assert done.exit_code == 2
        assert f"Add {missing}." in done.output
    shutil.rmtree(copy / "score")
    done = _score(run, copy)
    assert done.exit_code == 2
    assert f"bddn score {copy} --cache" in " ".join(done.output.split())


def test_data_without_ceilings_or_a_test_say_so(copy: Path) -> None:
    voxels = pd.read_parquet(copy / "voxels.parquet").drop(columns=["q_test", "p_test"])
    voxels.assign(ceiling=np.nan).to_parquet(copy / "voxels.parquet")
    done = _score(copy)
    assert done.exit_code == 0, done.output
    assert "challenge_score: not available: the data have no noise ceilings" in done.output
    assert "evident: not available" in done.output
    told = json.loads((copy / "score/summary.json").read_text())
    assert set(told["not_available"]) >= {"evident", "ceiling", "challenge_score"}
    assert {row["voxels"] for row in told["rows"]} == {"all"}
    assert all(row["challenge_score"] is None and row["n_challenge"] == 0 for row in told["rows"])
    assert "evident" not in pd.read_parquet(copy / "score/voxels.parquet")


def test_a_long_name_of_an_roi_does_not_stretch_the_printed_table(copy: Path) -> None:
    table = pd.read_parquet(copy / "voxels.parquet")
    long = f"first{'o' * 200}last"
    for name in labels_of(table):
        table[name] = long
    table.to_parquet(copy / "voxels.parquet")
    done = _score(copy)
    assert done.exit_code == 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("first"))
    assert len(line) < 160
    assert "…" in line
    assert long in set(pd.read_csv(copy / "score/summary.csv")["roi"])


def test_ceilings_of_0_are_dropped_and_counted(copy: Path) -> None:
    voxels = pd.read_parquet(copy / "voxels.parquet")
    dropped = np.arange(len(voxels)) % 3 == 0
    voxels.assign(ceiling=voxels["ceiling"].where(~dropped, 0)).to_parquet(copy / "voxels.parquet")
    assert _score(copy).exit_code == 0
    row = pd.read_csv(copy / "score/summary.csv").iloc[0]
    found = pd.read_parquet(copy / "score/voxels.parquet")
    assert (row["n_ceiling_0"], row["n_challenge"]) == (dropped.sum(), (~dropped).sum())
    assert found.loc[dropped, ["challenge_score", "r2_normalised"]].isna().all(axis=None)
    np.testing.assert_allclose(row["challenge_score"], found.loc[~dropped, "challenge_score"].mean())


def test_single_trials_and_averages_share_no_column(run: Path, copy: Path) -> None:
    data = about_data(read_run(run))
    _changed(copy, "metrics.json", dataset={**data, "trials": "single"})
    done = _score(run, copy)
    assert done.exit_code == 0, done.output
    averaged, single = done.output.split("score: ")[:2]
    assert "R² (averaged)" in averaged
    assert "R² (single trials)" not in averaged
    assert "R² (single trials)" in single
    assert "R² (averaged)" not in single
    assert set(pd.read_parquet(copy / "score/voxels.parquet")["trials"]) == {"single"}


def test_runs_of_earlier_versions_have_the_trials_of_their_kind_of_data(run: Path, copy: Path) -> None:
    recorded = about_data(read_run(run))
    _changed(copy, "metrics.json", dataset={name: value for name, value in recorded.items() if name != "trials"})
    assert about_data(read_run(copy)) == recorded
    _changed(copy, "metrics.json", dataset={"name": "lab", "responses": "Of the lab."})
    assert about_data(read_run(copy))["trials"] == "unknown"
    assert about_data(read_run(copy))["responses"] == "Of the lab."


def _held_out(run: Path) -> tuple[Any, pd.DataFrame]:
    found = read_run(run)
    return read_held_out(found), found.voxels
