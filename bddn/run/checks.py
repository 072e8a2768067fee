"""What can be known of a cache and a dataset before the first step of a fit, cheapest first."""

import numpy as np
import pandas as pd

from bddn.data import Dataset
from bddn.data.splits import Split
from bddn.errors import DataError
from bddn.store.reader import Cache

ROWS = 64  # of responses that are read at once; in nearly every dataset the first two differ


def check_voxels(voxels: pd.DataFrame, place: str) -> None:
    """Refuse a dataset without voxels.

    Raises
    ------
    DataError
    """
    if not len(voxels):
        raise DataError(place, expected="at least one voxel", got="none", fix="Check the masks of the dataset.")


def check_leakage(store: Cache, split: Split) -> None:
    """Refuse a split in which one picture, under two ids, is in two parts.

    Raises
    ------
    DataError
    """
    part_of = {i: part for part, members in split.to_dict().items() for i in members}
    first: dict[str, str] = {}
    for stimulus, image in zip(store.ids, store.images, strict=True):
        if stimulus not in part_of:
            continue
        other = first.setdefault(image, stimulus)
        if part_of[other] != part_of[stimulus]:
            raise DataError(
                f"cache '{store.files.place}'",
                expected="no picture in two parts of the split",
                got=f"one file as '{other}' in {part_of[other]} and '{stimulus}' in {part_of[stimulus]}",
                fix="Remove one of the two from the dataset, and extract again.",
            )


def check_responses(dataset: Dataset, split: Split) -> None:
    """Refuse responses from which nothing can be learned or scored: in each part of the split, at least one voxel must
    respond differently to two images.

    Voxels that do not are allowed beside others that do; they get no score.

    Raises
    ------
    DataError
    """
    row_of = {stimulus: row for row, stimulus in enumerate(dataset.stimuli.ids)}
    for part, members in split.to_dict().items():
        rows = np.array([row_of[stimulus] for stimulus in members])
        if not _vary(dataset, rows):
            raise DataError(
                f"responses of {dataset.name}",
                expected="a voxel whose responses differ between images, in each of the parts train, val and test",
                got=f"one and the same response to all {len(rows)} images of the part '{part}', in every voxel",
                fix="Check the response files; where the part is small, use another seed or larger shares ('split').",
            )


def _vary(dataset: Dataset, rows: "np.ndarray") -> bool:
    first = dataset.responses(rows[:1])
    return any(bool((dataset.responses(rows[at : at + ROWS]) != first).any()) for at in range(1, len(rows), ROWS))
