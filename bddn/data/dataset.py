"""The interface of a dataset: stimuli with ids, voxels with positions, and responses, all aligned by stimulus id."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Frame
from bddn.data.decoding import RESTORE, Decoded, ImageError, Remark, decode
from bddn.errors import DataError
from bddn.files.filekind import IMAGE, explain

if TYPE_CHECKING:
    from PIL.Image import Image


class Container(Protocol):
    """A format of files that hold many images, such as Parquet tables.

    Workers of a cluster get it with the stimuli, so it must be small, and it must be possible to pickle it.
    """

    def read(self, file: Path, row: int) -> bytes:
        """Return one image as the bytes of an image file; pixels without a format are given as PPM.

        Raises
        ------
        ImageError
            If the file cannot be read, or this row has no image.
        """


@dataclass(frozen=True)
class Inspected:
    """What is known of an image after it was decoded: SHA-256 of its file, width and height in pixels, and remarks."""

    sha256: str
    size: tuple[int, int]
    remarks: frozenset[Remark]


@dataclass(frozen=True)
class Stimuli:
    """The images of a dataset.

    Attributes
    ----------
    ids : tuple of str
        Unique ids of the images.
    paths : tuple of Path
        The file of each image.
    rows : tuple of int, optional
        If files hold many images: the row of each image in its file.
    container : Container, optional
        Reads these rows.
    """

    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    rows: tuple[int, ...] | None = None
    container: Container | None = None

    def __post_init__(self) -> None:
        n, rows = len(self.ids), () if self.rows is None else self.rows
        kinds = (self.ids, str), (self.paths, Path), (rows, int | np.integer)
        others = [one for values, kind in kinds for one in values if not isinstance(one, kind)]
        if others or len(self.paths) != n or (self.rows is not None and len(rows) != n):
            raise DataError(
                "Stimuli",
                expected="an id (str) and a path (pathlib.Path) of each image, and in files of many images a row (int)",
                got=f"{others[0]!r}, a {type(others[0]).__name__}"
                if others
                else f"{n} ids, {len(self.paths)} paths, {len(rows) or 'no'} rows",
                fix="Correct them.",
            )

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: Sequence[int]) -> Self:
        """Return the images in these rows."""
        inner = None if self.rows is None else tuple(self.rows[i] for i in rows)
        return replace(self, ids=tuple(self.ids[i] for i in rows), paths=tuple(self.paths[i] for i in rows), rows=inner)

    def absolute(self) -> Self:
        """Return the same images, for processes with another working directory."""
        return replace(self, paths=tuple(path.absolute() for path in self.paths))

    def place(self, i: int) -> str:
        """Return where image `i` is, for messages."""
        return f"{self.paths[i]}" if self.rows is None else f"{self.paths[i]}, row {self.rows[i]}"

    def image(self, i: int) -> "Image":
        """Decode image `i` as RGB. It raises the errors of `read`."""
        return self.read(i)[0]

    def sha256(self, i: int) -> str:
        """Return the SHA-256 (hexadecimal) of the file of image `i`."""
        return hashlib.sha256(self._bytes(i)).hexdigest()

    def pixels_sha256(self, i: int) -> str:
        """Return `pixels_sha256` of image `i`. It raises the errors of `read`."""
        return pixels_sha256(self.image(i))

    def read(self, i: int) -> tuple["Image", str]:
        """Decode image `i` as RGB, and return it with its identity. It raises the errors of `decoded`."""
        found, sha256 = self.decoded(i)
        return found.image, sha256

    def inspect(self, i: int) -> Inspected:
        """Decode image `i` to check it. It raises the errors of `decoded`."""
        found, sha256 = self.decoded(i)
        return Inspected(sha256, found.image.size, found.remarks)

    def decoded(self, i: int) -> tuple[Decoded, str]:
        """Decode image `i` by `bddn.data.decoding`, and return it with its identity: the SHA-256 of its file.

        Raises
        ------
        DataError
            If the file is missing, not a regular file, damaged, or not a supported image.
        """
        data = self._bytes(i)
        try:
            return decode(data), hashlib.sha256(data).hexdigest()
        except ImageError as error:
            raise self._error(i, error.got, error.fix) from error

    def _bytes(self, i: int) -> bytes:
        path = self.paths[i]
        try:
            if self.container is not None and self.rows is not None:
                return self.container.read(path, self.rows[i])
            if path.exists() and not path.is_file():  # reading a pipe or a device could block forever
                raise OSError("not a regular file")
            return path.read_bytes()
        except ImageError as error:
            raise self._error(i, error.got, error.fix) from error
        except (OSError, ValueError) as error:  # a name with a null byte
            raise self._error(i, *explain(path, f"{error}", RESTORE, IMAGE)) from error

    def _error(self, i: int, got: str, fix: str) -> DataError:
        return DataError(self.place(i), expected=f"a readable image for stimulus '{self.ids[i]}'", got=got, fix=fix)


def pixels_sha256(image: "Image") -> str:
    """Return the SHA-256 (hexadecimal) of the pixels of an RGB image: that of its binary PPM file, the same for all
    formats of files."""
    found = hashlib.sha256(f"P6\n{image.width} {image.height}\n255\n".encode())
    found.update(image.tobytes())
    return found.hexdigest()


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
        column per ROI atlas, and `ceiling` (noise ceiling: explainable share of variance, 0 to 1; NaN if unknown).

        Voxels that are no vertices of fsaverage have more columns; see `bddn.cortex.places`. Such a dataset may have an
        attribute `frame`, on which files of maps are written; see `bddn.cortex.frames`.
        """

    def coords_mm(self) -> npt.NDArray[np.float32]:
        """Return positions (n_voxels, 3) float32 in mm: `bddn.cortex.places.positions(voxels())`. For fsaverage, they
        are on the two spheres, side by side."""

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        """Return finite responses (n, n_voxels) to the images in these rows of `stimuli.ids`, by default all. With
        several responses to an image, rows are those of `response_ids`; see `bddn.data.trials`."""

    def truth(self) -> pd.DataFrame | None:
        """Return the true `depth`, `x`, `y`, `scale` and `ceiling` of every voxel of planted data, or None."""


Trials = Literal["averaged", "single", "unknown"]
"""What a response is: the mean of the repetitions of an image, a single trial, or not stated."""
TRIALS_IN_WORDS: Mapping[Trials, str] = {
    "averaged": "means over repetitions",
    "single": "single trials",
    "unknown": "repetitions unknown",
}


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
    terms_stated : bool
        Whether `terms` says what the owner allows. If not, `bddn export` asks for a statement.
    shares_responses : bool
        Whether these terms let anyone pass the responses on.
    """

    name: str
    usage: str
    responses: str
    references: tuple[str, ...]
    terms: str
    options: str = ""
    trials: Trials = "unknown"
    shows_images: bool = False
    terms_stated: bool = True
    shares_responses: bool = False

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


OWN = About(
    name="own",
    usage="",
    responses="Responses are the user's own data.",
    references=(),
    terms="Data terms: those of the data's owner.",
    terms_stated=False,
)
"""The description of a dataset class without `about`."""


class DatasetKind(Dataset, Protocol):
    """A class of datasets that can be opened by name; see `bddn.data.plugins`.

    Its options are the parameters after the path. Each of them needs a default value, and is passed as str. It may also
    have the methods `remarks` and `named_tests`; see the functions of these names.
    """

    about: ClassVar[About]

    def __init__(self, path: Path) -> None: ...


def about(dataset: Dataset) -> About:
    """Return the description of a dataset, or `OWN` if it has none."""
    found: About = getattr(dataset, "about", OWN)
    return found


def remarks(dataset: Dataset) -> list[str]:
    """Return what a dataset says of its own files for `bddn data check`, such as what is missing, as sentences."""
    found: list[str] = dataset.remarks() if hasattr(dataset, "remarks") else []
    return found


def named_tests(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Return the sets of stimulus ids that are known as test sets, by name; see `bddn data split`."""
    found: dict[str, tuple[str, ...]] = dataset.named_tests() if hasattr(dataset, "named_tests") else {}
    return found


def frame_of(dataset: Dataset) -> Frame | None:
    """Return on what files of maps of a dataset's voxels are written, if it says so."""
    found: Frame | None = getattr(dataset, "frame", None)
    return found
