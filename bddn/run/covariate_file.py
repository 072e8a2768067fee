"""The linear part of covariates that a fit took out of its responses: `covariates.safetensors` of its run folder."""

import shutil
from pathlib import Path

import numpy as np

from bddn.data import Dataset
from bddn.data.covariates import Effects, WithoutCovariates
from bddn.encoder import saved
from bddn.run.folder import Run

COVARIATES = "covariates.safetensors"
_EXPECTED, _FIX = "the weights of covariates, as 'bddn fit' wrote them", "Copy the whole run folder again."


def write_effects(effects: Effects, path: Path) -> None:
    """Write `weights` (K, N) float32 and `mean` (K,) float64, with the names of the covariates."""
    about = {"names": list(effects.names), "share_within": effects.share_within}
    saved.save_checked({"weights": effects.weights, "mean": effects.mean}, about, path)


def read_effects(run: Run) -> Effects | None:
    """Read them; None if the fit used no covariates.

    Raises
    ------
    RunError
        If the file is missing or damaged.
    """
    if not run.about["fit"].get("covariates"):
        return None
    arrays, about = saved.load_checked(run.folder / COVARIATES, _EXPECTED, _FIX)
    weights = np.asarray(arrays["weights"])
    return Effects(tuple(about["names"]), np.asarray(arrays["mean"]), weights, float(about["share_within"]))


def copy_effects(run: Run, folder: Path) -> None:
    """Copy the file into the folder of an ensemble: fits on one split share it, because no bootstrap changes it."""
    if run.about["fit"].get("covariates"):
        shutil.copyfile(run.folder / COVARIATES, folder / COVARIATES)


def without_covariates(run: Run, dataset: Dataset) -> Dataset:
    """Return the data of a run with the responses that it was fitted to.

    Raises
    ------
    BddnError
        If the file or a covariate is missing.
    """
    effects = read_effects(run)
    return dataset if effects is None else WithoutCovariates(dataset, effects)
