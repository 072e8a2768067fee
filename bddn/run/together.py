"""Whether the files of a run folder are of one fit: a folder that was copied over another one may mix those of two.

What a file says of the others is compared: `metrics.json` with `run.json` and the table of voxels, `split.json` with
the settings, and the encoder with the table. Columns may be added to the table.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.data.splits import Split, split_by_id
from bddn.errors import RunError
from bddn.identity import Identity, digest
from bddn.stats.scores import robust_mean

Weights = npt.NDArray[np.floating]

FIX = "Copy the whole run folder again, into a new folder, or fit again."
TOLERANCE = 1e-6  # of mean scores, which are computed again from the same table
OF_ROUNDING = 1e-3  # of layer weights, which another machine or device computes again


def check_metrics(folder: Path, about: Mapping[str, Any], metrics: Mapping[str, Any], voxels: pd.DataFrame) -> None:
    """Check that `metrics.json` is of the fit of `run.json` and of the table of voxels.

    Parameters
    ----------
    folder : Path
    about, metrics : mapping
        `run.json` and `metrics.json`.
    voxels : DataFrame

    Raises
    ------
    RunError
    """
    fit, digest_of_cache = about["fit"], about["cache"]["digest"]
    recorded = {"cache_digest": digest_of_cache, **{name: fit.get(name) for name in ("seed", "bootstrap", "half")}}
    different = [f"{name} {value}" for name, value in recorded.items() if metrics.get(name, value) != value]
    if different:
        raise _mixed(folder / "metrics.json", f"the file of the fit in run.json, with {different[0]}", "another fit's")
    if "n_voxels_below" not in metrics:
        return  # earlier versions had other means
    means = {name: robust_mean(voxels[name].to_numpy()) for name in ("r2_test", "r2_val")}
    if metrics["n_voxels"] != len(voxels) or not all(_equal(metrics[name], mean) for name, mean in means.items()):
        raise _mixed(
            folder / "metrics.json",
            f"the scores of the {len(voxels)} voxels of voxels.parquet, mean R² {means['r2_test']:.4f}",
            f"another fit's, {metrics['r2_test']} for {metrics['n_voxels']}",
        )


def check_split(folder: Path, about: Mapping[str, Any], split: Split) -> None:
    """Check that `split.json` is the split that the settings in `run.json` ask for.

    Raises
    ------
    RunError
    """
    fit = about["fit"]
    if fit.get("split_by") is None:
        seed = fit["seed"] if fit.get("split_seed") is None else fit["split_seed"]
        same = split == split_by_id([*split.train, *split.val, *split.test], tuple(fit["split"]), seed)
    else:
        same = digest(split.to_dict()) == about.get("split_sha256")
    if not same:
        raise _mixed(folder / "split.json", "the split of the settings in run.json", "another fit's")


def check_settings(encoder: Path, spec: Mapping[str, Any], fit: Mapping[str, Any]) -> None:
    """Check that an encoder was fitted with the settings in `run.json`.

    Raises
    ------
    RunError
    """
    if different := Identity(spec).differences(Identity(fit)):
        raise _mixed(encoder, "the encoder of the fit in run.json", f"one that differs in: {'; '.join(different)}")


def check_encoders(files: Sequence[Path], weights: Sequence[Weights], table: Weights) -> None:
    """Check that the layer weights (N, L) of an encoder, or the mean of several, are those of the table of voxels.

    Raises
    ------
    RunError
    """
    other = [path for path, own in zip(files, weights, strict=True) if own.shape != table.shape]
    if not other and np.median(np.abs(np.mean(weights, axis=0) - table).max(axis=1)) > OF_ROUNDING:
        other = list(files)
    if other:
        raise _mixed(other[0], "the layer weights of voxels.parquet", "another fit's")


def _equal(a: float | None, b: float) -> bool:
    return math.isnan(b) if a is None else math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _mixed(path: Path, expected: str, got: str) -> RunError:
    return RunError(path, expected=expected, got=got, fix=FIX)
