"""The places of LAION-fMRI's voxels on fsaverage, by the subject's FreeSurfer folder. No response is sampled.

A voxel belongs to the nearest vertex of the middle of the cortex (between `white` and `pial`), if that is near. Its
place is on the sphere that FreeSurfer registered to fsaverage: between this vertex and its neighbours on the mesh,
weighted by their distances from the voxel, so that two voxels have two places, and the other bank of a sulcus has no
weight. FreeSurfer's coordinates become those of the volume by the offset in the headers of its surfaces (c_ras).

Whether this is right is seen from the data: the ROIs are given on the surface and in the volume. If most of the voxels
of ROIs are not at vertices of the same ROIs, the places are refused.

Shape letters: N voxels, V vertices of a hemisphere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.fsaverage import HEMISPHERES, SPHERE_RADIUS_MM, sphere
from bddn.cortex.places import COORDINATES
from bddn.data.imaging_files import check_side, freesurfer, load_image
from bddn.data.laion.rois import Roi, read_mask
from bddn.errors import DataError
from bddn.files.filekind import MISSING, explain, is_listed

NEAR_MM = 3.0
"""Largest distance of the centre of a voxel from the middle of the cortex: half a thickness, and half a diagonal."""
LEAST_SHARE = 0.5
"""Share of the voxels of ROIs that must be at vertices of the same ROIs."""
SURFACES = ("white", "pial", "sphere.reg")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Cortex:
    """One hemisphere: the middle of the cortex (V, 3) in mm in the volume's coordinates, its faces, and places on the
    registered sphere (V, 3)."""

    middle: Floats
    faces: Ints
    at: Floats


@dataclass(frozen=True)
class OnFsaverage:
    """The places of voxels.

    Attributes
    ----------
    near : array of bool, (N,)
        Which voxels are near the cortex; the others have no place.
    hemi : array of str, (N,)
    vertex : array of int, (N,)
        The nearest vertex of the subject's own surface.
    at : array of float32, (N, 3)
        On the sphere, in mm.
    """

    near: npt.NDArray[np.bool_]
    hemi: npt.NDArray[np.str_]
    vertex: Ints
    at: npt.NDArray[np.float32]

    def part(self, mask: npt.NDArray[np.bool_]) -> pd.DataFrame:
        """Return the columns of places of some voxels; see `bddn.cortex.places`."""
        from scipy.spatial import KDTree

        at = self.at[mask]
        nearest = KDTree(sphere()[0]).query(at)[1]
        return pd.DataFrame({"hemi": self.hemi[mask], "vertex": nearest, **dict(zip(COORDINATES, at.T, strict=True))})


def read_cortex(folder: Path, hemi: str) -> Cortex:
    """Read one hemisphere of a FreeSurfer folder.

    Raises
    ------
    DataError
        If a surface is missing or damaged, they differ in their vertices, or their offset is not in the header.
    """
    points, faces, offset = {}, np.zeros(0, np.intp), np.zeros(3)
    for name in SURFACES:
        path = folder / "surf" / f"{hemi}.{name}"
        try:
            points[name], faces, about = freesurfer().read_geometry(path, read_metadata=True)
            if name == SURFACES[0]:
                offset = np.asarray(about["cras"], float)
        except Exception as error:  # the parsers of nibabel can raise anything
            cause = "no offset c_ras in its header" if isinstance(error, KeyError) else f"{error}"
            fix = "Get the FreeSurfer folder of the subject again."
            got, fix = explain(path, cause, fix, *(() if path.exists() else (MISSING,)))
            raise DataError(path, expected="a FreeSurfer surface with its volume's header", got=got, fix=fix) from error
    if len({len(found) for found in points.values()}) > 1:
        sizes = ", ".join(f"{name} {len(found)}" for name, found in points.items())
        raise DataError(
            folder, expected=f"surfaces of {hemi} with equal numbers of vertices", got=sizes, fix="Restore the folder."
        )
    at = points["sphere.reg"] / np.linalg.norm(points["sphere.reg"], axis=1, keepdims=True)
    return Cortex((points["white"] + points["pial"]) / 2 + offset, np.asarray(faces, np.intp), at)


def on_fsaverage(folder: Path, mm: npt.NDArray[np.floating]) -> tuple[OnFsaverage, Mapping[str, int]]:
    """Return the places of voxels, and the number of vertices of each hemisphere.

    Parameters
    ----------
    folder : Path
        The FreeSurfer folder of the subject.
    mm : array, (N, 3)
        Coordinates of the voxels.

    Raises
    ------
    DataError
        If a surface is missing or damaged, or left and right are exchanged.
    """
    from scipy.spatial import KDTree

    both = {side: read_cortex(folder, side) for side in HEMISPHERES}
    x = {side: float(cortex.middle[:, 0].mean()) for side, cortex in both.items()}
    if x["lh"] >= x["rh"]:
        raise DataError(
            folder,
            expected="lh surfaces to the left of rh surfaces",
            got=f"their centres at x = {x['lh']:.1f} mm and {x['rh']:.1f} mm",
            fix="Get the FreeSurfer folder of the subject again; left and right are exchanged.",
        )
    distance = np.full(len(mm), np.inf)
    hemi, vertex = np.full(len(mm), "", "<U2"), np.zeros(len(mm), np.intp)
    at = np.zeros((len(mm), 3), np.float32)
    for side, cortex in both.items():
        found, nearest = KDTree(cortex.middle).query(mm)
        mine = np.flatnonzero(found < distance)
        distance[mine], hemi[mine], vertex[mine] = found[mine], side, nearest[mine]
        at[mine] = _between_neighbours(cortex, mm[mine], nearest[mine])
    return OnFsaverage(distance <= NEAR_MM, hemi, vertex, at), {side: len(of.middle) for side, of in both.items()}


def _between_neighbours(cortex: Cortex, mm: npt.NDArray[np.floating], vertex: Ints) -> npt.NDArray[np.float32]:
    """Return places on the sphere (n, 3) between vertices (n,) and their neighbours, by distances from points."""
    from scipy.sparse import csr_array

    n = len(cortex.middle)
    a, b = np.concatenate([cortex.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]).T
    ones = np.ones(2 * len(a) + n)
    every = np.arange(n)
    near = csr_array((ones, (np.concatenate([a, b, every]), np.concatenate([b, a, every]))), shape=(n, n))[vertex]
    row = np.repeat(np.arange(len(vertex)), np.diff(near.indptr))
    weight = 1 / (np.square(mm[row] - cortex.middle[near.indices]).sum(1) + 1e-6)
    sums = np.zeros((len(vertex), 3))
    np.add.at(sums, row, weight[:, None] * cortex.at[near.indices])
    return np.asarray(SPHERE_RADIUS_MM * sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)


def agreement(
    found: OnFsaverage,
    ijk: Ints,
    volume: Any,
    rois: Sequence[Roi],
    surface_rois: Sequence[Roi],
    sizes: Mapping[str, int],
) -> float | None:
    """Return the share of the voxels in ROIs that are at vertices of the same ROIs; None if no ROI is given in both.

    Parameters
    ----------
    found : OnFsaverage
    ijk : array of int, (N, 3)
    volume : Volume
        The grid of `ijk`.
    rois, surface_rois : sequence of Roi
        Masks in the volume, and on the subject's surface.
    sizes : mapping of str to int
        Number of vertices of each hemisphere.
    """
    inside = right = 0
    for name in dict.fromkeys(roi.name for roi in rois):
        masks = {roi.hemi: _surface_mask(roi, sizes) for roi in surface_rois if roi.name == name}
        if set(masks) != set(HEMISPHERES):
            continue
        mask = np.logical_or.reduce([read_mask(roi.path, volume) for roi in rois if roi.name == name])
        voxels = np.flatnonzero(mask[tuple(ijk.T)] & found.near)
        inside += len(voxels)
        right += sum(int(masks[hemi][found.vertex[voxels[found.hemi[voxels] == hemi]]].sum()) for hemi in HEMISPHERES)
    return right / inside if inside else None


def _surface_mask(roi: Roi, sizes: Mapping[str, int]) -> npt.NDArray[np.bool_]:
    check_side(roi.path, roi.hemi)
    values = np.asarray(load_image(roi.path).darrays[0].data)
    if values.shape != (sizes[roi.hemi],):
        raise DataError(
            roi.path,
            expected=f"a number for each of the {sizes[roi.hemi]:,} vertices of the subject's own surface",
            got=f"numbers of shape {values.shape}",
            fix="Use ROIs and FreeSurfer folder of the same subject.",
        )
    return np.asarray(values > 0.5)


def check_agreement(folder: Path, share: float | None) -> None:
    """Refuse places that the ROIs do not confirm.

    Raises
    ------
    DataError
    """
    if share is not None and share >= LEAST_SHARE:
        return
    got = "no ROI that is given in both, so that nothing shows it"
    if share is not None:
        got = f"{100 * share:.0f} %: surfaces, ROIs and volume are not of one subject, or not in one space"
    raise DataError(
        folder,
        expected=f"at least {100 * LEAST_SHARE:.0f} % of the voxels of ROIs at vertices of the same ROIs",
        got=got,
        fix="Get ROIs and FreeSurfer folder of this subject again, or remove place=fsaverage.",
    )


def surfaces_missing(folder: Path) -> list[Path]:
    """Return the files that a FreeSurfer folder lacks."""
    files = [folder / "surf" / f"{hemi}.{name}" for hemi in HEMISPHERES for name in SURFACES]
    return [file for file in files if not is_listed(file)]
