"""What every dataset gives: stimuli with ids, voxels with positions, and responses, all aligned by stimulus id."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


PNG_END = b"IEND\xaeB`\x82"
DECODING = "RGB, 8 bits per channel, as stored"  # in every cache's header: change it with the pixels that it describes
MAX_PIXELS = 89_478_485  # from here on Pillow warns of a decompression bomb


@dataclass(frozen=True)
class Stimuli:
    """Images of a dataset: `ids[i]` names the image in the file `paths[i]`; ids are unique."""

    ids: tuple[str, ...]
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, i: int) -> "Image":
        """Decode image `i` as RGB, as its pixels are stored (an EXIF rotation is not applied). Errors as of `read`."""
        return self.read(i)[0]

    def sha256(self, i: int) -> str:
        """Identity of image `i`: the hash of its file's bytes."""
        return hashlib.sha256(self._bytes(i)).hexdigest()

    def read(self, i: int) -> tuple["Image", str]:
        """Decode image `i` as RGB, with the hash of the bytes that were decoded.

        Raises
        ------
        DataError
            Where the file is missing, no regular file, truncated or no image.
        """
        from PIL import Image, UnidentifiedImageError

        data = self._bytes(i)
        try:
            with Image.open(BytesIO(data)) as image:
                _check_whole(image, data)
                return image.convert("RGB"), hashlib.sha256(data).hexdigest()
        except UnidentifiedImageError as error:  # whose words name an address in memory
            raise self._error(i, OSError("in no format that Pillow reads")) from error
        except (
            OSError,
            SyntaxError,
            ValueError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            raise self._error(i, error) from error

    def _bytes(self, i: int) -> bytes:
        path = self.paths[i]
        try:
            if path.exists() and not path.is_file():  # reading a pipe or a device would wait for ever
                raise OSError("no regular file")
            return path.read_bytes()
        except OSError as error:
            raise self._error(i, error) from error

    def _error(self, i: int, error: Exception) -> DataError:
        return DataError(
            self.paths[i],
            expected="a whole image",
            got=f"{type(error).__name__}: {error}",
            fix=f"Restore the file of stimulus '{self.ids[i]}' from the original download.",
        )


def _check_whole(image: "Image", data: bytes) -> None:
    """Refuse what Pillow lets pass, or would let pass where another library has asked it to."""
    from PIL import Image, ImageFile

    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise ValueError(f"{frames} frames, an animation")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode}: more than 8 bits per channel, which Pillow would cut off")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, with which damage is not seen")
    if image.format == "PNG" and PNG_END not in data:
        raise ValueError("a PNG file without its end")


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

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        """Responses (n, n_voxels) to the images of some rows of `stimuli.ids`, by default of all; finite."""

    def truth(self) -> pd.DataFrame | None:
        """For planted data the true `depth`, `x`, `y`, `scale` and `ceiling` of every voxel, else None."""
