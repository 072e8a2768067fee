"""The surfaces that maps are drawn on, and how data of fsaverage7 come to lie on them.

FreeSurfer numbers vertices by refinement: the first 10,242 of fsaverage7 are those of fsaverage5. So on fsaverage5 a
voxel whose index is below 10,242 is drawn at its own place; the others are left out of the picture (not of the files
beside it).
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES, Ints
from bddn.cortex.meshes import MESHES, Mesh, Surface, read_mesh
from bddn.errors import DataError


@cache
def surface(hemi: str, mesh: Mesh = "fsaverage5") -> Surface:
    """One hemisphere, read from the files inside nilearn, or for the finer meshes where they are found (no network).

    Parameters
    ----------
    hemi : str
        'lh' or 'rh'.
    mesh : str
        'fsaverage5', 'fsaverage6' or 'fsaverage7'.

    Returns
    -------
    Surface
        Its arrays are read-only, since the result is kept and shared.

    Raises
    ------
    DataError
        If `hemi` is neither 'lh' nor 'rh', or the mesh is not found.
    """
    if hemi not in HEMISPHERES:
        raise DataError("hemi", expected="'lh' or 'rh'", got=repr(hemi), fix="Name one of the two hemispheres.")
    found = read_mesh(hemi, mesh)
    made = Surface(
        flat=np.array(found.flat, dtype=np.float64),
        flat_faces=np.array(found.flat_faces, dtype=np.int64),
        inflated=np.array(found.inflated, dtype=np.float64),
        faces=np.array(found.faces, dtype=np.int64),
        sulc=np.array(found.sulc, dtype=np.float64),
    )
    for array in (made.flat, made.flat_faces, made.inflated, made.faces, made.sulc):
        array.flags.writeable = False
    return made


def to_mesh(vertex: Ints, values: npt.ArrayLike, mesh: Mesh = "fsaverage5") -> npt.NDArray[np.float64]:
    """Put the values of one hemisphere's voxels on the vertices of a mesh, by nesting.

    Parameters
    ----------
    vertex : array of int, (N,)
        Indices on fsaverage7, 0 to 163,841, each at most once.
    values : array of numbers, (N, ...)
        One entry per voxel.
    mesh : str
        'fsaverage5', 'fsaverage6' or 'fsaverage7', of V vertices.

    Returns
    -------
    array of float64, (V, ...)
        NaN where there is no voxel; voxels with an index of V or more have no place here and are left out.

    Raises
    ------
    DataError
        If the lengths differ, an index is out of range, or one comes twice.
    """
    index, given = np.asarray(vertex), np.asarray(values, dtype=np.float64)
    check_vertices("vertex", index)
    if given.shape[:1] != index.shape:
        raise DataError(
            "values", expected=f"{len(index)} rows, as vertices", got=f"shape {given.shape}", fix="Pass one row each."
        )
    out = np.full((MESHES[mesh], *given.shape[1:]), np.nan)
    inside = index < MESHES[mesh]
    out[index[inside]] = given[inside]
    return out


def check_vertices(place: str, vertex: Ints) -> None:
    """Refuse vertex indices of one hemisphere that are no integers, are out of range or come twice.

    Parameters
    ----------
    place : str
        What to name in the message.
    vertex : array of int, (N,)
        Indices on fsaverage7.

    Raises
    ------
    DataError
        If they are not one-dimensional integers, each once and from 0 to 163,841.
    """
    if vertex.ndim != 1 or not (np.issubdtype(vertex.dtype, np.integer) or vertex.size == 0):
        raise DataError(
            place, expected="a row of integers", got=f"{vertex.dtype}, shape {vertex.shape}", fix="Cast them to int."
        )
    if vertex.size and (vertex.min() < 0 or vertex.max() >= N_VERTICES):
        raise DataError(
            place,
            expected=f"indices on fsaverage7, 0 to {N_VERTICES - 1:,}",
            got=f"{vertex.min()} to {vertex.max()}",
            fix="Give the vertex's index within its own hemisphere.",
        )
    if len(np.unique(vertex)) != len(vertex):
        values, counts = np.unique(vertex, return_counts=True)
        raise DataError(
            place,
            expected="every vertex of a hemisphere at most once",
            got=f"vertex {values[counts > 1][0]} {counts.max()} times",
            fix="Keep one row per voxel.",
        )
