"""Places of layers on the hierarchy: planted orders are found, and layers in order are not called out of order."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from bddn.planted.laws import tuning
from bddn.stats.hierarchy import IDEAL_DEPTH, Line
from bddn.stats.layer_order import LayerOrder, layer_order

LABELS = {"V1v": 0.0, "V2v": 0.33, "V3d": 0.33, "OPA": 0.66, "EBA": 1.0}
N_LAYERS, N_EACH = 8, 30


def brain(hemispheres: tuple[str, ...] = ("lh", "rh")) -> tuple[pd.DataFrame, npt.NDArray[np.float64]]:
    """Voxels of all ROIs in some hemispheres, and the depth that is planted in each."""
    rows = [(hemi, label, depth) for hemi in hemispheres for label, depth in LABELS.items() for _ in range(N_EACH)]
    hemi, label, depth = (np.array(column) for column in zip(*rows, strict=True))
    table = pd.DataFrame({"hemi": hemi, "vertex": np.arange(len(rows)), "roi": label})
    return table, depth.astype(np.float64)


def found_of(
    order: list[int], rng: np.random.Generator, noise: float = 0.05, hemispheres: tuple[str, ...] = ("lh", "rh")
) -> LayerOrder | None:
    """What is found if the layer at place k of the network reads as layer `order[k]` of an ordered one would."""
    table, depth = brain(hemispheres)
    depth = depth + rng.normal(0, noise, len(depth)) + np.repeat(rng.normal(0, noise, len(depth) // N_EACH), N_EACH)
    weights = tuning(np.clip(depth, 0, 1), "linear", N_LAYERS, 0.8, depth)[:, order]
    line = Line.of(table, IDEAL_DEPTH)
    assert line is not None
    return layer_order(line, weights)


def test_an_ordered_network_has_no_layer_out_of_order() -> None:
    found = found_of([*range(N_LAYERS)], np.random.default_rng(0))
    assert found is not None
    assert found.misplaced == ()
    known = np.isfinite(found.place)
    assert known.sum() >= 5
    assert (np.diff(found.place[known]) > 0).all()
    assert found.roi[0] == "V1"
    assert found.roi[-1] == "EBA"
    assert (found.low[known] <= found.place[known]).all()
    assert (found.place[known] <= found.high[known]).all()


@pytest.mark.parametrize(("layer", "reads", "roi"), [(7, 3, "V2"), (7, 0, "V1"), (0, 7, "EBA")])
def test_a_layer_that_reads_as_another_would_is_named(layer: int, reads: int, roi: str) -> None:
    order = [k for k in range(N_LAYERS) if k != reads]
    order.insert(layer, reads)
    found = found_of(order, np.random.default_rng(layer + reads))
    assert found is not None
    assert [one.layer for one in found.misplaced] == [layer]
    assert found.roi[layer] in {roi, "V3" if roi == "V2" else roi}
    only = found.misplaced[0]
    assert (only.before, only.after)[layer == 0]
    assert not (only.after, only.before)[layer == 0]


def test_without_the_named_layers_of_a_shuffled_network_the_others_are_in_order() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        order = rng.permutation(N_LAYERS).tolist()
        found = found_of(order, rng, 0.01)
        assert found is not None
        wrong = {one.layer for one in found.misplaced}
        kept = [found.place[k] for k in range(N_LAYERS) if k not in wrong and np.isfinite(found.place[k])]
        assert (np.diff(kept) > -0.1).all()
        assert len(wrong) >= 2


def test_maps_that_select_nothing_are_seldom_called_out_of_order() -> None:
    """Blocks of cortex prefer layers at random; in at most 5 % of maps a layer may be called out of order."""
    table, _ = brain()
    line = Line.of(table, IDEAL_DEPTH)
    assert line is not None
    alarms = 0
    for seed in range(60):
        logits = np.random.default_rng(seed).normal(0, 1.0, (len(table) // N_EACH, N_LAYERS))
        weights = np.exp(np.repeat(logits, N_EACH, axis=0))
        found = layer_order(line, weights / weights.sum(1, keepdims=True))
        alarms += found is not None and bool(found.misplaced)
    assert alarms <= 6  # 3 are expected


def test_a_layer_that_is_hardly_selected_has_no_place() -> None:
    table, depth = brain()
    line = Line.of(table, IDEAL_DEPTH)
    assert line is not None
    weights = np.column_stack([1 - depth, 1e-4 * (1 + depth), depth])
    found = layer_order(line, weights / weights.sum(1, keepdims=True))
    assert found is not None
    assert np.isnan(found.place[1])
    assert found.misplaced == ()


def test_one_block_of_each_roi_still_has_an_error_and_two_blocks_have_none() -> None:
    assert found_of([*range(N_LAYERS)], np.random.default_rng(0), hemispheres=("lh",)) is not None
    table, depth = brain(("lh",))
    line = Line.of(table, {"V1": 0.0, "EBA": 1.0})
    assert line is not None
    assert layer_order(line, tuning(depth, "linear", N_LAYERS, 0.8, depth)) is None
