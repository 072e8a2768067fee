"""What every dataset gives: stimuli with ids, voxels with positions, and responses, all aligned by stimulus id."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


MAX_PIXELS = 89_478_485  # from here on Pillow warns of a decompression bomb


@dataclass(frozen=True)
class Stimuli:
    """Images of a dataset: `ids[i]` names the image in the file `paths[i]`; ids are unique."""

    ids: tuple[str, ...]
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, i: int) -> "Image":
        """Decode image `i` as RGB.

        Raises
        ------
        DataError
            Where the file is missing, truncated or no image.
        """
        from PIL import Image

        path = self.paths[i]
        try:
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
                return image.convert("RGB")
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            raise DataError(
                path,
                expected="a whole image",
                got=f"{type(error).__name__}: {error}",
                fix=f"Restore the file of stimulus '{self.ids[i]}' from the original download.",
            ) from error

    def sha256(self, i: int) -> str:
        """Identity of image `i`: the hash of its file's bytes."""
        try:
            return hashlib.sha256(self.paths[i].read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(
                self.paths[i],
                expected="a readable image file",
                got=str(error),
                fix=f"Restore the file of stimulus '{self.ids[i]}'.",
            ) from error


class Dataset(Protocol):
    """One subject of a dataset."""

    @property
    def name(self) -> str:
        """How the user named it, e.g. `algonauts:data/subj01`."""

    @property
    def stimuli(self) -> Stimuli:
        """The images that have responses."""

    def voxels(self) -> pd.DataFrame:
        """One row per voxel: `hemi` ('lh', 'rh'), `vertex` (fsaverage7), `roi` ('' where none), one text column per
        atlas of ROIs, and `ceiling` (explainable share of variance, 0 to 1; NaN where the data do not tell)."""

    def coords_mm(self) -> npt.NDArray[np.float32]:
        """Positions (n_voxels, 3) on the fsaverage7 spheres, the right one shifted aside."""

    def responses(self) -> npt.NDArray[np.float32]:
        """Responses (n_images, n_voxels), rows in the order of `stimuli.ids`; finite."""

    def truth(self) -> pd.DataFrame | None:
        """For planted data the true `depth`, `x`, `y`, `scale` and `ceiling` of every voxel, else None."""
