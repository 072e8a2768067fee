"""Images in one array of an HDF5 file, a zarr store or a .npy file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bddn.data.array_files import gaps, open_array
from bddn.data.decoding import ImageError
from bddn.errors import DataError

Layout = Literal["grey", "last", "first"]
"""Where the colour channels of an array of images are: (n, H, W), (n, H, W, C) or (n, C, H, W)."""


@dataclass(frozen=True)
class ArrayImages:
    """The images of an array of uint8; implements `bddn.data.dataset.Container`.

    Attributes
    ----------
    key : str
        Name of the array in an HDF5 file or a zarr group; '' for a file that is one array.
    """

    key: str = ""

    def count(self, file: Path) -> int:
        """Return the number of images in a file, after a check of its shape and dtype.

        Raises
        ------
        DataError
            If it has no such array, or the array does not contain images.
        """
        array = open_array(file, self.key)
        shape: tuple[int, ...] = tuple(array.shape or ())  # h5py's empty arrays have none
        if _layout(shape) is None or array.dtype != np.uint8:
            fix = "Save the images again as uint8, 0 to 255, with the channels last."
            if len(shape) == 4 and shape[0] in (1, 3):
                fix = f"MATLAB and Julia store arrays in this order: reverse the axes, to {shape[::-1]}."
            raise DataError(
                f"{file}, {self.key}" if self.key else file,
                expected="images of uint8, of shape (images, height, width, 3), or without the 3 if they are grey",
                got=f"{array.dtype} of shape {shape}",
                fix=fix,
            )
        return shape[0]

    def remarks(self, file: Path) -> list[str]:
        """Return what is unusual in a file of images, but allowed."""
        array = open_array(file, self.key)
        said = f"the images in {file} are read as MATLAB has them, (height, width, 3, images), or without the 3"
        return [*([said] if _is_turned(array) else []), *gaps(file, self.key)]

    def pixels(self, file: Path, row: int) -> npt.NDArray[np.uint8]:
        """Return one image, uint8 (height, width, 1 or 3).

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        try:
            array = open_array(file, self.key)
            layout, found = _layout(tuple(array.shape)), np.asarray(array[row])
        except DataError as error:
            raise ImageError(error.got, error.fix) from error
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise ImageError(f"no readable image ({error})") from error
        if layout is None or array.dtype != np.uint8:
            raise ImageError(f"no images of uint8, but an array of {array.dtype} and shape {array.shape}")
        if _is_turned(array):
            found = found.swapaxes(-1, -2)
        return found[..., None] if layout == "grey" else np.moveaxis(found, 0, -1) if layout == "first" else found

    def read(self, file: Path, row: int) -> bytes:
        """Return one image as a PPM file, or PGM if it is grey."""
        pixels = np.ascontiguousarray(self.pixels(file, row))
        height, width, channels = pixels.shape
        return f"{'P6' if channels == 3 else 'P5'}\n{width} {height}\n255\n".encode() + pixels.tobytes()


def _is_turned(array: Any) -> bool:
    """Return whether MATLAB has saved images (height, width, 3, images), which HDF5 lists from the last axis. If the
    channels come last there, someone has turned the axes, as in NSD."""
    return "MATLAB_class" in getattr(array, "attrs", {}) and _layout(tuple(array.shape)) != "last"


def _layout(shape: tuple[int, ...]) -> Layout | None:
    """Return where the colour channels of an array are, or None if its shape is not that of images."""
    if len(shape) == 3 and shape[-1] > 4:  # (H, W, 3) is one image
        return "grey"
    if len(shape) == 4 and shape[-1] in (1, 3):
        return "last"
    return "first" if len(shape) == 4 and shape[1] in (1, 3) else None
