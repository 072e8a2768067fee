"""Check a dataset of responses: everything in it is read once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bddn.cortex.frames import check_frame
from bddn.cortex.places import check_places, positions, space_of
from bddn.data.checking import inspect_images
from bddn.data.covariates import covariate_table
from bddn.data.dataset import Dataset, frame_of
from bddn.data.splits import equal_across
from bddn.data.trials import check_trials, response_ids
from bddn.errors import DataError
from bddn.text import count

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class CheckedDataset:
    """What is in a dataset.

    Attributes
    ----------
    voxels : DataFrame
        See `Dataset.voxels`.
    n_images : int
    n_responses : int
        Number of response rows, of which an image may have several.
    covariates : dict of str to int
        Names of the covariates of the responses, with the number of unknown values.
    sizes : dict
        Number of images of each (width, height) in pixels.
    mean, std : float
        Of all responses.
    n_constant : int
        Number of voxels whose responses to all images are equal.
    notes : tuple of str
        On how some images are decoded.
    unreadable : list of DataError
        One for each image that cannot be read.
    """

    voxels: pd.DataFrame
    n_images: int
    n_responses: int
    covariates: dict[str, int]
    sizes: dict[tuple[int, int], int]
    mean: float
    std: float
    n_constant: int
    notes: tuple[str, ...]
    unreadable: list[DataError]


def check_voxels(dataset: Dataset) -> pd.DataFrame:
    """Return the voxels of a dataset; refuse a dataset without voxels, or whose table does not say where they lie.

    Raises
    ------
    DataError
    """
    voxels = dataset.voxels()
    if not len(voxels):
        raise DataError(dataset.name, expected="at least one voxel", got="none", fix="Check the masks of the dataset.")
    on_fsaverage = space_of(voxels) == "fsaverage"
    different = voxels.drop_duplicates(["hemi", "vertex"]) if on_fsaverage else voxels  # a fit can have a vertex twice
    check_places(f"voxels of {dataset.name}", different)
    check_frame(voxels, frame_of(dataset))
    if not on_fsaverage and not np.array_equal(positions(voxels), dataset.coords_mm()):
        raise DataError(
            f"coords_mm of {dataset.name}",
            expected="bddn.cortex.places.positions(voxels()), so that a run's table says where its voxels lie",
            got="other numbers",
            fix="Return these positions.",
        )
    return voxels


def inspect_dataset(dataset: Dataset) -> CheckedDataset:
    """Read voxels, positions, responses and images of a dataset.

    Raises
    ------
    DataError
        If files of voxels or responses are missing, damaged or do not fit together, or responses are not finite.
    """
    check_trials(dataset)
    table = covariate_table(dataset)
    covariates = {} if table is None else {str(name): int(table[name].isna().sum()) for name in table}
    voxels, n_images, n = check_voxels(dataset), len(dataset.stimuli), len(response_ids(dataset))
    lowest, highest = np.full(len(voxels), np.inf), np.full(len(voxels), -np.inf)
    total = squares = 0.0
    for start in range(0, n, ROWS_AT_ONCE):
        rows = dataset.responses(np.arange(start, min(start + ROWS_AT_ONCE, n)))
        lowest, highest = np.minimum(lowest, rows.min(0)), np.maximum(highest, rows.max(0))
        total += float(rows.sum(dtype=np.float64))
        squares += float(np.square(rows, dtype=np.float64).sum())
    mean = total / (n * len(voxels))
    std = float(np.sqrt(max(0.0, squares / (n * len(voxels)) - mean**2)))
    checked, unreadable = inspect_images(dataset.stimuli)
    constant = int((lowest == highest).sum())
    return CheckedDataset(
        voxels,
        n_images,
        n,
        covariates,
        checked.sizes,
        mean,
        std,
        constant,
        (*checked.notes, *_equal_images(dataset.stimuli.ids, checked.sha256)),
        unreadable,
    )


def _equal_images(ids: Sequence[str], sha256: Sequence[str]) -> list[str]:
    """Return a note on files that are the same under several ids; none if some images could not be read."""
    equal = equal_across(sha256, range(len(sha256)))
    if not equal or len(sha256) < len(ids):
        return []
    n, (one, other) = count(len(equal), "image"), min(equal, key=lambda pair: pair[1])
    return [
        f"{n} with the same file as another one, first '{ids[other]}' as '{ids[one]}': a fit refuses a split that "
        "has them in two parts. If they are one image, give them one id"
    ]
