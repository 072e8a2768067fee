"""What a network forgets: planted losses are found where they are, and an unchanged network has lost exactly 0."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import bddn
from bddn.errors import BddnError
from bddn.evaluation.forgetting.forgetting import Forgetting, forgetting
from bddn.evaluation.forgetting.output import write_forgetting
from bddn.evaluation.held_out import predict_held_out
from bddn.planted.plant import plant
from bddn.planted.subject import Planted
from bddn.run import Run
from bddn.spec import CacheSpec, FamilySpec, PlantSpec, WeightsSpec
from bddn.store.reader import Cache

PLANT = PlantSpec(seed=1, n_images=240, radius_rad=0.2, n_layers=3, width=24, image_size=56, mean_ceiling=0.6)
FIT: dict[str, Any] = {
    "channels": 16,
    "selector_width": 16,
    "epochs": 3,
    "sample": None,
    "split_seed": 0,
    "split": (2, 1, 1),
}


@dataclass(frozen=True)
class Made:
    """A planted brain, its network (`before`, seeds 0 and 1), the same network again, and with other late blocks."""

    caches: dict[str, Cache]
    runs: dict[str, Run]
    folder: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("forgetting")
    plant(PLANT, root / "brain")
    shutil.copytree(root / "brain/backbone", root / "same")
    shutil.copytree(root / "brain/backbone", root / "other")
    _change_late_blocks(root / "other/model.safetensors")
    data = Planted(root / "brain")
    networks = {"before": root / "brain/backbone", "same": root / "same", "other": root / "other"}
    caches = {name: bddn.extract(_spec(folder), data, root / f"{name}.zarr") for name, folder in networks.items()}
    runs = {}
    for name, cache, seed in (
        *((name, cache, 0) for name, cache in caches.items()),
        ("seed 1", caches["before"], 1),
    ):
        runs[name] = bddn.fit(cache, data, root / "runs" / name, "fast", **{**FIT, "seed": seed})
        predict_held_out(runs[name], [cache], [data])
    return Made(caches, runs, root)


def _spec(folder: Path) -> CacheSpec:
    return CacheSpec(
        title="planted",
        backbone=FamilySpec(family="clip"),
        weights=WeightsSpec(folder=str(folder)),
        image_size=PLANT.image_size,
        grid=(4, 4),
    )


def _change_late_blocks(path: Path) -> None:
    """Give the last block other weights."""
    weights, draw = load_file(path), torch.Generator().manual_seed(0)
    last = [name for name in weights if ".layers.2." in name and weights[name].ndim == 2]
    assert last
    for name in last:
        weights[name] = weights[name][torch.randperm(len(weights[name]), generator=draw)].contiguous()
    save_file(weights, path, {"format": "pt"})


def _forgetting(made: Made, after: str, noise: tuple[str, ...] = ("seed 1",)) -> Forgetting:
    cache = made.caches[after]
    return forgetting(
        made.runs["before"],
        made.runs[after],
        before_cache=made.caches["before"],
        after_cache=cache,
        noise=[made.runs[name] for name in noise],
    )


def test_an_unchanged_network_has_lost_exactly_nothing(made: Made) -> None:
    found = _forgetting(made, "same")
    for name in ("r2_difference", "r2_low", "r2_high", "depth_difference"):
        assert (found.voxels[name] == 0).all(), name
    assert (found.voxels["q"] == 1).all()
    score, moved = found.numbers["score"], found.numbers["rewiring"]
    assert (score["difference"], score["low"], score["high"], score["p"]) == (0, 0, 0, 1)
    assert (moved["distance"], moved["ratio"], moved["n_moved"], moved["same_layer"]) == (0, 0, 0, 1)
    assert moved["noise"] > 0
    assert found.numbers["slope"]["before"] == found.numbers["slope"]["after"]
    assert (found.layers[["cka_local", "cka_global", "neighbours"]] == 1).all(axis=None)
    assert (found.layers["selected_before"] == found.layers["selected_after"]).all()


def test_a_planted_loss_is_found_where_it_is(made: Made) -> None:
    found = _forgetting(made, "other")
    truth = Planted(made.folder / "brain").truth()
    assert truth is not None
    late, early = (truth["depth"] > 0.8).to_numpy(), (truth["depth"] < 0.3).to_numpy()
    worse = ((found.voxels["q"] <= 0.05) & (found.voxels["r2_difference"] < 0)).to_numpy()
    assert worse[late].mean() > 0.3
    assert worse[early].mean() < 0.1
    assert found.numbers["score"]["high"] < 0
    assert found.numbers["score"]["p"] < 0.01
    layers = found.layers.set_index("layer")
    assert (layers["cka_global"].iloc[:2] == 1).all()
    assert layers["cka_global"].iloc[2] < 0.9
    assert layers["neighbours"].iloc[2] < 0.8
    assert found.numbers["representation"]["neighbours"] == pytest.approx(layers["neighbours"].mean())
    moved = found.numbers["rewiring"]
    known = found.voxels["evident"].to_numpy()
    assert moved["n_voxels"] == known.sum() > 30
    assert moved["distance"] == pytest.approx(found.voxels["depth_difference"].abs()[known].mean())
    assert moved["noise"] == pytest.approx(found.voxels["depth_noise"][known].mean())
    assert moved["ratio"] == pytest.approx(moved["distance"] / moved["noise"])
    rois = found.rois.set_index("roi")
    assert rois.loc["all", "distance"] == pytest.approx(moved["distance"])
    assert rois.loc["all", "r2_difference"] == pytest.approx(found.numbers["score"]["difference"])


def test_what_is_written_can_be_traced_and_is_the_same_again(made: Made, tmp_path: Path) -> None:
    before, after, noise = (made.runs[name] for name in ("before", "other", "seed 1"))
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_forgetting(_forgetting(made, "other"), before, after, [noise], folder)
    about = json.loads((tmp_path / "a/forgetting.json").read_text())
    assert about["runs"]["after"]["cache_digest"] == made.caches["other"].digest
    assert about["settings"]["false_discovery_rate"] == 0.05
    assert "predicted worse" in about["sentences"][0]
    assert "times as far" in " ".join(about["sentences"])
    assert {*about["columns"]} <= {*pd.read_parquet(tmp_path / "a/voxels.parquet").columns}
    assert len(pd.read_csv(tmp_path / "a/layers.csv")) == 3
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_without_another_seed_nothing_is_said_about_chance(made: Made, tmp_path: Path) -> None:
    found = _forgetting(made, "other", noise=())
    assert found.voxels["depth_q"].isna().all()
    assert found.numbers["rewiring"]["n_moved"] is None
    about = write_forgetting(found, made.runs["before"], made.runs["other"], [], tmp_path)
    assert about["rewiring"]["ratio"] is None
    assert "give a second seed" in " ".join(about["sentences"])
    assert np.isfinite(about["rewiring"]["distance"])


def test_scores_and_depths_need_no_caches(made: Made, tmp_path: Path) -> None:
    before, after = made.runs["before"], made.runs["other"]
    found, whole = forgetting(before, after, noise=[made.runs["seed 1"]]), _forgetting(made, "other")
    pd.testing.assert_frame_equal(found.voxels, whole.voxels)
    assert found.numbers["rewiring"] == whole.numbers["rewiring"]
    assert found.numbers["representation"] is None
    assert list(found.layers) == ["layer", "selected_before", "selected_after"]
    about = write_forgetting(found, before, after, [made.runs["seed 1"]], tmp_path)
    assert "Tokens" not in " ".join(about["sentences"])


def test_what_cannot_be_compared_is_refused(made: Made, tmp_path: Path) -> None:
    data = Planted(made.folder / "brain")
    few = bddn.fit(made.caches["other"], data, tmp_path / "few", "fast", **{**FIT, "channels": 8})
    predict_held_out(few, [made.caches["other"]], [data])
    before, after = made.runs["before"], made.runs["other"]
    caches: dict[str, Any] = {"before_cache": made.caches["before"], "after_cache": made.caches["other"]}
    with pytest.raises(BddnError, match="differs in: channels 16 → 8"):
        forgetting(before, few, **caches)
    with pytest.raises(BddnError, match="fitted to another cache"):
        forgetting(before, after, **caches, noise=[after])
    with pytest.raises(BddnError, match="the cache of run"):
        forgetting(before, after, before_cache=made.caches["before"], after_cache=made.caches["same"])
