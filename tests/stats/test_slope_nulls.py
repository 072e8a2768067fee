"""Tests of the slope: exact where they can be, and of the right level where there is nothing to find."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from bddn.cortex.fsaverage import positions_mm, sphere
from bddn.planted import laws
from bddn.stats.hierarchy import IDEAL_DEPTH, Line, hierarchy_slope, missing_rois
from bddn.stats.scores import in_roi, named_rois
from bddn.stats.slope_nulls import Null, null_of_layers, null_of_maps
from bddn.stats.smooth_maps import SmoothMaps, mirrored

LABELS = ("V1v", "V2v", "V3d", "OPA", "EBA")


@pytest.fixture(scope="module")
def voxels() -> pd.DataFrame:
    """150 vertices of a patch in each hemisphere; its ROIs are bands."""
    direction = sphere()[0][:10242] / 100
    order = np.argsort(direction[:, 1], kind="stable")[:900:6]
    tables = []
    for hemi in ("lh", "rh"):
        height = direction[order, 2]
        band = np.clip(np.digitize(height, np.quantile(height, [0.2, 0.4, 0.6, 0.8])), 0, 4)
        tables.append(pd.DataFrame({"hemi": hemi, "vertex": order, "roi": np.array(LABELS)[band]}))
    return pd.concat(tables, ignore_index=True).assign(depth=0.5)


def _line(voxels: pd.DataFrame) -> Line:
    line = Line.of(voxels, IDEAL_DEPTH)
    assert line is not None
    return line


def test_any_rois_and_labels_have_a_slope(voxels: pd.DataFrame) -> None:
    table = voxels.assign(area=np.where(voxels["roi"] == "V1v", "L0", "L1"), depth=np.arange(300) / 300)
    found = hierarchy_slope(table, {"L0": 0.0, "L1": 1.0})
    first = table["area"] == "L0"
    assert found is not None
    assert found["b0"] == pytest.approx(table.loc[first, "depth"].mean())
    assert found["b1"] == pytest.approx(table.loc[~first, "depth"].mean())
    assert found["n_voxels"] == 300
    assert named_rois(table) == ["V1", "V2", "V3", "EBA", "OPA", *sorted(["L0", "L1", "V1v", "V2v", "V3d"])]
    assert in_roi(table, "V3d").sum() == in_roi(table, "V3").sum() > 0
    assert hierarchy_slope(table, {"V1": 0.0, "FFA": 1.0}) is None
    assert missing_rois(table, {"V1": 0.0, "FFA": 1.0}) == ["FFA"]
    assert hierarchy_slope(table, {"V1": 0.5, "EBA": 0.5}) is None


def test_a_slope_without_blocks_to_leave_out_has_no_interval(voxels: pd.DataFrame) -> None:
    left = voxels[voxels["hemi"] == "lh"].assign(depth=lambda table: (table["roi"] == "EBA").astype(float))
    found = hierarchy_slope(left, {"V1": 0.0, "EBA": 1.0})
    assert found is not None
    assert found["slope"] == pytest.approx(1)
    assert "slope_low" not in found


def test_orders_of_the_layers_are_all_tried(voxels: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(4), len(voxels))
    line = _line(voxels)
    slopes = [line.fit((weights @ np.array(order))[line.row] / 3)[0] for order in permutations(range(4))]
    found = null_of_layers(line, weights)
    own = line.fit((weights @ np.linspace(0, 1, 4))[line.row])[0]
    assert found.exact
    assert found.n == 24
    assert found.p == pytest.approx(np.mean(np.array(slopes) >= own - 1e-9))


def test_an_order_that_matters_is_found_among_many(voxels: pd.DataFrame) -> None:
    line = _line(voxels)
    depth = np.full(len(voxels), 0.5)
    depth[line.row] = 0.1 + 0.8 * line.ideal
    found = null_of_layers(line, laws.tuned_to(depth, 12, 0.8))
    assert not found.exact
    assert found.p < 0.001


def test_random_p_values_are_never_0() -> None:
    assert Null.of(2.0, np.zeros(9)).p == 0.1
    assert Null.of(-1.0, np.zeros(9)).p == 1


def test_random_maps_have_the_smoothness_of_the_map(voxels: pd.DataFrame) -> None:
    """Neighbours at 10 mm correlate as in the map, for smooth and for rough ones; both hemispheres are alike."""
    coords = positions_mm(voxels["hemi"].to_numpy(), voxels["vertex"].to_numpy())
    family, rng = SmoothMaps.of(coords), np.random.default_rng(0)
    near = np.argwhere((np.abs(family.distance - 10) < 2) & ~family.other)
    both = np.argwhere((family.distance < 3) & family.other)
    assert min(len(near), len(both)) >= 50

    def variogram(maps: np.ndarray, pairs: np.ndarray) -> float:
        return float(np.mean(np.square(maps[:, pairs[:, 0]] - maps[:, pairs[:, 1]])) / maps.var(1).mean())

    for length in (12.0, 30.0):
        like = np.stack([laws.smooth_wave(np.random.default_rng(k), mirrored(coords), length) for k in range(4)])
        drawn = np.concatenate([family.draw(one, 100, rng) for one in like])
        assert 0.5 < variogram(drawn, near) / variogram(like, near) < 2
        assert variogram(drawn, both) < 0.4


def test_a_map_that_follows_the_rois_is_found_and_one_that_does_not_is_not(voxels: pd.DataFrame) -> None:
    """20 smooth maps that have nothing to do with ROIs: few p-values are small. The documentation has the error rate
    over hundreds."""
    line = _line(voxels)
    coords = positions_mm(voxels["hemi"].to_numpy(), voxels["vertex"].to_numpy())
    p = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        places = mirrored(coords) if seed % 2 else coords.astype(np.float64)
        p.append(null_of_maps(line, voxels.assign(depth=laws.smooth_wave(rng, places, 10 + 2 * seed))).p)
    assert np.mean(np.array(p) <= 0.05) <= 0.15
    assert np.mean(np.array(p) <= 0.5) > 0.2
    depth = np.zeros(len(voxels))
    depth[line.row] = line.ideal
    rough = 0.3 * laws.smooth_wave(np.random.default_rng(0), coords.astype(np.float64), 6)
    assert null_of_maps(line, voxels.assign(depth=depth + rough)).p < 0.02
