"""Write and read maps of one hemisphere as GIFTI functional files, for Connectome Workbench, FreeSurfer and nilearn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES, Ints
from bddn.cortex.surfaces import check_vertices
from bddn.errors import DataError
from bddn.files.atomic import replace_file

STRUCTURE = {"lh": "CortexLeft", "rh": "CortexRight"}
"""GIFTI's names of the two hemispheres."""


def write_gifti(path: Path, hemi: str, vertex: Ints, arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Write voxel values of one hemisphere on all 163,842 vertices of fsaverage7.

    Parameters
    ----------
    path : Path
        The file, usually named '*.func.gii'; an existing file is replaced atomically.
    hemi : str
        'lh' or 'rh'.
    vertex : array of int, (N,)
        Indices on fsaverage7, each at most once; may be empty.
    arrays : mapping of str to array of float, (N,)
        The data arrays by name, in order. They are stored as float32, with NaN at vertices without a voxel.

    Raises
    ------
    DataError
        If the hemisphere or a vertex is invalid, or the length of an array differs from that of `vertex`.
    """
    if hemi not in HEMISPHERES:
        raise DataError(path, expected="hemisphere 'lh' or 'rh'", got=repr(hemi), fix="Give 'lh' or 'rh'.")
    index = np.asarray(vertex, dtype=np.int64) if np.size(vertex) == 0 else np.asarray(vertex)
    check_vertices(str(path), index)
    from nibabel.gifti import gifti

    make: Any = gifti
    about = {"AnatomicalStructurePrimary": STRUCTURE[hemi], "Space": "fsaverage7"}
    image = make.GiftiImage(meta=make.GiftiMetaData(about))
    for name, values in arrays.items():
        given = np.asarray(values, dtype=np.float32)
        if given.shape != index.shape:
            raise DataError(
                path,
                expected=f"{len(index)} values in array {name!r}",
                got=f"shape {given.shape}",
                fix="Give one value per vertex.",
            )
        full = np.full(N_VERTICES, np.nan, dtype=np.float32)
        full[index] = given
        image.add_gifti_data_array(
            make.GiftiDataArray(
                full, intent="NIFTI_INTENT_NONE", datatype="NIFTI_TYPE_FLOAT32", meta=make.GiftiMetaData({"Name": name})
            )
        )
    replace_file(path, lambda aside: aside.write_bytes(image.to_bytes()))


def read_gifti(path: Path) -> tuple[str, dict[str, npt.NDArray[np.float32]]]:
    """Read a file that `write_gifti` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    hemi : str
        'lh' or 'rh'.
    arrays : dict of str to array of float32, (163842,)
        The data arrays by name, with NaN at vertices without a voxel.

    Raises
    ------
    DataError
        If the file is missing, cannot be read or does not say which hemisphere it holds.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        structure = image.meta["AnatomicalStructurePrimary"]
        hemi = {structure: hemi for hemi, structure in STRUCTURE.items()}[structure]
        return hemi, {array.meta["Name"]: np.asarray(array.data, dtype=np.float32) for array in image.darrays}
    except Exception as error:
        raise DataError(
            path,
            expected="a GIFTI file of one fsaverage7 hemisphere",
            got=f"{type(error).__name__}: {error}",
            fix="Draw the map again.",
        ) from error
