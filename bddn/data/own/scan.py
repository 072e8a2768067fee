"""Look through a folder for what may be own data: tables, images, arrays and imaging files, with their shapes."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bddn.cortex.gifti import STRUCTURE, STRUCTURE_KEY
from bddn.cortex.mgh import open_mgh
from bddn.data.array_files import arrays_of, open_array
from bddn.data.image_files import SUFFIXES
from bddn.data.image_sets.image_table import SHOWN
from bddn.data.imaging_files import SIDE, freesurfer, is_cifti, load_image, suffix_of
from bddn.data.listing import is_hidden, is_printable
from bddn.data.table_files import read_table
from bddn.errors import DataError
from bddn.files.filekind import require_no_pipe
from bddn.text import shorten

MAX_DEPTH = 4
MAX_FILES = 2000  # that are opened
TABLES = (".csv", ".tsv", ".parquet", ".pq")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".mat", ".nwb")
IMAGING = (".nii", ".nii.gz", ".gii", ".mgh")
ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
SURFACES = ("sphere.reg", "white", "pial", "midthickness", "inflated", "sphere")


@dataclass(frozen=True)
class File:
    """A file that was understood.

    Attributes
    ----------
    name : str
        Path from the folder.
    kind : str
        'table', 'array', 'volume', 'mgh', 'cifti', 'gifti', 'gifti label', 'gifti surface', 'surface', 'annot' or
        'label'.
    shape : tuple of int
        Rows and columns of a table; otherwise of the numbers, with images first where the format knows them.
    dtype : str
    key : str
        Of an array in HDF5 or zarr.
    columns : tuple of str
    hemi : str
        'lh' or 'rh', as its name or the metadata of GIFTI tell; otherwise ''.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    key: str = ""
    columns: tuple[str, ...] = ()
    hemi: str = ""

    def words(self) -> str:
        """Return what it is, in one line of at most `SHOWN` columns."""
        key = f", key {self.key}" if self.key else ""
        columns = f": {shorten(self.columns, SHOWN)}" if self.columns else ""
        shape = f" {' × '.join(map(str, self.shape))}" if self.shape else ""
        return f"{self.name}{key}: {self.kind}{f' {self.dtype}' if self.dtype else ''}{shape}{columns}"


@dataclass
class Folder:
    """What is in a folder: files, the number of images of each folder, and files that could not be read."""

    files: list[File] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def of(self, *kinds: str) -> list[File]:
        """Return the files of some kinds."""
        return [file for file in self.files if file.kind in kinds]


def scan(folder: Path) -> Folder:
    """Look through a folder, at most `MAX_DEPTH` levels deep. Of large files, only headers are read.

    Raises
    ------
    DataError
        If it is not a folder.
    """
    if not folder.is_dir():
        raise DataError(folder, expected="a folder with your data", got="no such folder", fix="Correct the path.")
    found = Folder()
    for n, path in enumerate(_walk(folder, 0)):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in SUFFIXES:
            found.images[path.parent.relative_to(folder).as_posix()] += 1
        elif n < MAX_FILES:
            try:
                found.files += [replace(one, hemi=_side_of(path.name) or one.hemi) for one in _describe(path, name)]
            except DataError as error:
                found.unreadable.append(f"{name}: {error.got}. {error.fix}")
    return found


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Yield files, and folders that are zarr stores. Links that lead back up are not followed."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if is_hidden(entry.name) or not is_printable(entry.name):
            continue
        path = Path(entry.path)
        if not entry.is_dir() or any((path / name).is_file() for name in ZARR_FILES):
            yield path
        elif depth < MAX_DEPTH and not (entry.is_symlink() and folder.resolve().is_relative_to(path.resolve())):
            yield from _walk(path, depth + 1)


def _describe(path: Path, name: str) -> list[File]:
    """Return what is in a file, or nothing if its kind is not known."""
    suffix = suffix_of(path)
    if suffix in TABLES:
        table = read_table(path)
        return [File(name, "table", (len(table), len(table.cells)), columns=tuple(table.cells))]
    if path.is_dir() or suffix in HDF5_SUFFIXES:
        arrays = {key: array for key, array in arrays_of(path).items() if array.ndim}
        return [File(name, "array", tuple(array.shape), str(array.dtype), key) for key, array in arrays.items()]
    if suffix == ".npy":
        array = open_array(path)
        return [File(name, "array", array.shape, str(array.dtype))]
    if suffix in IMAGING:
        return [_imaging(path, name, suffix)]
    if suffix in (".annot", ".label"):
        return [File(name, suffix[1:])]
    return _surface(path, name) if any(path.name.endswith(f"h.{surface}") for surface in SURFACES) else []


def _side_of(name: str) -> str:
    """Return the hemisphere that the name of a file tells, or ''."""
    found = [hemi for hemi, pattern in SIDE.items() if pattern.search(name)]
    return found[0] if len(found) == 1 else ""


def _surface(path: Path, name: str) -> list[File]:
    try:
        require_no_pipe(path)
        return [File(name, "surface", (len(freesurfer().read_geometry(path)[0]),))]
    except Exception as error:  # the parsers of nibabel can raise anything
        raise DataError(path, expected="a surface", got=f"{error}", fix="Restore it.") from error


def _imaging(path: Path, name: str, suffix: str) -> File:
    if suffix == ".mgh":
        found = open_mgh(path)
        return File(name, "mgh", (found.n_frames, found.n_vertices), str(found.dtype))
    image = load_image(path)
    if suffix != ".gii":
        kind = "cifti" if is_cifti(path) else "volume"
        return File(name, kind, tuple(image.shape), str(np.dtype(image.get_data_dtype())))
    arrays = image.darrays
    structures = [meta.get(STRUCTURE_KEY) for meta in (image.meta, *(array.meta for array in arrays[:1]))]
    hemi = next((hemi for hemi, structure in STRUCTURE.items() if structure in structures), "")
    points = [array for array in arrays if array.intent == 1008]  # NIFTI_INTENT_POINTSET
    if points:
        return File(name, "gifti surface", (points[0].data.shape[0],), hemi=hemi)
    if arrays and arrays[0].intent == 1002:  # NIFTI_INTENT_LABEL
        return File(name, "gifti label", arrays[0].data.shape, hemi=hemi)
    shape = arrays[0].data.shape if arrays else ()
    return File(name, "gifti", shape[::-1] if len(shape) == 2 else (len(arrays), *shape), "float32", hemi=hemi)
