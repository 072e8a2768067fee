"""Numbers and labels of places: noise ceilings, masks and ROIs, from files of many formats."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.frames import Volume
from bddn.cortex.mgh import read_mgh
from bddn.data.array_files import open_array, refuse_packed
from bddn.data.imaging_files import freesurfer, is_cifti, load_image, read_volume, reading, suffix_of
from bddn.data.table_files import NO_VALUE
from bddn.errors import DataError
from bddn.files.filekind import FOLDER, HDF5, NPY
from bddn.text import shorten

LABEL, ANNOT = ".label", ".annot"
NUMBER = re.compile(r"-?\d+(\.\d*)?")
LOGICAL = {"true": 1, "false": 0}
"""Cells of a mask, as pandas and R write them."""
ROUNDED = 1e-3
"""Largest distance of a whole number from what a volume of scaled integers makes of it."""
NO_LABEL = {*NO_VALUE, "???", "unknown", "none", "background", "medial_wall", "medial wall", "corpuscallosum"}
"""Names of labels, in lower case, that mean that a vertex is in no ROI."""


@dataclass(frozen=True)
class Numbers:
    """One number for each place, and perhaps the names of the numbers."""

    values: npt.NDArray[Any]
    names: Mapping[int, str] | None = None


def read_numbers(path: Path, key: str = "", volume: Volume | None = None, n_places: int | None = None) -> Numbers:
    """Read one number for each place.

    Parameters
    ----------
    path : Path
        .npy, HDF5, zarr, GIFTI, MGH, NIfTI or CIFTI; or FreeSurfer .annot or .label.
    key : str
        Name of the array in an HDF5 file or a zarr group.
    volume : Volume, optional
        That a NIfTI volume must have.
    n_places : int, optional
        Number of vertices of the hemisphere, which a .label needs: it gives 1 inside and 0 outside.

    Raises
    ------
    DataError
        If the file is missing or damaged, or does not contain one number for each place.
    """
    suffix = suffix_of(path)
    if suffix == ANNOT:
        values, names = _freesurfer(path, "read_annot")
        return Numbers(values, {i: name for i, name in enumerate(names) if name.casefold() not in NO_LABEL})
    if suffix == LABEL:
        return Numbers(_inside(path, n_places))
    if suffix == ".gii":
        return _gifti(path)
    if suffix in (".mgh", ".mgz"):
        return Numbers(_checked(path, read_mgh(path)))
    if suffix in (".nii", ".nii.gz"):
        return _cifti(path) if is_cifti(path) else Numbers(_on_grid(path, volume))
    return Numbers(_checked(path, _of_array(path, key)))


def labels_of(path: Path, found: Numbers, named: Mapping[str, str] | None) -> tuple[npt.NDArray[np.object_], list[str]]:
    """Return the label of each place, or '', and the numbers that have no name, as texts.

    Parameters
    ----------
    path : Path
        For messages.
    found : Numbers
    named : mapping, optional
        Name of each number, which the YAML file gives.

    Raises
    ------
    DataError
        If the numbers are not whole, have no names or two sources of names, or none of those in `named` occurs.
    """
    if named is not None and found.names is not None:
        raise DataError(path, expected="no 'labels' for this file, which has names", got="labels", fix="Remove them.")
    if found.values.dtype.kind == "U":
        texts = [str(one).strip() for one in found.values]
        _refuse_numbers(path, texts)
        return np.array(["" if one.casefold() in NO_LABEL else one for one in texts], object), []
    known = np.isfinite(found.values)  # a place without a number has no label, not that of 0
    given = np.where(known, found.values, 0)
    whole = np.rint(given)
    if (differs := np.abs(given - whole) > ROUNDED).any():
        raise DataError(
            path,
            expected="whole numbers as labels",
            got=f"{given[differs][0]:.6g}",
            fix="Interpolation makes such numbers: resample by the nearest neighbour, and save integers.",
        )
    names = _names(path, found, named)
    values = whole.astype(np.int64)
    there = np.unique(values[known])
    if named is not None and not set(names) & set(there.tolist()):
        raise DataError(
            path,
            expected=f"some of the labels {shorten([f'{number} ({name})' for number, name in names.items()])}",
            got=f"the numbers {shorten([str(one) for one in there]) or 'none'}",
            fix="Correct 'labels'.",
        )
    out = np.full(len(values), "", object)
    for number, name in names.items():
        out[known & (values == number)] = "" if name.casefold() in NO_LABEL else name
    return out, [str(one) for one in there if one > 0 and one not in names]


def _refuse_numbers(path: Path, texts: list[str]) -> None:
    """Refuse labels that are those of a mask, or all numbers, also 0, which mostly means that a voxel is in no ROI."""
    there = {one for one in texts if one.casefold() not in NO_LABEL}
    if there and {one.casefold() for one in there} <= set(LOGICAL):
        raise DataError(
            path,
            expected="names of ROIs; or, for a mask, the name of its ROI in 'labels'",
            got=f"{' and '.join(sorted(there))}",
            fix="Add 'labels' to this atlas, with 1 as key of what is true, e.g. {1: V1}.",
        )
    if there & {"0", "0.0"} and all(NUMBER.fullmatch(one) for one in there):
        raise DataError(
            path,
            expected="names of ROIs; or numbers with their names in 'labels', because 0 mostly means no ROI",
            got=f"the numbers {shorten(sorted(there, key=float))}",
            fix="Add 'labels' to this atlas, with whole numbers as keys, e.g. {1: V1, 2: V2}.",
        )


def _names(path: Path, found: Numbers, named: Mapping[str, str] | None) -> Mapping[int, str]:
    if found.names is not None:
        return found.names
    try:
        names = {int(number): name for number, name in (named or {}).items()}
    except ValueError:
        names = {}
    if names:
        return names
    there = shorten([str(one) for one in np.unique(found.values)[:50]])
    raise DataError(
        path,
        expected="the names of its numbers in 'labels', e.g. {1: V1, 2: V2}, because the file has none",
        got=f"the numbers {there}" if named is None else f"labels {', '.join(named)}",
        fix="Add 'labels' to this atlas, with whole numbers as keys.",
    )


def _of_array(path: Path, key: str) -> npt.NDArray[Any]:
    """Return an array of numbers, or of texts, which HDF5 keeps as bytes."""
    array = open_array(path, key)
    refuse_packed(path, array)
    with reading(path, "a complete array", NPY, HDF5, FOLDER):
        values = np.asarray(array[...])
        if values.dtype.kind not in "SO":
            return values
        texts = [one.decode() if isinstance(one, bytes) else one for one in values.ravel().tolist()]
        return np.array(texts, str if all(isinstance(one, str) for one in texts) else object).reshape(values.shape)


def _inside(path: Path, n_places: int | None) -> npt.NDArray[np.int64]:
    if n_places is None:
        raise DataError(
            path,
            expected="a FreeSurfer label under 'lh' or 'rh', because it counts the vertices of one hemisphere",
            got="a label for all voxels",
            fix="Write 'lh' or 'rh'; for voxels that are not on a surface, give a volume, an array or a column.",
        )
    index = np.empty(0, np.int64) if _is_empty(path) else np.asarray(_freesurfer(path, "read_label"), np.int64)
    if index.size and not 0 <= index.min() <= index.max() < n_places:
        raise DataError(
            path,
            expected=f"vertices from 0 to {n_places - 1:,}",
            got=f"{index.min()} to {index.max()}",
            fix="This is a label of another surface: map it with mri_label2label.",
        )
    values = np.zeros(n_places, np.int64)
    values[index] = 1
    return values


def _is_empty(path: Path) -> bool:
    """Return whether a label says that it has 0 vertices, which nibabel cannot read."""
    with reading(path, "a FreeSurfer file .label"), path.open("rb") as file:
        return file.readline().startswith(b"#") and file.readline().strip() == b"0"


def _freesurfer(path: Path, reader: str) -> Any:
    with reading(path, f"a FreeSurfer file {suffix_of(path)}"):
        found = getattr(freesurfer(), reader)(path)
        return (found[0], [name.decode() for name in found[2]]) if reader == "read_annot" else found


def _gifti(path: Path) -> Numbers:
    image = load_image(path)
    arrays = [np.asarray(one.data) for one in image.darrays]
    if len(arrays) != 1:
        raise DataError(path, expected="one data array", got=f"{len(arrays)}", fix="Save one array in its own file.")
    table = {one.key: one.label or "" for one in image.labeltable.labels}
    names = {key: name for key, name in table.items() if name.casefold() not in NO_LABEL}
    is_label = image.darrays[0].intent == 1002  # NIFTI_INTENT_LABEL
    return Numbers(_checked(path, arrays[0]), names if is_label and names else None)


def _cifti(path: Path) -> Numbers:
    image = load_image(path)
    axis = image.header.get_axis(0)
    if image.shape[0] != 1:
        got = f"{image.shape[0]} maps"
        raise DataError(path, expected="one map", got=got, fix="Save one map in its own file.")
    names = None
    if hasattr(axis, "label"):
        names = {key: name for key, (name, _) in axis.label[0].items() if name.casefold() not in NO_LABEL}
    with reading(path, "a complete CIFTI-2 file"):
        return Numbers(_checked(path, np.asarray(image.dataobj[0])), names)


def _on_grid(path: Path, volume: Volume | None) -> npt.NDArray[Any]:
    values, own = read_volume(path)
    if volume is None:
        raise DataError(
            path,
            expected="a file of vertices or of a table",
            got="a NIfTI volume",
            fix="Sample it on the voxels first.",
        )
    if differs := volume.difference(own):
        raise DataError(
            path,
            expected=f"the grid of the mask, {volume.shape}, with the same affine",
            got=differs,
            fix="Resample it to the mask; labels by the nearest neighbour.",
        )
    return values.ravel()


def _checked(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return one number for each place: all but one axis have the length 1."""
    if values.dtype.kind in "biufU" and values.size and values.size == max(values.shape, default=0):
        return values.ravel().astype(np.int64) if values.dtype.kind == "b" else values.ravel()
    fix = "Save them as one row of real numbers."
    if values.dtype.kind == "O":  # in HDF5, cells of MATLAB are references
        fix = "Save texts, such as cells of MATLAB, as a column of a CSV table: 'table' and 'column'."
    raise DataError(path, expected="one number for each place", got=f"{values.dtype} of shape {values.shape}", fix=fix)
