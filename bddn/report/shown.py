"""A run on a page: the checked content of its folder, and its label beside other runs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import not_on_surface, space_of
from bddn.data import Dataset
from bddn.encoder.learning import Learning
from bddn.errors import RunError
from bddn.evaluation.kept_responses import HeldOut, is_scored, read_held_out
from bddn.files.filekind import explain
from bddn.maps.kinds import MAX_WIDTH
from bddn.maps.voxel_table import check_voxels
from bddn.report.voxels import drawn_rows
from bddn.run import Run, labels, read_channels, read_learning, read_run
from bddn.run.folder import ENSEMBLE, LEARNING
from bddn.stats.evidence import evident
from bddn.stats.scores import in_roi

MAX_RUNS = 12
"""Largest number of brains side by side."""
_FIX = "Fit again with this version of bddn."


@dataclass(frozen=True, eq=False)
class Shown:
    """A run on a page.

    Attributes
    ----------
    run : Run
    label : str
        Name that differs from the page's other runs.
    channels : array of float32, (V, D)
        Channel weights of the drawn voxels; D is 0 for an ensemble, whose fits have different channels.
    split : dict of str to int
        Numbers of stimuli for training, validation and test.
    learning : Learning or None
        Learning log of its selectors, if it exists.
    held_out : HeldOut or None
        Responses to the test images; None if the run was not scored, or the page must not contain them.
    dataset : Dataset or None
        The data of the run, for their images; None if they are not given.
    """

    run: Run
    label: str
    channels: npt.NDArray[np.float32]
    split: dict[str, int]
    learning: Learning | None
    held_out: HeldOut | None = None
    dataset: Dataset | None = None

    @property
    def title(self) -> str:
        """Data and network of the fit."""
        return str(self.run.metrics["title"])

    def proven(self, roi: str) -> pd.DataFrame:
        """Return the voxels of a region that have evidence, of which means of selections are."""
        return self.run.voxels[in_roi(self.run.voxels, roi) & evident(self.run.voxels)]


def read_shown(folders: Sequence[Path], datasets: Sequence[Dataset] = (), responses: bool = True) -> list[Shown]:
    """Read the content of some run folders for a page.

    Parameters
    ----------
    folders : sequence of Path
    datasets : sequence of Dataset
        The data of the runs, if the page may show their images; those of a run are chosen from them.
    responses : bool
        Whether the page may contain the responses to the test images.

    Raises
    ------
    RunError
        If there are none or too many, one is given twice, or one is missing, incomplete, damaged or of an old format.
    DataError
        If a table of voxels lacks columns that maps need, or its voxels are points.
    MismatchError
        If datasets are given, and those of a run are not among them.
    """
    if not 1 <= len(folders) <= MAX_RUNS:
        raise RunError("runs", expected=f"1 to {MAX_RUNS} run folders", got=f"{len(folders)}", fix="Give fewer runs.")
    real = [folder.resolve() for folder in folders]
    twice = next((f for f, r in zip(folders, real, strict=True) if real.count(r) > 1), None)
    if twice is not None:
        raise RunError(twice, expected="different run folders", got="the same folder twice", fix="Give each run once.")
    return [_read(folder, label, datasets, responses) for folder, label in zip(folders, labels(folders), strict=True)]


def _read(folder: Path, label: str, datasets: Sequence[Dataset], responses: bool) -> Shown:
    run = read_run(folder)
    run = replace(run, voxels=_with_width(run.voxels))
    check_voxels(run.voxels, run.layers)
    if space_of(run.voxels) == "points":
        raise not_on_surface(folder, run.voxels)
    _check_metrics(run)
    drawn = drawn_rows(run.voxels)
    channels = np.empty((len(drawn), 0), np.float32) if ENSEMBLE in run.about else read_channels(run)[drawn]
    learning = read_learning(run) if (folder / LEARNING).is_file() else None
    held_out = read_held_out(run) if responses and is_scored(run) else None
    dataset = _dataset(run, datasets) if datasets else None
    return Shown(run, label, channels, _split_sizes(folder / "split.json"), learning, held_out, dataset)


def _with_width(voxels: pd.DataFrame) -> pd.DataFrame:
    """Return the voxels of an ensemble with the width of the interval of depth; NaN where too little is known."""
    if "depth_low" not in voxels:
        return voxels
    width = voxels["depth_high"] - voxels["depth_low"]
    return voxels.assign(depth_width=width.where(width <= MAX_WIDTH))


def _dataset(run: Run, datasets: Sequence[Dataset]) -> Dataset:
    from bddn.evaluation.matching import dataset_of_run  # loads torch

    return dataset_of_run(run, datasets)


def _check_metrics(run: Run) -> None:
    """Raise an error if metrics.json lacks fields that a page needs."""
    missing = [name for name in ("title", "r2_test", "r2_val", "roi_r2_test", "hierarchy") if name not in run.metrics]
    if missing:
        raise RunError(
            run.folder / "metrics.json", expected=", ".join(missing), got="a file without these fields", fix=_FIX
        )


def _split_sizes(file: Path) -> dict[str, int]:
    try:
        split: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {str(part): len(members) for part, members in split.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        got, fix = explain(file, f"{type(error).__name__}: {error}", _FIX)
        raise RunError(file, expected="the stimuli of each part of the split", got=got, fix=fix) from error
