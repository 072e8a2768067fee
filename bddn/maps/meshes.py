"""The meshes of fsaverage that maps are drawn on, and where the finer ones are found on this machine.

fsaverage5 comes with nilearn. fsaverage6 and 7 are looked for in nilearn's data folders and among FreeSurfer's
subjects. Vertices of the coarser meshes are the first ones of the finer, so all of them share their numbers.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bddn.data.fsaverage import N_VERTICES, N_VERTICES_FSAVERAGE5, Floats, Ints, fsaverage5
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
class Parts:
    """What is read of one hemisphere of a mesh of V vertices.

    Attributes
    ----------
    flat : array of float, (V, 2), in mm, or None
        None where the files have no flat map; vertices that `flat_faces` does not name have no place.
    flat_faces : array of int, (F, 3)
    inflated : array of float, (V, 3), in mm
    faces : array of int, (G, 3)
    sulc : array of float, (V,)
        Positive in sulci.
    """

    flat: Floats | None
    flat_faces: Ints
    inflated: Floats
    faces: Ints
    sulc: Floats


def read_mesh(mesh: Mesh, hemi: str) -> Parts:
    """One hemisphere of a mesh.

    Parameters
    ----------
    mesh : str
        'fsaverage5' (inside nilearn), 'fsaverage6' or 'fsaverage7' (from the first folder that has it).
    hemi : str
        'lh' or 'rh'.

    Returns
    -------
    Parts

    Raises
    ------
    DataError
        If no folder has the mesh, or its files are not this hemisphere of it.
    """
    if mesh == "fsaverage5":
        flat, flat_faces = fsaverage5("flat", hemi)
        inflated, faces = fsaverage5("infl", hemi)
        return Parts(flat[:, :2], flat_faces, inflated, faces, fsaverage5("sulc", hemi))
    tried = []
    for folder, read in _places(mesh):
        if all(path.exists() for path in read.needs(folder, hemi)):
            found = read.parts(folder, hemi)
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


class _Nilearn:
    """Files as nilearn keeps them: PART_SIDE.gii.gz."""

    @staticmethod
    def needs(folder: Path, hemi: str) -> list[Path]:
        return [folder / f"{part}_{_SIDES[hemi]}.gii.gz" for part in ("flat", "infl", "sulc")]

    @classmethod
    def parts(cls, folder: Path, hemi: str) -> Parts:
        import nibabel

        load: Any = nibabel.load
        (flat, flat_faces), (inflated, faces), sulc = (
            _opened(path, lambda path: load(path).agg_data()) for path in cls.needs(folder, hemi)
        )
        return Parts(flat[:, :2], flat_faces, inflated, faces, sulc)


class _FreeSurfer:
    """Files as in the folder surf/ of a subject of FreeSurfer: HEMI.inflated, HEMI.sulc, HEMI.cortex.patch.flat."""

    @staticmethod
    def needs(folder: Path, hemi: str) -> list[Path]:
        return [folder / f"{hemi}.{part}" for part in ("inflated", "sulc")]

    @classmethod
    def parts(cls, folder: Path, hemi: str) -> Parts:
        from nibabel import freesurfer

        reader: Any = freesurfer
        surface, depth = cls.needs(folder, hemi)
        inflated, faces = _opened(surface, reader.read_geometry)
        sulc = _opened(depth, reader.read_morph_data)
        patch = folder / f"{hemi}.cortex.patch.flat"
        if not patch.exists():
            return Parts(None, faces[:0], inflated, faces, sulc)
        flat, flat_faces = _opened(patch, lambda path: _turned(*_read_patch(path, len(inflated), faces), hemi=hemi))
        return Parts(flat, flat_faces, inflated, faces, sulc)


def _places(mesh: Mesh) -> "Iterator[tuple[Path, type[_Nilearn] | type[_FreeSurfer]]]":
    """Where a mesh may be, in the order in which it is looked for, and how it is read there."""
    from nilearn.datasets.utils import get_data_dirs

    name = _SUBJECT[mesh]
    for folder in get_data_dirs():
        yield Path(folder) / name, _Nilearn
    home = os.environ.get("FREESURFER_HOME")
    for subjects in (os.environ.get("SUBJECTS_DIR"), f"{home}/subjects" if home else None):
        if subjects:
            yield Path(subjects) / name / "surf", _FreeSurfer


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


def _check(found: Parts, mesh: Mesh, hemi: str, folder: Path) -> None:
    """Refuse files with another number of vertices, or with the vertices in another order than fsaverage5's."""
    n = MESHES[mesh]
    parts = {"inflated": found.inflated, "sulc": found.sulc, "flat": found.flat}
    sizes = {name: len(part) for name, part in parts.items() if part is not None}
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
