"""Read FreeSurfer's .mgh and .mgz files of numbers per vertex.

Format: surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat. The numbers are big-endian; all vertices of a frame lie
together, one frame after the other.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.errors import DataError
from bddn.files.filekind import GZIP, explain, require_no_pipe

GZIP_START = b"\x1f\x8b"
FIX = "Download or copy the file again."


@dataclass(frozen=True)
class Mgh:
    """An uncompressed .mgh file, of which single frames can be read.

    Attributes
    ----------
    path : Path
    n_vertices, n_frames : int
    dtype : dtype
        As stored.
    start : int
        Position of the first number, in bytes.
    """

    path: Path
    n_vertices: int
    n_frames: int
    dtype: np.dtype[Any]
    start: int

    @property
    def frame_bytes(self) -> int:
        return self.n_vertices * self.dtype.itemsize

    def read(
        self, vertices: npt.NDArray[np.intp], frames: npt.NDArray[np.intp], out: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return some vertices of some frames, (frames, vertices), as stored but in float32.

        One frame is in memory at a time.

        Parameters
        ----------
        vertices, frames : array of int
        out : array, (frames, vertices), optional
            The numbers are written into it, and it is returned.
        """
        found = np.empty((len(frames), len(vertices)), np.float32) if out is None else out
        with _damage(self.path), self.path.open("rb") as file, np.errstate(over="ignore"):
            for row, frame in enumerate(frames):
                file.seek(self.start + int(frame) * self.frame_bytes)
                found[row] = np.fromfile(file, self.dtype, self.n_vertices)[vertices]
        return found


def open_mgh(path: Path) -> Mgh:
    """Read the header of a .mgh file.

    Raises
    ------
    DataError
        If it is missing, not such a file, compressed, or shorter than its header says.
    """
    with _damage(path), path.open("rb") as file:
        compressed = file.read(len(GZIP_START)) == GZIP_START
        if not compressed:
            file.seek(0)
            found = _header(path, file)
    if compressed:
        raise DataError(
            path,
            expected="an uncompressed .mgh file, of which single frames can be read",
            got="a gzip archive",
            fix="Unpack it with gunzip, and call it .mgh.",
        )
    n_bytes, here = found.start + found.n_frames * found.frame_bytes, path.stat().st_size
    if here < n_bytes:
        raise DataError(
            path, expected=f"{n_bytes} bytes, as its header says", got=f"{here} bytes, an incomplete copy", fix=FIX
        )
    return found


def read_mgh(path: Path) -> npt.NDArray[np.float32]:
    """Return all numbers of a .mgh or .mgz file: (n_vertices,), or (n_vertices, n_frames) if it has several frames.

    Raises
    ------
    DataError
        If it is missing, damaged, or not such a file.
    """
    with _damage(path), gzip.open(path) if path.suffix == ".mgz" else path.open("rb") as file:
        header = _header(path, file)
        file.seek(header.start)
        values = np.frombuffer(file.read(header.n_frames * header.frame_bytes), header.dtype)
        file.read()  # to the end, where a .mgz has its checksum
        frames = values.reshape(header.n_frames, header.n_vertices).astype(np.float32)
    return frames[0] if header.n_frames == 1 else frames.T


def _header(path: Path, file: Any) -> Mgh:
    from nibabel.freesurfer.mghformat import MGHHeader

    header = MGHHeader.from_fileobj(file)
    x, y, z, frames = (*header.get_data_shape(), 1, 1, 1)[:4]
    return Mgh(path, int(x * y * z), int(frames), header.get_data_dtype(), int(header.get_data_offset()))


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what readers raise into one message."""
    from nibabel.freesurfer.mghformat import MGHError
    from nibabel.spatialimages import HeaderDataError

    try:
        require_no_pipe(path)
        yield
    except (OSError, ValueError, EOFError, KeyError, TypeError, zlib.error, HeaderDataError, MGHError) as error:
        own = (GZIP,) if path.suffix == ".mgz" else ()
        cause = f"{error}" or type(error).__name__
        got, fix = explain(path, f"a damaged file, or another kind of file ({cause})", FIX, *own)
        raise DataError(path, expected="a FreeSurfer .mgh or .mgz file", got=got, fix=fix) from error
