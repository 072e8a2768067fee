"""Surfaces for drawing maps, and the assignment of fsaverage7 data to their vertices.

FreeSurfer numbers vertices by refinement: the first 10,242 vertices of fsaverage7 are those of fsaverage5. So a figure
on fsaverage5 shows the voxels whose index is below 10,242 at their own position. The other voxels are not drawn, but
they are in the data files beside the figure.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES, Ints
from bddn.cortex.meshes import MESHES, Mesh, Surface, read_mesh
from bddn.errors import DataError


@cache
def surface(hemi: str, mesh: Mesh = "fsaverage5") -> Surface:
    """Return one hemisphere of a mesh from files on this machine; see `read_mesh`.

    Parameters
    ----------
    hemi : str
        'lh' or 'rh'.
    mesh : str
        'fsaverage5', 'fsaverage6' or 'fsaverage7'.

    Returns
    -------
    Surface
        Its arrays are read-only, because the result is cached.

    Raises
    ------
    DataError
        If `hemi` is neither 'lh' nor 'rh', or the mesh is not found.
    """
    if hemi not in HEMISPHERES:
        raise DataError("hemi", expected="'lh' or 'rh'", got=repr(hemi), fix="Give 'lh' or 'rh'.")
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
    """Assign the values of one hemisphere's voxels to the vertices of a mesh with the same index.

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
        NaN at vertices without a voxel. Voxels with an index of V or more are omitted.

    Raises
    ------
    DataError
        If the lengths differ, or an index is out of range or repeated.
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


def check_vertices(place: str, vertex: Ints, n_vertices: int = N_VERTICES) -> None:
    """Refuse vertex indices of one hemisphere that are not integers, are out of range or are repeated.

    Parameters
    ----------
    place : str
        The place that the message names.
    vertex : array of int, (N,)
        Indices on the mesh.
    n_vertices : int
        Number of all vertices of the mesh, by default fsaverage7.

    Raises
    ------
    DataError
        If they are not a 1-d array of different integers from 0 to `n_vertices` - 1.
    """
    if vertex.ndim != 1 or not (np.issubdtype(vertex.dtype, np.integer) or vertex.size == 0):
        raise DataError(
            place, expected="a row of integers", got=f"{vertex.dtype}, shape {vertex.shape}", fix="Cast them to int."
        )
    if vertex.size and (vertex.min() < 0 or vertex.max() >= n_vertices):
        raise DataError(
            place,
            expected=f"indices on {'fsaverage7' if n_vertices == N_VERTICES else 'the mesh'}, 0 to {n_vertices - 1:,}",
            got=f"{vertex.min()} to {vertex.max()}",
            fix="Give the index of the vertex within its hemisphere.",
        )
    if len(np.unique(vertex)) != len(vertex):
        values, counts = np.unique(vertex, return_counts=True)
        raise DataError(
            place,
            expected="every vertex of a hemisphere at most once",
            got=f"vertex {values[counts > 1][0]} {counts.max()} times",
            fix="Keep one row per voxel.",
        )
