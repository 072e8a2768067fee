"""Controls that are ridge regressions: on pixels, on Gabor energy, on each layer, and on all layers with bands.

Each is a folder with `control.json` (the inputs that determine it), `voxels.parquet`, `scores.npy`
(`region_scores`) and `metrics.json`.

Shape letters: n images, M test images, N voxels, L layers.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.baselines import banded, image_features, windows
from bddn.baselines.validated_ridge import PENALTIES, Parted, validated_ridge
from bddn.data import Dataset
from bddn.data.trials import response_ids
from bddn.evaluation.controls.table import Outcome
from bddn.evaluation.kept_responses import HeldOut
from bddn.evaluation.matching import parts_of_run
from bddn.files import atomic
from bddn.files.output import is_vacant, new_folder, occupied
from bddn.identity import Identity, digest
from bddn.machine.parallel import single_threaded_kernels
from bddn.run.covariate_file import without_covariates
from bddn.run.folder import Run, read_split
from bddn.run.inputs import environment
from bddn.stats.evidence import q_values
from bddn.stats.hierarchy import hierarchy_slope
from bddn.stats.region_scores import region_scores
from bddn.stats.scores import tested_scores
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed

FORMAT = 1
ABOUT = "control.json"
OF_IMAGES = {"pixels": image_features.pixels, "gabor": image_features.gabor_energy}
RIDGE_LAYER, BANDED = "ridge_layer", "banded"
REGRESSIONS = (*OF_IMAGES, RIDGE_LAYER, BANDED)
NO_HIMALAYA = "himalaya is not installed; 'pip install himalaya' or 'pip install bddn[controls]' adds it"

SETTINGS: dict[str, dict[str, Any]] = {
    "pixels": {"luminance_cells": image_features.N_LUMINANCE, "colour_cells": image_features.N_COLOUR},
    "gabor": {
        "side": image_features.GABOR_SIDE,
        "levels": image_features.N_LEVELS,
        "cells": image_features.N_CELLS,
        "orientations": image_features.N_ORIENTATIONS,
        "wavelength": image_features.WAVELENGTH,
        "sigma": image_features.SIGMA,
    },
    RIDGE_LAYER: {"principal_channels": windows.N_CHANNELS, "windows_along_a_side": windows.N_SIDE},
}
SETTINGS[BANDED] = SETTINGS[RIDGE_LAYER] | {"components": banded.N_COMPONENTS, "drawn": banded.N_DRAWN}


@dataclass(frozen=True)
class Predicted:
    """Predicted test responses (M, N), columns of the voxel table, and a note on what was reduced."""

    responses: Tensor
    columns: dict[str, Any]
    note: str


class Regressions:
    """Ridge regressions on the split of a run.

    Parameters
    ----------
    run : Run
        The fit that they are controls of.
    cache : Cache
    dataset : Dataset
    seed : int
    """

    def __init__(self, run: Run, cache: Cache, dataset: Dataset, seed: int) -> None:
        self._run, self._cache, self._seed = run, cache, seed
        self._dataset = without_covariates(run, dataset)
        self._parts = parts_of_run(run, dataset)
        self._n = len(self._parts.train), len(self._parts.val), len(self._parts.test)

    def outcome(self, name: str, folder: Path, regions: Mapping[str, npt.NDArray[np.bool_]]) -> Outcome:
        """Return the outcome of a control of `REGRESSIONS`: kept in its folder, or computed and written there.

        Raises
        ------
        RunError
            If the folder holds something else.
        """
        identity = self._identity(name, list(regions))
        if not is_vacant(folder, ABOUT):
            _check_same(folder, identity)
            return _read(folder)
        began = time.monotonic()
        with single_threaded_kernels():
            found = self._predict(name)
        table = self._dataset.voxels().assign(**found.columns)
        measured, predicted = self.responses.test.numpy(), found.responses.numpy()
        image_of = self._parts.images(self._parts.test)
        table["r2_test"], table["p_test"] = tested_scores(measured, predicted, self._seed, image_of)
        table["q_test"] = q_values(table["p_test"].to_numpy())
        metrics = {"seconds": time.monotonic() - began, "note": found.note}
        of_images = HeldOut(tuple(read_split(self._run)["test"]), measured, predicted, image_of).of_images
        scores = region_scores(of_images(measured), of_images(predicted), list(regions.values()))
        with new_folder(folder, ABOUT) as aside:
            atomic.write_json(aside / ABOUT, dict(identity.parts))
            atomic.write_table(aside / "voxels.parquet", table)
            atomic.replace_file(aside / "scores.npy", lambda path: np.save(path, scores))
            atomic.write_json(aside / "metrics.json", metrics)
        return _read(folder)

    @cached_property
    def responses(self) -> Parted:
        """Responses with mean 0 and variance 1 over the training images."""
        found = torch.from_numpy(self._dataset.responses(self._rows))
        train = found[: self._n[0]]
        mean, deviation = train.mean(0), train.std(0, correction=0)
        found.sub_(mean).div_(torch.where(deviation > 0, deviation, 1))
        return Parted(*found.split(self._n))

    @cached_property
    def _layers(self) -> list[Tensor]:
        """Principal channels of the windows of each layer, L × (n, K) float16."""
        layers = self._cache.select_layers(self._run.layers)
        source = Streamed(self._cache, layers, response_ids(self._dataset))
        of_grid = windows.Windows.of(self._cache.grid)
        found = windows.window_features(source, self._rows, np.sort(self._parts.train), of_grid, len(layers))
        return [layer.flatten(1) for layer in found]

    @property
    def _rows(self) -> npt.NDArray[np.intp]:
        return np.concatenate([self._parts.train, self._parts.val, self._parts.test])

    def _identity(self, name: str, regions: list[str]) -> Identity:
        about = self._run.about
        of_images = name in OF_IMAGES
        return Identity(
            {
                "format": FORMAT,
                "control": name,
                "settings": {"penalties": list(PENALTIES), "seed": self._seed, **SETTINGS[name]},
                "regions": regions,
                "cache": None if of_images else {"digest": about["cache"]["digest"], "layers": list(self._run.layers)},
                "data": about["data"],
                "split": digest(read_split(self._run)),
                "environment": environment("cpu") | ({"himalaya": version("himalaya")} if name == BANDED else {}),
            }
        )

    def _predict(self, name: str) -> Predicted:
        if name in OF_IMAGES:
            return self._from_images(name)
        return self._best_layer() if name == RIDGE_LAYER else self._banded()

    def _from_images(self, name: str) -> Predicted:
        stimuli, ids = self._dataset.stimuli, response_ids(self._dataset)
        place = {stimulus: i for i, stimulus in enumerate(stimuli.ids)}
        images, image_of = np.unique([place[ids[row]] for row in self._rows], return_inverse=True)
        x = image_features.image_features(stimuli, images, OF_IMAGES[name])[image_of]
        train = x[: self._n[0]]
        deviation = train.std(0, correction=0)
        x = (x - train.mean(0)) / torch.where(deviation > 0, deviation, 1)
        found = validated_ridge(Parted(*x.split(self._n)), self.responses)
        return Predicted(found.predicted, {"penalty": found.penalty.numpy()}, f"{x.shape[1]} features of an image")

    def _best_layer(self) -> Predicted:
        """Predict every voxel from the layer with the smallest error on the validation images."""
        best, layer = None, torch.zeros(0)
        for k, x in enumerate(self._layers):
            found = validated_ridge(Parted(*x.float().split(self._n)), self.responses)
            if best is None:
                best, layer = found, torch.zeros(len(found.error), dtype=torch.int64)
                continue
            better = found.error < best.error
            layer[better] = k
            for mine, theirs in zip(vars(best).values(), vars(found).values(), strict=True):
                mine[..., better] = theirs[..., better]
        assert best is not None
        columns = self._of_layers(np.eye(len(self._layers))[layer.numpy()]) | {"penalty": best.penalty.numpy()}
        return Predicted(best.predicted, columns, self._reduced())

    def _banded(self) -> Predicted:
        n = max(1, banded.N_COMPONENTS // len(self._layers))
        layers = [banded.components(Parted(*x.float().split(self._n)), n) for x in self._layers]
        found = banded.banded_ridge(layers, self.responses, self._seed)
        kept = f"; of these, {layers[0].train.shape[1]} principal components, and {banded.N_DRAWN} random weightings"
        columns = self._of_layers(found.weights) | {"penalty": found.penalty}
        return Predicted(found.predicted, columns, self._reduced() + kept)

    def _of_layers(self, weights: npt.NDArray[np.float64]) -> dict[str, Any]:
        """Return the columns of the weights (N, L) of layers."""
        layers = np.array(self._run.layers, dtype=object)
        return {"layer_argmax": layers[weights.argmax(1)], "depth": weights @ np.linspace(0, 1, len(layers))}

    def _reduced(self) -> str:
        n = len(windows.Windows.of(self._cache.grid).centres)
        return f"a layer is {windows.N_CHANNELS} principal channels (at most) of {n} windows and of the global token"


def is_available(name: str) -> str:
    """Return why a control of `REGRESSIONS` is not available, or ''."""
    return NO_HIMALAYA if name == BANDED and find_spec("himalaya") is None else ""


def _read(folder: Path) -> Outcome:
    import pandas as pd

    table = pd.read_parquet(folder / "voxels.parquet")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    slope = hierarchy_slope(table) if "depth" in table else None
    scores = np.load(folder / "scores.npy")
    return Outcome(table, scores, None if slope is None else slope["slope"], metrics["seconds"], metrics["note"])


def _check_same(folder: Path, identity: Identity) -> None:
    try:
        found = Identity(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
        differences = "; ".join(found.differences(identity))
        got = f"a control that differs in: {differences}" if differences else ""
    except (OSError, ValueError, AttributeError):
        got = "other files"
    if got:
        raise occupied(folder, got, "the same control")
