"""Read the fsaverage meshes on which maps are drawn.

fsaverage5 is part of nilearn. fsaverage6 and fsaverage7 are searched for in nilearn's data folders and in FreeSurfer's
subjects. The first vertices of a finer mesh are those of the coarser mesh, so all meshes share their vertex numbers.
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
"""Number of vertices of a hemisphere."""

_SUBJECT: dict[Mesh, str] = {"fsaverage6": "fsaverage6", "fsaverage7": "fsaverage"}
"""Name of the folder, in nilearn and in FreeSurfer."""
_SIDES = {"lh": "left", "rh": "right"}
_MIN_CORRELATION = 0.9  # of vertex positions with those of fsaverage5
_PATCH_MAGIC = -1


@dataclass(frozen=True, eq=False)
class Surface:
    """One hemisphere of a mesh of V vertices: a flat map and an inflated surface.

    Attributes
    ----------
    flat : array of float, (V, 2), in mm
        Positions on the flat map: dorsal is up; anterior is left on the left hemisphere and right on the right one.
        They are defined only for the vertices in `flat_faces`.
    flat_faces : array of int, (F, 3)
        Triangles of the flat map, without the medial wall and the cuts; empty if no flat map was found.
    inflated : array of float, (V, 3), in mm
        Positions on the inflated surface: x to the right, y to the front, z up.
    faces : array of int, (G, 3)
        Triangles of the inflated surface, counter-clockwise seen from outside.
    sulc : array of float, (V,)
        Sulcal depth, positive in sulci; it is drawn as grey background.
    """

    flat: Floats
    flat_faces: Ints
    inflated: Floats
    faces: Ints
    sulc: Floats


def read_mesh(hemi: str, mesh: Mesh) -> Surface:
    """Read one hemisphere of a mesh.

    Parameters
    ----------
    hemi : str
        'lh' or 'rh'.
    mesh : str
        'fsaverage5' (in nilearn), or 'fsaverage6' or 'fsaverage7' (from the first folder that contains it).

    Returns
    -------
    Surface

    Raises
    ------
    DataError
        If no folder contains the mesh, or its files do not match this hemisphere.
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
        fix=f"Download it with 'bddn maps RUN --mesh {mesh} --fetch', or draw on fsaverage5.",
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
    except Exception as error:  # urllib, requests and tarfile have no common base class
        raise DataError(
            mesh,
            expected="a download from osf.io by nilearn",
            got=f"{type(error).__name__}: {error}",
            fix="Check the network and try again, or copy the folder from a machine that has it.",
        ) from error


def _places(hemi: str, mesh: Mesh) -> Iterator[tuple[Path, list[str], Callable[..., Surface]]]:
    """Yield the folders that may contain a mesh, in search order, with the names and the reader of their files."""
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
    (flat, flat_faces), (inflated, faces), sulc = (
        _read_file(file, lambda path: load(path).agg_data()) for file in files
    )
    return Surface(flat[:, :2], flat_faces, inflated, faces, sulc)


def _read_freesurfer(surface: Path, depth: Path) -> Surface:
    from nibabel import freesurfer

    reader: Any = freesurfer
    inflated, faces = _read_file(surface, reader.read_geometry)
    sulc, hemi = _read_file(depth, reader.read_morph_data), surface.stem
    patch = surface.with_name(f"{hemi}.cortex.patch.flat")
    flat, flat_faces = np.full((len(inflated), 2), np.nan), faces[:0]
    if patch.exists():
        flat, flat_faces = _read_file(patch, lambda path: _aligned(*_read_patch(path, len(inflated), faces), hemi=hemi))
    return Surface(flat, flat_faces, inflated, faces, sulc)


def _read_file(path: Path, read: Any) -> Any:
    try:
        return read(path)
    except Exception as error:  # the parsers of nibabel can raise anything
        raise DataError(
            path,
            expected="a file of fsaverage",
            got=f"{type(error).__name__}: {error}",
            fix="Copy or download the folder again.",
        ) from error


def _read_patch(path: Path, n_vertices: int, faces: Ints) -> tuple[Floats, Ints]:
    """Read a FreeSurfer patch; return positions (V, 2), NaN outside the patch, and the faces (F, 3) inside it.

    The file is big-endian: -1, the number of vertices, then for each vertex its number and x, y, z as float32. Numbers
    start at 1, and are negative on the border of the patch.
    """
    data = path.read_bytes()
    magic, n = np.frombuffer(data, ">i4", 2)
    if magic != _PATCH_MAGIC or len(data) != 8 + 16 * n:
        raise ValueError(f"not a binary patch of {n} vertices")
    records = np.frombuffer(data, [("number", ">i4"), ("place", ">f4", 3)], offset=8)
    index = np.abs(records["number"].astype(np.int64)) - 1
    if index.max(initial=-1) >= n_vertices or index.min(initial=0) < 0:
        raise ValueError(f"a patch of another surface: vertex {index.max()} of {n_vertices}")
    flat = np.full((n_vertices, 2), np.nan)
    flat[index] = records["place"][:, :2]
    return flat, faces[np.isfinite(flat[faces, 0]).all(axis=1)]


def _aligned(flat: Floats, faces: Ints, hemi: str) -> tuple[Floats, Ints]:
    """Rotate (and mirror, if needed) a flat map to the orientation of fsaverage5, with its faces toward the viewer."""
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
    """Refuse files with a wrong number of vertices, or with vertices in an order other than fsaverage5's."""
    n = MESHES[mesh]
    sizes = {name: len(getattr(found, name)) for name in ("inflated", "sulc", "flat")}
    if (
        any(size != n for size in sizes.values())
        or found.faces.max(initial=0) >= n
        or found.flat_faces.max(initial=0) >= n
    ):
        raise DataError(
            folder,
            expected=f"{n:,} vertices in every file of {mesh}",
            got=", ".join(f"{name} {size:,}" for name, size in sizes.items()),
            fix="Copy or download the folder again.",
        )
    coarse = fsaverage5("infl", hemi)[0]
    alike = [np.corrcoef(coarse[:, k], found.inflated[: len(coarse), k])[0, 1] for k in range(3)]
    if not min(alike) > _MIN_CORRELATION:
        raise DataError(
            folder,
            expected=f"FreeSurfer's vertex order: the first {len(coarse):,} at the positions of fsaverage5 ({hemi})",
            got=f"positions that correlate with {min(alike):.2f}",
            fix="Use the original fsaverage of FreeSurfer or nilearn, and check that left and right are not exchanged.",
        )
