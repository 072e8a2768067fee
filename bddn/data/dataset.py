"""What every dataset gives: stimuli with ids, voxels with positions, and responses, all aligned by stimulus id."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

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
    """Images of a dataset: `ids[i]` names the image in the file `paths[i]`; ids are unique."""

    ids: tuple[str, ...]
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, i: int) -> "Image":
        """Decode image `i` as RGB. Errors as of `read`."""
        return self.read(i)[0]

    def sha256(self, i: int) -> str:
        """Identity of image `i`: the hash of its file's bytes."""
        return hashlib.sha256(self._bytes(i)).hexdigest()

    def read(self, i: int) -> tuple["Image", str]:
        """Decode image `i` as RGB, as `bddn.data.decoding` says, with the hash of the bytes that were decoded.

        Raises
        ------
        DataError
            Where the file is missing, no regular file, damaged, or no image that can be read as it is seen.
        """
        found, sha256 = self._decoded(i)
        return found.image, sha256

    def inspect(self, i: int) -> tuple[str, frozenset[Remark]]:
        """Decode image `i` and drop it: the hash of its bytes, and what is to be told of it. Errors as of `read`."""
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
            if path.exists() and not path.is_file():  # reading a pipe or a device would wait for ever
                raise OSError("no regular file")
            return path.read_bytes()
        except (OSError, ValueError) as error:  # a name with a null byte
            raise self._error(i, *explain(path, f"{error}", RESTORE, IMAGE)) from error

    def _error(self, i: int, got: str, fix: str) -> DataError:
        return DataError(self.paths[i], expected=f"a whole image, stimulus '{self.ids[i]}'", got=got, fix=fix)


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


@dataclass(frozen=True)
class About:
    """What a kind of dataset says of itself: to whoever looks for it, and to whoever reads a paper made with it.

    Attributes
    ----------
    name : str
        The word before the colon in `--data`.
    usage : str
        How a dataset is named, e.g. 'algonauts:PATH/subj01'.
    options : str
        What may follow the path, in words; '' where nothing may.
    responses : str
        A sentence for a Methods section: what the responses are.
    references : tuple of str
        What a paper that uses the data cites.
    terms : str
        A sentence on the terms of use.
    """

    name: str
    usage: str
    responses: str
    references: tuple[str, ...]
    terms: str
    options: str = ""

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


OWN = About(
    name="own",
    usage="",
    responses="Responses are the user's own data.",
    references=(),
    terms="Data terms: those of the data's owner.",
)
"""Of a dataset that says nothing of itself."""


class DatasetKind(Dataset, Protocol):
    """A class of datasets that can be opened by name, see `bddn.data.plugins`.

    Further parameters after the path, each with a default, are its options; they come as text.
    """

    about: ClassVar[About]

    def __init__(self, path: Path) -> None: ...


def about(dataset: Dataset) -> About:
    """What a dataset says of itself."""
    found: About = getattr(dataset, "about", OWN)
    return found
