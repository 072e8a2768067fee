"""`bddn diagnose --against`: what another seed alone would do is no drift; a lost part of the signal is, and the exit
code says so."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bddn.evaluation.diagnosis.diagnosis import diagnose_runs
from bddn.evaluation.forgetting.drift import drift
from bddn.evaluation.forgetting.forgetting import forgetting
from bddn.evaluation.forgetting.output import write_forgetting
from bddn.run import read_run
from bddn.stats.hierarchy import IDEAL_DEPTH
from bench.rivals import Kind, simulate
from evaluation.test_diagnosis import N_LAYERS, plant, run
from report.folders import change_json, change_voxels

N_SEEDS = 5
KIND = Kind(n_images=80, n_voxels=140, ceiling=0.6, lost=0.5, fits=N_SEEDS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Fits of a parent, and of a network after training that lacks a part of the signal in a third of the voxels."""
    root, found = tmp_path_factory.mktemp("drift"), {}
    models = simulate(KIND, 2, 0, lacking=(1,)).models.values()
    for name, fits in zip(("parent", "child"), models, strict=True):
        found[name] = [
            plant(root / name / f"seed{k}", range(N_LAYERS), held, name, 10 * k + len(name))
            for k, held in enumerate(fits)
        ]
    return found


def against(child: Path, parent: list[Path]) -> dict[str, Any]:
    """What `diagnosis.json` says of a run and its parent, with further seeds of it."""
    first, *seeds = map(read_run, parent)
    return drift([read_run(child)], first, seeds, IDEAL_DEPTH).to_dict()


def test_another_seed_is_no_drift(folders: dict[str, list[Path]]) -> None:
    found = against(folders["parent"][4], folders["parent"][:4])
    assert found["exit_code"] == 0
    assert not found["is_drift"]
    assert found["verdict"].startswith("No drift beyond the noise of 4 seeds: ")
    assert {test["name"] for test in found["tests"] if test["p"] is not None} == {
        "brain score",
        "hierarchy slope",
        "depth",
    }


def test_a_lost_part_of_the_signal_is_drift(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    noise = [word for seed in folders["parent"][1:] for word in ("--noise", seed)]
    words = [folders["child"][0], "--against", folders["parent"][0], *noise]
    done = run(*words, "--out", tmp_path / "out")
    assert done.exit_code == 1, done.output
    found = json.loads((tmp_path / "out" / "diagnosis.json").read_text())["drift"]
    assert found["exit_code"] == 1
    assert found["verdict"].startswith("Drift beyond the noise of 5 seeds: the mean brain score R² changed by −")
    assert found["verdict"] in done.output
    by = {test["name"]: test for test in found["tests"]}
    assert by["brain score"]["high"] < 0
    assert by["brain score"]["is_drift"]
    assert not by["hierarchy slope"]["is_drift"]
    assert found["n_worse"] > 10
    page = (tmp_path / "out" / "diagnosis.html").read_text()
    assert found["verdict"] in page
    assert page.count("data:image/png") == 4  # two layer maps and two maps of differences


def test_voxels_that_select_other_layers_are_drift(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["parent"][4], tmp_path / "moved"))
    change_voxels(copy, lambda voxels: voxels.assign(depth=1 - voxels["depth"]))
    found = against(copy, folders["parent"][:4])
    assert found["exit_code"] == 1
    by = {test["name"]: test for test in found["tests"]}
    assert not by["brain score"]["is_drift"]
    assert by["depth"]["is_drift"]
    assert by["depth"]["low"] > 1
    assert by["hierarchy slope"]["is_drift"]
    assert by["hierarchy slope"]["high"] < -1


def test_without_seeds_only_the_score_is_judged_and_this_is_said(folders: dict[str, list[Path]]) -> None:
    found = against(folders["child"][0], folders["parent"][:1])
    assert found["exit_code"] == 1
    assert found["verdict"].startswith("Drift, or another seed: ")
    assert "give seeds of the parent with --noise" in found["verdict"]
    judged = [test["name"] for test in found["tests"] if test["p"] is not None]
    assert judged == ["brain score"]
    assert all(test["how"].startswith("not judged: ") for test in found["tests"] if test["p"] is None)


def test_the_same_fit_has_a_difference_of_zero(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["parent"][0], tmp_path / "copy"))
    done = run(copy, "--against", folders["parent"][0], "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "diagnosis.json").read_text())["drift"]
    assert found["tests"][0]["change"] == 0
    assert found["tests"][0]["p_corrected"] == 1
    assert found["n_worse"] == found["n_better"] == 0


def test_seeds_that_are_one_fit_are_refused(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    """They would say that seeds change nothing, so that any difference would be drift."""
    parent = folders["parent"][0]
    copy = Path(shutil.copytree(parent, tmp_path / "copy"))
    done = run(folders["child"][0], "--against", parent, "--noise", copy, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert f"got a copy of '{parent}'" in done.output


@pytest.mark.parametrize("case", ["fixed", "one layer"])
def test_depths_that_the_fit_did_not_find_are_not_judged(
    case: str, folders: dict[str, list[Path]], tmp_path: Path
) -> None:
    """They are equal in all runs, which says nothing about the network."""
    copies = [Path(shutil.copytree(folder, tmp_path / folder.parent.name / folder.name)) for folder in
              (*folders["parent"][:2], folders["child"][0])]  # fmt: skip
    for copy in copies:
        if case == "fixed":
            change_json(copy / "run.json", lambda about: about["fit"].update(fixed="layer"))
        else:
            change_json(copy / "run.json", lambda about: about.update(layers=about["layers"][:1]))
        change_voxels(copy, lambda voxels: voxels.assign(depth=0.0, weight_block_0=1.0))
    parent, seed, child = map(read_run, copies)
    why = {"fixed": "the settings fixed the layer", "one layer": "the network was fitted with one layer"}[case]
    score, *others = drift([child], parent, [seed], IDEAL_DEPTH).to_dict()["tests"]
    assert score["p_corrected"] == score["p"]  # no other test
    assert [(one["name"], one["p"]) for one in others] == [("hierarchy slope", None), ("depth", None)]
    assert all(one["how"].startswith(f"not judged: {why}") for one in others)
    said = write_forgetting(forgetting(parent, child, noise=[seed]), parent, child, [seed], tmp_path)["sentences"]
    assert said[-1].startswith(f"Nothing is known of depth: {why}")
    (summary,) = (one["summary"] for one in diagnose_runs([parent], IDEAL_DEPTH).to_dict()["candidates"])
    assert summary.startswith(f"Nothing is known of its layers: {why}")


def test_seeds_of_one_network_seldom_give_an_alarm(tmp_path: Path) -> None:
    """Each of five seeds against the other four, of four networks: 1 of 20 alarms is expected at most."""
    alarms = 0
    for network in range(4):
        (fits,) = simulate(Kind(n_images=60, n_voxels=140, fits=5), 1, network).models.values()
        folders = [
            plant(tmp_path / f"{network}-{k}", range(N_LAYERS), held, "net", 10 * network + k)
            for k, held in enumerate(fits)
        ]
        runs = [read_run(folder) for folder in folders]
        for k in range(5):
            others = [run for i, run in enumerate(runs) if i != k]
            alarms += drift([runs[k]], others[0], others[1:], IDEAL_DEPTH).is_drift
    assert alarms <= 3


@pytest.mark.parametrize("case", ["no parent", "layers", "test images", "not scored", "settings", "twice", "mixed"])
def test_what_cannot_be_compared_is_refused(folders: dict[str, list[Path]], tmp_path: Path, case: str) -> None:
    parent, child = folders["parent"][0], Path(shutil.copytree(folders["child"][0], tmp_path / "child"))
    words: list[object] = [child, "--against", parent]
    expected = ""
    if case == "no parent":
        words, expected = [child, "--noise", parent], "--against PARENT"
    if case == "layers":
        change_json(child / "run.json", lambda about: about.update(layers=about["layers"][:-1]))
        expected = "the layers of"
    if case == "test images":
        change_json(child / "split.json", lambda split: split.update(test=[f"x{i}" for i in split["test"]]))
        expected = "test images"
    if case == "not scored":
        (child / "score" / "responses.json").unlink()
        expected = f"bddn score {child}"
    if case == "settings":
        change_json(child / "run.json", lambda about: about["fit"].update(epochs=99))
        expected = "epochs"
    if case == "twice":
        words, expected = [parent, "--against", parent], "this one twice"
    if case == "mixed":
        words, expected = [child, folders["parent"][1], "--against", parent], "a fit of the same cache"
    done = run(*words, "--out", tmp_path / "out")
    assert done.exit_code == 2, done.output
    assert expected in " ".join(done.output.split()), done.output
    assert not (tmp_path / "out" / "diagnosis.json").exists()


def test_maps_of_differences_belong_to_their_voxels(folders: dict[str, list[Path]]) -> None:
    parent, child = (read_run(folders[name][0]) for name in ("parent", "child"))
    found = drift([child], parent, [], IDEAL_DEPTH).voxels
    pd.testing.assert_series_equal(found["vertex"], parent.voxels["vertex"])
    np.testing.assert_allclose(found["r2_difference"], child.voxels["r2_test"] - parent.voxels["r2_test"], atol=1e-9)
    np.testing.assert_allclose(found["depth_difference"], child.voxels["depth"] - parent.voxels["depth"])


def test_a_measured_forgetting_stands_beside_its_network(folders: dict[str, list[Path]], tmp_path: Path) -> None:
    parent, child, seed = (read_run(folders[name][k]) for name, k in (("parent", 0), ("child", 0), ("parent", 1)))
    written = write_forgetting(forgetting(parent, child, noise=[seed]), parent, child, [seed], tmp_path)
    path = tmp_path / "forgetting.json"
    (one,) = diagnose_runs([parent], IDEAL_DEPTH, [path]).to_dict()["candidates"]
    (claim,) = [claim for claim in one["claims"] if claim["name"] == "measured forgetting"]
    assert [claim[name] for name in ("value", "low", "high")] == [
        written["score"][name] for name in ("difference", "low", "high")
    ]
    assert str(path) in claim["source"]
    assert "between seeds" in claim["sentence"]
    done = run(child.folder, "--evidence", path, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "the forgetting of a network among the runs" in done.output
