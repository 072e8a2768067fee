"""Where the voxels of a table lie. The table itself says it; a run folder needs nothing else.

Every table has the columns `hemi` and `vertex`. There are three kinds:

- **fsaverage**: no more columns. `hemi` is 'lh' or 'rh', and `vertex` a vertex of fsaverage7, at most once.
- **native surface**: `voxel` is the number of a vertex of the subject's own surface, and `x_mm`, `y_mm`, `z_mm` its
  place on the sphere that FreeSurfer registered to fsaverage (`?h.sphere.reg`, radius 100 mm). Nothing is resampled.
  `vertex` is the nearest vertex of fsaverage7, which several voxels may share.
- **points**: `vertex` is -1, `voxel` the owner's name or number, and `x_mm`, `y_mm`, `z_mm` coordinates: voxels of a
  volume, electrodes, neurons, of any species. By convention x points to the right, y to the front and z up. `hemi` is
  '' where it is not known.

Shape letters: N voxels, V vertices of a mesh.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import (
    HEMISPHERES,
    N_VERTICES,
    RIGHT_SHIFT_MM,
    SPHERE_RADIUS_MM,
    Floats,
    Ints,
    positions_mm,
    sphere,
)
from bddn.cortex.meshes import MESHES, Mesh
from bddn.cortex.surfaces import check_vertices
from bddn.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

VOXEL = "voxel"
COORDINATES = ("x_mm", "y_mm", "z_mm")
PLACE_COLUMNS = ("hemi", "vertex", VOXEL, *COORDINATES)
"""All columns that say which voxel it is and where it lies; other text columns are labels."""
_WORDS = {
    VOXEL: "name or number of the voxel in its data; of a native surface, number of its vertex",
    "x_mm": "coordinate in mm; of a native surface, on the sphere that is registered to fsaverage",
    "y_mm": "as x_mm",
    "z_mm": "as x_mm",
}
NEAR_MM = 3.0
"""Largest distance on the sphere between a drawn vertex and the native voxel that it shows."""

Mask = npt.NDArray[np.bool_]
Space = Literal["fsaverage", "native surface", "points"]


def space_of(table: "pd.DataFrame") -> Space:
    """Return the kind of place that the voxels of a table have."""
    if COORDINATES[0] not in table:
        return "fsaverage"
    return "points" if bool((table["vertex"] < 0).all()) else "native surface"


def keys_of(table: "pd.DataFrame") -> list[str]:
    """Return the names of the two columns that identify a voxel of one subject."""
    return ["hemi", "vertex"] if space_of(table) == "fsaverage" else ["hemi", VOXEL]


def place_columns(table: "pd.DataFrame") -> list[str]:
    """Return the names of the columns of `PLACE_COLUMNS` that a table has; tables about its voxels keep them."""
    return [name for name in PLACE_COLUMNS if name in table]


def place_words(table: "pd.DataFrame") -> dict[str, str]:
    """Return what these columns mean, beside `hemi` and `vertex`."""
    return {name: words for name, words in _WORDS.items() if name in table}


def sides(table: "pd.DataFrame") -> dict[str, Mask]:
    """Return masks (N,) of the parts of a table that are judged apart: the hemispheres 'lh' and 'rh'. Points of an
    unknown hemisphere are 'all', or 'other' beside points of a known one."""
    hemi = table["hemi"].to_numpy()
    if not (unknown := hemi == "").any():
        return {side: hemi == side for side in HEMISPHERES}
    known = {side: mask for side in HEMISPHERES if (mask := hemi == side).any()}
    return {**known, "other" if known else "all": unknown}


def coordinates(table: "pd.DataFrame") -> npt.NDArray[np.float32]:
    """Return the columns x_mm, y_mm and z_mm, (N, 3)."""
    return np.array(table[list(COORDINATES)], dtype=np.float32)


def positions(table: "pd.DataFrame") -> npt.NDArray[np.float32]:
    """Return the positions (N, 3) in mm from which the encoder computes its position code: those on the two spheres of
    fsaverage, side by side, and coordinates of points as they are."""
    if space_of(table) == "fsaverage":
        return positions_mm(table["hemi"].to_numpy(), table["vertex"].to_numpy())
    found = coordinates(table)
    if space_of(table) == "native surface":
        found[(table["hemi"] == "rh").to_numpy(), 0] += RIGHT_SHIFT_MM
    return found


def on_spheres(table: "pd.DataFrame") -> npt.NDArray[np.float32]:
    """Return positions (N, 3) on the scale of the two spheres, for all that compares distances of voxels.

    On surfaces they are `positions`. Points may be any size, from a patch of neurons to a brain: they are centred and
    scaled so that their longest side is 200 mm, a sphere's diameter, after the left hemisphere was mirrored onto the
    right one at the middle between both. The right hemisphere is then shifted as its sphere is.
    """
    if space_of(table) != "points":
        return positions(table)
    at, hemi = coordinates(table).astype(np.float64), table["hemi"].to_numpy()
    left, right = hemi == "lh", hemi == "rh"
    if left.any() and right.any():
        at[:, 0] -= (at[left, 0].mean() + at[right, 0].mean()) / 2
    at[left, 0] *= -1
    low, high = at.min(0), at.max(0)
    longest = float((high - low).max())
    at = (at - (low + high) / 2) * (2 * SPHERE_RADIUS_MM / longest if longest > 0 else 1.0)
    at[left, 0] *= -1
    at[right, 0] += RIGHT_SHIFT_MM
    return np.asarray(at, np.float32)


def on_mesh(table: "pd.DataFrame", mesh: Mesh) -> "pd.DataFrame":
    """Return the voxels that are drawn on a mesh, as a table of the kind 'fsaverage'.

    Voxels of fsaverage are at the vertices with the same number. Of a native surface, every vertex of the mesh shows
    the nearest voxel, if one is within `NEAR_MM` on the sphere; a voxel may be shown at several vertices, or at none.

    Parameters
    ----------
    table : DataFrame, N rows
    mesh : str

    Returns
    -------
    DataFrame
        `vertex` is that of the mesh. The index has the row (0 to N - 1) of each voxel in `table`.

    Raises
    ------
    DataError
        If the voxels are points, or a vertex is invalid or occurs twice.
    """
    space = space_of(table)
    if space == "points":
        raise not_on_surface("voxel table", table)
    table = table.set_axis(range(len(table)), axis=0)
    if space == "fsaverage":
        for hemi in HEMISPHERES:
            check_vertices(f"vertex, {hemi}", table.loc[table["hemi"] == hemi, "vertex"].to_numpy())
        return table[table["vertex"] < MESHES[mesh]]
    rows, vertices = [], []
    for mask in sides(table).values():
        if mask.any():
            nearest, near = _nearest(coordinates(table[mask]).tobytes(), MESHES[mesh])
            vertices.append(np.flatnonzero(near))
            rows.append(np.flatnonzero(mask)[nearest[near]])
    shown = table.iloc[np.concatenate(rows)].drop(columns=[VOXEL, *COORDINATES])
    return shown.assign(vertex=np.concatenate(vertices))


def drawn_rows(table: "pd.DataFrame", mesh: Mesh = "fsaverage5") -> npt.NDArray[np.int64]:
    """Return the rows of the voxels that are drawn on a mesh, in ascending order; none of points."""
    if space_of(table) == "points":
        return np.empty(0, np.int64)
    if space_of(table) == "fsaverage":
        return np.flatnonzero(table["vertex"].to_numpy() < MESHES[mesh]).astype(np.int64)
    return np.unique(on_mesh(table[place_columns(table)], mesh).index.to_numpy(np.int64))


def native_voxels(places: Mapping[str, Floats], vertices: Mapping[str, Ints]) -> "pd.DataFrame":
    """Return a table of voxels on a native surface, without labels and ceilings.

    Parameters
    ----------
    places : mapping of str to array of float, (n, 3)
        All vertices of the registered sphere of each hemisphere, 'lh' or 'rh'.
    vertices : mapping of str to array of int, (m,)
        The vertices that are voxels, of each of these hemispheres; different numbers from 0 to n - 1.

    Returns
    -------
    DataFrame
        The columns of `PLACE_COLUMNS`, the left hemisphere first, in the order of `vertices`.

    Raises
    ------
    DataError
        If the vertices are not on a sphere around the origin, or a number is not that of a vertex, or is given twice.
    """
    import pandas as pd
    from scipy.spatial import KDTree

    if set(places) != set(vertices) or not set(places) <= set(HEMISPHERES) or not places:
        raise DataError(
            "native surface",
            expected="a sphere and vertices for each hemisphere, 'lh', 'rh' or both",
            got=f"spheres {sorted(places)}, vertices {sorted(vertices)}",
            fix="Give the files of both.",
        )
    tables = []
    for hemi in (hemi for hemi in HEMISPHERES if hemi in places):
        chosen = np.asarray(vertices[hemi], np.int64)
        at = _on_unit_sphere(f"sphere, {hemi}", np.asarray(places[hemi], np.float64)) * SPHERE_RADIUS_MM
        outside = chosen[(chosen < 0) | (chosen >= len(at))]
        if outside.size or len(np.unique(chosen)) < len(chosen):
            raise DataError(
                f"vertices, {hemi}",
                expected=f"different numbers of the {len(at):,} vertices of the sphere, from 0",
                got=f"{outside[0]}" if outside.size else "a number twice",
                fix="Take sphere and data of the same subject and surface.",
            )
        own = at[chosen].astype(np.float32)
        nearest = KDTree(sphere()[0]).query(own)[1] if len(own) else np.empty(0, np.int64)
        columns = {"hemi": hemi, "vertex": nearest, VOXEL: chosen, **dict(zip(COORDINATES, own.T, strict=True))}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def check_places(place: str, table: "pd.DataFrame") -> None:
    """Refuse a table that is of none of the three kinds.

    Parameters
    ----------
    place : str
        The place that the message names.
    table : DataFrame

    Raises
    ------
    DataError
        If a column is missing, a hemisphere, vertex or coordinate is invalid, or a voxel occurs twice.
    """

    def refuse(where: str, expected: str, got: str, fix: str) -> None:
        raise DataError(f"{place}, column {where}", expected=expected, got=got, fix=fix)

    own = (VOXEL, *COORDINATES)
    some = [name for name in own if name in table]
    if some and len(some) < len(own):
        missing = [name for name in own if name not in table]
        refuse(missing[0], f"the columns {', '.join(own)}, or none of them", f"only {', '.join(some)}", "Give all.")
    space = space_of(table)
    invalid = sorted(set(table["hemi"].astype(str)) - {*HEMISPHERES, *([""] if space == "points" else [])})
    if invalid:
        allowed = "'lh', 'rh' or '' (not known)" if space == "points" else "'lh' or 'rh'"
        refuse("hemi", allowed, f"{invalid[:3]}", "Rename them.")
    if space == "fsaverage":
        for hemi in HEMISPHERES:
            check_vertices(f"{place}, column vertex, {hemi}", table.loc[table["hemi"] == hemi, "vertex"].to_numpy())
        return
    vertex = table["vertex"].to_numpy()
    if not np.issubdtype(vertex.dtype, np.integer) or (
        space == "native surface" and not ((vertex >= 0) & (vertex < N_VERTICES)).all()
    ):
        expected = f"-1 for all voxels (points), or vertices of fsaverage7, 0 to {N_VERTICES - 1:,}"
        refuse("vertex", expected, f"{vertex.dtype}, {vertex.min()} to {vertex.max()}", "Keep points apart.")
    at = coordinates(table)
    if not (finite := np.isfinite(at).all(axis=1)).all():
        row = int(np.flatnonzero(~finite)[0])
        refuse(COORDINATES[0], "finite coordinates in mm", f"{at[row].tolist()} in row {row}", "Leave this voxel out.")
    if space == "native surface":
        _on_unit_sphere(f"{place}, columns {', '.join(COORDINATES)}", at / SPHERE_RADIUS_MM, 1.0)
    if len(twice := table.loc[table.duplicated(keys_of(table)), VOXEL]):
        refuse(VOXEL, "another name for every voxel of a hemisphere", f"{twice.iloc[0]!r} twice", "Rename one of them.")


def not_on_surface(place: object, table: "pd.DataFrame") -> DataError:
    """Return the error of what can draw only voxels on a cortical surface, for a table of points."""
    return DataError(
        place,
        expected="voxels on a cortical surface, which alone can be drawn here",
        got=f"{len(table):,} points that are known by their coordinates",
        fix="Draw them with 'bddn maps RUN', which shows points from several sides.",
    )


def _on_unit_sphere(place: str, at: Floats, radius: float | None = None) -> npt.NDArray[np.float64]:
    """Return directions (n, 3) of points that lie on one sphere around the origin; refuse others."""
    length = np.linalg.norm(at, axis=1) if at.ndim == 2 and at.shape[1:] == (3,) else np.zeros(1)
    typical = float(np.median(length)) if len(length) else 1.0
    around = typical if radius is None else radius
    if not (typical > 0 and np.isfinite(length).all() and (np.abs(length / around - 1) < 0.02).all()):
        raise DataError(
            place,
            expected="points (n, 3) of a sphere around the origin, as of FreeSurfer's ?h.sphere.reg (radius 100 mm)",
            got=f"shape {at.shape}, distances from the origin {length.min():.4g} to {length.max():.4g}",
            fix="Give ?h.sphere.reg of this subject, not its white, pial or inflated surface.",
        )
    return np.asarray(at / np.linalg.norm(at, axis=1, keepdims=True), np.float64)


@lru_cache(maxsize=8)
def _nearest(places: bytes, n_vertices: int) -> tuple[npt.NDArray[np.intp], Mask]:
    """Return for each vertex (V,) of a mesh the nearest of some places on the sphere, (n, 3) float32 as bytes, and
    whether it is near. All maps of a run share the result."""
    from scipy.spatial import KDTree

    at = np.frombuffer(places, np.float32).reshape(-1, 3)
    distance, nearest = KDTree(at).query(sphere()[0][:n_vertices])
    return np.asarray(nearest, np.intp), np.asarray(distance <= NEAR_MM)
