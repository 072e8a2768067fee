"""What the numbers of a map are written on, for other programs: fsaverage7, a native surface, a volume, or nothing.

A dataset whose voxels are not on fsaverage may have an attribute `frame`; the run keeps it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES, Ints
from bddn.cortex.gifti import write_gifti, write_labels
from bddn.cortex.places import VOXEL, coordinates, space_of
from bddn.errors import DataError
from bddn.files.atomic import replace_file

if TYPE_CHECKING:
    import pandas as pd

_OFF_CENTRE = 0.05  # voxels


@dataclass(frozen=True)
class NativeMesh:
    """A native surface: the number of all vertices of each of its hemispheres."""

    n_vertices: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"n_vertices": {hemi: int(n) for hemi, n in self.n_vertices.items()}}


@dataclass(frozen=True)
class Volume:
    """The grid of a volume, of which some voxels are the points of a table.

    Attributes
    ----------
    affine : 4 rows of 4 numbers
        From voxel indices to mm, as in NIfTI.
    shape : 3 ints
    """

    affine: tuple[tuple[float, ...], ...]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, affine: npt.ArrayLike, shape: Sequence[int]) -> "Volume":
        """Return the grid with this affine (4, 4) and shape (3,)."""
        i, j, k = map(int, shape)
        return cls(tuple(tuple(map(float, row)) for row in np.asarray(affine)), (i, j, k))

    def mm(self, ijk: Ints) -> npt.NDArray[np.float32]:
        """Return the coordinates (N, 3) in mm of the centres of voxels with these indices (N, 3)."""
        matrix = np.array(self.affine)
        return np.asarray(np.asarray(ijk) @ matrix[:3, :3].T + matrix[:3, 3], np.float32)

    def difference(self, other: "Volume") -> str:
        """Return in words how another grid differs: in its shape, in its affine by more than 0.001 mm; '' if not."""
        same = np.allclose(other.affine, self.affine, atol=1e-3)
        return f"shape {other.shape}" if other.shape != self.shape else "" if same else "another affine"

    def indices(self, mm: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """Return the indices (N, 3) of the voxels whose centres have these coordinates (N, 3).

        Raises
        ------
        DataError
            If a point is no centre of a voxel, is outside the volume, or two are the same voxel.
        """
        matrix = np.linalg.inv(np.array(self.affine))
        exact = np.asarray(mm, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        ijk = np.rint(exact).astype(np.int64)
        wrong = (
            (np.abs(exact - ijk) > _OFF_CENTRE).any(axis=1) | (ijk < 0).any(axis=1) | (ijk >= self.shape).any(axis=1)
        )
        if wrong.any() or len(np.unique(ijk, axis=0)) < len(ijk):
            raise DataError(
                f"volume of {' × '.join(map(str, self.shape))} voxels",
                expected="coordinates that are centres of different voxels",
                got=f"{np.asarray(mm)[wrong][0].tolist()} mm" if wrong.any() else "one voxel twice",
                fix="Take coordinates and affine from the same file.",
            )
        return ijk

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"affine": [list(row) for row in self.affine], "shape": list(self.shape)}


Frame = Volume | NativeMesh


def read_frame(found: Mapping[str, Any] | None) -> Frame | None:
    """Return the frame of `to_dict`; None for none."""
    if not found:
        return None
    return NativeMesh(found["n_vertices"]) if "n_vertices" in found else Volume.of(found["affine"], found["shape"])


def check_frame(table: "pd.DataFrame", frame: Frame | None) -> None:
    """Refuse a frame that does not belong to the voxels of a table.

    Raises
    ------
    DataError
    """
    space = space_of(table)
    fits = {"fsaverage": type(None), "native surface": NativeMesh, "points": Volume}[space]
    if frame is not None and not isinstance(frame, fits):
        raise DataError(
            "frame of the dataset",
            expected={"fsaverage": "none", "native surface": "a NativeMesh", "points": "a Volume"}[space],
            got=type(frame).__name__,
            fix=f"Its voxels are {space}; see docs/places.md.",
        )
    if isinstance(frame, Volume):
        frame.indices(coordinates(table))
    if isinstance(frame, NativeMesh):
        for hemi in HEMISPHERES:
            largest, n = table.loc[table["hemi"] == hemi, VOXEL].max(), frame.n_vertices.get(hemi, 0)
            if largest >= n:
                raise DataError(
                    f"frame of the dataset, {hemi}",
                    expected=f"more vertices than the largest number of a voxel, {largest:,}",
                    got=f"{n:,}",
                    fix="Give the number of all vertices of the surface.",
                )


def write_values(
    stem: Path, table: "pd.DataFrame", arrays: Mapping[str, npt.NDArray[Any]], frame: Frame | None, about: str = ""
) -> list[Path]:
    """Write numbers of voxels for other programs.

    Parameters
    ----------
    stem : Path
        Path of the files without a suffix; existing files are replaced.
    table : DataFrame, N rows
    arrays : mapping of str to array of numbers, (N,)
        By name, in order.
    frame : Frame, optional
        Of voxels that are not on fsaverage.
    about : str
        A description for the files' metadata.

    Returns
    -------
    list of Path
        STEM.lh.func.gii and STEM.rh.func.gii on fsaverage7, or on the native mesh; STEM.nii.gz of points in a volume,
        with one volume per array; none without a frame.
    """
    if isinstance(frame, Volume):
        return [_write_volume(stem.with_name(f"{stem.name}.nii.gz"), frame, table, arrays, about)]
    written = []
    for hemi, rows, vertex, n_vertices, space in _hemispheres(table, frame):
        written.append(stem.with_name(f"{stem.name}.{hemi}.func.gii"))
        own = {name: values[rows].astype(np.float32) for name, values in arrays.items()}
        write_gifti(written[-1], hemi, vertex, own, about, n_vertices, space)
    return written


def write_classes(
    stem: Path,
    table: "pd.DataFrame",
    name: str,
    label: Ints,
    labels: Sequence[tuple[str, npt.ArrayLike]],
    frame: Frame | None,
    about: str = "",
) -> list[Path]:
    """Write the label (N,) of each voxel with names and colours, as `gifti.write_labels`: STEM.lh.label.gii and
    STEM.rh.label.gii. Points have none."""
    written = []
    for hemi, rows, vertex, n_vertices, space in _hemispheres(table, frame):
        written.append(stem.with_name(f"{stem.name}.{hemi}.label.gii"))
        write_labels(written[-1], hemi, vertex, name, label[rows], labels, about, n_vertices, space)
    return written


def _hemispheres(
    table: "pd.DataFrame", frame: Frame | None
) -> list[tuple[str, npt.NDArray[np.bool_], npt.NDArray[Any], int, str]]:
    """Return for each hemisphere of a surface its name, a mask of its voxels, their vertices, the number of vertices
    and the name of the mesh; none for points, and for a native surface whose size is not known."""
    space = space_of(table)
    if space == "points" or (space == "native surface" and not isinstance(frame, NativeMesh)):
        return []
    sizes = frame.n_vertices if isinstance(frame, NativeMesh) else dict.fromkeys(HEMISPHERES, N_VERTICES)
    found = []
    for hemi in (hemi for hemi in HEMISPHERES if hemi in sizes):
        rows = (table["hemi"] == hemi).to_numpy()
        number = table["vertex" if space == "fsaverage" else VOXEL].to_numpy()[rows]
        mesh = "fsaverage7" if space == "fsaverage" else f"native surface of {sizes[hemi]:,} vertices"
        found.append((hemi, rows, number, sizes[hemi], mesh))
    return found


def volume_image(volume: Volume, table: "pd.DataFrame", arrays: Sequence[npt.NDArray[Any]]) -> Any:
    """Return arrays (N,) of voxels of a volume as a Nifti1Image (i, j, k, array) of float32, with NaN outside the
    voxels of the table; of one array, (i, j, k)."""
    import nibabel

    at = tuple(volume.indices(coordinates(table)).T)
    data = np.full((*volume.shape, len(arrays)), np.nan, np.float32)
    for k, values in enumerate(arrays):
        data[(*at, k)] = values
    image: Any = nibabel.Nifti1Image(data if len(arrays) > 1 else data[..., 0], np.array(volume.affine))
    image.header.set_xyzt_units("mm")
    return image


def _write_volume(
    path: Path, volume: Volume, table: "pd.DataFrame", arrays: Mapping[str, npt.NDArray[Any]], about: str
) -> Path:
    """Write a NIfTI file (i, j, k, array) of float32."""
    import gzip

    import nibabel

    image = volume_image(volume, table, list(arrays.values()))
    image.header["descrip"] = about.encode()[:79]
    names = "\n".join(arrays).encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", names))
    replace_file(path, lambda aside: aside.write_bytes(gzip.compress(image.to_bytes(), mtime=0)))
    return path
