"""The meshes of fsaverage that maps are drawn on, and where the finer ones are found on this machine.

fsaverage5 comes with nilearn. fsaverage6 and 7 are looked for in nilearn's data folders and among FreeSurfer's
subjects. Vertices of the coarser meshes are the first ones of the finer, so all of them share their numbers.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bddn.cortex.fsaverage import N_VERTICES, N_VERTICES_FSAVERAGE5, Floats, Ints, fsaverage5
from bddn.errors import DataError

Mesh = Literal["fsaverage5", "fsaverage6", "fsaverage7"]

MESHES: dict[Mesh, int] = {"fsaverage5": N_VERTICES_FSAVERAGE5, "fsaverage6": 40_962, "fsaverage7": N_VERTICES}
"""Vertices of a hemisphere."""

_SUBJECT: dict[Mesh, str] = {"fsaverage6": "fsaverage6", "fsaverage7": "fsaverage"}
"""The folder's name, for nilearn and for FreeSurfer."""
_SIDES = {"lh": "left", "rh": "right"}
_ALIKE = 0.9
_PATCH_MAGIC = -1


@dataclass(frozen=True, eq=False)
class Surface:
    """One hemisphere of a mesh of V vertices: a cut and flattened sheet, and an inflated brain.

    Attributes
    ----------
    flat : array of float, (V, 2), in mm
        Places on the sheet: dorsal is up; anterior is left on the left hemisphere and right on the right one.
        Only the vertices that `flat_faces` names have one.
    flat_faces : array of int, (F, 3)
        Triangles of the sheet, which leaves out the medial wall and the cuts; none where no sheet was found.
    inflated : array of float, (V, 3), in mm
        Places on the inflated brain: x to the right, y to the front, z up.
    faces : array of int, (G, 3)
        Triangles of the inflated brain, counter-clockwise seen from outside.
    sulc : array of float, (V,)
        Sulcal depth, positive in sulci; the grey background.
    """

    flat: Floats
    flat_faces: Ints
    inflated: Floats
    faces: Ints
    sulc: Floats


def read_mesh(hemi: str, mesh: Mesh) -> Surface:
    """One hemisphere of a mesh.

    Parameters
    ----------
    hemi : str
        'lh' or 'rh'.
    mesh : str
        'fsaverage5' (inside nilearn), 'fsaverage6' or 'fsaverage7' (from the first folder that has it).

    Returns
    -------
    Surface

    Raises
    ------
    DataError
        If no folder has the mesh, or its files are not this hemisphere of it.
    """
    if mesh == "fsaverage5":
        flat, flat_faces = fsaverage5("flat", hemi)
        inflated, faces = fsaverage5("infl", hemi)
        return Surface(flat[:, :2], flat_faces, inflated, faces, fsaverage5("sulc", hemi))
    tried = []
    for folder, names, read in _places(hemi, mesh):
        files = [folder / name for name in names]
        if all(file.exists() for file in files):
            found = read(*files)
            _check(found, mesh, hemi, folder)
            return found
        tried.append(str(folder))
    raise DataError(
        mesh,
        expected="its files in nilearn's data folder, or FreeSurfer with SUBJECTS_DIR or FREESURFER_HOME set",
        got=f"none in {', '.join(tried)}",
        fix=f"Fetch it ('bddn maps RUN --mesh {mesh} --fetch'), or draw on fsaverage5.",
    )


def fetch_mesh(mesh: Mesh) -> None:
    """Download a mesh into nilearn's data folder (`NILEARN_DATA`, or nilearn_data in the home folder).

    Raises
    ------
    DataError
        If it cannot be downloaded.
    """
    if mesh == "fsaverage5":
        return
    from nilearn import datasets

    try:
        datasets.fetch_surf_fsaverage(mesh)
    except Exception as error:  # urllib, requests and tarfile have no common kind
        raise DataError(
            mesh,
            expected="a download from osf.io by nilearn",
            got=f"{type(error).__name__}: {error}",
            fix="Try again with a network, or copy the folder from a machine that has it.",
        ) from error


def _places(hemi: str, mesh: Mesh) -> Iterator[tuple[Path, list[str], Callable[..., Surface]]]:
    """Folders that may hold a mesh, in the order in which they are looked into; the files it is read from there, and by
    what."""
    from nilearn.datasets.utils import get_data_dirs

    name, side = _SUBJECT[mesh], _SIDES[hemi]
    for folder in get_data_dirs():
        yield Path(folder) / name, [f"{part}_{side}.gii.gz" for part in ("flat", "infl", "sulc")], _read_nilearn
    home = os.environ.get("FREESURFER_HOME")
    for subjects in (os.environ.get("SUBJECTS_DIR"), f"{home}/subjects" if home else None):
        if subjects:
            yield Path(subjects) / name / "surf", [f"{hemi}.inflated", f"{hemi}.sulc"], _read_freesurfer


def _read_nilearn(*files: Path) -> Surface:
    import nibabel

    load: Any = nibabel.load
    (flat, flat_faces), (inflated, faces), sulc = (_opened(file, lambda path: load(path).agg_data()) for file in files)
    return Surface(flat[:, :2], flat_faces, inflated, faces, sulc)


def _read_freesurfer(surface: Path, depth: Path) -> Surface:
    from nibabel import freesurfer

    reader: Any = freesurfer
    inflated, faces = _opened(surface, reader.read_geometry)
    sulc, hemi = _opened(depth, reader.read_morph_data), surface.stem
    patch = surface.with_name(f"{hemi}.cortex.patch.flat")
    flat, flat_faces = np.full((len(inflated), 2), np.nan), faces[:0]
    if patch.exists():
        flat, flat_faces = _opened(patch, lambda path: _turned(*_read_patch(path, len(inflated), faces), hemi=hemi))
    return Surface(flat, flat_faces, inflated, faces, sulc)


def _opened(path: Path, read: Any) -> Any:
    try:
        return read(path)
    except Exception as error:  # nibabel raises what its parsers raise
        raise DataError(
            path,
            expected="a file of fsaverage",
            got=f"{type(error).__name__}: {error}",
            fix="Copy or fetch the folder again.",
        ) from error


def _read_patch(path: Path, n_vertices: int, faces: Ints) -> tuple[Floats, Ints]:
    """A FreeSurfer patch: places (V, 2), NaN where it has none, and those of the faces that lie in it.

    Big-endian: -1, the number of vertices, then for each of them its number and x, y, z as float32. Numbers begin at 1
    and are negative on the patch's border.
    """
    data = path.read_bytes()
    magic, n = np.frombuffer(data, ">i4", 2)
    if magic != _PATCH_MAGIC or len(data) != 8 + 16 * n:
        raise ValueError(f"no binary patch of {n} vertices")
    records = np.frombuffer(data, [("number", ">i4"), ("place", ">f4", 3)], offset=8)
    index = np.abs(records["number"].astype(np.int64)) - 1
    if index.max(initial=-1) >= n_vertices or index.min(initial=0) < 0:
        raise ValueError(f"a patch of another surface: vertex {index.max()} of {n_vertices}")
    flat = np.full((n_vertices, 2), np.nan)
    flat[index] = records["place"][:, :2]
    return flat, faces[np.isfinite(flat[faces, 0]).all(axis=1)]


def _turned(flat: Floats, faces: Ints, hemi: str) -> tuple[Floats, Ints]:
    """A flat map turned (and mirrored, if need be) to lie as fsaverage5's does, with its faces toward the viewer."""
    from scipy.linalg import orthogonal_procrustes

    known, known_faces = fsaverage5("flat", hemi)
    both = np.intersect1d(np.unique(known_faces), np.flatnonzero(np.isfinite(flat[:N_VERTICES_FSAVERAGE5, 0])))
    if len(both) < 3:
        raise ValueError("a patch without vertices of fsaverage5's flat map")
    ours, theirs = known[both, :2].astype(np.float64), flat[both]
    turn, _ = orthogonal_procrustes(theirs - theirs.mean(0), ours - ours.mean(0))
    flat = (flat - theirs.mean(0)) @ turn + ours.mean(0)
    a, b, c = (flat[faces[:, k]] for k in range(3))
    clockwise = (b - a)[:, 0] * (c - a)[:, 1] < (b - a)[:, 1] * (c - a)[:, 0]
    return flat, faces[:, ::-1] if clockwise.mean() > 0.5 else faces


def _check(found: Surface, mesh: Mesh, hemi: str, folder: Path) -> None:
    """Refuse files with another number of vertices, or with the vertices in another order than fsaverage5's."""
    n = MESHES[mesh]
    sizes = {name: len(getattr(found, name)) for name in ("inflated", "sulc", "flat")}
    if (
        any(size != n for size in sizes.values())
        or found.faces.max(initial=0) >= n
        or found.flat_faces.max(initial=0) >= n
    ):
        raise DataError(
            folder,
            expected=f"{n:,} vertices in every file, as {mesh} has",
            got=", ".join(f"{name} {size:,}" for name, size in sizes.items()),
            fix="Copy or fetch the folder again.",
        )
    coarse = fsaverage5("infl", hemi)[0]
    alike = [np.corrcoef(coarse[:, k], found.inflated[: len(coarse), k])[0, 1] for k in range(3)]
    if not min(alike) > _ALIKE:
        raise DataError(
            folder,
            expected=f"vertices in FreeSurfer's order: the first {len(coarse):,} at fsaverage5's places ({hemi})",
            got=f"places that correlate at {min(alike):.2f}",
            fix="Use fsaverage as FreeSurfer or nilearn give it, and check that left and right are not exchanged.",
        )
