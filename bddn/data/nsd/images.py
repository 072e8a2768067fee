"""The images of the Natural Scenes Dataset, in the HDF5 files of the download."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.data.array_images import ArrayImages
from bddn.data.decoding import ImageError
from bddn.data.nsd.files import SYNTHETIC_STIMULI, how_to_get
from bddn.files.filekind import is_listed

N_SYNTHETIC_SHARED = 220
"""Images of NSD-synthetic that all subjects saw; 64 coloured ones of each subject follow."""
_BRIGHTNESS = (np.sqrt(np.arange(256) / 255) * 255).astype(np.uint8)


@dataclass(frozen=True)
class NsdImages(ArrayImages):
    """Rows of `imgBrick`, (n, H, W, 3) uint8; implements `bddn.data.dataset.Container`.

    `read` gives an image as a binary PPM: the line "P6", the line "W H", the line "255", then the pixels row by row, 3
    bytes each. The SHA-256 of these bytes is the identity of the image.

    Images of NSD-synthetic were made for a linearized display, and fill the whole screen. They become √(p / 255) · 255,
    rounded down, as in the code of the NSD-synthetic paper (Gifford et al.), and are cropped to the central square,
    where the images of NSD were shown.
    """

    key: str = "imgBrick"

    def pixels(self, file: Path, row: int) -> npt.NDArray[np.uint8]:
        """Return one image, (H, W, 3)."""
        if not is_listed(file):
            raise ImageError("no such file", how_to_get(Path(*file.parts[-4:])))
        found = super().pixels(file, row)
        if file.parent.name != SYNTHETIC_STIMULI.name:
            return found
        side = min(found.shape[:2])
        top, left = (round((n - side) / 2) for n in found.shape[:2])
        return _BRIGHTNESS[found[top : top + side, left : left + side]]
