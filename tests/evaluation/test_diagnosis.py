"""`bddn diagnose`: planted networks are told apart, each claim has its source, and evidence that tells nothing gives no
number."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bddn.cli import app
from bddn.evaluation.diagnosis.diagnosis import diagnose_runs, write_diagnosis
from bddn.evaluation.forgetting.expected import Evidence, association_claim, published
from bddn.evaluation.kept_responses import HeldOut, read_held_out
from bddn.evaluation.scoring import score_run, write_scores
from bddn.planted.laws import tuning
from bddn.run import read_run
from bddn.stats.hierarchy import IDEAL_DEPTH, confidence, depth
from bench.rivals import Kind, simulate
from evaluation.made_runs import write_run
from report.folders import change_json, change_voxels

N_LAYERS = 8
HEAD = "network,task,seed,slope_before,r2_before,r2_after"
PLACES = {"V1v": 0.0, "V2v": 0.3, "V3d": 0.4, "OPA": 0.66, "EBA": 1.0, "FFA-1": 0.8, "PPA": 0.7}
ORDERS: dict[str, Sequence[int]] = {
    "ordered": range(N_LAYERS),
    "shuffled": (3, 0, 6, 1, 7, 4, 2, 5),
    "last_in_middle": (0, 1, 3, 4, 5, 6, 7, 2),
}


def plant(folder: Path, order: Sequence[int], held: HeldOut, network: str, seed: int = 0) -> Path:
    """Write a run of a brain that reads an ordered network as planted, through a network whose layers stand in another
    order: its layer k is layer `order[k]` of the ordered one."""
    write_run(folder, held, network, seed=seed, n_layers=N_LAYERS)
    rng = np.random.default_rng(seed)

    def change(voxels: pd.DataFrame) -> pd.DataFrame:
        nominal = np.clip(voxels["roi"].map(PLACES).to_numpy(np.float64) + rng.normal(0, 0.05, len(voxels)), 0, 1)
        weights = tuning(nominal, "linear", N_LAYERS, 0.8, nominal)[:, list(order)]
        names = [f"block_{k}" for k in range(N_LAYERS)]
        columns = {f"weight_{name}": weights[:, k] for k, name in enumerate(names)}
        argmax = [names[k] for k in weights.argmax(1)]
        return voxels.assign(**columns, layer_argmax=argmax, depth=depth(weights), confidence=confidence(weights))

    change_voxels(folder, change)
    more: dict[str, Any] = {
        "seed": seed,
        "bootstrap": None,
        "convergence": {"converged": True},
        "saturated_selectors": [],
    }
    more["layer_audit"] = {"n_images": 64, "alike": [], "similarity": {"block_1": 0.9}, "norms": {"block_0": 1.0}}
    change_json(folder / "metrics.json", lambda metrics: metrics.update(more, r2_test=0.1))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    held = simulate(Kind(n_images=60, n_voxels=140), 1, 0).models
    (fits,) = held.values()
    return {name: plant(root / name, order, fits[0], name) for name, order in ORDERS.items()}


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["diagnose", *map(str, words)])


def numbers(out: Path) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in JSON")

    found: dict[str, Any] = json.loads((out / "diagnosis.json").read_text(), parse_constant=refuse)
    return found


def found_of(*folders: Path, evidence: Sequence[Path] = ()) -> dict[str, Any]:
    """What `diagnosis.json` says of some runs."""
    return diagnose_runs([read_run(folder) for folder in folders], IDEAL_DEPTH, evidence).to_dict()


@pytest.fixture(scope="module")
def out(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosed") / "out"
    done = run(*(folders[name] for name in ("shuffled", "last_in_middle", "ordered")), "--out", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_a_rise_that_is_sure_but_tiny_is_not_called_an_order(folders: dict[str, Path], tmp_path: Path) -> None:
    flat = Path(shutil.copytree(folders["ordered"], tmp_path / "flat"))
    change_voxels(flat, lambda voxels: voxels.assign(depth=0.5 + 0.02 * voxels["depth"]))
    (found,) = found_of(flat)["candidates"]
    assert found["summary"].startswith("Hardly ordered: depth rises from V1 to EBA (slope 0.02 [0.0")


def test_planted_networks_are_told_apart(out: Path) -> None:
    found = {one["name"]: one for one in numbers(out)["candidates"]}
    assert next(iter(found)) == "ordered"  # the largest slope comes first
    said = {name: one["summary"] for name, one in found.items()}
    assert said["ordered"].startswith("Ordered: later layers are selected from V1 to EBA")
    assert "no layer is out of order" in said["ordered"]
    assert said["last_in_middle"].startswith("Ordered but for one layer: ")
    assert "block_7, the last layer, is out of order: V2 selects it most" in said["last_in_middle"]
    assert "out of order: block_" in said["shuffled"]
    wrong = {
        name: [claim["sentence"].split(",")[0] for claim in one["claims"] if claim["name"] == "misplaced layer"]
        for name, one in found.items()
    }
    assert wrong["ordered"] == []
    assert wrong["last_in_middle"] == ["block_7"]
    assert len(wrong["shuffled"]) >= 3
    page = (out / "diagnosis.html").read_text()
    for sentence in said.values():
        assert sentence in page.replace("&#39;", "'")


def test_every_claim_has_a_number_its_interval_or_why_not_a_source_and_limits(out: Path) -> None:
    found = numbers(out)
    claims = [claim for one in found["candidates"] for claim in one["claims"]]
    claims += [one["association"] for one in found["evidence"]]
    assert len(claims) > 25
    for claim in claims:
        assert claim["source"]
        assert claim["limits"]
        assert claim["value"] is not None
        if claim["low"] is None:
            assert claim["interval"].startswith("none: "), claim
        else:
            assert claim["low"] <= claim["high"]
            assert claim["interval"].startswith(("95 %", "range")), claim
    names = {claim["name"] for claim in claims}
    assert names >= {"slope", "b0", "b1", "layers not selected", "layers alike", "voxels with evidence", "brain score"}


def test_slope_b0_and_b1_have_intervals_that_fit_together(out: Path) -> None:
    for one in numbers(out)["candidates"]:
        by = {claim["name"]: claim for claim in one["claims"]}
        assert by["slope"]["value"] + by["b0"]["value"] == pytest.approx(by["b1"]["value"])
        for name in ("slope", "b0", "b1"):
            middle = (by[name]["low"] + by[name]["high"]) / 2
            assert middle == pytest.approx(by[name]["value"])


def test_seeds_of_a_network_are_pooled(folders: dict[str, Path], tmp_path: Path) -> None:
    (fits,) = simulate(Kind(n_images=60, n_voxels=140), 1, 0).models.values()
    seeds = [plant(tmp_path / f"seed{k}", range(N_LAYERS), fits[0], "ordered", k) for k in (1, 2)]
    first, second = found_of(folders["ordered"], *seeds, folders["shuffled"])["candidates"]
    assert (len(first["runs"]), len(second["runs"])) == (3, 1)
    by = {claim["name"]: claim for claim in first["claims"]}
    assert by["slope over seeds"]["interval"] == "95 %, over 3 seeds"
    assert by["layers not selected"]["interval"] == "range over 3 fits"
    assert not any(one["what"].startswith("whether another seed") for one in first["not_known"])
    assert any(one["what"].startswith("whether another seed") for one in second["not_known"])


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    copy = tmp_path / "run"
    (fits,) = simulate(Kind(n_images=60, n_voxels=140), 1, 0).models.values()
    plant(copy, range(N_LAYERS), fits[0], "ordered")

    def commands() -> dict[str, str]:
        (one,) = found_of(copy)["candidates"]
        return {unknown["what"]: unknown["command"] for unknown in one["not_known"]}

    before = commands()
    assert before["the interval of the brain score"].startswith(f"bddn score {copy}")
    assert before["how much the fit shrinks the slope"].startswith(f"bddn calibrate {copy}")
    assert "noise ceilings" in before
    assert "pipelines/finetuning.py" in before["what it forgets when it is fine-tuned"]
    change_voxels(copy, lambda voxels: voxels.assign(ceiling=0.5))
    change_json(copy / "metrics.json", lambda metrics: metrics.update(dataset={"trials": "averaged"}))
    write_scores(score_run(read_run(copy), read_held_out(read_run(copy))), read_run(copy), {})
    assert set(before) - set(commands()) == {"the interval of the brain score", "noise ceilings"}
    change_voxels(copy, lambda voxels: voxels.assign(roi=""))
    assert "ROI masks" in commands()["the hierarchy slope"]


def test_fits_that_failed_are_named(tmp_path: Path) -> None:
    copy = tmp_path / "run"
    (fits,) = simulate(Kind(n_images=60, n_voxels=140), 1, 0).models.values()
    plant(copy, range(N_LAYERS), fits[0], "ordered")
    settled = {"converged": False, "layer_changed": 0.2}
    more: dict[str, Any] = {"convergence": settled, "saturated_selectors": ["layer"]}
    more["layer_audit"] = {
        "n_images": 64,
        "alike": [["block_1", "block_2"]],
        "similarity": {"block_2": 1.0},
        "norms": {},
    }
    change_json(copy / "metrics.json", lambda metrics: metrics.update(more))
    (one,) = found_of(copy)["candidates"]
    assert one["summary"].startswith("Nothing is known of its layers")
    doubts = {claim["name"]: claim["sentence"] for claim in one["claims"] if claim["doubt"]}
    assert "20%" in doubts["fits not converged"]
    assert "layer" in doubts["saturated selectors"]
    assert doubts["layers alike"].startswith("block_1 and block_2 carry the same information")


def test_four_published_networks_give_no_number(out: Path) -> None:
    evidence = published()
    assert evidence.networks["loss"].round(4).tolist() == [0.0175, 0.013, 0.0245, 0.0445]
    assert evidence.networks["slope"].tolist() == [0.50, 0.32, 0.15, 0.41]
    assert not evidence.is_informative
    claim = association_claim(evidence)
    assert claim.value == pytest.approx(np.corrcoef(evidence.networks["slope"], evidence.networks["loss"])[0, 1])
    assert claim.low is not None
    assert claim.high is not None
    assert claim.high - claim.low > 1.8
    assert "4 networks cannot decide" in claim.sentence
    assert "no number is given for other networks" in claim.sentence
    for one in numbers(out)["candidates"]:
        assert not [claim for claim in one["claims"] if "forgetting" in claim["name"]]
    assert "not known.</b> No evidence on this page predicts it" in (out / "diagnosis.html").read_text()


def experiment(path: Path, gain: float, n: int = 8) -> Path:
    """Write an experiment whose networks lose `gain` · slope + 0.1, on two tasks with three seeds each."""
    rng, rows = np.random.default_rng(0), []
    for k in range(n):
        for task in ("digits", "textures"):
            for seed in range(3):
                slope = k / n
                loss = gain * slope + 0.1 + rng.normal(0, 0.01)
                rows.append({"network": f"n{k}", "task": task, "seed": seed, "slope_before": slope})
                rows[-1] |= {"r2_before": 0.3, "r2_after": 0.3 - loss}
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_an_experiment_that_tells_something_gives_an_expectation(folders: dict[str, Path], tmp_path: Path) -> None:
    csv = experiment(tmp_path / "experiment.csv", -0.1)
    found = found_of(folders["ordered"], evidence=[csv])
    assert [len(one["networks"]) for one in found["evidence"]] == [4, 8]
    (one,) = found["candidates"]
    (claim,) = [claim for claim in one["claims"] if claim["name"] == "expected forgetting"]
    slope = next(claim["value"] for claim in one["claims"] if claim["name"] == "slope")
    assert claim["low"] < 0.1 - 0.1 * slope < claim["high"]
    assert str(csv) in claim["source"]
    assert "prediction interval, from 8 networks" in claim["interval"]
    assert not any(unknown["what"].startswith("what it forgets") for unknown in one["not_known"])


def test_prediction_intervals_hold() -> None:
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        slope = rng.uniform(0, 1, 7)
        loss = 0.1 - 0.05 * slope + rng.normal(0, 0.02, 7)
        table = pd.DataFrame({"network": list("abcdefg"), "slope": slope[:7], "loss": loss, "n": 1})
        new = rng.uniform(0, 1)
        _, low, high = Evidence("e", "e", table, "").expected(new)
        inside += low <= 0.1 - 0.05 * new + rng.normal(0, 0.02) <= high
    assert 0.92 < inside / 400 < 0.98


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.csv",
            "network,slope_before\nx,1\n",
            ("slope_before, r2_before and r2_after", "hierarchy_and"),
        ),
        ("a.csv", f"{HEAD}\nx,t,0,,0.1,0.1\n", ("networks with a slope", "have no slope")),
        ("a.csv", f"{HEAD}\nx,t,0,1,0.1,0.1\nx,t,0,1,0.1,0.1\n", ("twice",)),
        ("a.csv", f"{HEAD}\nx,t,0,one,0.1,0.1\n", ("one row per network",)),
        ("a.csv", "", ("one row per network",)),
        ("a.json", "{}", ("a forgetting.json",)),
        ("a.json", '{"rows": []}', ("a forgetting.json of one step", "OUT/NETWORK/SET/step_N/forgetting.json")),
        ("a.json", "not json", ("a forgetting.json",)),
    ],
)
def test_bad_evidence_is_refused(
    folders: dict[str, Path], tmp_path: Path, name: str, content: str, words: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(content)
    done = run(folders["ordered"], "--evidence", tmp_path / name, "--out", tmp_path / "out")
    assert done.exit_code == 2
    for word in words:
        assert word in done.output
    assert not (tmp_path / "out" / "diagnosis.json").exists()


def test_the_same_runs_give_the_same_bytes(out: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    found = diagnose_runs([read_run(folder) for folder in folders.values()], IDEAL_DEPTH)
    write_diagnosis(found, tmp_path)
    assert (tmp_path / "diagnosis.json").read_bytes() == (out / "diagnosis.json").read_bytes()
