"""A family of planted brains that differ in kind: images, networks, laws, noise, sizes.

Recipes are chosen on `CHOSEN_ON` and reported on `HELD_BACK`. A brain is named by what is unusual about it.

    python tests/bench/family.py FOLDER --recipes paper fast --brains held --seeds 0 1 2

plants the brains in FOLDER, fits them, and keeps the figures in `results/family_DEVICE.json`. Each finished fit is a
line of FOLDER/found.jsonl; the same command goes on where it stopped, and several may share a folder with a brain each.

    python tests/bench/family.py FOLDER --fields 0.075 0.5 --recipes fast "always sharp" "blur 1" "blur 2" --seeds 0

plants fields from 0.3 to 2 tokens in all of them, and compares `fast` with fits in which all voxels have one size; the
figures are in `results/fields_DEVICE.json`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bddn.backbones.registry import load_spec
from bddn.data.splits import split_by_id
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.parts import Parts
from bddn.extraction import extract
from bddn.planted.plant import plant
from bddn.planted.subject import BACKBONE, Planted
from bddn.spec import CacheSpec, FitSpec, ModuleSpec, PlantSpec, WeightsSpec
from bddn.stats.hierarchy import depth
from bddn.stats.truth import compare_with_truth, worse_hemisphere
from bddn.store.reader import Cache
from bddn.stream.loader import Resident, Streamed
from bench.report import keep

EFFICIENTNET = "pipelines.small_networks:efficientnet"
MIXER, PYRAMID = ("taps.*",), ("blocks.*",)
TRAINED = ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.5", "_blocks.7", "_blocks.8", "_blocks.10", "_blocks.11",
           "_blocks.12", "_blocks.13", "_blocks.14", "_blocks.15")  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A brain: what is planted, and the network it sees through (none: the small CLIP tower), a function of
    `bench.networks` or MODULE:FUNCTION."""

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
         "mean_ceiling": 0.35}, EFFICIENTNET, TRAINED, 224),
    "ceiling 0.15": Kind(
        {"n_layers": 12, "width": 192, "depth_law": "mixture", "mean_ceiling": 0.15, "silent": 0.25, "n_images": 1200}),
    "norms growing, 400 images": Kind(
        {"depth_law": "borders", "mean_ceiling": 0.6, "n_images": 400, "field_size": (0.2, 0.3)}, "mixer_growing"),
    "24 layers alike": Kind({"scenes": "leaves", "mean_ceiling": 0.4, "field_size": (0.1, 0.4)}, "mixer_alike"),
    "many voxels": Kind(
        {"scenes": "photographs", "mesh": "fsaverage6", "n_images": 3000, "place_law": "whole", "mean_ceiling": 0.4,
         "layer_spread": 0.4}, "mixer_4"),
    "shared noise": Kind(
        {"scenes": "leaves", "noise": "shared", "mean_ceiling": 0.25, "scale_law": "anywhere", "seed": 9}),
    "shared tuning": Kind(
        {"scenes": "photographs", "shared_tuning": 0.9, "mean_ceiling": 0.65, "scale_law": "anywhere", "seed": 20}),
    "768 channels": Kind({"n_layers": 4, "width": 768, "n_images": 2000, "layer_spread": 0.4, "seed": 10}),
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
         "field_size": (0.2, 0.5)}, EFFICIENTNET, TRAINED, 224),
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
    "shared noise, 384 channels": Kind(
        {"scenes": "photographs", "n_layers": 6, "width": 384, "noise": "shared", "mean_ceiling": 0.2,
         "depth_law": "quadratic", "place_law": "whole", "seed": 19}),
}  # fmt: skip
BRAINS = CHOSEN_ON | HELD_BACK
ONE_SIZE = {"always sharp": 0.0, "blur 1": 1.0, "blur 2": 2.0}
"""Recipe `fast` without the choice of a size: the blur of all voxels, in tokens."""
CLEAR = 0.3  # noise ceiling of voxels whose size should be found
PHOTOGRAPHS = (
    ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
    ("skimage", "data", ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")),
)


def is_available(name: str) -> bool:
    """Whether the packages that a brain needs are installed."""
    return BRAINS[name].network != EFFICIENTNET or find_spec("efficientnet_lite_pytorch") is not None


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
    """A planted brain with its cache in memory; with `fields`, its fields have these sizes instead of its own."""

    def __init__(self, name: str, folder: Path, device: str = "cpu", fields: tuple[float, float] | None = None) -> None:
        kind, place = BRAINS[name], folder / name.replace(" ", "_").replace(",", "")
        values = dict(kind.spec) if fields is None else kind.spec | {"field_size": fields}
        if values.get("scenes") == "photographs":
            values["photographs"] = str(photographs(folder))
        spec, network = PlantSpec(**values), None
        if kind.network is not None:
            network = CacheSpec(
                title=name,
                backbone=ModuleSpec(
                    module=kind.network if ":" in kind.network else f"bench.networks:{kind.network}", layers=kind.layers
                ),
                image_size=kind.image_size,
                global_token="mean",
            )
        plant(spec, place / "brain", network)
        if network is None:
            tower = {"weights": WeightsSpec(folder=str(place / "brain" / BACKBONE))}
            network = load_spec("demo").model_copy(update=tower)
        data = Planted(place / "brain")
        extract(network, data, place / "cache.zarr", device=device)
        cache = Cache(place / "cache.zarr")
        self.device = device
        self.name, self.ids, self.truth = name, data.stimuli.ids, data.truth()
        self.coords = torch.from_numpy(data.coords_mm())
        self.responses = torch.from_numpy(data.responses())
        self.source: Resident = Streamed(cache, cache.layers, self.ids, device=device).load()
        self.widths, self.grid = {layer.name: layer.channels for layer in cache.layers}, cache.grid

    def fit(self, spec: FitSpec) -> Fitted:
        """Fit an encoder on it."""
        parts = Parts.of(split_by_id(self.ids, spec.split, spec.seed), self.ids)
        model = new_encoder(self.coords, self.widths, self.grid, spec).to(self.device)
        return fit(model, self.source, lambda rows: self.responses[rows].to(self.device), parts, spec)

    def compare(self, fitted: Fitted) -> dict[str, Any]:
        """Compare a fit with the truth, per hemisphere: r, slope and RMSE; the worse of both hemispheres counts."""
        assert self.truth is not None
        selection = fitted.selection.cpu()
        place = selection.place.numpy()
        found = pd.DataFrame(
            {
                "depth": depth(selection.layer.numpy()),
                "x": place[:, 0],
                "y": place[:, 1],
                "scale": selection.scale.numpy(),
                "r2_test": fitted.r2_test,
            }
        )
        if selection.size is not None:
            found["size"] = selection.size.numpy() @ np.array(fitted.model.grid.blurs, np.float32)
        ceiling = self.truth["ceiling"]
        clear = self.truth.assign(ceiling=ceiling.where(ceiling >= CLEAR, 0))
        size_r = worse_hemisphere(compare_with_truth(found, clear)).get("size_r")
        return {**worse_hemisphere(compare_with_truth(found, self.truth)), "size_r_where_clear": size_r}


def one(brain: Brain, recipe: str, spec: FitSpec) -> dict[str, Any]:
    """Fit one brain and return how it went."""
    start = time.perf_counter()
    fitted = brain.fit(spec)
    seconds = time.perf_counter() - start
    n_train = len(split_by_id(brain.ids, spec.split, spec.seed).train)
    return {
        "recipe": recipe,
        "brain": brain.name,
        "held_back": brain.name in HELD_BACK,
        "seed": spec.seed,
        "images": n_train * len(fitted.history),
        "seconds": seconds,
        **brain.compare(fitted),
        "saturated": fitted.saturated,
    }


def settings(recipe: str, seed: int) -> FitSpec:
    """Return the settings of a recipe, or of one of `ONE_SIZE`."""
    if recipe not in ONE_SIZE:
        return FitSpec.recipe(recipe).model_copy(update={"seed": seed})
    one_size = {"blurs": (ONE_SIZE[recipe],), "blurred_tokens": "kept"}
    return FitSpec.recipe("fast").model_copy(update={"seed": seed, **one_size})


def run(
    folder: Path,
    brains: Sequence[str],
    recipes: Sequence[str],
    seeds: Sequence[int],
    device: str = "cpu",
    fields: tuple[float, float] | None = None,
) -> list[dict[str, Any]]:
    """Fit what is not yet in `folder`, and return all that is there."""
    lines = folder / "found.jsonl"
    found = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    done = {(row["recipe"], row["brain"], row["seed"]) for row in found}
    for name in filter(is_available, brains):
        wanted = [(recipe, seed) for seed in seeds for recipe in recipes if (recipe, name, seed) not in done]
        brain = Brain(name, folder, device, fields) if wanted else None
        for recipe, seed in wanted:
            assert brain is not None
            row = one(brain, recipe, settings(recipe, seed))
            with lines.open("a") as file:
                file.write(json.dumps(row) + "\n")
            found.append(row)
    return found


def main() -> None:
    """Run and keep."""
    parts = {"chosen": list(CHOSEN_ON), "held": list(HELD_BACK), "all": list(BRAINS)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--brains", nargs="+", default=["all"], help="chosen, held, all, or names")
    parser.add_argument("--recipes", nargs="+", default=["paper", "fast"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--fields", nargs=2, type=float, help="sizes of planted fields, as shares of half an image")
    given = parser.parse_args()
    brains = [name for part in given.brains for name in parts.get(part, [part])]
    fields = None if given.fields is None else (given.fields[0], given.fields[1])
    rows = run(given.folder, brains, given.recipes, given.seeds, given.device, fields)
    what, sizes = ("family", {}) if fields is None else ("fields", {"fields": fields})
    keep(f"{what}_{given.device}", {"what": "planted brains of different kinds", **sizes, "rows": rows})


if __name__ == "__main__":
    main()
