"""Recipes on planted brains: how far they get with how many images, as JSON lines.

    python tests/bench/quality.py 3 FOLDER

Fits brain 3 with both recipes at three ceilings.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch

from bddn.backbones.registry import load_spec
from bddn.cortex.fsaverage import positions_mm
from bddn.data.splits import split_by_id
from bddn.encoder import fit as fitting
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, Parts, fit, score
from bddn.extraction import extract
from bddn.planted.brain import true_maps, true_responses
from bddn.planted.plant import plant
from bddn.planted.subject import BACKBONE, Planted
from bddn.spec import FitSpec, PlantSpec, WeightsSpec
from bddn.stats.hierarchy import depth
from bddn.stats.truth import compare_with_truth
from bddn.store.reader import Cache
from bddn.stream.loader import Resident, Streamed

CEILINGS = (0.25, 0.42, 0.6)


class Brain:
    """A planted brain, whose responses can be made again at any ceiling."""

    def __init__(self, seed: int, folder: Path, **sizes: Any) -> None:
        self.seed, self._sizes = seed, sizes
        plant(PlantSpec(seed=seed, **sizes), folder)
        data = Planted(folder)
        spec = load_spec("demo").model_copy(update={"weights": WeightsSpec(folder=str(folder / BACKBONE))})
        extract(spec, data, folder / "cache.zarr")
        cache = Cache(folder / "cache.zarr")
        ids = data.stimuli.ids
        self.source: Resident = Streamed(cache, cache.layers, ids).load()
        self.widths, self.grid = {layer.name: layer.channels for layer in cache.layers}, cache.grid
        self.parts = Parts.of(split_by_id(ids, FitSpec().split, seed), ids)
        h, w = cache.grid
        self._local = np.stack([v.float().unflatten(1, (h, w)).numpy() for v in self.source.features.local])
        self._global = np.stack([v.float().numpy() for v in self.source.features.global_])

    def at(self, ceiling: float) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
        """Truth and responses."""
        spec = PlantSpec(seed=self.seed, mean_ceiling=ceiling, **self._sizes)
        truth = true_maps(spec, len(self._local))
        return truth, true_responses(self._local, self._global, truth, spec)


def follow(brain: Brain, ceiling: float, spec: FitSpec) -> tuple[Fitted, list[dict[str, float]]]:
    """Fit, and look at the truth after every epoch and in the end; the last point is the finished fit."""
    truth, responses = brain.at(ceiling)
    coords = torch.from_numpy(positions_mm(truth["hemi"].to_numpy(), truth["vertex"].to_numpy()))
    targets = torch.from_numpy(responses).__getitem__
    known = (truth["ceiling"] > 0.1).to_numpy()
    points: list[dict[str, float]] = []
    looking = 0.0

    def look(selection: Any, r2_test: npt.NDArray[np.float64], images: int) -> None:
        x, y = selection.place.numpy().T
        weights = selection.layer.numpy()
        found = pd.DataFrame({"depth": depth(weights), "x": x, "y": y, "scale": selection.scale.numpy()})
        compared = compare_with_truth(found.assign(r2_test=r2_test), truth)
        error = float(np.abs(found["depth"] - truth["depth"])[known].mean())
        points.append({"images": images, "seconds": time.perf_counter() - start - looking, "depth_error": error})
        points[-1] |= {name: value for name, value in compared.items() if value is not None}

    end_epoch = fitting._Training._end_epoch

    def epoch(self: Any) -> float:
        nonlocal looking
        mean = end_epoch(self)
        before = time.perf_counter()
        with torch.no_grad():
            now = score(self._model, self._source, self._targets, self._parts.test)
            look(self._model.select(), now, self.progress.epoch * len(brain.parts.train))
        looking += time.perf_counter() - before
        return mean

    start = time.perf_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Training, "_end_epoch", epoch)
        model = new_encoder(coords, brain.widths, brain.grid, spec)
        fitted = fit(model, brain.source, targets, brain.parts, spec)
    look(fitted.selection, fitted.r2_test, spec.epochs * len(brain.parts.train))
    return fitted, points


def compare(seed: int, folder: Path, ceilings: Sequence[float] = CEILINGS, epochs: int = 0, **sizes: Any) -> list[Any]:
    """Both recipes on one brain; `epochs` other than 0 instead of theirs."""
    brain = Brain(seed, folder, **sizes)
    found = []
    for ceiling in ceilings:
        at: dict[str, Any] = {"seed": seed, "ceiling": ceiling}
        for name in ("paper", "fast"):
            spec = FitSpec.recipe(name).model_copy(update={"seed": seed} | ({"epochs": epochs} if epochs else {}))
            fitted, at[name] = follow(brain, ceiling, spec)
            at[f"{name}_saturated"], at[f"{name}_polished"] = fitted.saturated, fitted.polished
        found.append(at)
        print(json.dumps(at), flush=True)
    return found


if __name__ == "__main__":
    compare(int(sys.argv[1]), Path(sys.argv[2]))
