"""A family of planted brains that differ in kind: images, networks, laws, noise, sizes.

Recipes are chosen on `CHOSEN_ON` and reported on `HELD_BACK`. A brain is named by what is unusual about it.

    python tests/bench/family.py FOLDER RECIPE BRAIN [SEED]      one fit, as one JSON line
"""

import json
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bddn.backbones.registry import load_spec
from bddn.data.splits import split_by_id
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, Parts, fit
from bddn.extraction import extract
from bddn.planted.plant import plant
from bddn.planted.subject import BACKBONE, Planted
from bddn.spec import CacheSpec, FitSpec, ModuleSpec, PlantSpec, WeightsSpec
from bddn.stats.hierarchy import depth
from bddn.store.reader import Cache
from bddn.stream.loader import Resident, Streamed

MIXER, PYRAMID = ("taps.*",), ("blocks.*",)
TRAINED = ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.5", "_blocks.7", "_blocks.8", "_blocks.10", "_blocks.11",
           "_blocks.12", "_blocks.13", "_blocks.14", "_blocks.15")  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A brain: what is planted, and the network it sees through (none: the small CLIP tower)."""

    spec: dict[str, Any]
    network: str | None = None
    layers: tuple[str, ...] = MIXER
    image_size: int = 112


CHOSEN_ON: dict[str, Kind] = {
    "demo": Kind({}),
    "wide fields, heavy tails": Kind(
        {"scenes": "leaves", "depth_law": "quadratic", "place_law": "whole", "field_size": (0.15, 0.7),
         "noise": "heavy", "mean_ceiling": 0.25}, "mixer_12"),
    "CNN, gratings": Kind(
        {"scenes": "gratings", "depth_law": "sigmoid", "scale_law": "anywhere", "noise": "correlated",
         "mean_ceiling": 0.5}, "pyramid", PYRAMID),
    "trained CNN, photographs": Kind(
        {"scenes": "photographs", "depth_law": "peaked", "elongation": 2.0, "field_size": (0.12, 0.3),
         "mean_ceiling": 0.35}, "efficientnet", TRAINED, 224),
    "ceiling 0.15": Kind(
        {"n_layers": 12, "width": 192, "depth_law": "mixture", "mean_ceiling": 0.15, "silent": 0.25, "n_images": 1200}),
    "norms growing, 400 images": Kind(
        {"depth_law": "borders", "mean_ceiling": 0.6, "n_images": 400, "field_size": (0.2, 0.3)}, "mixer_growing"),
    "24 layers alike": Kind({"scenes": "leaves", "mean_ceiling": 0.4, "field_size": (0.1, 0.4)}, "mixer_alike"),
    "many voxels": Kind(
        {"scenes": "photographs", "mesh": "fsaverage6", "n_images": 3000, "place_law": "whole", "mean_ceiling": 0.4,
         "layer_spread": 0.4}, "mixer_4"),
}  # fmt: skip
HELD_BACK: dict[str, Kind] = {
    "borders, heavy tails": Kind(
        {"scenes": "photographs", "n_layers": 6, "width": 48, "depth_law": "borders", "place_law": "whole",
         "noise": "heavy", "mean_ceiling": 0.3, "seed": 11}),
    "norms falling, ceiling 0.2": Kind(
        {"depth_law": "sigmoid", "scale_law": "anywhere", "noise": "correlated", "mean_ceiling": 0.2, "seed": 12},
        "mixer_falling"),
    "trained CNN, leaves": Kind(
        {"scenes": "leaves", "depth_law": "quadratic", "elongation": 3.0, "mean_ceiling": 0.55, "seed": 13,
         "field_size": (0.2, 0.5)}, "efficientnet", TRAINED, 224),
    "small fields, silent cortex": Kind(
        {"scenes": "gratings", "n_layers": 10, "width": 144, "depth_law": "peaked", "field_size": (0.07, 0.2),
         "silent": 0.3, "seed": 14}),
    "CNN, mixtures": Kind(
        {"scenes": "photographs", "depth_law": "mixture", "place_law": "whole", "noise": "heavy", "mean_ceiling": 0.25,
         "n_images": 2400, "seed": 15}, "pyramid_wide", PYRAMID),
    "16 layers alike, 400 images": Kind(
        {"n_images": 400, "mean_ceiling": 0.65, "field_size": (0.25, 0.6), "seed": 16}, "mixer_alike_16"),
    "a layer twice, ceiling 0.12": Kind(
        {"scenes": "photographs", "depth_law": "sigmoid", "mean_ceiling": 0.12, "n_images": 2000, "seed": 17},
        "mixer_copy"),
    "24 layers, many voxels": Kind(
        {"scenes": "leaves", "n_layers": 24, "width": 96, "mesh": "fsaverage6", "n_images": 2000, "mean_ceiling": 0.35,
         "seed": 18}),
}  # fmt: skip
BRAINS = CHOSEN_ON | HELD_BACK
PHOTOGRAPHS = (
    ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
    ("skimage", "data", ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")),
)
PARTS = ("depth", "x", "y", "scale")


def is_available(name: str) -> bool:
    """Whether the packages that a brain needs are installed."""
    return BRAINS[name].network != "efficientnet" or find_spec("efficientnet_lite_pytorch") is not None


def photographs(folder: Path) -> Path:
    """Collect the photographs that packages carry: scikit-learn's two, and scikit-image's where it is installed."""
    out = folder / "photographs"
    out.mkdir(parents=True, exist_ok=True)
    for package, inside, names in PHOTOGRAPHS:
        spec = find_spec(package)  # the package itself is not imported: scikit-image needs others
        if spec is not None and spec.origin is not None:
            for name in names:
                if not (out / name).exists():
                    (out / name).write_bytes((Path(spec.origin).parent / inside / name).read_bytes())
    return out


class Brain:
    """A planted brain with its cache in memory."""

    def __init__(self, name: str, folder: Path) -> None:
        kind, place = BRAINS[name], folder / name.replace(" ", "_").replace(",", "")
        values = dict(kind.spec)
        if values.get("scenes") == "photographs":
            values["photographs"] = str(photographs(folder))
        spec, network = PlantSpec(**values), None
        if kind.network is not None:
            network = CacheSpec(
                title=name,
                backbone=ModuleSpec(module=f"bench.networks:{kind.network}", layers=kind.layers),
                image_size=kind.image_size,
                global_token="mean",
            )
        plant(spec, place / "brain", network)
        if network is None:
            tower = {"weights": WeightsSpec(folder=str(place / "brain" / BACKBONE))}
            network = load_spec("demo").model_copy(update=tower)
        data = Planted(place / "brain")
        extract(network, data, place / "cache.zarr")
        cache = Cache(place / "cache.zarr")
        self.name, self.ids, self.truth = name, data.stimuli.ids, data.truth()
        self.coords = torch.from_numpy(data.coords_mm())
        self.responses = torch.from_numpy(data.responses())
        self.source: Resident = Streamed(cache, cache.layers, self.ids).load()
        self.widths, self.grid = {layer.name: layer.channels for layer in cache.layers}, cache.grid

    def fit(self, spec: FitSpec) -> Fitted:
        """Fit an encoder on it."""
        parts = Parts.of(split_by_id(self.ids, spec.split, spec.seed), self.ids)
        model = new_encoder(self.coords, self.widths, self.grid, spec)
        return fit(model, self.source, self.responses.__getitem__, parts, spec)

    def compare(self, fitted: Fitted) -> dict[str, float]:
        """Compare a fit with the truth, per hemisphere: r, slope and RMSE; the worse of both hemispheres counts."""
        x, y = fitted.selection.place.numpy().T
        found = {
            "depth": depth(fitted.selection.layer.numpy()),
            "x": x,
            "y": y,
            "scale": fitted.selection.scale.numpy(),
        }
        truth = self.truth
        assert truth is not None
        known = (truth["ceiling"] > 0.1).to_numpy()
        near = known & (truth["scale"] < 0.5).to_numpy()
        out = {"r2_over_ceiling": float(np.nanmean(fitted.r2_test[known]) / truth["ceiling"][known].mean())}
        for part in PARTS:
            sides = []
            for hemi in ("lh", "rh"):
                where = (near if part in "xy" else known) & (truth["hemi"] == hemi).to_numpy()
                a, b = truth.loc[where, part].to_numpy(), found[part][where]
                r = float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0
                slope = float(np.polyfit(a, b, 1)[0]) if np.ptp(a) > 0 else 0.0
                sides.append((r, slope, float(np.sqrt(np.square(a - b).mean()))))
            out[f"{part}_r"] = min(r for r, _, _ in sides)
            out[f"{part}_slope"] = max((slope for _, slope, _ in sides), key=lambda slope: abs(slope - 1))
            out[f"{part}_rmse"] = max(rmse for _, _, rmse in sides)
        return out


def one(folder: Path, name: str, spec: FitSpec) -> dict[str, Any]:
    """Fit one brain and say how it went."""
    brain = Brain(name, folder)
    start = time.perf_counter()
    fitted = brain.fit(spec)
    seconds = time.perf_counter() - start
    n_train = round(len(brain.ids) * spec.split[0] / sum(spec.split))
    found = {"brain": name, "seed": spec.seed, "images": n_train * spec.epochs, "seconds": seconds}
    return {**found, **brain.compare(fitted), "saturated": fitted.saturated, "best_epoch": fitted.best_epoch}


if __name__ == "__main__":
    where, recipe, brain = sys.argv[1:4]
    updates = {
        "seed": int(sys.argv[4]) if len(sys.argv) > 4 else 0,
        **json.loads(sys.argv[5] if len(sys.argv) > 5 else "{}"),
    }
    names = [brain] if brain in BRAINS else list({"chosen": CHOSEN_ON, "held": HELD_BACK}[brain])
    for name in names:
        if is_available(name):
            found = one(Path(where), name, FitSpec.recipe(recipe).model_copy(update=updates))
            print(json.dumps({"recipe": recipe, **found}), flush=True)
