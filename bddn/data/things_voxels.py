"""Voxels and responses of THINGS-fMRI: a table with a row for each voxel, and an array (voxels, trials) in HDF5.

pandas wrote the file: group `ResponseData`, with an array of floats and one of integers, the numbers of the voxels.
They are read with h5py; what pandas pickled beside them is never opened.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Volume
from bddn.data.array_files import arrays_of, open_array
from bddn.data.ceiling import ncsnr_of_percent, refuse_shares
from bddn.data.grid_voxels import Grid
from bddn.data.mask_labels import label_by_smallest
from bddn.data.session_betas import N_PROBES, Floats, Ints, Session
from bddn.data.unpacked import Unpacked
from bddn.errors import DataError
from bddn.files.filekind import explain, kind_of

RESPONSES = "responses"
ROIS, ALL = "rois", "all"
ID, COORDINATES, CEILING = "voxel_id", ("voxel_x", "voxel_y", "voxel_z"), "nc_singletrial"
GLASSER = "glasser-"
NUMBERS = ("nc_", "splithalf_", "prf-", "voxel_", "subject_")
"""The beginnings of the names of columns that are no ROI."""
VOXEL_MM = 2.0
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class VoxelTable:
    """Numbers of all voxels, one row each."""

    path: Path
    cells: pd.DataFrame

    def __len__(self) -> int:
        return len(self.cells)

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column.

        Raises
        ------
        DataError
            If there is no such column, or it is not of numbers.
        """
        if name not in self.cells or self.cells[name].dtype.kind not in "fiub":
            raise DataError(
                self.path,
                expected=f"a column '{name}' of numbers",
                got=f"the columns {', '.join(map(str, self.cells))}" if name not in self.cells else "texts",
                fix="Restore the original file.",
            )
        return self.cells[name].to_numpy(np.float64)


@dataclass(frozen=True)
class ColumnSession(Session):
    """A session with the column of each of its trials (T,) in the array of responses."""

    columns: Ints = field(default_factory=lambda: np.zeros(0, np.intp))


@dataclass(frozen=True)
class TableVoxels:
    """Rows of the array of responses; implements `bddn.data.session_betas.Voxels`.

    Attributes
    ----------
    rows : array of int, (N,)
        Ascending.
    key : str
        Name of the array in its file.
    about : VoxelTable
        The table of all voxels.
    unpacked : Unpacked
        Keeps the trials of a session: the file has the trials of each voxel side by side, so that few trials take as
        long to read as all.
    """

    rows: Ints
    key: str
    about: VoxelTable
    unpacked: Unpacked

    @property
    def n(self) -> int:
        """Number of voxels."""
        return len(self.rows)

    def part(self, mask: npt.NDArray[np.bool_]) -> Self:
        """Return the voxels where `mask` (N,) is true."""
        return replace(self, rows=self.rows[mask])

    def probes(self, session: Session) -> Ints:
        return np.arange(min(N_PROBES, len(session.shown)))

    def read(self, session: Session, trials: Ints) -> Floats:
        if len(trials) and trials.max() < N_PROBES:
            return self._from_file(session, trials)
        every, file = np.arange(len(session.shown)), session.files[RESPONSES]
        return self.unpacked.read(
            file, self.rows, len(every), lambda: self._from_file(session, every), trials, session.name
        )

    def _from_file(self, session: Session, trials: Ints) -> Floats:
        """Return the voxels in some trials, at least one; a block of voxels is in memory beside the result."""
        assert isinstance(session, ColumnSession)
        array = open_array(session.files[RESPONSES], self.key)
        found = np.empty((len(trials), self.n), np.float32)
        columns = session.columns[trials]
        low, high = int(columns.min()), int(columns.max()) + 1
        for start in range(0, array.shape[0], ROWS_AT_ONCE):
            mine = slice(*np.searchsorted(self.rows, (start, start + ROWS_AT_ONCE)))
            rows = self.rows[mine]
            if not len(rows):
                continue
            try:
                block = np.asarray(array[rows[0] : rows[-1] + 1, low:high])
            except (OSError, RuntimeError) as error:
                raise DataError(
                    session.files[RESPONSES],
                    expected="readable responses",
                    got=f"{error}",
                    fix="Download the file again, or store it again with pandas, without compression.",
                ) from error
            found[:, mine] = block[rows - rows[0]][:, columns - low].T
        return found

    def place(self, session: Session, voxel: int) -> tuple[Path, str]:
        return session.files[RESPONSES], f"row {self.rows[voxel]}"

    def table(self, frame: Volume | None) -> pd.DataFrame:
        """Return a table of points, without labels; without a frame, coordinates are indices times `VOXEL_MM`."""
        ijk = np.stack([self.about.numbers(name) for name in COORDINATES], 1).astype(np.intp)
        volume = frame or Volume.of(np.diag([VOXEL_MM] * 3 + [1]), ijk.max(0) + 1)
        outside = (ijk < 0).any(1) | (ijk >= volume.shape).any(1)
        if outside.any():
            raise DataError(
                self.about.path,
                expected=f"indices of voxels inside the brain mask's volume {volume.shape}",
                got=f"{ijk[outside][0].tolist()}",
                fix="Use table and brain mask of the same subject.",
            )
        mine = ijk[self.rows]
        return Grid(mine, volume.shape).table(volume, [""] * self.n)


def read_voxels(path: Path) -> VoxelTable:
    """Read the table of voxels.

    Raises
    ------
    DataError
        If it is damaged, lacks numbers or indices of voxels, or has one of them twice.
    """
    try:
        if kind_of(path) is not None:
            raise ValueError("another kind of file")  # pandas reads a pointer as a table
        cells = pd.read_csv(path)
    except (OSError, ValueError) as error:
        got, fix = explain(path, f"something else ({error})", "Restore the original file.")
        raise DataError(path, expected="a CSV table of voxels", got=got, fix=fix) from error
    table = VoxelTable(path, cells)
    for names in ((ID,), COORDINATES):
        rows = np.stack([table.numbers(name) for name in names], 1)
        if twice := len(rows) - len(np.unique(rows, axis=0)):
            raise DataError(
                path,
                expected=f"different {', '.join(names)} in each row",
                got=f"{twice} repeated ones",
                fix="Restore the original file.",
            )
    return table


def find_responses(path: Path, voxels: VoxelTable, n_trials: int) -> str:
    """Return the name of the array of responses in its file, after a comparison with the tables.

    Raises
    ------
    DataError
        If there is no such array, or the voxels are in another order than in the table.
    """
    arrays = arrays_of(path)
    shape = (len(voxels), n_trials)
    found = [name for name, array in arrays.items() if array.shape == shape and array.dtype.kind == "f"]
    if len(found) != 1:
        listed = [f"{name} {array.shape} {array.dtype}" for name, array in arrays.items() if array.ndim == 2]
        raise DataError(
            path,
            expected=f"one array of floats of shape {shape}: the rows of VoxelMetadata.csv and of StimulusMetadata.csv",
            got=", ".join(listed) or "none",
            fix="Use the three files of one subject.",
        )
    for name, array in arrays.items():
        if array.shape == (len(voxels), 1) and array.dtype.kind in "iu":
            differ = np.flatnonzero(np.asarray(array)[:, 0] != voxels.numbers(ID))
            if len(differ):
                raise DataError(
                    f"{path}, {name}",
                    expected=f"the voxels in the order of {voxels.path.name}",
                    got=f"another voxel in row {differ[0]}, and in {len(differ) - 1} more",
                    fix="Use the files of one subject.",
                )
    return found[0]


def selected_voxels(table: VoxelTable, selected: str) -> Ints:
    """Return the rows of the selected voxels: 'rois', 'all', or the name of an ROI, of both hemispheres.

    Raises
    ------
    DataError
        If there is no such ROI, or no voxel in it.
    """
    if selected == ALL:
        return np.arange(len(table))
    rois = roi_masks(table)
    own = {column: mask for column, (group, name, mask) in rois.items() if selected in (column, name)}
    if selected == ROIS:
        own = {column: mask for column, (group, _, mask) in rois.items() if group != "glasser"}
    rows = np.flatnonzero(np.logical_or.reduce(list(own.values()))) if own else np.zeros(0, np.intp)
    if not len(rows):
        raise DataError(
            table.path,
            expected=f"voxels in '{selected}'",
            got=f"none; ROIs are {', '.join(sorted({name for group, name, _ in rois.values() if group != 'glasser'}))}",
            fix="Give one of these, 'rois' or 'all' with the option voxels=….",
        )
    return rows


def roi_masks(table: VoxelTable) -> Mapping[str, tuple[str, str, npt.NDArray[np.bool_]]]:
    """Return for each column that is an ROI its set, its name without the hemisphere, and its mask over all voxels."""
    found = {}
    for column in map(str, table.cells):
        cells = table.cells[column]
        if column.startswith(NUMBERS) or cells.dtype.kind not in "fiub" or not cells.isin((0, 1)).all():
            continue
        group, name = "retinotopy", column.removesuffix(" (prf)")
        if column.startswith(GLASSER):
            group, name = "glasser", f"HCP-{column.removeprefix(GLASSER)}"
        elif column[0] in "lr" and column[1:2].isupper():
            group, name = "localizer", column[1:]
        found[column] = group, name, cells.to_numpy() == 1
    return found


def roi_columns(table: VoxelTable, rows: Ints) -> dict[str, Any]:
    """Return `roi` and a column of labels (N,) for each set of ROIs; in several ROIs of a set, the smallest."""
    found: dict[str, Any] = {"roi": np.full(len(rows), "", object)}
    masks = roi_masks(table).values()
    for group in dict.fromkeys(of for of, _, _ in masks):
        mine = ((name, int(mask.sum()), mask[rows]) for of, name, mask in masks if of == group)
        found[group] = label_by_smallest(mine, len(rows))
        if group != "glasser":
            found["roi"] = np.where(found["roi"] == "", found[group], found["roi"])
    return {name: labels.tolist() for name, labels in found.items()}


def ncsnr_of(table: VoxelTable, rows: Ints) -> npt.NDArray[np.float64] | None:
    """Return the ncsnr (N,) from the noise ceilings of single trials in per cent, or None without them."""
    if CEILING not in table.cells.columns:
        return None
    place, percent = f"{table.path}, column {CEILING}", table.numbers(CEILING)
    refuse_shares(place, percent)
    return ncsnr_of_percent(place, percent[rows], 1)
