"""Write and read maps of one hemisphere as GIFTI files, for Connectome Workbench, FreeSurfer and nilearn.

Format: GIFTI 1.0, 2011 (www.nitrc.org/projects/gifti). Only arrays of points have a coordinate system.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES, Ints
from bddn.cortex.surfaces import check_vertices
from bddn.errors import DataError
from bddn.files.atomic import replace_file

STRUCTURE_KEY = "AnatomicalStructurePrimary"
STRUCTURE = {"lh": "CortexLeft", "rh": "CortexRight"}
"""GIFTI's names of the two hemispheres."""
SPACE = "fsaverage7"
NO_DATA = "no data"
"""Name of label 0, which is transparent: vertices without a voxel, and voxels without a class."""


def write_gifti(
    path: Path,
    hemi: str,
    vertex: Ints,
    arrays: Mapping[str, npt.ArrayLike],
    about: str = "",
    n_vertices: int = N_VERTICES,
    space: str = SPACE,
) -> None:
    """Write voxel values of one hemisphere on all vertices of a mesh, by default the 163,842 of fsaverage7.

    Parameters
    ----------
    path : Path
        The file, usually named '*.func.gii'; an existing file is replaced atomically.
    hemi : str
        'lh' or 'rh'.
    vertex : array of int, (N,)
        Indices on the mesh, each at most once; may be empty.
    arrays : mapping of str to array of float, (N,)
        The data arrays by name, in order. They are stored as float32, with NaN at vertices without a voxel.
    about : str
        A description for the file's metadata.
    n_vertices : int
        Number of all vertices of the mesh.
    space : str
        Its name, for the file's metadata.

    Raises
    ------
    DataError
        If the hemisphere or a vertex is invalid, or the length of an array differs from that of `vertex`.
    """
    index, image = _checked(path, hemi, vertex, n_vertices), _new_image(hemi, about, space)
    for name, values in arrays.items():
        full = _on_all(path, index, name, np.asarray(values, dtype=np.float32), np.nan, n_vertices)
        _add(image, name, full, "NIFTI_INTENT_NONE")
    replace_file(path, lambda aside: aside.write_bytes(image.to_bytes()))


def write_labels(
    path: Path,
    hemi: str,
    vertex: Ints,
    name: str,
    label: Ints,
    labels: Sequence[tuple[str, npt.ArrayLike]],
    about: str = "",
    n_vertices: int = N_VERTICES,
    space: str = SPACE,
) -> None:
    """Write the label of each voxel of one hemisphere on a mesh, with the names and colours of the labels.

    Parameters
    ----------
    path : Path
        The file, usually named '*.label.gii'; an existing file is replaced atomically.
    hemi : str
        'lh' or 'rh'.
    vertex : array of int, (N,)
        Indices on the mesh, each at most once; may be empty.
    name : str
        Name of the data array.
    label : array of int, (N,)
        Index in `labels`; -1 for none. The file contains the index plus 1, and 0 for none and without a voxel.
    labels : sequence of (str, array of float (3,))
        Name and colour, sRGB 0 to 1.
    about : str
        A description for the file's metadata.
    n_vertices : int
        Number of all vertices of the mesh.
    space : str
        Its name, for the file's metadata.

    Raises
    ------
    DataError
        If the hemisphere or a vertex is invalid, or the length of `label` differs from that of `vertex`.
    """
    index, image = _checked(path, hemi, vertex, n_vertices), _new_image(hemi, about, space)
    for key, (words, rgb) in enumerate([(NO_DATA, np.zeros(3)), *labels]):
        colour = [round(float(x), 6) for x in np.asarray(rgb)]
        entry: Any = _gifti().GiftiLabel(key, *colour, alpha=float(key > 0))
        entry.label = words
        image.labeltable.labels.append(entry)
    full = _on_all(path, index, name, np.asarray(label, dtype=np.int32) + 1, 0, n_vertices)
    _add(image, name, full, "NIFTI_INTENT_LABEL")
    replace_file(path, lambda aside: aside.write_bytes(image.to_bytes()))


def read_gifti(path: Path) -> tuple[str, dict[str, npt.NDArray[np.float32]]]:
    """Read a file that `write_gifti` or `write_labels` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    hemi : str
        'lh' or 'rh'.
    arrays : dict of str to array of float32, (163842,)
        The data arrays by name, with NaN (of labels 0) at vertices without a voxel.

    Raises
    ------
    DataError
        If the file is missing, cannot be read or does not say which hemisphere it holds.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        structure = image.meta[STRUCTURE_KEY]
        hemi = {structure: hemi for hemi, structure in STRUCTURE.items()}[structure]
        return hemi, {array.meta["Name"]: np.asarray(array.data, dtype=np.float32) for array in image.darrays}
    except Exception as error:
        raise DataError(
            path,
            expected="a GIFTI file of one fsaverage7 hemisphere",
            got=f"{type(error).__name__}: {error}",
            fix="Draw the map again.",
        ) from error


def _gifti() -> Any:
    from nibabel.gifti import gifti

    return gifti


def _checked(path: Path, hemi: str, vertex: Ints, n_vertices: int) -> Ints:
    """Return valid vertices as an array; refuse others, and an unknown hemisphere."""
    if hemi not in HEMISPHERES:
        raise DataError(path, expected="hemisphere 'lh' or 'rh'", got=repr(hemi), fix="Give 'lh' or 'rh'.")
    index = np.asarray(vertex, dtype=np.int64) if np.size(vertex) == 0 else np.asarray(vertex)
    check_vertices(str(path), index, n_vertices)
    return index


def _on_all(
    path: Path, index: Ints, name: str, values: npt.NDArray[Any], missing: float, n_vertices: int
) -> npt.NDArray[Any]:
    """Return an array (n_vertices,) of values at the vertices of `index`, and `missing` elsewhere."""
    if values.shape != index.shape:
        raise DataError(
            path,
            expected=f"{len(index)} values in array {name!r}",
            got=f"shape {values.shape}",
            fix="Give one value per vertex.",
        )
    full = np.full(n_vertices, missing, dtype=values.dtype)
    full[index] = values
    return full


def _new_image(hemi: str, about: str, space: str) -> Any:
    words = {STRUCTURE_KEY: STRUCTURE[hemi], "Space": space}
    return _gifti().GiftiImage(meta=_gifti().GiftiMetaData(words | ({"Description": about} if about else {})))


def _add(image: Any, name: str, full: npt.NDArray[Any], intent: str) -> None:
    array = _gifti().GiftiDataArray(full, intent=intent, meta=_gifti().GiftiMetaData({"Name": name}))
    array.coordsys = None  # nibabel's default is a matrix, which the format allows only for points
    image.add_gifti_data_array(array)
