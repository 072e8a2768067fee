"""The fsaverage spheres, computed offline by subdividing the fsaverage5 sphere that is part of nilearn.

FreeSurfer numbers the vertices of its icosahedral surfaces by refinement, so the first 10,242 vertices of fsaverage7
are those of fsaverage5 (A. Winkler, "Downsampling (decimating) a brain surface", brainder.org, 2016).
"""

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.errors import DataError

N_VERTICES = 163_842
"""Number of vertices of one hemisphere of fsaverage7."""
N_VERTICES_FSAVERAGE5 = 10_242
SPHERE_RADIUS_MM = 100.0
HEMISPHERES = ("lh", "rh")
RIGHT_SHIFT_MM = 300.0
"""Shift of the right sphere along x, so that the two spheres are side by side (as in the paper's code)."""

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]


def _subdivide(vertices: Floats, faces: Ints) -> tuple[Floats, Ints]:
    """Split every face of a unit sphere in four, numbering new vertices and faces as FreeSurfer does."""
    number: dict[tuple[int, int], int] = {}
    n_old = len(vertices)

    def middle(i: int, j: int) -> int:
        return number.setdefault((i, j) if i < j else (j, i), n_old + len(number))

    first, rest = [], []
    for a, b, c in faces.tolist():
        ca, bc, ab = middle(c, a), middle(b, c), middle(a, b)  # this order numbers the new vertices
        first.append((a, ab, ca))
        rest += [(ca, bc, c), (ab, bc, ca), (ab, b, bc)]
    parents = np.array(list(number))
    new = vertices[parents[:, 0]] + vertices[parents[:, 1]]
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    return np.concatenate([vertices, new]), np.array(first + rest)


def nilearn_folder() -> Path:
    """Return the folder of the nilearn package. Its files are read by path, because importing `nilearn.datasets` takes
    longer than the rest of a command's start."""
    package = find_spec("nilearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent


def fsaverage5(kind: str, hemi: str) -> Any:
    """Read a surface of fsaverage5 from the files in nilearn: 'sphere', 'pial', 'infl', 'flat' or 'sulc'.

    Returns
    -------
    tuple of arrays, or array
        Vertices (10242, 3) in mm and faces (m, 3); for 'sulc' one number per vertex, (10242,).

    Raises
    ------
    DataError
        If the installed nilearn does not contain the file.
    """
    import nibabel

    side = "left" if hemi == "lh" else "right"
    file = nilearn_folder() / "datasets" / "data" / "fsaverage5" / f"{kind}_{side}.gii.gz"
    if not file.is_file():
        raise DataError(
            file,
            expected="a surface of fsaverage5, which is part of nilearn 0.14",
            got=f"nilearn {version('nilearn')} without it",
            fix="Run 'pip install \"nilearn>=0.14,<0.15\"'.",
        )
    image: Any = nibabel.load(file)
    return image.agg_data()


@cache
def sphere() -> tuple[Floats, Ints]:
    """Return the fsaverage7 sphere, the same for both hemispheres: vertices (163842, 3) in mm and faces (327680, 3)."""
    vertices, faces = fsaverage5("sphere", "lh")
    vertices = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    while len(vertices) < N_VERTICES:
        vertices, faces = _subdivide(vertices, faces)
    vertices = vertices * SPHERE_RADIUS_MM
    vertices.flags.writeable = faces.flags.writeable = False
    return vertices, faces


def positions_mm(hemi: npt.NDArray[np.str_], vertex: Ints) -> npt.NDArray[np.float32]:
    """Return the positions of fsaverage7 vertices on the two spheres, which are side by side.

    Parameters
    ----------
    hemi : array of str, (N,)
        'lh' or 'rh'.
    vertex : array of int, (N,)
        Index of the vertex in its hemisphere, below 163,842.

    Returns
    -------
    array of float32, (N, 3), in mm
        x from -100 to 100 on the left and 200 to 400 on the right.
    """
    coords = sphere()[0][vertex].copy()
    coords[np.asarray(hemi) == "rh", 0] += RIGHT_SHIFT_MM
    return coords.astype(np.float32)
