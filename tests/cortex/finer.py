"""fsaverage6 and 7 for tests, split from fsaverage5, in the layouts of nilearn and FreeSurfer.

New vertices lie halfway between old ones: not FreeSurfer's places, but near them, with its numbers.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel import freesurfer
from nibabel.gifti import gifti

from bddn.cortex.fsaverage import HEMISPHERES, _subdivide, fsaverage5, sphere
from bddn.cortex.meshes import MESHES, Mesh, Surface

make: Any = gifti
fs: Any = freesurfer
SIDES = {"lh": "left", "rh": "right"}


@cache
def split(mesh: Mesh, hemi: str) -> Surface:
    """A hemisphere of a finer mesh."""
    vertices, faces = fsaverage5("sphere", "lh")
    unit = np.asarray(vertices) / np.linalg.norm(vertices, axis=1, keepdims=True)
    flat, flat_faces = fsaverage5("flat", hemi)
    on_sheet = np.isin(_names(faces), _names(flat_faces))
    flat = np.asarray(flat[:, :2], np.float64)
    inflated, sulc = np.asarray(fsaverage5("infl", hemi)[0], np.float64), np.asarray(fsaverage5("sulc", hemi), float)
    while len(unit) < MESHES[mesh]:
        n_old = len(faces)
        unit, finer = _subdivide(unit, faces)
        a, ab, ca = finer[:n_old].T
        c, b, bc = finer[n_old::3, 2], finer[n_old + 2 :: 3, 1], finer[n_old::3, 1]

        parents = ((ab, a, b), (bc, b, c), (ca, c, a))
        flat, inflated, sulc = (_halfway(old, parents, len(unit)) for old in (flat, inflated, sulc))
        on_sheet, faces = np.concatenate([on_sheet, np.repeat(on_sheet, 3)]), finer
    return Surface(flat, faces[on_sheet], inflated, faces, sulc)


def _halfway(old: np.ndarray, parents: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], n: int) -> np.ndarray:
    """Values of `n` vertices, the new ones between those of their parents."""
    new = np.concatenate([old, np.zeros((n - len(old), *old.shape[1:]))])
    for middle, i, j in parents:
        new[middle] = (old[i] + old[j]) / 2
    return new


def _names(faces: np.ndarray) -> np.ndarray:
    """A number for each triangle, whatever the order of its corners."""
    n = len(sphere()[0])
    return np.asarray(np.sort(np.asarray(faces, np.int64), axis=1) @ [n * n, n, 1])


def write_nilearn(folder: Path, mesh: Mesh) -> Path:
    """A data folder of nilearn that holds the mesh."""
    out = folder / {"fsaverage6": "fsaverage6", "fsaverage7": "fsaverage"}[mesh]
    out.mkdir(parents=True)
    for hemi in HEMISPHERES:
        parts = split(mesh, hemi)
        flat = np.column_stack([parts.flat, np.zeros(len(parts.flat))])
        for name, points, faces in (("flat", flat, parts.flat_faces), ("infl", parts.inflated, parts.faces)):
            arrays = [
                make.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
                make.GiftiDataArray(faces.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
            ]
            nibabel.save(make.GiftiImage(darrays=arrays), out / f"{name}_{SIDES[hemi]}.gii.gz")
        depth = make.GiftiDataArray(parts.sulc.astype(np.float32), intent="NIFTI_INTENT_SHAPE")
        nibabel.save(make.GiftiImage(darrays=[depth]), out / f"sulc_{SIDES[hemi]}.gii.gz")
    return folder


def write_freesurfer(folder: Path, mesh: Mesh, turn: np.ndarray | None) -> Path:
    """Subjects of FreeSurfer that hold the mesh, its flat patch turned by a matrix (2, 2); None for no patch."""
    surf = folder / {"fsaverage6": "fsaverage6", "fsaverage7": "fsaverage"}[mesh] / "surf"
    surf.mkdir(parents=True)
    for hemi in HEMISPHERES:
        parts = split(mesh, hemi)
        fs.write_geometry(surf / f"{hemi}.inflated", parts.inflated, parts.faces)
        fs.write_morph_data(surf / f"{hemi}.sulc", parts.sulc.astype(np.float32))
        if turn is None:
            continue
        index = np.unique(parts.flat_faces)
        edge = np.zeros(len(parts.flat), bool)
        edge[index[::7]] = True  # some vertices of a patch are on its border, with negative numbers
        record = np.zeros(len(index), [("number", ">i4"), ("place", ">f4", 3)])
        record["number"] = np.where(edge[index], -1, 1) * (index + 1)
        record["place"][:, :2] = parts.flat[index] @ turn + [12.0, -30.0]
        head = np.array([-1, len(index)], ">i4").tobytes()
        (surf / f"{hemi}.cortex.patch.flat").write_bytes(head + record.tobytes())
    return folder
