"""The places of own data: which vertices or points the voxels are, and in which order files contain them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Frame, NativeMesh, Volume
from bddn.cortex.fsaverage import HEMISPHERES, Floats
from bddn.cortex.meshes import MESHES
from bddn.cortex.places import COORDINATES, native_voxels
from bddn.data.imaging_files import brain_models, check_side, read_surface, read_volume, registered_to
from bddn.data.own.numbers import ROUNDED, read_numbers
from bddn.data.table_files import NO_VALUE, Table, read_table
from bddn.errors import DataError
from bddn.files.filekind import HDF5, kind_of
from bddn.files.paths import expand_home
from bddn.spec import SidesSpec, VoxelsSpec
from bddn.text import count, shorten

CIFTI_NAME = {"lh": "CIFTI_STRUCTURE_CORTEX_LEFT", "rh": "CIFTI_STRUCTURE_CORTEX_RIGHT"}
SIDES = {"l", "r", "left", "right", *HEMISPHERES}
"""What hemispheres are called in tables, in lower case."""
FIX_VERTICES = "Give the vertices of this mesh, or correct the mesh."
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Part:
    """The voxels of one hemisphere, or all.

    Attributes
    ----------
    n_places : int
        Number of vertices of the mesh, voxels of the volume, grayordinates, or rows of the table. A file has a number
        for each place, or for each voxel.
    index : array of int, (n,)
        The place of each voxel.
    """

    n_places: int
    index: Ints

    def select(self, n: int) -> Ints | None:
        """Return the index with which n numbers of a file give those of the voxels: None for all.

        Raises
        ------
        ValueError
            If n is the number of neither places nor voxels. The message is what was expected.
        """
        if n == len(self.index):
            return None if n != self.n_places or np.array_equal(self.index, np.arange(n)) else self.index
        if n == self.n_places:
            return self.index
        both = f"{len(self.index):,} voxels"
        raise ValueError(both if self.n_places == len(self.index) else f"{both}, or of {self.n_places:,} places")


@dataclass(frozen=True)
class Places:
    """The places of all voxels.

    Attributes
    ----------
    table : DataFrame
        One row for each voxel, with the columns of `bddn.cortex.places`.
    whole : Part
        All voxels.
    sides : mapping of str to Part
        Of surfaces: each hemisphere.
    frame : Frame, optional
        Of a mask or a native surface.
    source : Table, optional
        With one row for each voxel.
    ordered : bool
        Whether it is known in which order an array or a table has the voxels.
    """

    table: pd.DataFrame
    whole: Part
    sides: Mapping[str, Part] = field(default_factory=dict)
    frame: Frame | None = None
    source: Table | None = None
    ordered: bool = True

    @property
    def volume(self) -> Volume | None:
        """The frame, if it is a volume."""
        return self.frame if isinstance(self.frame, Volume) else None

    @property
    def only_side(self) -> str:
        """The hemisphere of a surface that has no other, or ''. A file of all voxels is one of this hemisphere."""
        return next(iter(self.sides)) if len(self.sides) == 1 else ""

    def select(self, n: int, part: Part, on_grid: bool) -> Ints | None:
        """Return the index with which n numbers of a file give those of the voxels of a part: None for all.

        Parameters
        ----------
        n : int
        part : Part
        on_grid : bool
            Whether the file is a volume. Other files of the voxels of a mask have no order of all places.

        Raises
        ------
        ValueError
            As `Part.select`.
        """
        if self.volume is None or on_grid:
            return part.select(n)
        if n != len(part.index):
            raise ValueError(f"{len(part.index):,} voxels, those of the mask")
        return None

    def require_order(self, path: Path) -> None:
        """Refuse an array or a table with the voxels of a mask whose order is not known.

        Raises
        ------
        DataError
        """
        if not self.ordered:
            raise DataError(
                path,
                expected="'order: numpy' or 'order: matlab' under voxels, because an array or a table does not say in "
                "which order the voxels of the mask are",
                got="none",
                fix="Write numpy if they were taken by data[mask == 1] or by nilearn, matlab if by find(mask).",
            )


def read_places(spec: VoxelsSpec, folder: Path) -> Places:
    """Read the places of the voxels.

    Parameters
    ----------
    spec : VoxelsSpec
    folder : Path
        From which its paths start.

    Raises
    ------
    DataError
        If a file is missing, damaged, or of another mesh or hemisphere, or an index or a coordinate is impossible.
    """
    if spec.table is not None:
        return _of_table(folder / expand_home(spec.table))
    if spec.mask is not None:
        return _of_mask(folder / expand_home(spec.mask), spec)
    if spec.fsaverage is not None:
        n_vertices = {str(hemi): MESHES[spec.fsaverage] for hemi in sorted(spec.hemispheres)}
        index, whole = _vertices(spec, folder, n_vertices)
        hemi = np.concatenate([np.full(len(found), side) for side, found in index.items()])
        table = pd.DataFrame({"hemi": hemi, "vertex": np.concatenate(list(index.values()))})
        return _of_surface(table, index, whole, n_vertices, None)
    surfaces = spec.sphere or spec.surface
    assert surfaces is not None
    paths = _side_paths(surfaces, folder)
    if spec.sphere is not None:
        _refuse_unregistered(paths)
    vertices = {hemi: read_surface(path, hemi) for hemi, path in paths.items()}
    n_vertices = {hemi: len(found) for hemi, found in vertices.items()}
    index, whole = _vertices(spec, folder, n_vertices)
    if spec.sphere is not None:
        table = _native(paths, {hemi: vertices[hemi] for hemi in index}, index)
    else:
        tables = [_points([hemi] * len(at), at.tolist(), vertices[hemi][at]) for hemi, at in index.items()]
        table = pd.concat(tables, ignore_index=True)
    frame = None if spec.sphere is None else NativeMesh({hemi: n_vertices[hemi] for hemi in index})
    return _of_surface(table, index, whole, n_vertices, frame)


def _side_paths(sides: SidesSpec, folder: Path) -> dict[str, Path]:
    given = {"lh": sides.lh, "rh": sides.rh}
    return {hemi: folder / expand_home(path) for hemi, path in given.items() if path is not None}


def _refuse_unregistered(paths: Mapping[str, Path]) -> None:
    for hemi, path in paths.items():
        if got := registered_to(path.name):
            raise DataError(
                path,
                expected="a sphere that is registered to fsaverage",
                got=got,
                fix=f"Give {hemi}.sphere.reg of FreeSurfer, space-fsaverage_desc-reg_sphere of fMRIPrep, or "
                "fs_LR-deformed_to-fsaverage of the Human Connectome Project; or rename it if only its name is wrong.",
            )


def _native(paths: Mapping[str, Path], vertices: Mapping[str, Floats], index: Mapping[str, Ints]) -> pd.DataFrame:
    try:
        return native_voxels(vertices, index)
    except DataError as error:
        place = " and ".join(f"{path}" for path in paths.values())
        raise DataError(place, expected=error.expected, got=error.got, fix=error.fix) from error


def _vertices(spec: VoxelsSpec, folder: Path, n_vertices: Mapping[str, int]) -> tuple[dict[str, Ints], Part | None]:
    """Return the vertices of each hemisphere, and for CIFTI the places of all voxels."""
    if spec.cifti is not None:
        return _of_cifti(folder / expand_home(spec.cifti), n_vertices)
    if spec.vertices is None:
        return {hemi: np.arange(n) for hemi, n in n_vertices.items()}, None
    paths = _side_paths(spec.vertices, folder)
    if lacking := [hemi for hemi in paths if hemi not in n_vertices]:
        raise DataError(
            paths[lacking[0]],
            expected=f"vertices of the hemispheres of the surface, {', '.join(n_vertices)}",
            got=f"those of {lacking[0]}",
            fix=f"Add the surface of {lacking[0]}, or remove this file.",
        )
    found = {hemi: _read_vertices(path, hemi, n_vertices[hemi], spec.count_from) for hemi, path in paths.items()}
    lowest = {paths[hemi]: vertices.min() for hemi, (vertices, listed) in found.items() if listed}
    if lowest and "count_from" not in spec.model_fields_set and min(lowest.values()) > 0:
        raise DataError(
            " and ".join(f"{path}" for path in lowest),
            expected="'count_from: 0' or 'count_from: 1' under voxels, because no index of a vertex is 0",
            got=f"indices from {min(lowest.values())}",
            fix="Write the index of the first vertex of the mesh: 0 as in Python and FreeSurfer, 1 as in MATLAB and R.",
        )
    return {hemi: vertices for hemi, (vertices, _) in found.items()}, None


def _read_vertices(path: Path, hemi: str, n_vertices: int, first: int) -> tuple[Ints, bool]:
    """Return vertices from a mask of 0 and 1 or from indices, and whether it is from indices."""
    check_side(path, hemi)
    if kind_of(path) == HDF5:
        raise _no_vertices(path, n_vertices, "an HDF5 file, of which no array is named", "Save them with numpy.save.")
    values = read_numbers(path, n_places=n_vertices).values
    if values.dtype.kind not in "fiu" or not np.array_equal(values, np.rint(values)):
        raise _no_vertices(path, n_vertices, f"{values.dtype}, also numbers that are not whole")
    zero_one = np.isin(values, (0, 1)).all()
    if len(values) == n_vertices and zero_one:
        return np.flatnonzero(values), False
    if zero_one and len(values) > 2:
        mesh = next((name for name, n in MESHES.items() if n == len(values)), None)
        raise _no_vertices(
            path, n_vertices, f"a mask of {len(values):,} vertices{f', those of {mesh}' if mesh else ''}"
        )
    lowest, highest = values.min(), values.max()
    if lowest < first or highest >= n_vertices + first:
        got, fix = f"numbers from {lowest:g} to {highest:g}", FIX_VERTICES
        if first == 0 and lowest >= 1 and highest == n_vertices:
            got, fix = f"{got}, as if counted from 1", "If they are, write 'count_from: 1' under voxels."
        raise _no_vertices(path, n_vertices, got, fix, first)
    if len(np.unique(values)) < len(values):
        raise _no_vertices(path, n_vertices, f"{len(values) - len(np.unique(values))} repeated indices")
    if len(values) == n_vertices and (np.diff(values) < 0).any():  # other files have as many numbers in either order
        raise _no_vertices(
            path, n_vertices, "all vertices, not in ascending order", "Sort them, and all that belongs to them."
        )
    return values.astype(np.intp) - first, True


def _no_vertices(path: Path, n_vertices: int, got: str, fix: str = FIX_VERTICES, first: int = 0) -> DataError:
    return DataError(
        path,
        expected=f"a mask of 0 and 1 for the {n_vertices:,} vertices of the mesh, or different indices from "
        f"{first} to {n_vertices - 1 + first:,}",
        got=got,
        fix=fix,
    )


def _of_cifti(path: Path, n_vertices: Mapping[str, int]) -> tuple[dict[str, Ints], Part]:
    axis = brain_models(path)
    index, places = dict[str, Ints](), list[Ints]()
    for hemi in n_vertices:
        mine = np.flatnonzero(np.asarray(axis.name) == CIFTI_NAME[hemi])
        n = axis.nvertices.get(CIFTI_NAME[hemi], 0)
        if not len(mine) or n != n_vertices[hemi]:
            raise DataError(
                path,
                expected=f"a cortex of {n_vertices[hemi]:,} vertices in hemisphere {hemi}, as the surface has",
                got=f"one of {n:,} vertices" if n else "none",
                fix="Give the sphere or mesh that these grayordinates belong to, e.g. fsLR 32k."
                if n
                else f"If the data do not have it, leave it out: give no sphere of {hemi}, or name the other one under "
                "'hemispheres'.",
            )
        index[hemi] = np.asarray(axis.vertex)[mine].astype(np.intp)
        places.append(mine)
    return index, Part(len(axis), np.concatenate(places))


def _of_surface(
    table: pd.DataFrame,
    index: Mapping[str, Ints],
    whole: Part | None,
    n_vertices: Mapping[str, int],
    frame: Frame | None,
) -> Places:
    if whole is None:
        starts = np.cumsum([0, *(n_vertices[side] for side in index)])
        moved = [found + start for found, start in zip(index.values(), starts, strict=False)]
        whole = Part(int(starts[-1]), np.concatenate(moved))
    return Places(table, whole, {side: Part(n_vertices[side], found) for side, found in index.items()}, frame)


def _points(hemi: Sequence[str], voxel: Sequence[str | int], coords: npt.NDArray[np.floating]) -> pd.DataFrame:
    with np.errstate(over="ignore"):  # infinite ones are refused with their row
        places = dict(zip(COORDINATES, coords.T.astype(np.float32), strict=True))
    return pd.DataFrame({"hemi": hemi, "vertex": np.full(len(coords), -1), "voxel": voxel, **places})


def _of_table(path: Path) -> Places:
    source = read_table(path)
    for column in ("hemi", "voxel"):
        if column in map(str.casefold, source.cells):
            source.texts(column, "the hemispheres or names of voxels", "")
    if "hemi" not in source.cells and (side := _sides_of(source)):
        raise DataError(
            path,
            expected="hemispheres in a column 'hemi', as lh and rh",
            got=f"the column '{side}' with {shorten(sorted({*source.cells[side]} - {''}))}",
            fix="Rename it, and write lh and rh. If it has no hemispheres, add a column 'hemi' with empty cells.",
        )
    coords = np.stack([source.numbers(axis, "coordinates", "") for axis in COORDINATES], 1)
    bad = [f"row {i + 1}" for i in np.flatnonzero(~np.isfinite(coords).all(1))]
    hemi = source.cells.get("hemi", [""] * len(source))
    odd = sorted(set(hemi) - {*HEMISPHERES, ""})
    voxel = source.cells.get("voxel", [str(i) for i in range(len(source))])
    twice = len(voxel) - len(set(voxel))
    if bad or odd or twice:
        got = f"none in {shorten(bad)}" if bad else f"the hemispheres {shorten(odd)}"
        raise DataError(
            path,
            expected="x_mm, y_mm and z_mm in every row, hemi lh, rh or empty, and voxel different in every row",
            got=got if bad or odd else f"{count(twice, 'repeated name')} of voxels",
            fix="Leave these rows out, and their columns of the responses; or complete them."
            if bad
            else "Correct these rows.",
        )
    every = Part(len(source), np.arange(len(source)))
    return Places(_points(hemi, voxel, coords), every, source=source)


def _sides_of(source: Table) -> str:
    """Return the name of the first column of only left and right, or ''."""
    found = {name: {*map(str.casefold, cells)} - {*NO_VALUE} for name, cells in source.cells.items()}
    return next((name for name, sides in found.items() if sides and sides <= SIDES), "")


def _of_mask(path: Path, spec: VoxelsSpec) -> Places:
    values, volume = read_volume(path)
    if np.allclose(values, np.rint(values), rtol=0, atol=ROUNDED):
        values = np.rint(values)
    if not np.isin(values, (0, 1)).all() or not values.any():
        odd = values[np.isfinite(values) & ~np.isin(values, (0, 1))]
        also = f", also {odd[0]:.9g}" if odd.size else "" if np.isfinite(values).all() else ", also NaN"
        raise DataError(
            path,
            expected="a mask of 0 and 1, with at least one 1",
            got=f"numbers from {np.nanmin(values):g} to {np.nanmax(values):g}{also}",
            fix="Save a mask that is 1 at the voxels that you mean.",
        )
    place = np.argwhere(values) if spec.order != "matlab" else np.argwhere(values.T)[:, ::-1]
    coords = volume.mm(place)
    hemi = np.where(coords[:, 0] < 0, "lh", "rh") if spec.space == "MNI" else np.full(len(place), "")
    voxel = ["-".join(map(str, one)) for one in place.tolist()]
    every = Part(int(np.prod(volume.shape)), np.ravel_multi_index(tuple(place.T), volume.shape))
    return Places(_points(hemi.tolist(), voxel, coords), every, frame=volume, ordered=spec.order is not None)
