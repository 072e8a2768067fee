"""Numbers of a run's voxels as an image of nilearn."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.meshes import Mesh
from bddn.cortex.nilearn_image import nilearn_image
from bddn.errors import DataError, RunError
from bddn.run.folder import VOXELS, Run, frame_of_run
from bddn.text import shorten


def as_nilearn(run: Run, values: str | npt.ArrayLike, mesh: Mesh) -> Any:
    """Return a column, or other numbers of the voxels, as an image; see `Run.to_nilearn`."""
    if not isinstance(values, str):
        return nilearn_image(run.voxels, _numbers(run, values), mesh, frame_of_run(run))
    numeric = [str(name) for name in run.voxels.select_dtypes("number")]
    if values not in numeric:
        raise RunError(
            run.folder / VOXELS,
            expected=f"one of its columns of numbers, {', '.join(numeric)}",
            got=repr(values),
            fix="Correct the name.",
        )
    return nilearn_image(run.voxels, run.voxels[values].to_numpy(), mesh, frame_of_run(run))


def _numbers(run: Run, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return numbers of the voxels as an array; refuse those that would lose their mask or their order."""
    if np.ma.is_masked(values):
        got = "masked numbers"
    elif isinstance(values, pd.Series) and not values.index.equals(run.voxels.index):
        got = f"a Series with another index, {shorten([repr(one) for one in values.index], 3)}"
    else:
        try:
            return np.asarray(values)
        except (TypeError, ValueError, RuntimeError) as error:  # lists of unlike length, tensors with a gradient
            got = f"{error}"
    raise DataError(
        "values",
        expected=f"{len(run.voxels)} numbers in the order of run.voxels, NaN where one is missing",
        got=got,
        fix="Give an array of numbers; of a Series in this order, its to_numpy().",
    )
