"""Agreement of layer maps between subjects, against a comparison of every pair of runs."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from bddn.cortex.fsaverage import sphere
from bddn.cortex.places import native_voxels
from bddn.stats.between_subjects import LayerMaps, agreement_between, overlap_of_rois

N_LAYERS = 3


def subject(rng: np.random.Generator, first: int, n_runs: int) -> LayerMaps:
    """30 vertices of each hemisphere, in another order for each subject."""
    vertex = np.concatenate([rng.permutation(np.arange(first, first + 30)) for _ in range(2)])
    table = pd.DataFrame(
        {"hemi": ["lh"] * 30 + ["rh"] * 30, "vertex": vertex, "roi": np.array(["", "V1", "V2"])[vertex % 3]}
    )
    return LayerMaps(table, rng.integers(0, N_LAYERS, (n_runs, 60)))


@pytest.fixture(scope="module")
def subjects() -> list[LayerMaps]:
    """Three subjects with 2, 1 and 3 runs; the first two have 20 vertices in common, the third has 10 with both."""
    rng = np.random.default_rng(0)
    return [subject(rng, first, n) for first, n in ((0, 2), (10, 1), (20, 3))]


def maps_of(one: LayerMaps) -> list[dict[tuple[str, int], int]]:
    keys = list(zip(one.voxels["hemi"], one.voxels["vertex"], strict=True))
    return [dict(zip(keys, chosen.tolist(), strict=True)) for chosen in one.chosen]


def test_agreement_is_that_of_pairs_of_runs_at_the_same_vertex(subjects: list[LayerMaps]) -> None:
    every = [maps_of(one) for one in subjects]
    found = agreement_between(subjects, N_LAYERS)
    for k, own in enumerate(every):
        for run, mine in enumerate(own):
            at_vertex = []
            for key, layer in mine.items():
                others = [
                    np.mean([other[key] == layer for other in runs])
                    for j, runs in enumerate(every)
                    if j != k and key in runs[0]
                ]
                at_vertex += [np.mean(others)] if others else []
            assert found[k][run] == pytest.approx(np.mean(at_vertex))


def test_a_map_agrees_with_itself_on_a_native_surface() -> None:
    """The same map, once at vertices of fsaverage and once at vertices of a native surface near them."""
    rng, vertices = np.random.default_rng(1), np.arange(642)
    at = sphere()[0][vertices]
    near = at + rng.normal(0, 0.05, at.shape)
    near *= 100 / np.linalg.norm(near, axis=1, keepdims=True)
    order = rng.permutation(len(vertices))
    native = native_voxels({"lh": near}, {"lh": order}).assign(roi="V1")
    own = pd.DataFrame({"hemi": "lh", "vertex": vertices, "roi": "V1"})
    layers = (at[:, 2] > 0).astype(int)
    maps = [LayerMaps(own, layers[None]), LayerMaps(native, layers[order][None])]
    agreement = agreement_between(maps, 2)
    assert agreement[0][0] == pytest.approx(1)
    assert agreement[1][0] == pytest.approx(1)
    apart = [maps[0], LayerMaps(native, 1 - layers[order][None])]
    assert agreement_between(apart, 2)[0][0] == pytest.approx(0)


def test_points_are_compared_by_roi_only(subjects: list[LayerMaps]) -> None:
    points = [
        LayerMaps(one.voxels.assign(vertex=-1, voxel=range(60), x_mm=0.0, y_mm=0.0, z_mm=0.0), one.chosen)
        for one in subjects
    ]
    assert all(np.isnan(one).all() for one in agreement_between(points, N_LAYERS))
    for mine, theirs in zip(overlap_of_rois(points, N_LAYERS), overlap_of_rois(subjects, N_LAYERS), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_overlap_is_that_of_pairs_of_runs_in_each_roi(subjects: list[LayerMaps]) -> None:
    def overlap(a: LayerMaps, i: int, b: LayerMaps, j: int) -> float:
        found = []
        for roi in ("V1", "V2"):
            p, q = (
                np.bincount(one.chosen[run][(one.voxels["roi"] == roi).to_numpy()], minlength=N_LAYERS)
                for one, run in ((a, i), (b, j))
            )
            found.append(np.minimum(p / p.sum(), q / q.sum()).sum())
        return float(np.mean(found))

    for k, (within, between) in enumerate(overlap_of_rois(subjects, N_LAYERS)):
        one = subjects[k]
        for run in range(len(one.chosen)):
            others = [overlap(one, run, one, j) for j in range(len(one.chosen)) if j != run]
            assert within[run] == pytest.approx(np.mean(others)) if others else np.isnan(within[run])
            means = [
                np.mean([overlap(one, run, other, j) for j in range(len(other.chosen))])
                for other in subjects
                if other is not one
            ]
            assert between[run] == pytest.approx(np.mean(means))


def test_labels_of_one_roi_are_compared_as_one(subjects: list[LayerMaps]) -> None:
    """One dataset tells V1v and V1d apart, and another does not."""
    parts = [one.voxels["roi"].mask(one.voxels["roi"] == "V1", "V1v") for one in subjects]
    split = [
        LayerMaps(one.voxels.assign(roi=part.mask((part == "V1v") & (one.voxels["hemi"] == "rh"), "V1d")), one.chosen)
        for one, part in zip(subjects, parts, strict=True)
    ]
    mixed = overlap_of_rois([split[0], *subjects[1:]], N_LAYERS)
    for mine, theirs in zip(mixed, overlap_of_rois(subjects, N_LAYERS), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_nothing_in_common_is_unknown() -> None:
    rng = np.random.default_rng(2)
    apart = [subject(rng, 0, 1), subject(rng, 100, 1)]
    assert np.isnan(agreement_between(apart, N_LAYERS)[0][0])
    unnamed = [LayerMaps(one.voxels.assign(roi=""), one.chosen) for one in apart]
    assert all(np.isnan(value).all() for pair, _ in product(overlap_of_rois(unnamed, N_LAYERS), "x") for value in pair)
