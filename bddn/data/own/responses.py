"""Files of responses, read by rows: one row per image or trial, one column per voxel or place.

Formats: .npy, HDF5, zarr, MGH (read lazily); Parquet, GIFTI (one data array per image; read whole); NIfTI (volumes, the
last axis is the images, or one volume per file); CIFTI-2 (dscalar, dtseries).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bddn.cortex.frames import Volume
from bddn.cortex.mgh import open_mgh, read_mgh
from bddn.data.array_files import gaps, open_array, refuse_packed
from bddn.data.imaging_files import VOLUMES, is_cifti, load_image, parcels, reading, suffix_of, volumes_of
from bddn.data.own.order import as_text_only
from bddn.data.table_files import read_parquet
from bddn.errors import DataError
from bddn.files.filekind import FOLDER, HDF5, NPY

Rows = npt.NDArray[np.intp]
Axis = Literal["rows", "columns"]

ARRAYS = (".npy", ".h5", ".hdf5", ".hdf", ".mat", ".nwb", ".zarr", ".parquet", ".pq")
"""Formats that do not know what the images are."""
MGH = (".mgh", ".mgz")
KNOWING = (*VOLUMES, *MGH, ".gii")
"""Formats that know it."""
NUMBERS = "fiu"  # kinds of dtype
ROWS_AT_ONCE = 64


class ResponseFile(Protocol):
    """One file; `shape` is (images, places). The names of both are empty where the file has none."""

    path: Path
    shape: tuple[int, int]
    row_names: Sequence[str] = ()
    column_names: Sequence[str] = ()

    def read(self, rows: Rows, places: Rows | None) -> npt.NDArray[Any]:
        """Return the numbers (k, n) in these rows, at least one, at these places, which are always the same, or all."""


def open_responses(path: Path, key: str, images: Axis | None) -> ResponseFile:
    """Open a file of responses.

    Parameters
    ----------
    path : Path
    key : str
        Of the array in an HDF5 file or a zarr group.
    images : {'rows', 'columns'}, optional
        What the images are, for formats that do not know it.

    Raises
    ------
    DataError
        If the file is missing or damaged, does not contain real numbers, or `images` is missing or superfluous.
    """
    suffix = suffix_of(path)
    knows = not path.is_dir() and suffix not in ARRAYS
    if knows and suffix not in KNOWING:
        raise DataError(
            path,
            expected=f"a file of responses: {', '.join((*ARRAYS, *KNOWING))}",
            got=f"a file {suffix}" if suffix else "a file without suffix",
            fix="Save the responses in one of these formats, e.g. with numpy.save.",
        )
    if knows == (images is not None):
        raise DataError(
            path,
            expected=f"no 'images' under responses, because a file {suffix} says itself what the images are"
            if knows
            else "'images: rows' or 'images: columns' under responses, because this file does not say what they are",
            got=f"images: {images}" if images else "none",
            fix="Remove it." if knows else "Add it: rows if the file has the shape (images, voxels).",
        )
    if suffix in (".parquet", ".pq"):
        return _ParquetRows(path, images == "columns")
    if not knows:
        return _ArrayRows(path, key, images == "columns")
    if key:
        raise DataError(path, expected="no 'key' for this format", got=f"'{key}'", fix="Remove the key.")
    if suffix == ".gii":
        return _GiftiRows(path)
    if suffix in MGH:
        return _MghRows(path) if suffix == ".mgh" else _MemoryRows(path, np.atleast_2d(read_mgh(path).T))
    return CiftiRows(path) if is_cifti(path) else VolumeRows(path)


class _ArrayRows(ResponseFile):
    def __init__(self, path: Path, key: str, transposed: bool) -> None:
        self.path, self.key, self._transposed = path, key, transposed
        shape, dtype = tuple(self.array.shape or ()), self.array.dtype  # h5py's empty arrays have none
        if len(shape) != 2 or np.dtype(dtype).kind not in NUMBERS:
            raise _not_numbers(path, f"{dtype} of shape {shape}")
        refuse_packed(path, self.array)
        self.shape = shape[::-1] if transposed else shape

    @property
    def array(self) -> Any:
        return open_array(self.path, self.key)

    @property
    def images(self) -> Axis:
        return "columns" if self._transposed else "rows"

    def read(self, rows: Rows, places: Rows | None) -> npt.NDArray[Any]:
        array = self.array
        wanted, back = np.unique(rows, return_inverse=True)
        if isinstance(array, np.ndarray):
            found = array[:, wanted] if self._transposed else array[wanted]
        elif hasattr(array, "oindex"):  # zarr
            found = array.oindex[:, wanted] if self._transposed else array.oindex[wanted]
        else:  # HDF5, which is slow for single rows, so neighbours are read together
            runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
            parts = [slice(run[0], run[-1] + 1) for run in runs if len(run)]
            axis = 1 if self._transposed else 0
            found = np.concatenate([array[:, part] if axis else array[part] for part in parts], axis)
        found = np.asarray(found).T if self._transposed else np.asarray(found)
        return found[back] if places is None else found[back[:, None], places]


class _MemoryRows(ResponseFile):
    """Rows that were read whole, as float32."""

    def __init__(self, path: Path, rows: npt.NDArray[Any]) -> None:
        self.path, self._rows = path, rows
        self.shape: tuple[int, int] = rows.shape

    def read(self, rows: Rows, places: Rows | None) -> npt.NDArray[Any]:
        return self._rows[rows] if places is None else self._rows[rows[:, None], places]


class _ParquetRows(_MemoryRows):
    def __init__(self, path: Path, transposed: bool) -> None:
        table = read_parquet(path)
        index = [
            name for name in (table.schema.pandas_metadata or {}).get("index_columns", ()) if isinstance(name, str)
        ]
        if index:
            raise DataError(
                path,
                expected="only columns of responses",
                got=f"an index of pandas beside them, {', '.join(index)}",
                fix="Bring the rows into the order of the other files, and save them with to_parquet(…, index=False).",
            )
        odd = [f"{field.name} ({field.type})" for field in table.schema if not _is_number(field.type)]
        if odd or not table.num_columns:
            raise _not_numbers(path, f"the columns {', '.join(odd[:3])}" if odd else "no column")
        columns = [column.to_numpy(zero_copy_only=False) for column in table.columns]
        with np.errstate(over="ignore"):
            rows = np.stack([column.astype(np.float32) for column in columns], 0 if transposed else 1)
        super().__init__(path, rows)
        names = [name.strip() for name in table.column_names]
        self.row_names, self.column_names = (names, ()) if transposed else ((), names)


class _GiftiRows(_MemoryRows):
    def __init__(self, path: Path) -> None:
        image = load_image(path)
        arrays = [np.asarray(one.data) for one in image.darrays]
        whole = arrays[0] if len(arrays) == 1 and arrays[0].ndim == 2 else None
        same = {array.shape for array in arrays if array.ndim == 1}
        if whole is None and (len(same) != 1 or any(array.ndim != 1 for array in arrays)):
            shapes = ", ".join(f"{array.shape}" for array in arrays[:3]) or "no array"
            raise _not_numbers(path, f"data arrays of shape {shapes}", "one data array (vertices,) per image")
        super().__init__(path, (np.stack(arrays) if whole is None else whole.T).astype(np.float32))
        self.row_names = [one.meta.get("Name", "").strip() for one in image.darrays] if whole is None else ()


class _MghRows(ResponseFile):
    """Frames of a .mgh file."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, open_mgh(path)
        self.shape = (self._file.n_frames, self._file.n_vertices)

    def read(self, rows: Rows, places: Rows | None) -> npt.NDArray[Any]:
        return self._file.read(np.arange(self.shape[1]) if places is None else places, rows)


class VolumeRows(ResponseFile):
    """Volumes (X, Y, Z, images) of NIfTI, or one volume (X, Y, Z); a place is a voxel in the order of numpy."""

    def __init__(self, path: Path) -> None:
        self.path, self._image = path, load_image(path)
        shape = self._image.shape
        if len(shape) not in (3, 4) or np.dtype(self._image.get_data_dtype()).kind not in NUMBERS:
            got = f"{self._image.get_data_dtype()} of shape {shape}"
            raise _not_numbers(path, got, "real numbers of shape (X, Y, Z, images), or (X, Y, Z) of one image")
        if not (self._image.header["sform_code"] or self._image.header["qform_code"]):
            raise DataError(
                path,
                expected="an affine in its header, which shows that its voxels are those of the mask",
                got="none (sform_code and qform_code are 0)",
                fix="Write into it the affine of the image that the responses were computed from.",
            )
        self.grid = Volume.of(self._image.affine, shape[:3])
        self.shape = (int(np.prod(shape[3:])), int(np.prod(shape[:3])))
        self._kept: npt.NDArray[np.float32] | None = None

    def read(self, rows: Rows, places: Rows | None) -> npt.NDArray[Any]:
        here = slice(None) if places is None else places
        if suffix_of(self.path) != ".nii.gz":
            one = len(self._image.shape) == 3
            volumes = (self._image.dataobj[(...,) if one else (..., int(row))] for row in rows)
            return np.stack([np.asarray(volume).ravel()[here] for volume in volumes])
        if self._kept is None:  # compressed: only one pass from the start is quick
            every = volumes_of(self.path, self._image, self.shape[0])
            self._kept = np.stack([volume.ravel()[here].astype(np.float32) for volume in every])
        return self._kept[rows]


class CiftiRows(ResponseFile):
    def __init__(self, path: Path) -> None:
        self.path, self._image = path, load_image(path)
        self.shape: tuple[int, int] = self._image.shape
        if len(self.shape) != 2 or np.dtype(self._image.get_data_dtype()).kind not in NUMBERS:
            got = f"{self._image.get_data_dtype()} of shape {self.shape}"
            raise _not_numbers(path, got, "a dscalar or dtseries (images, grayordinates)")
        names = getattr(self._image.header.get_axis(0), "name", ())  # of a dscalar
        self.row_names = [str(name).strip() for name in names]
        self.column_names = parcels(path)

    def read(self, rows: Rows, places: Rows | None) -> npt.NDArray[Any]:
        wanted, back = np.unique(rows, return_inverse=True)
        found = np.stack([np.asarray(self._image.dataobj[int(row)]) for row in wanted])
        return found[back] if places is None else found[back[:, None], places]


class Responses:
    """The responses of one part of the voxels, in files that follow one another.

    Parameters
    ----------
    files : sequence of ResponseFile
    places : sequence of array of int, optional
        Those that are read from each file; none means all.
    n_voxels : int
    """

    def __init__(self, files: Sequence[ResponseFile], places: Sequence[Rows | None], n_voxels: int) -> None:
        self._files, self._places, self.n_voxels = files, places, n_voxels
        self._starts = np.cumsum([0, *(file.shape[0] for file in files)])

    def read(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return the responses (k, n_voxels) in these rows; numbers that are too large for float32 become infinite."""
        out = np.empty((len(rows), self.n_voxels), np.float32)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number, file in enumerate(self._files):
            mine = np.flatnonzero(which == number)
            for start in range(0, len(mine), ROWS_AT_ONCE):
                some = mine[start : start + ROWS_AT_ONCE]
                with np.errstate(over="ignore"), reading(file.path, "complete responses", NPY, HDF5, FOLDER):
                    out[some] = file.read(rows[some] - self._starts[number], self._places[number])
        return out

    def remarks(self) -> list[str]:
        """Return which files have gaps, or could be turned, and whether files are in the order of texts."""
        arrays = {(file.path, file.key) for file in self._files if isinstance(file, _ArrayRows)}
        found = [words for path, key in sorted(arrays) for words in gaps(path, key)]
        found += [
            f"{file.path} has as many rows as columns, so nothing shows which of them are the images: make sure that "
            f"'images: {file.images}' is right"
            for file in self._files
            if isinstance(file, _ArrayRows) and file.shape[0] == file.shape[1]
        ]
        if pair := as_text_only([str(file.path) for file in self._files]):
            one, other = (Path(name).name for name in pair)
            found.append(f"{other} follows {one} in the list of responses, so it does in the table of stimuli, too")
        return found

    def place(self, row: int) -> tuple[Path, int]:
        """Return the file of a row, and its number there."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._files[number].path, row - int(self._starts[number])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _not_numbers(path: Path, got: str, expected: str = "real numbers of shape (images, voxels)") -> DataError:
    fix = "Save only the responses, as float32."
    if "voxels" in expected and re.search(r"\((\d+, ){2,}\d+\)$", got):
        fix = (
            "Save two axes, with a row for each row of the stimuli. Of repeats, bring the axes into the order (images, "
            "repeats, voxels) by numpy.transpose, then .reshape(-1, n_voxels); of time points (images, voxels, time), "
            "data[:, :, window].mean(2); of a volume (X, Y, Z, images), "
            "data[mask == 1].T. Python reads the axes of MATLAB files in reverse order: first data = data.T."
        )
    if "complex" in got:
        fix = "Save their real part or their absolute value, whichever you mean."
    elif "<U" in got or "|S" in got or "object" in got or "str" in got:
        fix = "Convert the texts to numbers, and save them as float32."
    return DataError(path, expected=expected, got=got, fix=fix)
