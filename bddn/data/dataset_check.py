"""Check a dataset of responses: everything in it is read once."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bddn.data.checking import inspect_images
from bddn.data.covariates import covariate_table
from bddn.data.dataset import Dataset
from bddn.data.trials import check_trials, response_ids
from bddn.errors import DataError

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
    voxels, n_images, n = dataset.voxels(), len(dataset.stimuli), len(response_ids(dataset))
    dataset.coords_mm()
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
        tuple(checked.notes),
        unreadable,
    )
