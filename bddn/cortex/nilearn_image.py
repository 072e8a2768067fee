"""Numbers of voxels as an image of nilearn."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.frames import Frame, Volume, volume_image
from bddn.cortex.meshes import MESHES, Mesh
from bddn.cortex.places import on_mesh, place_columns
from bddn.cortex.surfaces import surface, to_mesh
from bddn.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_PARTS = {"lh": "left", "rh": "right"}


def nilearn_image(
    table: "pd.DataFrame", values: npt.NDArray[Any], mesh: Mesh = "fsaverage5", frame: Frame | None = None
) -> Any:
    """Return numbers of voxels as an image of nilearn.

    Parameters
    ----------
    table : DataFrame, N rows
        Says where the voxels lie; see `cortex.places`.
    values : array of numbers, (N,)
    mesh : str
        Of voxels on a surface.
    frame : Frame, optional
        Of voxels that are not on fsaverage.

    Returns
    -------
    nilearn.surface.SurfaceImage or nibabel.Nifti1Image
        See `Run.to_nilearn`.

    Raises
    ------
    DataError
        If there is not one number for each voxel, the voxels are points without a volume, or the mesh is not found.
    """
    if values.shape != (len(table),) or values.dtype.kind not in "biuf":
        raise DataError(
            "values",
            expected=f"{len(table)} numbers, one for each voxel",
            got=f"{values.dtype}, shape {values.shape}",
            fix="Give a column of numbers of the table, or one image's predicted responses.",
        )
    if mesh not in MESHES:
        raise DataError("mesh", expected=f"one of {', '.join(MESHES)}", got=repr(mesh), fix="Correct the name.")
    if isinstance(frame, Volume):
        return volume_image(frame, table, [values])
    drawn = on_mesh(table[place_columns(table)], mesh)
    from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

    parts, data = {}, {}
    for hemi, part in _PARTS.items():
        shape, rows = surface(hemi, mesh), (drawn["hemi"] == hemi).to_numpy()
        parts[part] = InMemoryMesh(np.array(shape.inflated), np.array(shape.faces))
        data[part] = to_mesh(drawn["vertex"].to_numpy(np.int64)[rows], values[drawn.index.to_numpy()[rows]], mesh)
    return SurfaceImage(PolyMesh(**parts), data)
