"""`bddn check`: the planted truth passes, what contradicts it is named, and what it writes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.baselines.second_opinion import Answer, SecondOpinion
from bddn.baselines.windows import Windows
from bddn.cli import app
from bddn.cli.check import tables
from bddn.evaluation.check.comparison import Compared, compare
from bddn.evaluation.check.opinion import is_passed
from bddn.evaluation.slopes import hierarchy_of
from bddn.evaluation.verdict import sentence
from bddn.machine import parallel
from bddn.planted.subject import Planted
from bddn.run import fit_run, read_run
from bddn.spec import FitSpec
from bddn.stats.truth import PARTS
from bddn.store.reader import Cache

SMALL = {"channels": 8, "selector_width": 16, "epochs": 1, "batch_size": 4}
FIT = FitSpec.parse({**FitSpec.recipe("fast").to_dict(), **SMALL}, "test")
LAYERS, SIDE = 6, 400


def _run(*words: object) -> Any:
    return CliRunner().invoke(app, ["check", *map(str, words)])


@pytest.fixture(scope="module")
def run(sealed: Path, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return fit_run(sealed, Planted(brain), tmp_path_factory.mktemp("runs") / "run", FIT)[0].folder


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    """True maps of 400 voxels in each hemisphere, as the columns of a run."""
    at = np.tile(np.linspace(0, 1, SIDE), 2)
    return pd.DataFrame(
        {
            "hemi": np.repeat(["lh", "rh"], SIDE),
            "vertex": np.tile(np.arange(SIDE), 2),
            "roi": np.where(at < 0.3, "V1v", "EBA"),
            "depth": at,
            "x": np.sin(7 * at),
            "y": np.cos(5 * at),
            "scale": 0.05 + 0.4 * np.sin(9 * at) ** 2,
            "r2_test": 0.5,
        }
    )


def _weights(depth: np.ndarray) -> np.ndarray:
    """Weights of the layers around a depth."""
    found = np.exp(-np.square(np.arange(LAYERS) - depth[:, None] * (LAYERS - 1)))
    return np.asarray(found / found.sum(1, keepdims=True))


@pytest.fixture(scope="module")
def opinion(truth: pd.DataFrame) -> SecondOpinion:
    """Brute force that knows the truth, but for some noise."""
    windows = Windows.of((8, 8))
    centres = windows.centres.numpy().astype(np.float64)
    rng, weights = np.random.default_rng(0), _weights(truth["depth"].to_numpy())
    away = np.square(truth[["x", "y"]].to_numpy()[:, None] - centres).sum(2)
    field, scale = np.exp(-away / 0.3), truth["scale"].to_numpy()
    r2 = 0.05 + 0.4 * np.concatenate([(1 - scale)[:, None] * field, scale[:, None]], axis=1)[:, None]
    r2 = (r2 * (0.4 + weights / weights.max(1, keepdims=True))[:, :, None]).transpose(1, 2, 0)
    noisy = [r2 + rng.normal(0, 0.01, r2.shape) for _ in range(4)]
    answer, *halves = (Answer.of(one, centres) for one in noisy[:3])
    return SecondOpinion(
        np.arange(2 * SIDE), answer, (halves[0], halves[1]), r2.max((0, 1)), r2.max((0, 1)), noisy[3], windows, 1000
    )  # fmt: skip


def _compared(voxels: pd.DataFrame, opinion: SecondOpinion, weights: np.ndarray | None = None) -> Compared:
    at = np.stack([600 * (voxels["hemi"] == "rh") + voxels["vertex"], *np.zeros((2, 2 * SIDE))], axis=1)
    weights = _weights(voxels["depth"].to_numpy()) if weights is None else weights
    return compare(voxels, weights, opinion, at.astype(np.float32))


def test_the_truth_passes(truth: pd.DataFrame, opinion: SecondOpinion) -> None:
    found = _compared(truth, opinion)
    assert is_passed(found)
    assert [one.verdict for one in found.comparisons] == ["agrees"] * 8
    words = sentence(found.comparisons, found.score)
    assert words.startswith("Depth, horizontal place, vertical place and scale agree with brute force, and the run")
    assert found.rois["roi"].tolist() == ["V1", "EBA"]
    assert found.rois["depth"].tolist() == pytest.approx([0.15, 0.65], abs=0.02)
    assert found.rois["place_apart"].max() < 0.3


def _shuffled(voxels: pd.DataFrame) -> pd.DataFrame:
    order = np.array([3, 5, 0, 4, 1, 2])
    return voxels.assign(depth=order[np.round(voxels["depth"] * (LAYERS - 1)).astype(int)] / (LAYERS - 1))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_shuffled, "depth (lh r -"),
        (lambda v: v.assign(x=-v["x"]), "horizontal place (lh r -"),
        (lambda v: v.assign(y=-v["y"]), "vertical place (lh r -"),
        (lambda v: v.assign(scale=1.0), "scale is the same everywhere"),
        (lambda v: v.assign(r2_test=0.1), "the run predicts only 0."),
        (lambda v: v.assign(x=v["x"].where(v["hemi"] == "lh", -v["x"])), "horizontal place (rh r -"),
    ],
    ids=["layers", "x", "y", "saturated", "short", "one hemisphere"],
)
def test_a_spoilt_run_is_named(
    truth: pd.DataFrame, opinion: SecondOpinion, spoil: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    found = _compared(spoil(truth), opinion)
    assert not is_passed(found)
    said = sentence(found.comparisons, found.score)
    assert said.startswith(f"Do not trust this run: {words}")
    assert ";" not in said  # nothing else is blamed


def test_where_brute_force_predicts_nothing_it_judges_nothing(truth: pd.DataFrame, opinion: SecondOpinion) -> None:
    """As of a few test images, on which its own R² is below 0: no multiple of it says anything."""
    low = {name: getattr(opinion, name) - 0.5 for name in ("r2_test", "test")}
    found = _compared(_shuffled(truth).assign(r2_test=-0.1), SecondOpinion(**{**vars(opinion), **low}))
    assert found.score is None
    assert {one.verdict for one in found.comparisons} == {"unknown"}
    said = sentence(found.comparisons, found.score)
    assert said == "Brute force cannot judge depth, horizontal place, vertical place and scale."


def test_layers_that_predict_equally_well_are_not_judged(truth: pd.DataFrame, opinion: SecondOpinion) -> None:
    alike = SecondOpinion(**{**vars(opinion), "test": np.repeat(opinion.test.mean(0, keepdims=True), LAYERS, 0)})
    found = _compared(_shuffled(truth), alike)
    assert is_passed(found)
    assert {one.verdict for one in found.comparisons if one.part == "depth"} == {"unknown"}
    assert "Brute force cannot judge depth." in sentence(found.comparisons, found.score)
    assert {row["part"] for row in tables(found)[0] if row["lost"] == "-"} == {"depth"}


def test_a_map_that_is_flat_by_brute_force_is_not_judged(truth: pd.DataFrame, opinion: SecondOpinion) -> None:
    flat = SecondOpinion(
        **{
            **vars(opinion),
            "answer": Answer(**{**vars(opinion.answer), "depth": 0.5 + 0.1 * (opinion.answer.depth - 0.5)}),
        }
    )
    found = _compared(truth.assign(depth=0.55 - 0.01 * truth["depth"]), flat)
    assert is_passed(found)
    assert {one.verdict for one in found.comparisons if one.part == "depth"} == {"flat"}
    words = sentence(found.comparisons, found.score)
    assert "By brute force, depth is nearly the same everywhere, so it cannot judge this." in words


def test_a_difference_that_costs_little_is_told_but_is_no_error(truth: pd.DataFrame, opinion: SecondOpinion) -> None:
    found = _compared(_shuffled(truth), opinion, opinion.answer.layer)
    assert is_passed(found)
    assert {one.verdict for one in found.comparisons if one.part == "depth"} == {"differs"}
    assert "differs, at little cost in prediction" in sentence(found.comparisons, found.score)


def test_gain_and_loss_are_shares(truth: pd.DataFrame, opinion: SecondOpinion) -> None:
    answer = opinion.answer
    own = truth.assign(**{part: getattr(answer, part) for part in PARTS})
    for one in _compared(own, opinion, answer.layer).comparisons:
        assert one.gain is not None
        assert one.loss is not None
        assert 0 < one.gain.low <= one.gain.value < 1
        assert one.loss.value == pytest.approx(0, abs=1e-9)
    equal = _compared(truth, opinion, np.full((2 * SIDE, LAYERS), 1 / LAYERS)).comparisons
    assert [one.loss.value for one in equal if one.part == "depth" and one.loss] == pytest.approx([1, 1])


def test_what_brute_force_cannot_repeat_is_not_judged(truth: pd.DataFrame, opinion: SecondOpinion) -> None:
    half = opinion.halves[0]
    unsure = SecondOpinion(**{**vars(opinion), "halves": (half, Answer(**{**vars(half), "depth": half.depth[::-1]}))})
    found = _compared(_shuffled(truth), unsure)
    assert is_passed(found)
    assert "Brute force cannot judge depth." in sentence(found.comparisons, found.score)
    weak = SecondOpinion(**{**vars(opinion), "r2": np.zeros(2 * SIDE)})
    assert _compared(truth, weak).score is None


def test_the_command_writes_the_same_bytes_again(
    run: Path, sealed: Path, brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for name, n_threads in (("a", "1"), ("b", "3")):
        monkeypatch.setenv(parallel.THREADS, n_threads)
        parallel._pool.cache_clear()
        done = _run(run, "--cache", sealed, "--data", f"planted:{brain}", "--out", tmp_path / name, "--voxels", 100)
        assert done.exit_code in (0, 1), done.output
        told.append(done.stdout.replace(f"{tmp_path / name}", ""))
    parallel._pool.cache_clear()
    assert told[0] == told[1]
    for name in ("check.json", "check.parquet", "check.png", "check.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    found = json.loads((tmp_path / "a" / "check.json").read_text())
    table = pd.read_parquet(tmp_path / "a" / "check.parquet")
    assert found["n_voxels"] == len(table) == 100
    assert found["sentence"] in told[0]
    voxels = pd.read_parquet(run / "voxels.parquet").iloc[table["row"]].reset_index(drop=True)
    for part in ("hemi", "vertex", "depth", "x", "y", "scale", "r2_test"):
        pd.testing.assert_series_equal(table[part], voxels[part])


@pytest.fixture
def other_data(brain: Path, tmp_path: Path) -> Path:
    """The same images and voxels with other responses."""
    copy = tmp_path / "other"
    shutil.copytree(brain, copy)
    (file,) = copy.rglob("lh_training_fmri.npy")
    np.save(file, np.load(file) + 1)
    return copy


def test_wrong_inputs_are_one_message(run: Path, sealed: Path, brain: Path, other_data: Path, tmp_path: Path) -> None:
    bare, relabelled = tmp_path / "bare", tmp_path / "relabelled"
    for copy in (bare, relabelled):
        shutil.copytree(run, copy)
    (bare / "split.json").unlink()
    for name in ("run.json", "metrics.json"):
        text = (relabelled / name).read_text()
        (relabelled / name).write_text(text.replace(Cache(sealed).digest, "0" * 64))
    data = f"planted:{brain}"
    for words, said in (
        ((tmp_path / "none", "--cache", sealed, "--data", data), "no such folder"),
        ((bare, "--cache", sealed, "--data", data), "split.json: expected the images of each part"),
        ((relabelled, "--cache", sealed, "--data", data), "Give the --cache that the run was fitted to."),
        ((run, "--cache", sealed, "--data", f"planted:{other_data}"), "other responses. Give the --data"),
        ((run, "--cache", tmp_path / "none.zarr", "--data", data), "error: "),
    ):
        done = _run(*words, "--out", tmp_path / "out")
        assert done.exit_code == 2, done.output
        assert done.stderr.count("error: ") == 1
        assert said in done.stderr


def test_a_part_that_the_settings_fixed_is_not_called_a_failed_fit(truth: pd.DataFrame, opinion: SecondOpinion) -> None:
    at = np.stack([600 * (truth["hemi"] == "rh") + truth["vertex"], *np.zeros((2, 2 * SIDE))], axis=1)
    weights = np.full((len(truth), LAYERS), 1 / LAYERS)
    found = compare(truth.assign(depth=0.5), weights, opinion, at.astype(np.float32), ("depth",))
    assert is_passed(found)
    words = sentence(found.comparisons, found.score)
    assert "The settings of the fit fixed depth, which therefore is no finding." in words
    assert "failed" not in words


def test_numbers_of_too_few_voxels_are_unknown_and_a_hemisphere_without_data_is_not_named(
    truth: pd.DataFrame, opinion: SecondOpinion
) -> None:
    few = {**vars(opinion), "r2": np.where(np.arange(2 * SIDE) % 40 == 0, opinion.r2, 0.0)}
    found = _compared(truth.assign(hemi="lh", vertex=np.arange(2 * SIDE)), SecondOpinion(**few))
    assert [(one.part, one.hemi, one.verdict) for one in found.comparisons] == [
        (part, "lh", "unknown") for part in PARTS
    ]
    assert {one.r for one in found.comparisons} == {one.gain for one in found.comparisons} == {None}
    assert {row[name] for row in tables(found)[0] for name in ("r", "slope", "lost")} == {"-"}


def test_a_run_with_fixed_layers_is_checked_and_has_no_slope(sealed: Path, brain: Path, tmp_path: Path) -> None:
    spec = FIT.model_copy(update={"fixed": "layer"})
    folder = fit_run(sealed, Planted(brain), tmp_path / "run", spec)[0].folder
    done = _run(folder, "--cache", sealed, "--data", f"planted:{brain}")
    assert "constant" not in done.output
    assert "fixed" in done.output
    run = read_run(folder)
    run.voxels["q_test"] = 0.01
    found = hierarchy_of([run], {"V2": 0.0, "EBA": 1.0})
    assert any("the settings fixed the layer" in note for note in found.notes)
