"""Kinds of maps: their numbers, colours and legends."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bddn.errors import DataError
from bddn.maps import colors, ramps
from bddn.maps.kinds import (
    cluster_map,
    column_map,
    difference_maps,
    layer_map,
    place_map,
    relative_map,
    run_maps,
    weight_maps,
)
from bddn.maps.legends import LayerField
from bddn.stats.hierarchy import confidence, depth

LAYERS = ["block_0", "block_1", "block_2"]
N = 40


@pytest.fixture
def voxels() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(3, 0.5), N)
    return pd.DataFrame(
        {
            "hemi": ["lh", "rh"] * (N // 2),
            "vertex": np.arange(N),
            "roi": np.where(np.arange(N) < 10, "V1v", ""),
            "streams": np.where(np.arange(N) < 30, "early", "ventral"),
            "r2_val": rng.random(N) * 0.3,
            "r2_test": rng.random(N) * 0.3,
            "layer_argmax": np.array(LAYERS)[weights.argmax(1)],
            "depth": depth(weights),
            "confidence": confidence(weights),
            "x": rng.uniform(-0.5, 0.5, N),
            "y": rng.uniform(-0.5, 0.5, N),
            "scale": rng.random(N),
            **{f"weight_{name}": weights[:, k] for k, name in enumerate(LAYERS)},
        }
    )


@pytest.mark.parametrize("palette", ["hue", "safe"])
def test_every_voxel_gets_a_colour_and_a_voxel_without_numbers_none(voxels: pd.DataFrame, palette: str) -> None:
    voxels.loc[3, ["confidence", "r2_test", "x", "scale"]] = np.nan
    voxels["ceiling"] = voxels["r2_test"]
    found = run_maps(voxels, LAYERS, palette)  # type: ignore[arg-type]
    assert [kind.name for kind in found] == ["layer_map", "score_map", "scale_map", "place_map", "ceiling"]
    for kind in found:
        rgb = kind.rgb(kind.values)
        assert rgb.shape == (N, 3)
        assert np.isnan(rgb[3]).all()
        others = np.delete(rgb, 3, axis=0)
        assert ((others >= 0) & (others <= 1)).all()
        for values in kind.table.values():
            assert len(values) == N


def test_a_legend_has_the_colours_of_its_map(voxels: pd.DataFrame) -> None:
    """What the legend shows at a number is what a voxel with this number gets."""
    for kind in [*run_maps(voxels, LAYERS), column_map(voxels, "streams"), weight_maps(voxels, LAYERS)[0]]:
        figure = Figure()
        ax = figure.add_axes((0.2, 0.4, 0.6, 0.2))
        kind.legend.draw(ax)
        figure.canvas.draw()
        assert ax.get_images() or ax.patches or ax.collections


def test_the_layer_with_the_highest_weight_decides_the_hue(voxels: pd.DataFrame) -> None:
    kind = layer_map(voxels, LAYERS, top=1.0)
    assert np.array_equal(kind.values[:, 0], voxels[[f"weight_{name}" for name in LAYERS]].to_numpy().argmax(1))
    sure = kind.rgb(np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]))
    assert np.allclose(sure, colors.layer_ramp(3), atol=1e-6)
    assert kind.classes == 3


def test_of_equal_weights_no_layer_has_a_share_of_voxels(voxels: pd.DataFrame) -> None:
    """As where the settings fixed the layer: the first of them is not the highest."""
    equal = voxels.assign(**{f"weight_{name}": 1 / 3 for name in LAYERS}, confidence=0.0, layer_argmax=LAYERS[0])
    some, none = layer_map(voxels, LAYERS).legend, layer_map(equal, LAYERS).legend
    assert isinstance(some, LayerField)
    assert isinstance(none, LayerField)
    assert sum(some.counts) == N
    assert none.counts == ()


def test_places_differ_in_every_direction() -> None:
    at = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [np.nan, 0.0]])
    for palette in ("hue", "safe"):
        rgb = colors.place_rgb(at, 1.0, palette)
        assert np.isnan(rgb[5]).all()
        apart = np.linalg.norm(rgb[:5, None] - rgb[None, :5], axis=2)[np.triu_indices(5, 1)]
        assert apart.min() > 0.1
    assert np.ptp(colors.place_rgb(at[:1], 1.0)) < 0.02  # the centre is grey


def test_places_beyond_the_reach_take_the_colour_of_the_rim(voxels: pd.DataFrame) -> None:
    kind = place_map(voxels)
    assert 0.1 <= ramps.place_reach(kind.values) <= 0.6
    assert np.array_equal(kind.rgb(np.array([[1.0, 0.0]])), kind.rgb(np.array([[0.7, 0.0]])))


def test_any_column_is_drawn_on_a_scale_that_suits_it(voxels: pd.DataFrame) -> None:
    voxels["gain"] = np.linspace(-0.1, 0.3, N)
    voxels["interval/low"] = np.linspace(0.0, 0.3, N)
    two_sided, one_sided = column_map(voxels, "gain"), column_map(voxels, "interval/low")
    white = two_sided.rgb(np.zeros((1, 1)))[0]
    assert white.min() > 0.95
    assert np.allclose(one_sided.rgb(np.zeros((1, 1)))[0], ramps.sequential_ramp([1.0]).rgb([0.0])[0])
    assert one_sided.name == "interval_low"
    words = column_map(voxels, "streams")
    assert words.classes == 2
    assert len(np.unique(words.rgb(words.values), axis=0)) == 2


def test_a_column_that_is_not_there_is_named(voxels: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="'gane'"):
        column_map(voxels, "gane")


def test_weights_of_all_layers_share_their_colours(voxels: pd.DataFrame) -> None:
    kinds = weight_maps(voxels, LAYERS)
    half = np.array([[0.5]])
    assert len({tuple(kind.rgb(half)[0]) for kind in kinds}) == 1
    assert [kind.name for kind in kinds] == [f"weight_{name}" for name in LAYERS]


def test_relative_scores_are_brightest_where_a_model_is_the_best(voxels: pd.DataFrame) -> None:
    best = voxels["r2_test"].to_numpy() + np.where(np.arange(N) < 20, 0.0, 0.1)
    kind = relative_map(voxels, best, ["a", "b"])
    light = kind.rgb(kind.values).sum(1)
    assert light[:20].min() > light[20:].max()


def test_a_difference_is_the_first_minus_the_second(voxels: pd.DataFrame) -> None:
    (kind,) = difference_maps([voxels.assign(depth=voxels["depth"] + 0.2)], voxels, "depth", "after minus before")
    assert np.allclose(kind.values, 0.2)
    red, _, blue = kind.rgb(kind.values)[0]
    assert red > blue


def test_clusters_have_colours_of_their_own() -> None:
    labels = np.arange(20).repeat(2)
    kind = cluster_map(labels, "trial")
    rgb = kind.rgb(kind.values)
    assert len(np.unique(rgb.round(3), axis=0)) == 20
    assert kind.table["cluster"].tolist() == (labels + 1).tolist()
