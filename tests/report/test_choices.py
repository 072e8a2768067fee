"""The maps of a page have the colours and the ranges of the figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bddn.maps import kinds
from bddn.maps.kinds import MAX_WIDTH
from bddn.report.choices import CONFIDENCE_STEPS, PLACE_STEPS, RAMP_STEPS, choices
from bddn.report.packing import unpacked
from bddn.run import read_run


@pytest.fixture
def voxels(runs: Path) -> pd.DataFrame:
    return read_run(runs / "one").voxels


LAYERS = ["block_0", "block_1", "block_2"]


def test_every_number_can_be_chosen_once(voxels: pd.DataFrame) -> None:
    table = voxels.assign(r2_test_low=0.0, extra=np.arange(len(voxels)), empty=np.nan)
    found = choices([table], [LAYERS])
    names = [choice["name"] for choice in found]
    assert names[:4] == ["layer_map", "score_map", "scale_map", "place_map"]
    assert len(set(names)) == len(names)
    columns = [name for choice in found for name in choice["columns"]]
    numbers = set(table.select_dtypes("number").columns) - {"vertex", "empty"}
    assert numbers <= set(columns)
    assert "empty" not in columns
    assert {choice["kind"] for choice in found} == {"layer", "ramp", "place", "class"}


def test_colours_are_those_of_the_figures(voxels: pd.DataFrame) -> None:
    found = {choice["name"]: choice for choice in choices([voxels], [LAYERS])}
    score, map_ = found["score_map"], kinds.score_map(voxels)
    share = (voxels["r2_test"].to_numpy() - score["low"]) / (score["high"] - score["low"])
    at = np.clip(np.floor(share * RAMP_STEPS), 0, RAMP_STEPS - 1).astype(int)
    assert np.abs(unpacked(score["lookup"]).reshape(-1, 3)[at] - 255 * map_.rgb(map_.values)).max() < 1
    layer, map_ = found["layer_map"], kinds.layer_map(voxels, LAYERS)
    step = np.rint(np.clip(map_.values[:, 1] / layer["top"], 0, 1) * (CONFIDENCE_STEPS - 1)).astype(int)
    lookup = unpacked(layer["lookup"][0])
    assert lookup.shape == (3, CONFIDENCE_STEPS, 3)
    assert np.abs(lookup[map_.values[:, 0].astype(int), step] - 255 * map_.rgb(map_.values)).max() < 4
    map_ = kinds.place_map(voxels)
    place = found["place_map"]
    share = np.clip(map_.values / place["reach"], -1, 1)
    column, row = np.rint((share + 1) / 2 * (PLACE_STEPS - 1)).astype(int).T
    assert np.abs(unpacked(place["lookup"])[row, column] - 255 * map_.rgb(map_.values)).mean() < 2


def test_runs_share_their_ranges(voxels: pd.DataFrame) -> None:
    other = voxels.assign(r2_test=voxels["r2_test"] + 0.5, confidence=1.0)
    together = {choice["name"]: choice for choice in choices([voxels, other], [LAYERS, LAYERS])}
    alone = {choice["name"]: choice for choice in choices([voxels], [LAYERS])}
    assert together["score_map"]["high"] > alone["score_map"]["high"] + 0.3
    assert together["layer_map"]["top"] == 1.0
    assert len(together["layer_map"]["lookup"]) == 2


def test_runs_of_other_layers_keep_their_own(voxels: pd.DataFrame) -> None:
    other = voxels.drop(columns=["weight_block_0", "weight_block_1"]).rename(columns={"weight_block_2": "weight_late"})
    found = choices([voxels, other.assign(layer_argmax="late")], [LAYERS, ["late"]])
    weights = [choice["columns"] for choice in found if choice["group"] == "Layer weights"]
    assert weights == [["weight_block_0"], ["weight_block_1"], ["weight_block_2"], ["weight_late"]]
    layer = found[0]["lookup"]
    assert [unpacked(lookup).shape[0] for lookup in layer] == [3, 1]


def test_size_is_shown_beside_the_other_selections_and_only_selections_need_evidence(voxels: pd.DataFrame) -> None:
    found = choices([voxels.assign(size=1.0, q_test=0.5), voxels], [LAYERS, LAYERS])
    by_name = {choice["name"]: choice for choice in found}
    assert by_name["size"]["group"] == by_name["scale_map"]["group"] == ""
    assert "tokens" in by_name["size"]["label"]
    selections = {name for name, choice in by_name.items() if choice["selection"]}
    weights = {f"weight_{name}" for name in LAYERS}
    assert selections == {"layer_map", "scale_map", "place_map", "size", "depth", "confidence", *weights}


def test_ends_of_intervals_have_titles_and_are_selections(voxels: pd.DataFrame) -> None:
    found = choices([voxels.assign(depth_low=0.1, depth_high=0.9, x_sd=0.2, lab_low=1.0, q_test=0.5)], [LAYERS])
    by_name = {choice["name"]: choice for choice in found}
    assert by_name["depth_low"]["title"] == "Depth of the layers, lower end of its interval"
    assert by_name["x_sd"]["title"] == "Place, to the right, standard deviation over fits"
    assert by_name["lab_low"]["title"] == "lab, lower end of its interval"
    assert by_name["depth_high"]["selection"]
    assert by_name["depth_width"]["columns"] == ["depth_width"]
    assert (by_name["depth_width"]["low"], by_name["depth_width"]["high"]) == (0.0, MAX_WIDTH)
    assert not by_name["lab_low"]["selection"]
