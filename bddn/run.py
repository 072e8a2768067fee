"""Stage two: fit an encoder on a sealed cache and a dataset, and keep everything in one run folder.

A run folder explains itself: `run.json` says what was fitted on what, `split.json` which images were in which part,
`voxels.parquet` has one row per voxel, `metrics.json` the summary, `encoder.safetensors` the model, and `truth.json`,
for planted data, how close it came. It appears whole or not at all.
"""

import hashlib
import json
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from bddn import __version__, atomic
from bddn.data import Dataset
from bddn.data.splits import Split, split_by_id
from bddn.encoder import checkpoint
from bddn.encoder.fit import Fitted, Rows, fit, new_encoder
from bddn.errors import DataError, RunError
from bddn.parallel import n_threads
from bddn.spec import FitSpec
from bddn.stats.hierarchy import confidence, depth, hierarchy_slope
from bddn.stats.scores import roi_scores
from bddn.stats.truth import compare_with_truth
from bddn.store.layout import Layer
from bddn.store.manifest import differences
from bddn.store.reader import Cache
from bddn.stream.loader import load

FORMAT = 1
WEIGHT = "weight_"  # prefix of the columns of layer weights


@dataclass(frozen=True)
class Run:
    """A finished run folder, as read from disk."""

    folder: Path
    layers: tuple[str, ...]
    voxels: pd.DataFrame
    metrics: dict[str, Any]
    truth: dict[str, float | None] | None


def fit_run(cache: str | Path, dataset: Dataset, out: Path, spec: FitSpec) -> tuple[Run, bool]:
    """Fit and write a run folder; one that is there already for the same cache, data and spec is left as it is.

    Parameters
    ----------
    cache : str or Path
        A sealed store, by folder or URL; every byte that is read is checked.
    dataset : Dataset
    out : Path
        The run folder: new, empty, or this very run.
    spec : FitSpec

    Returns
    -------
    run : Run
    fresh : bool
        False where the folder was there already.

    Raises
    ------
    BddnError
        Where cache, data or folder do not fit.
    """
    started = time.monotonic()
    store = Cache(cache)
    layers = store.select_layers(spec.layers)
    responses = dataset.responses()
    voxels, coords_mm = dataset.voxels(), dataset.coords_mm()
    identity = _identity(store, layers, dataset, responses, voxels, spec)
    if _is_done(out, identity):
        return read_run(out), False
    ids = dataset.stimuli.ids
    split = split_by_id(ids, spec.split, spec.seed)
    _check_leakage(store, split)
    channels = {layer.name: layer.channels for layer in layers}
    truth = dataset.truth()
    with atomic.new_folder(out) as aside:
        features = load(store, layers, ids)
        model = new_encoder(torch.from_numpy(coords_mm), channels, store.grid, spec)
        fitted = fit(model, features, torch.from_numpy(responses), Rows.of(split, ids), spec)
        table = _voxel_table(voxels, fitted, tuple(channels))
        metrics = {
            "title": f"{dataset.name} through {store.name}",
            **_metrics(table, fitted),
            "seed": spec.seed,
            "cache_digest": store.digest,
            "versions": identity["environment"],
            "threads": n_threads(),
            "seconds": time.monotonic() - started,
        }
        atomic.write_json(aside / "run.json", identity)
        atomic.write_json(aside / "split.json", split.to_dict())
        atomic.write_json(aside / "metrics.json", metrics)
        atomic.replace_file(aside / "voxels.parquet", table.to_parquet)
        atomic.replace_file(
            aside / "encoder.safetensors", lambda path: checkpoint.save(fitted.model, channels, spec, path)
        )
        if truth is not None:
            atomic.write_json(aside / "truth.json", compare_with_truth(table, truth))
    return read_run(out), True


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises
    ------
    RunError
        Where it is missing, incomplete or of another format.
    """
    try:
        identity = json.loads((folder / "run.json").read_text())
        if identity.get("format") != FORMAT:
            raise ValueError(f"format {identity.get('format')!r}, not {FORMAT}")
        truth = folder / "truth.json"
        return Run(
            folder,
            tuple(identity["layers"]),
            pd.read_parquet(folder / "voxels.parquet"),
            json.loads((folder / "metrics.json").read_text()),
            json.loads(truth.read_text()) if truth.is_file() else None,
        )
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            folder,
            expected="a run folder of 'bddn fit', with run.json, metrics.json and voxels.parquet",
            got="no such folder" if not folder.is_dir() else f"{type(error).__name__}: {error}",
            fix="Give the --out of a finished 'bddn fit'.",
        ) from error


def _identity(
    store: Cache,
    layers: tuple[Layer, ...],
    dataset: Dataset,
    responses: npt.NDArray[np.float32],
    voxels: pd.DataFrame,
    spec: FitSpec,
) -> dict[str, Any]:
    """What decides the result; two runs with the same are the same."""
    return {
        "format": FORMAT,
        "layers": [layer.name for layer in layers],
        "fit": spec.to_dict(),
        "cache": {"digest": store.digest, **{key: store.header[key] for key in ("spec", "backbone", "made_with")}},
        "data": {
            "n_images": len(responses),
            "n_voxels": len(voxels),
            "responses_sha256": hashlib.sha256(np.ascontiguousarray(responses).data).hexdigest(),
            "voxels_sha256": hashlib.sha256(voxels.to_csv(index=False).encode()).hexdigest(),
        },
        "environment": {
            "bddn": __version__,
            "python": platform.python_version(),
            "torch": version("torch"),
            "numpy": version("numpy"),
            "machine": platform.machine(),
        },
    }


def _is_done(out: Path, identity: dict[str, Any]) -> bool:
    """Whether `out` holds this very run; anything else in it is an error."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / "run.json").read_text())
        differ = differences(found, identity)
    except (OSError, ValueError):
        found, differ = None, []
    if found is None or differ:
        raise RunError(
            out,
            expected="a new or empty folder, or this very run",
            got=f"a run that differs in: {'; '.join(differ)}" if found else "a folder that is not empty and no run",
            fix="Give another --out; nothing was written.",
        )
    return True


def _check_leakage(store: Cache, split: Split) -> None:
    """The same picture under two ids must not train and test."""
    part_of = {i: part for part, members in split.to_dict().items() for i in members}
    first: dict[str, str] = {}
    for stimulus, image in zip(store.ids, store.images, strict=True):
        if stimulus not in part_of:
            continue
        other = first.setdefault(image, stimulus)
        if part_of[other] != part_of[stimulus]:
            raise DataError(
                f"cache '{store.files.place}'",
                expected="no picture in two parts of the split",
                got=f"one file as '{other}' in {part_of[other]} and '{stimulus}' in {part_of[stimulus]}",
                fix="Remove one of the two from the dataset, and extract again.",
            )


def _voxel_table(voxels: pd.DataFrame, fitted: Fitted, layers: tuple[str, ...]) -> pd.DataFrame:
    selection = fitted.selection
    weights = selection.layer.numpy()
    x, y = selection.place.numpy().T
    found = pd.DataFrame(
        {
            "r2_val": fitted.r2_val,
            "r2_test": fitted.r2_test,
            "layer_argmax": [layers[k] for k in weights.argmax(1)],
            "depth": depth(weights),
            "confidence": confidence(weights),
            "x": x,
            "y": y,
            "scale": selection.scale.numpy(),
        }
    )
    columns = pd.DataFrame(weights, columns=[WEIGHT + layer for layer in layers])
    return pd.concat([voxels, found, columns], axis=1)


def _metrics(table: pd.DataFrame, fitted: Fitted) -> dict[str, Any]:
    return {
        "r2_test": float(np.nanmean(fitted.r2_test)),
        "r2_val": float(np.nanmean(fitted.r2_val)),
        "roi_r2_test": roi_scores(table, "r2_test"),
        "hierarchy": hierarchy_slope(table),
        "n_voxels": len(table),
        "n_voxels_without_score": int(np.isnan(fitted.r2_test).sum()),
        "best_epoch": fitted.best_epoch,
        "epochs": fitted.history,
    }
