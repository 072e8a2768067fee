"""Numbers of a run's voxels as an image of nilearn."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.meshes import Mesh
from bddn.cortex.nilearn_image import nilearn_image
from bddn.errors import RunError
from bddn.run.folder import VOXELS, Run, frame_of_run


def as_nilearn(run: Run, values: str | npt.ArrayLike, mesh: Mesh) -> Any:
    """Return a column, or other numbers of the voxels, as an image; see `Run.to_nilearn`."""
    if not isinstance(values, str):
        return nilearn_image(run.voxels, np.asarray(values), mesh, frame_of_run(run))
    numeric = [str(name) for name in run.voxels.select_dtypes("number")]
    if values not in numeric:
        raise RunError(
            run.folder / VOXELS,
            expected=f"one of its columns of numbers, {', '.join(numeric)}",
            got=repr(values),
            fix="Correct the name.",
        )
    return nilearn_image(run.voxels, run.voxels[values].to_numpy(), mesh, frame_of_run(run))
