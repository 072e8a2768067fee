"""Several responses to one image: its rows stay together in every draw, and one row each gives the fit of before."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bddn.data.shuffled import Shuffled
from bddn.data.splits import Split
from bddn.encoder.parts import Parts
from bddn.errors import DataError, MismatchError, RunError
from bddn.evaluation.check.opinion import check_run
from bddn.evaluation.ensemble import average_fits
from bddn.evaluation.held_out import predict_held_out
from bddn.evaluation.kept_responses import ROWS, read_held_out
from bddn.evaluation.scoring import score_run
from bddn.planted.subject import Planted
from bddn.run import Run, fit_run, read_split
from bddn.spec import FitSpec
from bddn.stats import scores
from bddn.stats.jackknife import r2_without_each
from bddn.stats.scores import r2_and_r
from bddn.store.reader import Cache
from bddn.stream.bands import bands
from bddn.stream.loader import Streamed
from bddn.testing import DatasetContract
from trial_data import TrialsOf

SPEC = FitSpec(channels=8, selector_width=16, epochs=2, batch_size=4, features="whitened", polish=True)


@pytest.fixture(scope="module")
def trials(brain: Path) -> TrialsOf:
    """One to three noisy trials of each of 48 images."""
    return TrialsOf(Planted(brain), np.arange(48) % 3 + 1, noise=0.5)


@pytest.fixture(scope="module")
def run(trials: TrialsOf, sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit_run(sealed, trials, tmp_path_factory.mktemp("trials") / "run", SPEC)[0]


class TestTrials(DatasetContract):
    @pytest.fixture
    def dataset(self, trials: TrialsOf) -> TrialsOf:
        return trials


def test_one_row_of_each_image_gives_the_encoder_of_the_images(brain: Path, sealed: Path, tmp_path: Path) -> None:
    plain = Planted(brain)
    ordered = TrialsOf(plain, np.ones(48, np.intp))
    back = np.argsort(ordered.image)
    ordered.rows, ordered.response_ids = ordered.rows[back], plain.stimuli.ids
    folders = [
        fit_run(sealed, plain, tmp_path / "plain", SPEC)[0].folder,
        fit_run(sealed, ordered, tmp_path / "ordered", SPEC)[0].folder,
    ]
    for name in ("encoder.safetensors", "voxels.parquet", "split.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_tokens_that_are_streamed_give_the_same_fit(trials: TrialsOf, run: Run, sealed: Path, tmp_path: Path) -> None:
    streamed, _ = fit_run(sealed, trials, tmp_path / "run", SPEC, memory_gib=0.1)
    assert (streamed.folder / "encoder.safetensors").read_bytes() == (run.folder / "encoder.safetensors").read_bytes()


def test_tokens_of_an_image_are_kept_once(trials: TrialsOf, sealed: Path) -> None:
    cache = Cache(sealed)
    source = Streamed(cache, cache.layers, trials.response_ids)
    kept = source.load()
    assert len(kept.features) == 48
    assert source.n_bytes == Streamed(cache, cache.layers, trials.stimuli.ids).n_bytes
    pool = np.array([7, 90, 3, 95])
    (ours, at), *_ = kept.pools([pool])
    (theirs, there), *_ = source.pools([pool])
    for mine, other in zip(ours.at(at).local, theirs.at(there).local, strict=True):
        assert mine.equal(other)


def test_all_rows_of_an_image_are_in_one_part(trials: TrialsOf, run: Run) -> None:
    parts = Parts.of(Split.of(read_split(run)), trials.response_ids)
    of = [{trials.image[row] for row in rows} for rows in (parts.train, parts.val, parts.test)]
    assert sum(map(len, of)) == 48 == len(set.union(*of))
    assert sorted(np.concatenate([parts.train, parts.val, parts.test])) == list(range(96))
    assert run.about["data"]["n_responses"] == 96


def test_a_bootstrap_draws_images_with_all_their_rows(trials: TrialsOf, run: Run) -> None:
    parts = Parts.of(Split.of(read_split(run)), trials.response_ids)
    drawn = parts.resampled(0, 3)
    n_rows = np.bincount(trials.image)
    times = np.bincount(drawn.train, minlength=96)
    for image in set(trials.image[parts.train]):
        assert len(set(times[trials.image == image])) == 1
    counts = np.array([times[trials.image == image][0] for image in range(48)])
    assert counts.sum() == len(set(trials.image[parts.train]))
    assert (counts * n_rows).sum() == len(drawn.train)
    assert drawn.test is parts.test


def test_kept_responses_give_the_scores_of_the_fit(trials: TrialsOf, run: Run, sealed: Path) -> None:
    found = predict_held_out(run, [Cache(sealed)], [trials])
    assert found.image_of is not None
    r2, p = scores.tested_scores(found.measured, found.predicted, SPEC.seed, found.image_of)
    np.testing.assert_allclose(r2, run.voxels["r2_test"], atol=1e-6)
    np.testing.assert_allclose(p, run.voxels["p_test"], atol=0.02)
    ids = np.array(trials.response_ids)
    for image in (0, len(found.ids) - 1):
        rows = np.flatnonzero(ids == found.ids[image])
        np.testing.assert_array_equal(found.measured[found.image_of == image], trials.rows[rows])
        np.testing.assert_allclose(found.of_images(found.measured)[image], trials.rows[rows].mean(0), rtol=1e-4)
    scored = score_run(run, found)
    assert (scored.n_images, scored.n_responses) == (len(found.ids), len(found.measured))
    assert scored.trials == "single"
    (run.folder / "score" / ROWS).write_bytes(pd.DataFrame({"image": [0]}).to_parquet())
    with pytest.raises(RunError, match="bddn score"):
        read_held_out(run)


def test_copies_of_a_response_are_no_evidence() -> None:
    """Three copies of the row of each image say no more than one."""
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(2, 20, 300)).astype(np.float32)
    image_of = np.repeat(np.arange(20), 3)
    many_y, many_p = (np.repeat(values, 3, axis=0) for values in (y, p))
    r2, alone = scores.tested_scores(y, p, 0, None)
    found = scores.tested_scores(many_y, many_p, 0, image_of)
    np.testing.assert_allclose(found[0], r2, atol=1e-6)
    np.testing.assert_allclose(found[1], alone, atol=1e-6)
    wrong = scores.tested_scores(many_y, many_p, 0, None)[1]
    assert (wrong < 0.01).mean() > 2 * (alone < 0.01).mean() + 0.01


def test_the_jackknife_leaves_out_all_rows_of_an_image() -> None:
    rng = np.random.default_rng(1)
    image_of = np.repeat(np.arange(12), rng.integers(1, 4, 12))
    y, p = rng.normal(3, 1, size=(2, len(image_of), 5))
    found = r2_without_each(y, p, image_of)
    for image in range(12):
        rows = image_of != image
        np.testing.assert_allclose(found[image], r2_and_r(y[rows], p[rows])[0], rtol=1e-10)
    np.testing.assert_array_equal(r2_without_each(y, p, np.arange(len(y))), r2_without_each(y, p))


def test_shuffled_images_keep_their_rows_together(trials: TrialsOf, run: Run) -> None:
    split = Split.of(read_split(run))
    found = Shuffled(trials, split, 0)
    np.testing.assert_array_equal(found.responses(), trials.responses())
    assert found.response_ids is not None
    pairs = set(zip(trials.response_ids, found.response_ids, strict=True))
    assert len(pairs) == 48 == len({new for _, new in pairs})
    part = {stimulus: name for name, ids in split.to_dict().items() for stimulus in ids}
    assert all(part[own] == part[new] for own, new in pairs)
    assert sum(own == new for own, new in pairs) < 10


def test_brute_force_and_ensembles_take_trials(trials: TrialsOf, run: Run, sealed: Path, tmp_path: Path) -> None:
    assert check_run(run, Cache(sealed), trials, 40).n_images == len(
        [s for s in trials.response_ids if s not in set(read_split(run)["test"])]
    )
    shared = SPEC.model_copy(update={"split_seed": 0})
    folders = [
        fit_run(sealed, trials, tmp_path / f"{k}", shared.model_copy(update={"seed": k, "bootstrap": k}))[0].folder
        for k in (0, 1)
    ]
    mean, _ = average_fits(folders, Cache(sealed), trials, tmp_path / "mean", shared)
    held = read_held_out(mean)
    assert held.image_of is not None
    np.testing.assert_allclose(
        scores.tested_scores(held.measured, held.predicted, 0, held.image_of)[0], mean.voxels["r2_test"], atol=1e-6
    )


def test_matrices_for_other_libraries_have_a_row_of_each_response(trials: TrialsOf, sealed: Path) -> None:
    ids = trials.stimuli.ids[5:8]
    found = bands(Cache(sealed), trials, ids, None)
    assert sorted(found.ids) == sorted(stimulus for stimulus in trials.response_ids if stimulus in ids)
    for stimulus in ids:
        rows = [i for i, one in enumerate(found.ids) if one == stimulus]
        assert (found.X[rows] == found.X[rows[0]]).all()
        at = np.array([i for i, one in enumerate(trials.response_ids) if one == stimulus])
        np.testing.assert_array_equal(found.Y[rows], trials.rows[at])


def test_rows_of_no_image_and_images_without_a_row_are_refused(brain: Path, sealed: Path, tmp_path: Path) -> None:
    wrong = TrialsOf(Planted(brain), np.ones(48, np.intp))
    first, *others = wrong.response_ids
    wrong.response_ids = ("x", *others)
    with pytest.raises(DataError, match=rf"rows of 1 other stimuli, the first 'x' and no row of 1 .* '{first}'"):
        fit_run(sealed, wrong, tmp_path / "run", SPEC)


def test_other_trials_are_other_data(trials: TrialsOf, brain: Path, run: Run, sealed: Path) -> None:
    with pytest.raises(RunError, match=r"data\.(n_responses|response_ids_sha256|responses_sha256)"):
        fit_run(sealed, Planted(brain), run.folder, SPEC)
    with pytest.raises(MismatchError, match="images of the responses"):
        predict_held_out(run, [Cache(sealed)], [Planted(brain)])
