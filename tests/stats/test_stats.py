"""Brain scores, hierarchy and the comparison with a planted truth."""

import numpy as np
import pandas as pd
import pytest

from bddn.stats.hierarchy import confidence, depth, hierarchy_slope, in_words
from bddn.stats.scores import R2, ROIS, in_roi, robust_mean, roi_scores
from bddn.stats.truth import compare_with_truth, truth_lines, worse_hemisphere


def _r2(y: np.ndarray, predicted: np.ndarray, batch: int = 1000) -> np.ndarray:
    sums = R2()
    for at in range(0, len(y), batch):
        sums.add(y[at : at + batch], predicted[at : at + batch])
    return sums.score()


def test_brain_score_of_perfect_mean_and_worse_predictions() -> None:
    y = np.random.default_rng(0).normal(size=(50, 3))
    predicted = np.stack([y[:, 0], np.full(50, y[:, 1].mean()), -y[:, 2]], axis=1)
    perfect, mean, worse = _r2(y, predicted)
    assert perfect == 1
    assert mean == pytest.approx(0)
    assert worse < 0


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_brain_score_added_up_by_batches_is_that_of_the_formula(offset: float) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 3)) + offset
    predicted = y + rng.normal(size=y.shape)
    expected = 1 - np.square(y - predicted).sum(0) / np.square(y - y.mean(0)).sum(0)
    for batch in (1, 7, 50):
        np.testing.assert_allclose(_r2(y, predicted, batch), expected, rtol=1e-8)


def test_a_voxel_that_does_not_vary_has_no_score() -> None:
    assert np.isnan(_r2(np.full((5, 1), 0.1), np.zeros((5, 1)), 2))[0]


def test_confidence_runs_from_equal_to_single() -> None:
    weights = np.array([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(confidence(weights), [0, 1, 0.5], atol=1e-12)


def test_depth_is_the_mean_relative_layer() -> None:
    np.testing.assert_allclose(depth(np.array([[1, 0, 0], [0, 0, 1], [0.5, 0, 0.5]])), [0, 1, 0.5])


def _table(slope: float, b0: float) -> pd.DataFrame:
    rows = [("V1v", 0.0), ("V1d", 0.0), ("V2v", 0.33), ("V3d", 0.33), ("OPA", 0.66), ("EBA", 1.0)]
    line = {"roi": [r for r, _ in rows], "depth": [slope * ideal + b0 for _, ideal in rows]}
    return pd.concat([pd.DataFrame({"hemi": hemi, **line}) for hemi in ("lh", "rh")], ignore_index=True)


def test_hierarchy_slope_recovers_a_line() -> None:
    found = hierarchy_slope(_table(0.5, 0.35))
    assert found is not None
    assert (found["slope"], found["b0"], found["b1"]) == pytest.approx((0.5, 0.35, 0.85))
    assert found["n_voxels"] == 12
    assert [found["slope_low"], found["slope_high"]] == pytest.approx([0.5, 0.5])  # nothing leaves the line


def test_no_slope_without_all_its_regions_and_the_missing_ones_are_named() -> None:
    table = _table(0.5, 0.35)
    rest = table[~table["roi"].isin(["EBA", "V1v", "V1d"])]
    assert hierarchy_slope(rest) is None
    assert in_words(None, rest) == "no slope, because these ROIs have no voxel: V1, EBA"


def test_the_slope_counts_a_voxel_of_two_regions_once() -> None:
    table = _table(0.5, 0.35)
    in_both = table.assign(floc=np.where(table["roi"] == "OPA", "EBA", ""))
    found = hierarchy_slope(in_both)
    assert found is not None
    assert found["n_voxels"] == 12
    assert found["slope"] == pytest.approx(0.5)  # OPA comes before EBA


def test_the_interval_of_the_slope_does_not_shrink_with_copies_of_voxels() -> None:
    """Neighbouring voxels share their errors; an interval that takes them for independent is far too narrow."""
    rng = np.random.default_rng(0)
    covered, width = [], []
    for _ in range(40):
        few = _table(0.5, 0.35)
        few["depth"] += rng.normal(0, 0.1, len(few))
        many, once = hierarchy_slope(pd.concat([few] * 40, ignore_index=True)), hierarchy_slope(few)
        assert many is not None
        assert once is not None
        assert many["slope_low"] == pytest.approx(once["slope_low"])
        covered.append(many["slope_low"] < 0.5 < many["slope_high"])
        width.append(many["slope_high"] - many["slope_low"])
    assert 0.85 < np.mean(covered) <= 1
    assert np.mean(width) < 0.6


def test_a_slope_in_words_has_its_interval_and_the_planted_slope() -> None:
    found = {"slope": 0.5, "slope_low": 0.4, "slope_high": 0.63, "b0": 0.1, "b1": 0.6, "n_voxels": 12}
    words = "slope 0.50 (95 % interval 0.40 to 0.63, planted 0.71), b0 0.10, b1 0.60"
    assert in_words(found, _table(0.5, 0.1), planted=0.71) == words
    earlier = {name: found[name] for name in ("slope", "b0", "b1", "n_voxels")}
    assert in_words(earlier, _table(0.5, 0.1)) == "slope 0.50, b0 0.10, b1 0.60"


def test_a_voxel_can_be_in_two_regions() -> None:
    table = pd.DataFrame(
        {"hemi": "lh", "roi": ["EBA", "V1v"], "floc-bodies": ["EBA", ""], "floc-faces": ["FFA-1", ""], "r2": [0.2, 0.4]}
    )
    assert in_roi(table, "EBA").tolist() == [True, False]
    assert in_roi(table, "FFA").tolist() == [True, False]
    own = pd.DataFrame({"hemi": ["lh"] * 3, "vertex": [0, 1, 2], "roi": ["V1", "V1v", "V2"]})
    assert in_roi(own, "V1").tolist() == [True, True, False]  # a label of this very name counts too
    assert roi_scores(own.assign(r2=[0.1, 0.3, 0.2]), "r2")["V2"] == {"mean": 0.2, "n_voxels": 1}
    assert roi_scores(table, "r2")["V1"] == {"mean": 0.4, "n_voxels": 1}
    assert set(roi_scores(table, "r2")) == {"EBA", "FFA", "V1"} <= set(ROIS)


def _planted(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    truth = pd.DataFrame(rng.uniform(-1, 1, (n, 2)), columns=["x", "y"])
    truth["depth"], truth["scale"] = rng.uniform(0, 1, n), rng.uniform(0, 1, n)
    truth["ceiling"] = np.where(np.arange(n) < n // 10, 0.05, 0.4)
    truth["hemi"] = np.where(np.arange(n) % 2, "lh", "rh")
    return truth


def test_truth_is_compared_where_it_can_be_known() -> None:
    truth = _planted(200)
    found = truth.assign(depth=truth["depth"] * 0.5 + 0.2, r2_test=0.3)
    found.loc[:19, ["x", "y", "depth"]] = 9.0  # voxels below the ceiling's limit take no part
    found.loc[truth["scale"] > 0.5, ["x", "y"]] = -9.0  # nor does the place of global voxels
    got = compare_with_truth(found, truth)
    for hemi in ("lh", "rh"):
        assert [got[part][hemi]["r"] for part in ("depth", "x", "y", "scale")] == pytest.approx([1] * 4)
        assert [got[part][hemi]["slope"] for part in ("depth", "x", "y", "scale")] == pytest.approx([0.5, 1, 1, 1])
        assert got["x"][hemi]["rmse"] == pytest.approx(0)
    assert got["r2_over_ceiling"] == pytest.approx(0.75)
    assert got["n_voxels"] == 180


def test_the_sign_of_the_hemisphere_alone_recovers_no_place() -> None:
    truth = _planted(400)
    side = np.where(truth["hemi"] == "lh", 0.5, -0.5)
    truth["x"] = side + truth["x"] / 10
    noise = np.random.default_rng(1).normal(0, 0.01, 400)
    found = truth.assign(x=side + noise, r2_test=0.3)
    assert np.corrcoef(found["x"], truth["x"])[0, 1] > 0.99
    assert abs(worse_hemisphere(compare_with_truth(found, truth))["x_r"] or 0) < 0.3


def test_the_worse_hemisphere_counts() -> None:
    truth = _planted(200)
    found = truth.assign(r2_test=0.3, scale=np.where(truth["hemi"] == "lh", truth["scale"], 1 - truth["scale"]))
    worse = worse_hemisphere(compare_with_truth(found, truth))
    assert (worse["scale_r"], worse["scale_slope"]) == pytest.approx((-1, -1))
    assert worse["depth_r"] == pytest.approx(1)


def test_an_old_comparison_over_both_hemispheres_is_told() -> None:
    old = {"depth_r": 0.99, "place_x_r": 0.98, "r2_over_ceiling": 0.9}
    assert worse_hemisphere(old) == {}
    assert "fit again" in truth_lines(old)[0]


def test_a_voxel_without_a_score_counts_on_neither_side() -> None:
    truth = _planted(100)
    truth["ceiling"] = np.where(np.arange(100) < 50, 0.2, 0.6)
    found = truth.assign(r2_test=np.where(np.arange(100) < 50, 0.2, np.nan))
    assert compare_with_truth(found, truth)["r2_over_ceiling"] == pytest.approx(1)


def test_the_planted_slope_is_that_of_the_planted_depth() -> None:
    truth = _table(0.8, 0.1).assign(x=0.0, y=0.0, scale=0.0, ceiling=0.4)
    got = compare_with_truth(truth.assign(depth=0.5, r2_test=0.3), truth.drop(columns="roi"))
    assert got["planted_slope"] == pytest.approx(0.8)


def test_what_does_not_vary_has_no_correlation() -> None:
    truth = _planted(100)
    got = compare_with_truth(truth.assign(x=0.5, r2_test=0.3), truth)
    assert got["x"]["lh"]["r"] is None
    assert got["y"]["lh"]["r"] == pytest.approx(1)


def test_one_voxel_that_hardly_varies_does_not_decide_the_mean() -> None:
    scores = np.full(1563, 0.376)
    scores[7] = -60_000.0
    assert scores.mean() < -30
    assert robust_mean(scores) == pytest.approx(0.376, abs=1e-3)
    assert robust_mean(np.append(scores, np.nan)) == robust_mean(scores)
    table = pd.DataFrame({"hemi": "lh", "roi": "V1v", "r2": scores})
    assert roi_scores(table, "r2")["V1"]["mean"] == pytest.approx(0.376, abs=1e-3)
