"""Covariates of trials: a planted effect of 'old' is found, raises the score by its size, and leaves the maps alone."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.covariates import Effects, WithoutCovariates, estimate
from bddn.data.dataset_check import inspect_dataset
from bddn.data.shuffled import Shuffled
from bddn.data.splits import Split
from bddn.data.trials import response_ids
from bddn.encoder.parts import Parts
from bddn.errors import BddnError, DataError, MismatchError
from bddn.evaluation.calibration import refits
from bddn.evaluation.calibration.refits import calibrate_run
from bddn.evaluation.controls.regressions import Regressions
from bddn.evaluation.ensemble import average_fits
from bddn.evaluation.held_out import predict_held_out
from bddn.evaluation.kept_responses import HeldOut, read_held_out
from bddn.evaluation.scoring import score_run, write_scores
from bddn.planted.subject import Planted
from bddn.run import Run, fit_run, read_run, read_split
from bddn.run.covariate_file import COVARIATES, read_effects
from bddn.spec import FitSpec
from bddn.stats.evidence import untested
from bddn.store.reader import Cache
from trial_data import TrialsOf

SPEC = FitSpec(channels=8, selector_width=16, epochs=2, batch_size=8, features="whitened", polish=True)
OLD = SPEC.model_copy(update={"covariates": ("old",)})
NOISE = 0.3


@pytest.fixture(scope="module")
def effect(brain: Path) -> np.ndarray:
    """What old adds to each voxel: up to one and a half standard deviations of its responses, of either sign."""
    own = Planted(brain).responses()
    return np.asarray(np.random.default_rng(2).uniform(-1.5, 1.5, own.shape[1]) * own.std(0))


@pytest.fixture(scope="module")
def data(brain: Path, effect: np.ndarray) -> TrialsOf:
    return TrialsOf(Planted(brain), np.full(48, 3), NOISE, effect)


@pytest.fixture(scope="module")
def without(brain: Path) -> TrialsOf:
    """The same trials without the effect."""
    return TrialsOf(Planted(brain), np.full(48, 3), NOISE)


@pytest.fixture(scope="module")
def run(data: TrialsOf, sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    found, _ = fit_run(sealed, data, tmp_path_factory.mktemp("old") / "run", OLD)
    predict_held_out(found, [Cache(sealed)], [data])
    return found


def test_a_planted_effect_is_found(run: Run, effect: np.ndarray, brain: Path) -> None:
    found = read_effects(run)
    assert found is not None
    assert (found.names, found.compared) == (("old",), "responses to the same image")
    error = NOISE * Planted(brain).responses().std(0) / np.sqrt(38 * 2 / 3)  # of 38 images with 3 rows, 2 of them old
    z = (found.weights[0] - effect) / error
    assert np.abs(z).max() < 4.5
    assert 0.8 < z.std() < 1.2


def test_the_score_rises_by_what_was_planted_and_the_maps_stay(
    run: Run, data: TrialsOf, without: TrialsOf, effect: np.ndarray, sealed: Path, tmp_path: Path
) -> None:
    held = read_held_out(run)
    scored = score_run(run, held).voxels
    assert held.covariates is not None
    rows = np.concatenate([np.flatnonzero(np.array(data.response_ids) == stimulus) for stimulus in held.ids])
    planted = np.var(held.covariates[:, 0]) * effect**2 / data.rows[rows].var(0)
    rise = (scored["r2_whole"] - scored["r2_images"]).to_numpy()
    assert planted.mean() > 0.1
    assert abs(rise.mean() - planted.mean()) < 0.02
    assert np.corrcoef(rise, planted)[0, 1] > 0.9

    never, _ = fit_run(sealed, without, tmp_path / "never", SPEC)
    ignored, _ = fit_run(sealed, data, tmp_path / "ignored", SPEC)
    depth, by_covariate, by_nothing = (one.voxels["depth"].to_numpy() for one in (never, run, ignored))
    moved, ignoring = np.abs(by_covariate - depth).max(), np.abs(by_nothing - depth).max()
    assert moved < 0.01
    assert moved < ignoring / 2
    assert abs(run.metrics["r2_test"] - never.metrics["r2_test"]) < 0.02
    assert scored["r2_whole"].mean() > ignored.metrics["r2_test"] + planted.mean() / 2


def test_kept_responses_and_files_say_which_score_is_which(run: Run, data: TrialsOf) -> None:
    held = read_held_out(run)
    np.testing.assert_allclose(score_run(run, held).voxels["r2"], run.voxels["r2_test"], atol=1e-6)
    scored = score_run(run, held)
    write_scores(scored, run, {})
    summary = pd.read_csv(run.folder / "score/summary.csv")
    whole, images = (float(summary[f"r2_{name}_mean"].iloc[0]) for name in ("whole", "images"))
    assert whole > images
    ceiling = scored.voxels["ceiling"]
    np.testing.assert_allclose(scored.voxels["r2_normalised"], scored.voxels["r2_images"] / ceiling)
    done = CliRunner().invoke(app, ["score", str(run.folder), "--allow-leaks"])
    assert done.exit_code == 0, done.output
    assert "images alone" in done.output
    assert run.metrics["covariates"] == {"names": ["old"], "compared": "responses to the same image"}


def test_fits_of_one_split_share_the_weights_and_so_does_their_ensemble(
    data: TrialsOf, sealed: Path, tmp_path: Path
) -> None:
    shared = OLD.model_copy(update={"split_seed": 0})
    folders = [
        fit_run(sealed, data, tmp_path / f"{k}", shared.model_copy(update={"seed": k, "bootstrap": k}))[0].folder
        for k in (0, 1)
    ]
    mean, _ = average_fits(folders, Cache(sealed), data, tmp_path / "mean", shared)
    assert len({(folder / COVARIATES).read_bytes() for folder in (*folders, mean.folder)}) == 1
    scored = score_run(mean, read_held_out(mean)).voxels
    assert (scored["r2_whole"] > scored["r2_images"]).mean() > 0.8


def test_streamed_responses_give_the_same_fit(run: Run, data: TrialsOf, sealed: Path, tmp_path: Path) -> None:
    streamed, _ = fit_run(sealed, data, tmp_path / "run", OLD, memory_gib=0.1)
    for name in ("encoder.safetensors", COVARIATES):
        assert (streamed.folder / name).read_bytes() == (run.folder / name).read_bytes()
    found = WithoutCovariates(data, read_effects(read_run(run.folder)) or pytest.fail("no covariates"))
    some = np.array([140, 3, 77])
    np.testing.assert_array_equal(found.responses(some), found.responses()[some])


def test_within_images_it_is_the_regression_with_a_column_for_each_image(data: TrialsOf) -> None:
    train, names = np.arange(0, 144, 1)[data.image % 4 > 0], ["old", "time"]
    found = estimate(data, names, train, data.image)
    dummies = np.eye(48)[data.image[train]]
    design = np.column_stack([data.table[names].to_numpy(float)[train], dummies[:, dummies.any(0)]])
    expected = np.linalg.lstsq(design, data.rows[train].astype(float), rcond=None)[0][:2]
    np.testing.assert_allclose(found.weights, expected, rtol=1e-4, atol=1e-6)
    assert found.compared == "responses to the same image"


def test_without_repeats_all_responses_are_compared(brain: Path) -> None:
    once = TrialsOf(Planted(brain), np.ones(48, np.intp))
    found = estimate(once, ["time"], np.arange(40), None)
    design = np.column_stack([once.table["time"][:40], np.ones(40)])
    expected = np.linalg.lstsq(design, once.rows[:40].astype(float), rcond=None)[0][:1]
    np.testing.assert_allclose(found.weights, expected, rtol=1e-4, atol=1e-6)
    assert found.compared == "responses to all images"


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (("one",), DataError, "the same value in all training rows"),
        (("old", "new"), DataError, "'new': .* a combination of old"),
        (("odd",), DataError, "144 that are NaN"),
        (("button",), MismatchError, "covariates of .*: old, time, one"),
    ],
)
def test_covariates_that_say_nothing_are_refused(
    names: tuple[str, ...], error: type[BddnError], words: str, data: TrialsOf, sealed: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        fit_run(sealed, data, tmp_path / "run", SPEC.model_copy(update={"covariates": names}))
    assert not (tmp_path / "run").exists()


def test_data_without_covariates_refuse_them(brain: Path, sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="it has none"):
        fit_run(sealed, Planted(brain), tmp_path / "run", OLD)


def test_the_part_is_zero_at_the_mean_and_of_each_row_alone() -> None:
    rng = np.random.default_rng(0)
    effects = Effects(("a", "b"), np.array([1.0, -2.0]), rng.normal(size=(2, 7)).astype(np.float32), 1.0)
    values = rng.normal(size=(5, 2))
    assert not effects.part(effects.mean[None]).any()
    np.testing.assert_array_equal(effects.part(values)[2:3], effects.part(values[2:3]))
    held = HeldOut(("a",), effects.part(values), effects.part(values))
    assert held.of_images(held.measured) is held.measured


def test_controls_are_of_the_same_responses(data: TrialsOf, run: Run, sealed: Path, tmp_path: Path) -> None:
    """Regressions predict the responses without the covariates' part; a shuffled trial keeps its covariates."""
    found = Regressions(run, Cache(sealed), data, 0)
    outcome = found.outcome("ridge_layer", tmp_path / "ridge", {"all": np.ones(len(run.voxels), bool)})
    parts = Parts.of(Split.of(read_split(run)), data.response_ids)
    assert outcome.scores.shape == (1, 1 + len(read_split(run)["test"]))
    own = WithoutCovariates(data, read_effects(run) or pytest.fail("no covariates"))
    expected = own.responses(parts.test).std(0, ddof=1) / own.responses(parts.train).std(0)
    np.testing.assert_allclose(found.responses.test.std(0), expected, rtol=1e-3)
    shuffled = Shuffled(data, Split.of(read_split(run)), 0)
    weights = [estimate(one, ["old"], parts.train, data.image).weights for one in (data, shuffled)]
    np.testing.assert_array_equal(weights[0], weights[1])


def test_planted_brains_of_a_calibration_have_the_noise_of_the_responses_that_were_fitted(
    data: TrialsOf, run: Run, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each response once, in units of its voxel, without the part of the covariates."""
    noise: list[np.ndarray] = []

    def stop(*some: Any) -> None:
        noise.append(some[6](np.arange(144)))
        raise KeyboardInterrupt

    monkeypatch.setattr(refits, "simulate", stop)
    with pytest.raises(KeyboardInterrupt):
        calibrate_run(replace(run, voxels=untested(run.voxels)), Cache(sealed), data, 4, {"V3d": 0.0, "EBA": 1.0})
    effects = read_effects(run)
    assert effects is not None
    for responses, is_it in ((WithoutCovariates(data, effects).responses(), True), (data.responses(), False)):
        expected = (responses - responses.mean(0)) / responses.std(0)
        assert np.allclose(np.sort(noise[0], axis=0), np.sort(expected, axis=0), atol=1e-3) == is_it


def test_a_check_names_covariates_and_counts_rows(data: TrialsOf) -> None:
    found = inspect_dataset(data)
    assert (found.n_images, found.n_responses) == (48, 144)
    assert found.covariates["odd"] == 144
    assert found.covariates["old"] == 0
    copied = copy.deepcopy(WithoutCovariates(data, estimate(data, ["old"], np.arange(100), data.image)))
    np.testing.assert_array_equal(copied.responses(np.arange(3)), copied.responses()[:3])
    assert response_ids(copied) == data.response_ids


def test_runs_without_the_part_of_other_covariates_are_not_compared(
    data: TrialsOf, run: Run, sealed: Path, tmp_path: Path
) -> None:
    """Their measured responses differ, so that each order of the runs would give other scores to the same fit."""
    timed = OLD.model_copy(update={"covariates": ("old", "time")})
    for name, spec in (("timed", timed), ("whole", SPEC)):
        other, _ = fit_run(sealed, data, tmp_path / name, spec)
        predict_held_out(other, [Cache(sealed)], [data])
        for pair in ([run, other], [other, run]):
            done = CliRunner().invoke(
                app, ["compare", *(str(one.folder) for one in pair), "--out", str(tmp_path / "c")]
            )
            assert done.exit_code == 2, done.output
            assert "other covariates taken out of the responses" in " ".join(done.output.split())
            assert not (tmp_path / "c").exists()
