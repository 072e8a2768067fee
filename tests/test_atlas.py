"""Small pipelines of SDXL, Stable Diffusion 3 and FLUX.1, from pictures to the atlas of their blocks and steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from backbones.small_pipelines import ARCHITECTURES, write_pipeline
from bddn.cli import app
from bddn.errors import SpecError
from bddn.figures.paper import layer_maps
from bddn.many import summary
from bddn.many.run_table import to_text
from bddn.maps.atlas import Atlas, atlas_map, atlas_rgb
from bddn.run import read_run
from bddn.store.reader import Cache

LAYERS = {
    "sdxl": ["down_*.resnet_0@t*", "up_*.resnet_0@t2"],
    "sd3": ["block_0@t1", "block_2@t1", "block_2@t3"],
    "flux": ["double_1@t*", "single_*@t*"],
}


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def write_spec(path: Path, family: str, weights: Path, **fields: Any) -> Path:
    about: dict[str, Any] = {
        "title": f"small {family}",
        "backbone": {"family": family, "architecture": ARCHITECTURES[family], "n_steps": 3, "layers": LAYERS[family]},
        "weights": {"folder": str(weights)},
        "image_size": 32,
        "preprocess": "native",
        "global_token": "mean",
        "grid": [4, 4],
        "batch_size": 16,
    }
    about["backbone"] |= fields
    path.write_text(yaml.safe_dump(about))
    return path


def assert_atlas(folder: Path, out: Path, names: list[str]) -> None:
    """The figure of a run shows its layers and their weights."""
    drawn = run("figure", "atlas", folder, "--out", out, "--dpi", "30", "--all")
    assert str(out / "atlas.png") in drawn
    found = read_run(folder)
    assert list(found.layers) == names
    assert set(pd.read_csv(out / "atlas.1.csv")["layer_argmax"]) <= set(names)
    means = pd.read_csv(out / "atlas.4.csv", index_col="block")
    for name in names:
        block, step = name.split("@")
        assert means.loc[block, step] == pytest.approx(found.voxels[f"weight_{name}"].mean(), abs=1e-6)
    assert int(means.notna().to_numpy().sum()) == len(names)  # a block that is not stored at a step has no weight there


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_a_pipeline_goes_from_pictures_to_the_atlas(family: str, brain: Path, tmp_path: Path) -> None:
    write_pipeline(tmp_path / family, family)
    data = ("--data", f"planted:{brain}")
    spec = write_spec(tmp_path / "spec.yaml", family, tmp_path / family)
    run("extract", spec, *data, "--out", tmp_path / "a.zarr", "--device", "cpu")
    run("fit", tmp_path / "a.zarr", *data, "--out", tmp_path / "run", "--epochs", "1")
    assert_atlas(tmp_path / "run", tmp_path / "figures", [layer.name for layer in Cache(tmp_path / "a.zarr").layers])


def test_noised_latents_of_flux_go_to_the_atlas_and_the_spread_over_noise_is_told(brain: Path, tmp_path: Path) -> None:
    write_pipeline(tmp_path / "flux", "flux")
    caches = [tmp_path / f"noise{seed}.zarr" for seed in (0, 1)]
    for seed, cache in enumerate(caches):
        spec = write_spec(tmp_path / "s.yaml", "flux", tmp_path / "flux", latents="noised", noise_seed=seed)
        run("extract", spec, "--data", f"planted:{brain}", "--out", cache, "--device", "cpu")
    assert Cache(caches[0]).digest != Cache(caches[1]).digest
    assert Cache(caches[1]).header["backbone"]["noise_seed"] == 1
    told = run("fit-many", *caches, "--data", f"planted:{brain}", "--out", tmp_path / "many", "--epochs", 1)
    table = pd.read_parquet(tmp_path / "many" / "results.parquet")
    assert list(table["noise_seed"]) == [0, 1]
    words = " ".join(told.split())
    assert f"{table['r2_test'].mean():.3f} ± {table['r2_test'].std():.3f} (noise)" in words
    assert "2 noise seeds: noise0, noise1" in words
    runs = sorted((tmp_path / "many").glob("noise*/*/seed0"))
    assert_atlas(runs[0], tmp_path / "figures", [layer.name for layer in Cache(caches[0]).layers])
    titles = [panel.title for row in layer_maps([read_run(one) for one in runs], "hue").rows for panel in row]
    assert titles[:2] == ["average of 2", "agreement of their layers"]


def test_the_spread_over_noise_is_that_of_the_means_over_seeds() -> None:
    columns = ("cache", "network", "noise_seed", "seed", "r2_test")
    values = [("a", "x", 0, 0, 0.1), ("a", "x", 0, 1, 0.2), ("b", "x", 1, 0, 0.3), ("b", "x", 1, 1, 0.4)]
    runs = [*values, ("c", None, None, 0, 0.9), ("d", "y", 0, 0, 0.9)]
    table = pd.DataFrame(runs, columns=list(columns)).assign(subject="s", trials="means", bootstrap=None, slope=1.0)
    found = summary(table)
    assert list(found["cache"]) == ["a", "b", "c", "d", "2 noise seeds: a, b"]
    last = found.iloc[-1]
    assert (last["n"], last["r2_test"]) == (4, pytest.approx(0.25))
    assert last["r2_test_sd_noise"] == pytest.approx(np.std([0.15, 0.35], ddof=1))
    assert to_text(found)[-1]["R²"] == "0.250 ± 0.141 (noise)"


# the maps


def test_blocks_keep_the_order_of_the_network_where_steps_store_different_ones() -> None:
    atlas = Atlas.of(["a@t1", "c@t1", "a@t5", "b@t5", "d@t5", "b@t20", "c@t20"])
    assert (atlas.blocks, atlas.steps) == (("a", "b", "c", "d"), ("t1", "t5", "t20"))
    assert atlas.cells.tolist() == [[0, 2, -1], [-1, 3, 5], [1, -1, 6], [-1, 4, -1]]


@pytest.mark.parametrize(
    "layers",
    [
        ["block_0", "block_1"],
        ["a@t1", "b@t1"],
        ["a@t1", "a@t2"],
        ["a@t1", "b@t2", "c"],
        ["a@t1", "b@t1", "b@t2", "a@t2"],
    ],
)
def test_layers_that_are_not_blocks_at_steps_have_no_atlas(layers: list[str]) -> None:
    with pytest.raises(SpecError, match=r"several blocks of a diffusion network at several steps.*sd_grid\.yaml"):
        Atlas.of(layers)


def voxels(layers: list[str]) -> pd.DataFrame:
    """One voxel per layer, which selects it with a weight of 0.7."""
    n = len(layers)
    weights = np.full((n, n), 0.3 / (n - 1))
    np.fill_diagonal(weights, 0.7)
    table = {"layer_argmax": layers, "confidence": 0.5} | {f"weight_{x}": weights[:, i] for i, x in enumerate(layers)}
    return pd.DataFrame(table)


def test_marginal_tables_sum_the_weights() -> None:
    layers = ["a@t1", "b@t1", "a@t2", "b@t2"]
    atlas, table = Atlas.of(layers), voxels(layers)
    blocks, steps = atlas.alone(table, layers, "blocks"), atlas.alone(table, layers, "steps")
    assert list(blocks["layer_argmax"]) == ["a", "b", "a", "b"]
    assert list(steps["layer_argmax"]) == ["t1", "t1", "t2", "t2"]
    np.testing.assert_allclose(blocks["weight_a"] + blocks["weight_b"], 1)
    np.testing.assert_allclose(steps["weight_t2"], [0.2, 0.2, 0.8, 0.8])
    np.testing.assert_allclose(steps["depth"], steps["weight_t2"])
    assert "weight_a@t1" not in blocks


def test_a_block_that_is_stored_at_more_steps_has_no_advantage() -> None:
    layers = ["a@t1", "b@t1", "a@t2"]
    table = pd.DataFrame({"layer_argmax": ["a@t1"], "confidence": 0.0} | {f"weight_{name}": 1 / 3 for name in layers})
    atlas = Atlas.of(layers)
    assert atlas.alone(table, layers, "blocks")["weight_a"].item() == pytest.approx(0.5)
    assert atlas.alone(table, layers, "steps")["weight_t1"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("palette", ["hue", "safe"])
def test_every_block_and_step_has_a_colour_of_its_own(palette: Any) -> None:
    block, step = (index.ravel() for index in np.indices((8, 5)))
    colours = atlas_rgb(block, step, 8, 5, palette)
    assert ((colours >= 0) & (colours <= 1)).all()
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=2)[~np.eye(40, dtype=bool)]
    assert apart.min() > 0.02
    layers = [f"b{i}@t{k}" for k in (1, 2, 3) for i in range(3)]
    drawn = atlas_map(voxels(layers), layers, Atlas.of(layers), palette)
    expected = atlas_rgb(np.tile(np.arange(3), 3), np.repeat(np.arange(3), 3), 3, 3, palette)
    np.testing.assert_allclose(drawn.rgb(drawn.values), expected)
    assert drawn.legend.counts == (1,) * 9  # type: ignore[union-attr]
