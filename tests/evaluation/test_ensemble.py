"""`bddn ensemble`: its fits share a split, its prediction is their average, and its folder is that of a run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data import open_dataset
from bddn.errors import RunError
from bddn.evaluation.ensemble import _metrics, average_fits, fits_of
from bddn.evaluation.held_out import predict_held_out
from bddn.evaluation.kept_responses import about_responses, read_held_out
from bddn.evaluation.slopes import hierarchy_of
from bddn.figures.methods import methods
from bddn.maps.kinds import MAX_WIDTH, interval_maps
from bddn.predict import predict
from bddn.run import Run, read_channels, read_learning, read_run
from bddn.run.folder import read_split
from bddn.spec import FitSpec
from bddn.stats.scores import R2
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed

SMALL = {"channels": 8, "selector_width": 16, "epochs": 1, "batch_size": 4, "seed": 3}
FITS = 3


@pytest.fixture(scope="module")
def command(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that made an ensemble."""
    root = tmp_path_factory.mktemp("ensembles")
    (root / "small.yaml").write_text(json.dumps(SMALL))
    options = ["--data", f"planted:{brain}", "--out", str(root / "out"), "--spec", str(root / "small.yaml")]
    words = ["ensemble", str(sealed), *options, "--fits", str(FITS)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "averaged prediction" in done.output
    return words


@pytest.fixture(scope="module")
def out(command: list[str]) -> Path:
    return Path(command[command.index("--out") + 1])


def test_of_two_equal_ensembles_at_once_the_slower_keeps_the_other(
    command: list[str], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("ensemble")))
    words = [str(own) if word == str(out) else word for word in command]

    def late(*args: Any) -> Any:
        monkeypatch.undo()
        assert CliRunner().invoke(app, words).exit_code == 0  # the faster one
        return about_responses(*args)

    monkeypatch.setattr("bddn.evaluation.ensemble.about_responses", late)
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert {path.name for path in own.iterdir()} == {path.name for path in out.iterdir()}


@pytest.fixture(scope="module")
def found(out: Path) -> Run:
    return read_run(out / "ensemble")


@pytest.fixture(scope="module")
def fits(out: Path) -> list[Run]:
    return [read_run(path.parent) for path in sorted(out.glob("*/*/*/run.json"))]


def test_layers_that_no_fit_reads_are_named(found: Run, fits: list[Run]) -> None:
    """Layers that one fit reads and another does not are read by the average."""
    unread = [["block_0", "block_1"], ["block_1"], ["block_1", "block_2"]]
    runs = [replace(fit, metrics={**fit.metrics, "unread_layers": own}) for fit, own in zip(fits, unread, strict=True)]
    assert _metrics(runs, found.voxels)["unread_layers"] == ["block_1"]
    assert found.metrics["unread_layers"] == []


def test_fits_that_cannot_choose_a_layer_do_not_agree_on_it(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "fixed.yaml").write_text(json.dumps({**SMALL, "fixed": "layer"}))
    changed = {"--out": str(tmp_path / "out"), "--spec": str(tmp_path / "fixed.yaml"), "--fits": "2"}
    words = [changed.get(before, word) for before, word in zip(["", *command], command, strict=False)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "note: The settings fixed the layer" in done.stderr
    assert "agreement" not in done.stdout
    found = read_run(tmp_path / "out" / "ensemble").metrics["ensemble"]
    assert (found["agreement"], found["depth_width"]) == (None, None)


def test_fits_differ_in_seed_and_bootstrap_and_share_the_split(found: Run, fits: list[Run]) -> None:
    numbers = [(run.about["fit"]["seed"], run.about["fit"]["bootstrap"]) for run in fits]
    assert numbers == [(k, k) for k in range(3, 3 + FITS)]
    assert all(read_split(run) == read_split(found) for run in fits)
    assert all(len(set(read_split(run)["test"])) == len(read_split(run)["test"]) for run in fits)


def test_the_prediction_is_the_mean_over_the_fits_and_has_its_own_score(
    found: Run, fits: list[Run], sealed: Path, brain: Path, tmp_path: Path
) -> None:
    predictions = []
    for fit in fits:
        copy = Path(shutil.copytree(fit.folder, tmp_path / fit.folder.name))
        kept = predict_held_out(read_run(copy), [Cache(sealed)], [open_dataset(f"planted:{brain}")])
        predictions.append(kept.predicted)
    held_out = read_held_out(found)
    np.testing.assert_allclose(held_out.predicted, np.mean(predictions, axis=0, dtype=np.float64), rtol=1e-6)
    r2 = R2()
    r2.add(held_out.measured, held_out.predicted)
    np.testing.assert_allclose(r2.score(), found.voxels["r2_test"], atol=1e-12)
    single = np.mean([fit.voxels["r2_test"] for fit in fits], axis=0)
    np.testing.assert_allclose(found.voxels["r2_test_single"], single, atol=1e-12)
    assert (found.voxels["r2_test"] >= single - 1e-9).all()  # the error of a mean is at most the mean error


def test_selections_are_averaged_in_the_order_of_the_fits(found: Run, fits: list[Run]) -> None:
    keys = ["hemi", "vertex", "roi", "ceiling"]
    assert found.voxels[keys].equals(fits[0].voxels[keys])
    for part in ("depth", "scale", *(f"weight_{layer}" for layer in found.layers)):
        np.testing.assert_allclose(found.voxels[part], np.mean([fit.voxels[part] for fit in fits], axis=0), atol=1e-6)
    for part in ("depth", "x", "y"):
        low, high = found.voxels[f"{part}_low"], found.voxels[f"{part}_high"]
        middle = np.mean([fit.voxels[part] for fit in fits], axis=0)
        assert (low <= middle).all()
        assert (middle <= high).all()
    assert found.truth is not None
    assert set(found.truth["covered"]) == {"depth", "x", "y"}


def test_the_same_command_keeps_it_and_another_number_of_fits_is_refused_first(command: list[str], out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (out / "ensemble").rglob("*")}
    again = CliRunner().invoke(app, command)
    assert (again.exit_code, "averaged before, kept" in again.output) == (0, True), again.output
    more = CliRunner().invoke(app, [*command[:-1], str(FITS + 1)])
    assert more.exit_code == 2
    assert f"fits {FITS} → {FITS + 1}" in " ".join(more.output.split())
    assert {path: path.stat().st_mtime_ns for path in (out / "ensemble").rglob("*")} == before
    assert not (out / "sealed" / "brain" / f"seed{3 + FITS}-boot{3 + FITS}").exists()


def test_the_same_fits_give_the_same_bytes(found: Run, fits: list[Run], sealed: Path, brain: Path) -> None:
    shared, _ = fits_of(FitSpec(**SMALL), FITS)
    data, other = open_dataset(f"planted:{brain}"), found.folder.with_name("again")
    average_fits([fit.folder for fit in fits], Cache(sealed), data, other, shared)
    for name in ("voxels.parquet", "run.json", "split.json", "truth.json", "score/responses.npy"):
        assert (other / name).read_bytes() == (found.folder / name).read_bytes(), name


def test_fits_on_other_splits_are_not_averaged(fits: list[Run], sealed: Path, brain: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(fits[1].folder, tmp_path / "other"))
    split = json.loads((other / "split.json").read_text())
    split["test"][0], split["train"][0] = split["train"][0], split["test"][0]
    (other / "split.json").write_text(json.dumps(split))
    with pytest.raises(RunError, match=r"differs in: split\.test"):
        average_fits(
            [fits[0].folder, other], Cache(sealed), open_dataset(f"planted:{brain}"), tmp_path / "out", FitSpec(**SMALL)
        )
    assert not (tmp_path / "out").exists()


def test_what_needs_one_encoder_is_refused_in_words(found: Run) -> None:
    for read in (read_channels, read_learning):
        with pytest.raises(RunError, match=r"ensemble of 3 fits.*Give one of its fits, e\.g\..*seed3-boot3"):
            read(found)


def test_new_images_get_the_mean_of_the_predictions(found: Run, fits: list[Run], sealed: Path) -> None:
    cache = Cache(sealed)
    tokens = Streamed(cache, cache.layers, cache.ids[:5]).load().features
    single = np.mean([predict(fit, tokens) for fit in fits], axis=0, dtype=np.float64)
    np.testing.assert_allclose(predict(found, tokens), single, rtol=1e-5, atol=1e-6)


def test_maps_of_intervals_are_grey_where_too_little_is_known(found: Run) -> None:
    table = found.voxels.assign(q_test=0.0)
    table.loc[0, ["depth_low", "depth_high"]] = 0.2, 0.25 + MAX_WIDTH
    table.loc[1, ["depth_low", "depth_high"]] = 0.2, 0.2 + MAX_WIDTH / 2
    for kind in interval_maps(table):
        assert np.isnan(kind.shown[0]).all()
        assert np.isfinite(kind.shown[1]).all()
        assert kind.table["depth_high"][0] == 0.25 + MAX_WIDTH


@pytest.mark.parametrize("words", [["maps", "--views", "flat", "--dpi", "40"], ["report"]], ids=["maps", "report"])
def test_commands_on_runs_work_on_an_ensemble(words: list[str], found: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(found.folder, tmp_path / "run"))
    done = CliRunner().invoke(app, [words[0], str(folder), *words[1:]], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    if words[0] == "maps":
        assert (folder / "maps" / "depth_width.png").exists()
        assert "3 such encoders were fitted" in (folder / "maps" / "methods.md").read_text()


def test_the_methods_of_an_ensemble_tell_the_steps_of_its_fits(found: Run, fits: list[Run]) -> None:
    first = fits[0].metrics
    assert (found.metrics["batch_size"], found.metrics["n_epochs"]) == (first["batch_size"], len(first["epochs"]))
    fewer = replace(found, metrics=found.metrics | {"batch_size": 2, "n_epochs": 7})
    assert "batches of 2, 7 epochs" in methods(fewer).paragraph


def test_the_slope_of_an_ensemble_has_an_interval_over_its_fits(found: Run, fits: list[Run]) -> None:
    known = replace(found, voxels=found.voxels.assign(p_test=0.01, q_test=0.01))
    slope = hierarchy_of([known], {"V2": 0.0, "V3": 0.5, "EBA": 1.0})
    by = {one.over: one for one in slope.intervals}
    assert slope.n_runs == by["seeds"].n == len(fits)
    assert by["seeds"].low < slope.slope < by["seeds"].high
    assert "resampled training images" in by["seeds"].how
