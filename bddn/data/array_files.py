"""Open one array of a .npy file, an HDF5 file or a zarr store, without reading it."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bddn.errors import DataError
from bddn.files.checksum import stamp
from bddn.files.filekind import FOLDER, HDF5, MISSING, NPY, explain, kind_of, require_no_pipe
from bddn.text import count

RESTORE = "Restore the file, or give another one."
UNPACKED = {"scale_factor": 1, "add_offset": 0, "_FillValue": None, "missing_value": None}
"""Attributes of NetCDF for packed numbers, with the value that changes nothing. Missing values may be NaN."""
SHOWN = 8  # arrays in a message


def open_array(path: Path, key: str = "") -> Any:
    """Open an array and return it: its `shape`, `dtype` and slices are those of numpy. Nothing of it is read.

    Handles are kept open for later calls of this process, also of its threads. A forked process opens its own.

    Parameters
    ----------
    path : Path
        A .npy file (which is mapped into memory), an HDF5 file (also a .mat file of MATLAB 7.3), or the folder of a
        zarr array or group.
    key : str
        Name of the array in an HDF5 file or a zarr group, e.g. 'betas' or 'day1/betas'.

    Raises
    ------
    DataError
        If the file is missing, of another kind or damaged, contains Python objects, or has no array of this name.
    """
    return _open(path, key, _stamp(path), os.getpid())


def open_group(path: Path, key: str) -> Any:
    """Open a group of an HDF5 file, a mapping of names to arrays, for many arrays of one file. Nothing of it is read;
    handles are kept open as those of `open_array`.

    Raises
    ------
    DataError
        If the file is missing, damaged or no HDF5 file, or has no such group.
    """
    return _open_group(path, key, _stamp(path), os.getpid())


def arrays_of(path: Path) -> dict[str, Any]:
    """Return the arrays of an HDF5 file or a zarr store by name, at most a hundred. It raises the errors of
    `open_array`."""
    return _in_zarr(path) if path.is_dir() else _in_hdf5(path)


def gaps(path: Path, key: str = "") -> list[str]:
    """Return a remark if an HDF5 or zarr array has chunks that its file does not have, and that are read as its fill
    value: those that a writer never wrote (in zarr, also those that are all 0), or that a copy has lost."""
    n = _n_unwritten(path, open_array(path, key))
    what = f"{count(n, 'chunk')} of {path} never written, or lost: the numbers are read as 0, or as its fill value"
    return [what] if n else []


def refuse_packed(path: Path, array: Any) -> None:
    """Refuse an array whose attributes say, as in NetCDF and xarray, that its numbers are packed, or that some of them
    mean a missing value: they are read as stored.

    Raises
    ------
    DataError
    """
    given = {name: _number(value) for name, value in dict(getattr(array, "attrs", {})).items() if name in UNPACKED}
    packed = [f"{name} {value:g}" for name, value in given.items() if np.isfinite(value) and value != UNPACKED[name]]
    if packed:
        raise DataError(
            path,
            expected="an array of the numbers themselves",
            got=f"packed numbers, or some that mean a missing value: {', '.join(packed)}",
            fix="Open it with xarray, which unpacks it, and save its values with numpy.save.",
        )


def _number(value: Any) -> float:
    """Return an attribute as a number, or NaN."""
    try:
        return float(np.asarray(value).ravel()[0])
    except (ValueError, TypeError, IndexError):
        return float("nan")


def _n_unwritten(path: Path, array: Any) -> int:
    if hasattr(array, "nchunks_initialized"):
        return int(array.nchunks - array.nchunks_initialized)
    if isinstance(array, np.ndarray):
        return 0
    if array.is_virtual:
        return sum(_n_unwritten(file, open_array(file, key)) for file, key in _sources(path, array))
    if not array.chunks:  # one piece, which is there as a whole or not at all
        return int(bool(array.size) and not array.external and not array.id.get_storage_size())
    n_chunks = np.prod([-(-n // size) for n, size in zip(array.shape, array.chunks, strict=True)])
    return int(n_chunks) - int(array.id.get_num_chunks())


def _sources(path: Path, array: Any) -> set[tuple[Path, str]]:
    """Return the files and keys from which HDF5 puts a virtual array together, and refuse a file that is missing, for
    which HDF5 would read the fill value."""
    found = set[tuple[Path, str]]()
    for source in array.virtual_sources():
        name = Path(source.file_name)
        tried = (path.parent / name, path.parent / name.name, name)  # as HDF5 does; '.' is the file itself
        if "%b" in source.file_name + source.dset_name:  # a series of any length
            continue
        file = path if source.file_name == "." else next((one for one in tried if one.is_file()), None)
        if file is None:
            raise _not_an_array(path, f"a virtual array of numbers in {name}, which is not there")
        found.add((file, source.dset_name.lstrip("/")))
    return found


def _stamp(path: Path) -> tuple[int, ...]:
    """Return the stamp of a file, so that what was opened of another one in its place is not used."""
    try:
        require_no_pipe(path)
        return stamp(path.stat())
    except (OSError, ValueError) as error:
        raise _not_an_array(path, f"{error}") from error


@lru_cache(maxsize=256)
def _open(path: Path, key: str, stamp: tuple[int, ...], process: int) -> Any:
    if path.is_dir() or kind_of(path) == HDF5:
        return _member(path, key)
    if key:
        got, fix = explain(path, "another kind of file", f"Remove the key '{key}'.", NPY)
        raise DataError(path, expected=f"an HDF5 file or a zarr store, which has a key '{key}'", got=got, fix=fix)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _not_an_array(path, "a damaged file, or another kind of file") from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise _not_an_array(path, "a NumPy .npz archive")
    return found


@lru_cache(maxsize=16)
def _open_group(path: Path, key: str, stamp: tuple[int, ...], process: int) -> Any:
    if path.is_dir():
        raise DataError(path, expected="an HDF5 file", got="a folder", fix="Give the file in it.")
    try:
        file = _hdf5(path)
        found = file.get(key)
    except (OSError, RuntimeError) as error:
        raise _not_an_array(path, f"{error}") from error
    if found is not None and hasattr(found, "keys"):
        return found
    raise DataError(path, expected=f"a group '{key}'", got=", ".join(file.keys()) or "nothing", fix=RESTORE)


def _member(path: Path, key: str) -> Any:
    """Return an array of an HDF5 file or a zarr store."""
    import zarr

    try:
        whole: Any = zarr.open(path, mode="r") if path.is_dir() else _hdf5(path)
        if not key and hasattr(whole, "dtype"):
            return whole
        found = whole[key] if key and not hasattr(whole, "dtype") and key in whole else None
        for source in _sources(path, found) if getattr(found, "is_virtual", False) else ():
            open_array(*source)  # an error if it is not there
    except DataError:
        raise
    except Exception as error:  # the libraries have no common base class
        raise _not_an_array(path, f"{type(error).__name__}: {error}") from error
    if found is not None and hasattr(found, "dtype"):
        return found
    inside = arrays_of(path) if not hasattr(whole, "dtype") else {}
    listed = [f"{name} {array.shape} {array.dtype}" for name, array in list(inside.items())[:SHOWN]]
    raise DataError(
        path,
        expected=f"an array '{key}' in it" if key else "the key of one of its arrays",
        got=", ".join(listed) + (", …" if len(inside) > SHOWN else "") if inside else "a single array without a key",
        fix="Give the name of an array as key." if inside else f"Remove the key '{key}'.",
    )


def _hdf5(path: Path) -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise DataError(
            path,
            expected="the package h5py, which reads HDF5 files",
            got="none installed",
            fix="Run \"pip install 'bddn[hdf5]'\".",
        ) from error
    require_no_pipe(path)
    return h5py.File(path, "r", locking="best-effort")


def _in_hdf5(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(name: str, member: Any) -> bool | None:
        if hasattr(member, "shape"):  # a named type has a dtype too
            found[name] = member
        return True if len(found) >= 100 else None  # True ends the visit

    try:
        _hdf5(path).visititems(visit)
    except OSError as error:
        raise _not_an_array(path, f"{error}") from error
    return found


def _in_zarr(path: Path) -> dict[str, Any]:
    import zarr

    try:
        whole: Any = zarr.open(path, mode="r")
        if hasattr(whole, "dtype"):
            return {"": whole}
        return {name: member for name, member in whole.members(max_depth=None) if hasattr(member, "dtype")}
    except Exception as error:  # see `_member`
        raise _not_an_array(path, f"{type(error).__name__}: {error}") from error


def _not_an_array(path: Path, got: str) -> DataError:
    own = (NPY, HDF5) if path.is_file() else (FOLDER, MISSING)
    got, fix = explain(path, "no such file or folder" if not os.path.lexists(path) else got, RESTORE, *own)
    return DataError(path, expected="a .npy file, an HDF5 file or a zarr store", got=got, fix=fix)
