"""The images of LAION-fMRI: the bytes of JPEG and PNG files in one HDF5 file, in the order of a CSV table."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from bddn.data.array_files import open_array
from bddn.data.dataset import Stimuli
from bddn.data.decoding import ImageError
from bddn.data.laion.files import HOW_TO_GET_IMAGES, IMAGES, METADATA
from bddn.data.table_files import read_table
from bddn.errors import DataError
from bddn.files.filekind import is_listed
from bddn.text import shorten

KEY, NAME = "images", "image_name"
GREY = 128
"""What was behind transparent parts on the screen: the middle grey of PsychoPy."""
_PNG = b"\x89PNG"


@dataclass(frozen=True)
class LaionImages:
    """Rows of `images`, (n,) arrays of bytes; implements `bddn.data.dataset.Container`.

    Images are given as they are in the file, but that transparent parts of a PNG become grey, as they were on the
    screen; such an image is given as a binary PPM.

    Attributes
    ----------
    n : int
        Number of rows of the table of the images, which the file must have too; 0 without the table.
    """

    n: int

    def read(self, file: Path, row: int) -> bytes:
        if not is_listed(file):
            raise ImageError("no such file", HOW_TO_GET_IMAGES)
        if not self.n:
            raise ImageError(f"no {METADATA.name} beside it, which says which image is which", HOW_TO_GET_IMAGES)
        try:
            array = open_array(file, KEY)
            if array.shape == (self.n,):
                return on_grey(np.asarray(array[row]).tobytes())
        except DataError as error:
            raise ImageError(error.got, error.fix) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise ImageError(f"no readable image ({error})") from error
        raise ImageError(f"an array '{KEY}' of shape {array.shape}, but {self.n} rows in {METADATA.name}")


def on_grey(data: bytes) -> bytes:
    """Return an image file whose transparent parts are grey: a PPM if it had some, otherwise the file itself."""
    from PIL import Image

    if not data.startswith(_PNG):
        return data
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
                return data
            over = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError):
        return data  # damaged, which the decoder says
    below = Image.new("RGBA", over.size, (GREY, GREY, GREY, 255))
    below.alpha_composite(over)
    return f"P6\n{below.width} {below.height}\n255\n".encode() + below.convert("RGB").tobytes()


def read_stimuli(root: Path, names: tuple[str, ...]) -> Stimuli:
    """Return the images with these names; no image is read.

    Without the table of the images only their names are known, which is enough for a fit on an existing cache.

    Raises
    ------
    DataError
        If the table lacks a name, or has one twice.
    """
    path, paths = root / METADATA, (root / IMAGES,) * len(names)
    if not is_listed(path):
        return Stimuli(names, paths, (0,) * len(names), LaionImages(0))
    every = read_table(path).texts(NAME, "the names of the images in trials.tsv", "")
    row = {name: k for k, name in enumerate(every)}
    absent = [name for name in names if name not in row]
    if absent or len(row) < len(every):
        raise DataError(
            path,
            expected="each image of the trials once, in the order of the images in the HDF5 file",
            got=f"no {shorten(absent)}" if absent else f"{len(every) - len(row)} repeated names",
            fix=f"Use the table of the same release. {HOW_TO_GET_IMAGES}",
        )
    return Stimuli(names, paths, tuple(row[name] for name in names), LaionImages(len(every)))
