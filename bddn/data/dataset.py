"""The interface of a dataset: stimuli with ids, voxels with positions, and responses, all aligned by stimulus id."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.data.decoding import RESTORE, Decoded, ImageError, Remark, decode
from bddn.errors import DataError
from bddn.files.filekind import IMAGE, explain

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Stimuli:
    """The images of a dataset: `ids[i]` is the unique id of the image in the file `paths[i]`."""

    ids: tuple[str, ...]
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, i: int) -> "Image":
        """Decode image `i` as RGB. It raises the errors of `read`."""
        return self.read(i)[0]

    def sha256(self, i: int) -> str:
        """Return the SHA-256 (hexadecimal) of the file of image `i`."""
        return hashlib.sha256(self._bytes(i)).hexdigest()

    def read(self, i: int) -> tuple["Image", str]:
        """Decode image `i` as RGB by `bddn.data.decoding`, and return it with the SHA-256 of the decoded bytes.

        Raises
        ------
        DataError
            If the file is missing, not a regular file, damaged, or not a supported image.
        """
        found, sha256 = self._decoded(i)
        return found.image, sha256

    def inspect(self, i: int) -> tuple[str, frozenset[Remark]]:
        """Decode image `i` to check it; return the SHA-256 of its file, and remarks. It raises the errors of `read`."""
        found, sha256 = self._decoded(i)
        return sha256, found.remarks

    def _decoded(self, i: int) -> tuple[Decoded, str]:
        data = self._bytes(i)
        try:
            return decode(data), hashlib.sha256(data).hexdigest()
        except ImageError as error:
            raise self._error(i, error.got, error.fix) from error

    def _bytes(self, i: int) -> bytes:
        path = self.paths[i]
        try:
            if path.exists() and not path.is_file():  # reading a pipe or a device could block forever
                raise OSError("not a regular file")
            return path.read_bytes()
        except (OSError, ValueError) as error:  # a name with a null byte
            raise self._error(i, *explain(path, f"{error}", RESTORE, IMAGE)) from error

    def _error(self, i: int, got: str, fix: str) -> DataError:
        return DataError(self.paths[i], expected=f"a readable image for stimulus '{self.ids[i]}'", got=got, fix=fix)


class Dataset(Protocol):
    """One subject of a dataset."""

    @property
    def name(self) -> str:
        """The name that the user gave, e.g. `algonauts:data/subj01`."""

    @property
    def stimuli(self) -> Stimuli:
        """The images that have responses."""

    def voxels(self) -> pd.DataFrame:
        """Return a table with one row per voxel: `hemi` ('lh', 'rh'), `vertex` (fsaverage7), `roi` (or ''), one text
        column per ROI atlas, and `ceiling` (noise ceiling: explainable share of variance, 0 to 1; NaN if unknown)."""

    def coords_mm(self) -> npt.NDArray[np.float32]:
        """Return positions (n_voxels, 3) float32 in mm on the two fsaverage7 spheres, side by side."""

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        """Return finite responses (n, n_voxels) to the images in these rows of `stimuli.ids`, by default all."""

    def truth(self) -> pd.DataFrame | None:
        """Return the true `depth`, `x`, `y`, `scale` and `ceiling` of every voxel of planted data, or None."""


Trials = Literal["averaged", "single", "unknown"]
"""What a response is: the mean of the repetitions of an image, a single trial, or not stated."""


@dataclass(frozen=True)
class About:
    """The description of a kind of dataset, for `bddn datasets` and for the Methods text of a report.

    Attributes
    ----------
    name : str
        The word before the colon in `--data`.
    usage : str
        The form of a dataset name, e.g. 'algonauts:PATH/subj01'.
    options : str
        Description of the options that may follow the path, or ''.
    responses : str
        A sentence for the Methods text that says what the responses are.
    references : tuple of str
        The publications that a paper must cite if it uses the data.
    terms : str
        A sentence on the terms of use.
    trials : {'averaged', 'single', 'unknown'}
        Whether a response is the mean of the repetitions of an image, or a single trial. Their scores and noise
        ceilings differ, so they are never put together. A dataset that can give both has its own `about`.
    shows_images : bool
        Whether these terms let a page that is passed on contain small copies of the images.
    """

    name: str
    usage: str
    responses: str
    references: tuple[str, ...]
    terms: str
    options: str = ""
    trials: Trials = "unknown"
    shows_images: bool = False

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


OWN = About(
    name="own",
    usage="",
    responses="Responses are the user's own data.",
    references=(),
    terms="Data terms: those of the data's owner.",
)
"""The description of a dataset class without `about`."""


class DatasetKind(Dataset, Protocol):
    """A class of datasets that can be opened by name; see `bddn.data.plugins`.

    Its options are the parameters after the path. Each of them needs a default value, and is passed as str.
    """

    about: ClassVar[About]

    def __init__(self, path: Path) -> None: ...


def about(dataset: Dataset) -> About:
    """Return the description of a dataset, or `OWN` if it has none."""
    found: About = getattr(dataset, "about", OWN)
    return found
