"""Run folders: what is in them, and how they are read.

A run folder explains itself: `run.json` says what was fitted on what, `split.json` which images were in which part,
`voxels.parquet` has one row per voxel, `metrics.json` the summary, `encoder.safetensors` the model,
`learning.safetensors` how its selectors came about (see `encoder.learning`), and `truth.json`, for planted data, how
close it came.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.encoder import learning, saved
from bddn.errors import RunError
from bddn.files.filekind import explain_folder, is_listed
from bddn.files.output import check_folder, is_vacant
from bddn.files.paths import printable
from bddn.identity import Identity
from bddn.stats.hierarchy import confidence, depth, hierarchy_slope
from bddn.stats.scores import roi_scores

if TYPE_CHECKING:
    from bddn.encoder.fit import Fitted

FORMAT = 1
ABOUT = "run.json"
FILES = (ABOUT, "metrics.json", "voxels.parquet")
LEARNING = "learning.safetensors"
ENCODER = "encoder.safetensors"
WEIGHT = "weight_"  # prefix of the columns of layer weights


@dataclass(frozen=True)
class Run:
    """A finished run folder, as read from disk; `about` is its `run.json`."""

    folder: Path
    layers: tuple[str, ...]
    voxels: pd.DataFrame
    metrics: dict[str, Any]
    truth: dict[str, float | None] | None
    about: dict[str, Any]


def labels(folders: Sequence[Path]) -> list[str]:
    """What tells folders apart: their paths below the one that holds them all; for a single one its name."""
    real = [folder.resolve() for folder in folders]
    if len(real) == 1:
        return [printable(real[0].name)]
    shared = Path(os.path.commonpath(real))
    names = [folder.relative_to(shared).as_posix() if folder != shared else folder.name for folder in real]
    return [printable(name) for name in names]


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises
    ------
    RunError
        Where it is missing, incomplete or of another format.
    """
    try:
        identity = _read_about(folder)
        if identity.get("format") != FORMAT:
            raise ValueError(f"format {identity.get('format')!r}, not {FORMAT}")
        truth = folder / "truth.json"
        return Run(
            folder,
            tuple(identity["layers"]),
            pd.read_parquet(BytesIO((folder / "voxels.parquet").read_bytes())),
            json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
            json.loads(truth.read_text(encoding="utf-8")) if is_listed(truth) else None,
            identity,
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        fix = "Give the --out of a finished 'bddn fit'."
        got, fix = explain_folder(folder, (*FILES, "truth.json"), _found(folder, error), fix)
        raise RunError(
            folder,
            expected="a run folder of 'bddn fit', with run.json, metrics.json and voxels.parquet",
            got=got,
            fix=fix,
        ) from error


def _found(folder: Path, error: Exception) -> str:
    """What is there instead of a run, in words."""
    if not folder.is_dir():
        return "no such folder"
    missing = [name for name in FILES if not (folder / name).is_file()]
    return f"a folder without {', '.join(missing)}" if missing else f"{type(error).__name__}: {error}"


def read_learning(run: Run) -> learning.Learning:
    """How the selectors of a run learned.

    Raises
    ------
    RunError
        Where the file is missing, as in runs of earlier versions, damaged, or of another run.
    """
    path = run.folder / LEARNING
    if not is_listed(path):
        raise RunError(
            run.folder,
            expected=f"{LEARNING}, which 'bddn fit' writes",
            got="a run without it, fitted by an earlier version",
            fix="Fit again with another --out; the encoder will be the same.",
        )
    found, layers = learning.load(path)
    if layers != run.layers or found.voxel.max(initial=0) >= len(run.voxels):
        raise RunError(
            path,
            expected=f"the learning of this run, with {len(run.voxels)} voxels and layers {', '.join(run.layers)}",
            got=f"that of another run, with layers {', '.join(layers)}",
            fix="Copy run folders as a whole.",
        )
    return found


def read_channels(run: Run) -> npt.NDArray[np.float32]:
    """Read the channel vector of every voxel, (N, D) in the order of `run.voxels`; the encoder is not built.

    Raises
    ------
    RunError
        Where the file of the encoder is missing, damaged, or of another run.
    """
    path = run.folder / ENCODER
    arrays, _ = saved.read(path, saved.AN_ENCODER, "Fit again.", ["channels"])
    found = np.asarray(arrays["channels"])
    if len(found) != len(run.voxels):
        raise RunError(
            path,
            expected=f"channels of the {len(run.voxels)} voxels of voxels.parquet",
            got=f"{len(found)}",
            fix="Copy run folders as a whole.",
        )
    return found


def check_out(out: Path) -> None:
    """Refuse a place for a run at which there is something else, or where none can be written.

    Raises
    ------
    OutputError, RunError
        Before anything has been read.
    """
    if is_vacant(out, ABOUT):
        check_folder(out)
    elif not (out / ABOUT).is_file():
        raise _occupied(out, "a folder that is not empty and no run")


def is_done(out: Path, identity: Identity) -> bool:
    """Whether `out` holds this very run; anything else in it is an error."""
    if is_vacant(out, ABOUT):
        return False
    try:
        found = _read_about(out)
    except (OSError, ValueError) as error:
        raise _occupied(out, "a folder that is not empty and no run") from error
    if differ := Identity(found).differences(identity):
        raise _occupied(out, f"a run that differs in: {'; '.join(differ)}")
    return True


def _occupied(out: Path, got: str) -> RunError:
    return RunError(
        out,
        expected="a new or empty folder, or this very run",
        got=got,
        fix="Give another --out; nothing was written.",
    )


def _read_about(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} in {ABOUT}")
    return found


def voxel_table(voxels: pd.DataFrame, fitted: "Fitted", layers: tuple[str, ...]) -> pd.DataFrame:
    """One row per voxel: who it is, what it selects, and how well it is predicted."""
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


def without_nan(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: null in their place."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(scores: "np.ndarray") -> float | None:
    """Over the voxels that have a score."""
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else None


def summary(table: pd.DataFrame, fitted: "Fitted") -> dict[str, Any]:
    """What `metrics.json` says of a fit."""
    return {
        "r2_test": _mean(fitted.r2_test),
        "r2_val": _mean(fitted.r2_val),
        "roi_r2_test": roi_scores(table, "r2_test"),
        "hierarchy": hierarchy_slope(table),
        "n_voxels": len(table),
        "n_voxels_without_score": int(np.isnan(fitted.r2_test).sum()),
        "best_epoch": fitted.best_epoch,
        "polished": fitted.polished,
        "saturated_selectors": fitted.saturated,
        "epochs": fitted.history,
    }
