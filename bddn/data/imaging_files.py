"""Imaging files of own data: NIfTI, CIFTI, GIFTI, and FreeSurfer surfaces, labels and overlays."""

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.frames import Volume
from bddn.cortex.gifti import STRUCTURE, STRUCTURE_KEY
from bddn.errors import BddnError, DataError
from bddn.files.filekind import GZIP, FileKind, explain, require_no_pipe

GZIP_BYTES = 1 << 20  # read at once
UNPACKED = re.compile(r"\.(nii\.gz|[^.]+)$")
VOLUMES = (".nii", ".nii.gz")
SIDE = {
    "lh": re.compile(r"(?:^|[._-])(?i:lh|left|hemi-L)(?=[._-]|$)|\.L\."),
    "rh": re.compile(r"(?:^|[._-])(?i:rh|right|hemi-R)(?=[._-]|$)|\.R\."),
}
"""How names of files tell the hemisphere."""
UNITS = {1: "metres", 3: "microns"}
"""Other units of NIfTI than mm; 0 is unknown, and taken for mm as by all programs."""
OTHER = {"lh": "rh", "rh": "lh"}
UNREGISTERED = re.compile(r"(?:^|[._-])[lr]h?[._]sphere(?:\.native)?(?:\.surf)?(?:\.gii)?$", re.IGNORECASE)
"""Names of spheres before a registration: lh.sphere, hemi-L_sphere.surf.gii, L.sphere.native.surf.gii."""
OTHER_SPACE = re.compile(r"space-(?!fsaverage(?!_sym))[^_.]+", re.IGNORECASE)
OTHER_SPHERE = re.compile(r"fs_?LR|MSM(?=All|Sulc)|reg_LR|fsaverage_sym", re.IGNORECASE)
"""What names of spheres contain that are registered to another one; the second if they do not contain fsaverage."""


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case; '.nii.gz' counts as one."""
    match = UNPACKED.search(path.name.lower())
    return match[0] if match else ""


def load_image(path: Path) -> Any:
    """Open a file with nibabel.

    Raises
    ------
    DataError
        If it is missing, damaged, or of another kind.
    """
    import nibabel

    with reading(path, f"a file {suffix_of(path)} of nibabel"):
        return nibabel.load(path)


def freesurfer() -> Any:
    """Return nibabel's readers of FreeSurfer files."""
    import nibabel.freesurfer

    return nibabel.freesurfer


def is_cifti(path: Path) -> bool:
    """Return whether a file is CIFTI-2, whose suffix is also that of NIfTI."""
    return suffix_of(path) == ".nii" and hasattr(load_image(path).header, "get_axis")


def brain_models(path: Path) -> Any:
    """Return the axis of brain models of a CIFTI file, in the order of its columns; see nibabel's `BrainModelAxis`."""
    image = load_image(path)
    axis = image.header.get_axis(image.ndim - 1) if hasattr(image.header, "get_axis") else None
    if axis is None or not hasattr(axis, "vertex"):
        raise DataError(
            path,
            expected="a CIFTI-2 file with brain models, e.g. .dscalar.nii or .dtseries.nii",
            got="parcels, or another kind of file" if axis is not None else "another kind of file",
            fix="Give a dense CIFTI file.",
        )
    return axis


def parcels(path: Path) -> list[str]:
    """Return the names of the parcels of a CIFTI file, in the order of its columns; none of another file."""
    if not is_cifti(path):
        return []
    image = load_image(path)
    axis = image.header.get_axis(image.ndim - 1)
    return [str(name).strip() for name in axis.name] if hasattr(axis, "voxels") else []


def read_volume(path: Path) -> tuple[npt.NDArray[Any], Volume]:
    """Read a NIfTI volume (X, Y, Z) with its affine.

    Raises
    ------
    DataError
        If it is not one volume of real numbers, or its header has no affine, or one in another unit than mm.
    """
    image = load_image(path)
    if not hasattr(image, "affine") or not hasattr(image.header, "get_sform"):
        raise DataError(path, expected="a NIfTI volume", got="another kind of file", fix="Give a .nii or .nii.gz file.")
    shape = tuple(image.shape)
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) != 3 or np.dtype(image.get_data_dtype()).kind not in "fiu":
        got = f"{image.get_data_dtype()} of shape {tuple(image.shape)}"
        raise DataError(path, expected="one volume of real numbers (X, Y, Z)", got=got, fix="Save one volume.")
    if not (image.header["sform_code"] or image.header["qform_code"]):
        raise DataError(
            path,
            expected="an affine in its header, which gives the positions of voxels in mm",
            got="none (sform_code and qform_code are 0)",
            fix="Copy the header of the image that the volume was computed from.",
        )
    if not np.isfinite(image.affine).all() or not np.linalg.det(image.affine[:3, :3]):
        raise DataError(
            path,
            expected="an affine in its header that gives each voxel a position of its own",
            got=f"{np.round(image.affine[:3], 3).tolist()}",
            fix="Copy the header of the image that the volume was computed from.",
        )
    if unit := UNITS.get(int(image.header["xyzt_units"]) & 7):
        raise DataError(
            path,
            expected="an affine in mm",
            got=f"the unit {unit} in its header",
            fix="Bring the affine into mm, and write this unit: in nibabel, header.set_xyzt_units('mm').",
        )
    with reading(path, "a complete NIfTI volume"):
        check_sum(path)
        return np.asarray(image.dataobj).reshape(shape), Volume.of(image.affine, shape)


def check_sum(path: Path) -> None:
    """Read a compressed file to its end, where its checksum is. nibabel stops before it, and reads damaged numbers."""
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as file:
            while file.read(GZIP_BYTES):
                pass


def volumes_of(path: Path, image: Any, n: int) -> Iterator[npt.NDArray[Any]]:
    """Yield the first volumes (X, Y, Z) of a compressed NIfTI file (X, Y, Z, images), or the only one of a file (X, Y,
    Z), in one pass with the header's scaling; after the last volume of the file, its checksum is compared.

    Parameters
    ----------
    path : Path
    image : nibabel image
    n : int
        Number of volumes.
    """
    from nibabel.volumeutils import apply_read_scaling

    stored, shape = image.dataobj, image.shape[:3]
    n_bytes = int(np.prod(shape)) * stored.dtype.itemsize
    slope, inter = np.asanyarray(stored.slope), np.asanyarray(stored.inter)
    with gzip.open(path) as file:
        file.seek(stored.offset)
        for _ in range(n):
            volume = np.frombuffer(file.read(n_bytes), stored.dtype).reshape(shape, order="F")
            yield apply_read_scaling(volume, slope, inter)
        while n == np.prod(image.shape[3:]) and file.read(GZIP_BYTES):
            pass


def read_surface(path: Path, hemi: str) -> npt.NDArray[np.float64]:
    """Read the vertices (V, 3) in mm of a FreeSurfer or GIFTI surface.

    Raises
    ------
    DataError
        If it is not a surface, or is of the other hemisphere.
    """
    check_side(path, hemi)
    with reading(path, "a FreeSurfer or GIFTI surface"):
        if suffix_of(path) == ".gii":
            found = load_image(path).agg_data("pointset")
        else:
            found = freesurfer().read_geometry(path)[0]
        vertices = np.asarray(found, float)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or not len(vertices):
            raise ValueError("no points")
    return vertices


def check_side(path: Path, hemi: str) -> None:
    """Refuse a file whose name or metadata tell that it is of the other hemisphere; CIFTI has the vertices of both."""
    got = ""
    if SIDE[OTHER[hemi]].search(path.name) and not SIDE[hemi].search(path.name):
        got = "" if is_cifti(path) else "a name of the other one"
    elif suffix_of(path) == ".gii":
        image = load_image(path)
        metas = [image.meta, *(array.meta for array in image.darrays[:1])]
        if any(meta.get(STRUCTURE_KEY) == STRUCTURE[OTHER[hemi]] for meta in metas):
            got = STRUCTURE[OTHER[hemi]]
    if got:
        fix = "Give the file of this hemisphere: exchange 'lh' and 'rh', or rename it if only its name is wrong."
        raise DataError(path, expected=f"a file of the hemisphere {hemi}", got=got, fix=fix)


def registered_to(name: str) -> str:
    """Return what the name of a sphere tells that it is instead of one that is registered to fsaverage, or ''."""
    other = OTHER_SPACE.search(name)
    if not other and re.search("fsaverage(?!_sym)", name, re.IGNORECASE):
        return ""
    if found := other or OTHER_SPHERE.search(name):
        return f"a name with '{found[0]}', of one that is registered to another sphere"
    return "the name of the one before the registration" if UNREGISTERED.search(name) else ""


@contextmanager
def reading(path: Path, expected: str, *own: FileKind) -> Iterator[None]:
    """Turn what libraries raise while they open or read a file into one `DataError`.

    Parameters
    ----------
    path : Path
    expected : str
        What the file should be, for the message.
    own : FileKind
        The kinds that it should have; see `explain`.
    """
    try:
        require_no_pipe(path)
        yield
    except (BddnError, MemoryError):
        raise
    except Exception as error:  # parsers and decompressors have no common base class
        restore = "Restore the file, or give another one."
        got, fix = explain(path, f"a damaged file, or another kind of file ({error})", restore, *own)
        if got == GZIP.name:
            got, fix = "a damaged or incomplete gzip file", restore
        raise DataError(path, expected=expected, got=got, fix=fix) from error
