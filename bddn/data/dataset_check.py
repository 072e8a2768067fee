"""Check what a dataset gives: by parts, before a fit, and whole, when everything in it is read once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import check_frame
from bddn.cortex.places import PLACE_COLUMNS, check_places, positions, space_of
from bddn.data.checking import inspect_images
from bddn.data.covariates import covariate_table
from bddn.data.dataset import Dataset, frame_of
from bddn.data.splits import equal_across
from bddn.data.trials import check_trials, response_ids
from bddn.errors import DataError
from bddn.text import count

ROWS_AT_ONCE = 1024
NEEDED = ("hemi", "vertex", "roi", "ceiling")  # columns of the table of voxels
RESULTS = (
    *("r2_val", "r2_test", "p_test", "q_test", "layer_argmax", "depth", "confidence", "x", "y", "scale", "size"),
    *("response_mean", "response_sd"),
)
"""Columns that a fit adds to this table, with `weight_LAYER` of each layer."""
NEAR_MM = 1.0  # positions on fsaverage are computed from its sphere, of which there are copies in several precisions


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


def check_ids(dataset: Dataset) -> None:
    """Refuse an id that two images have.

    Raises
    ------
    DataError
    """
    ids = dataset.stimuli.ids
    if len(set(ids)) < len(ids):
        twice = next(one for one, n in Counter(ids).items() if n > 1)
        raise DataError(
            dataset.name, expected="another id for every image", got=f"'{twice}' twice", fix="Correct its 'stimuli'."
        )


def check_voxels(dataset: Dataset) -> pd.DataFrame:
    """Return the voxels of a dataset; refuse a table that is not as `Dataset.voxels` says, or other positions.

    Raises
    ------
    DataError
    """
    voxels = dataset.voxels()
    _check_table(f"voxels of {dataset.name}", voxels)
    if not len(voxels):
        raise DataError(dataset.name, expected="at least one voxel", got="none", fix="Check the masks of the dataset.")
    on_fsaverage = space_of(voxels) == "fsaverage"
    different = voxels.drop_duplicates(["hemi", "vertex"]) if on_fsaverage else voxels  # a fit can have a vertex twice
    check_places(f"voxels of {dataset.name}", different)
    check_frame(voxels, frame_of(dataset))
    told, found = positions(voxels), dataset.coords_mm()
    alike = isinstance(found, np.ndarray) and found.dtype == told.dtype and found.shape == told.shape
    if not alike or not (np.abs(told - found) <= (NEAR_MM if on_fsaverage else 0.0)).all():
        raise DataError(
            f"coords_mm of {dataset.name}",
            expected="bddn.cortex.places.positions(voxels()), so that a run's table says where its voxels lie",
            got="other numbers" if alike else _words(found),
            fix="Return these positions.",
        )
    return voxels


def _check_table(place: str, voxels: object) -> None:
    """Refuse what is not a table with the columns and the index that `Dataset.voxels` says."""

    def refuse(where: str, expected: str, got: str, fix: str) -> None:
        raise DataError(where, expected=expected, got=got, fix=fix)

    if not isinstance(voxels, pd.DataFrame):
        refuse(place, "a DataFrame with one row per voxel", _words(voxels), "Return a DataFrame.")
        return
    names = [str(name) for name in voxels.columns]
    if missing := [name for name in NEEDED if name not in voxels]:
        fix = "Add it; a label is '' and a noise ceiling NaN where it is not known."
        refuse(place, f"the columns {', '.join(NEEDED)}", f"none with the name '{missing[0]}'", fix)
    if twice := next((name for name in names if names.count(name) > 1), None):
        refuse(place, "columns of different names", f"'{twice}' twice", "Rename one of them.")
    if taken := next((name for name in names if name in RESULTS or name.startswith("weight_")), None):
        refuse(place, "other names of columns than those of a fit's results", f"'{taken}'", "Rename it.")
    if not voxels.index.equals(pd.RangeIndex(len(voxels))):
        refuse(place, "the index 0, 1, 2, … in this order", "another index", "Return voxels.reset_index(drop=True).")
    known, ceiling = "a noise ceiling from 0 to 1, or NaN, as floats", voxels["ceiling"]
    if not pd.api.types.is_float_dtype(ceiling):
        refuse(f"{place}, column ceiling", known, f"{ceiling.dtype}", "Convert it to float.")
    if len(wrong := ceiling[~(ceiling.isna() | ceiling.between(0, 1))]):
        refuse(f"{place}, column ceiling", known, f"{wrong.iloc[0]:g}", "Divide percentages by 100.")
    for name in set(names) - {*PLACE_COLUMNS, "ceiling"}:
        labels = voxels[name]
        is_number = name != "roi" and pd.api.types.is_numeric_dtype(labels)  # no label; it is kept as it is
        kind = pd.api.types.infer_dtype(labels, skipna=False)
        if not is_number and (labels.isna().any() or kind not in ("string", "categorical", "empty")):
            got = "missing values" if labels.isna().any() else kind
            refuse(f"{place}, column {name}", "labels as texts, '' for none", got, "Fill in ''.")


def responses_of(dataset: Dataset, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
    """Return the responses in some rows, by default all, as a dataset gives them, but contiguous.

    Raises
    ------
    DataError
        If they are not finite float32, with one row for each that was asked for.
    """
    n = len(response_ids(dataset)) if rows is None else len(rows)
    try:
        found = dataset.responses() if rows is None else dataset.responses(rows)
    except IndexError as error:
        raise _bad_responses(
            dataset, f"a row for each of {len(response_ids(dataset))} responses", f"{error}"
        ) from error
    if (
        not isinstance(found, np.ndarray)
        or isinstance(found, np.ma.MaskedArray)
        or found.dtype != np.float32
        or found.ndim != 2
        or len(found) != n
    ):
        raise _bad_responses(dataset, f"an array of float32, ({n}, n_voxels)", _words(found))
    if not _all_finite(found):
        row, voxel = (int(at[0]) for at in np.nonzero(~np.isfinite(found)))
        row = row if rows is None else int(rows[row])
        raise _bad_responses(dataset, "finite numbers", f"{found[~np.isfinite(found)][0]} in row {row}, voxel {voxel}")
    return np.ascontiguousarray(found)


def check_rows(dataset: Dataset, n_voxels: int) -> None:
    """Refuse responses to another number of voxels, or rows in another order than that in which they are asked for.

    Raises
    ------
    DataError
        Also the errors of `responses_of`.
    """
    last = len(response_ids(dataset)) - 1
    rows = np.array([last, 0, last // 2, last])
    found = responses_of(dataset, rows)
    if found.shape[1] != n_voxels:
        raise _bad_responses(dataset, f"a column for each of {n_voxels} voxels", f"{found.shape[1]} columns")
    if not np.array_equal(found, np.concatenate([responses_of(dataset, rows[i : i + 1]) for i in range(len(rows))])):
        expected = "those of the rows that are asked for, in their order"
        raise _bad_responses(dataset, expected, f"others for rows {rows.tolist()} than for each of these rows")


def _all_finite(values: npt.NDArray[np.float32]) -> bool:
    """Return whether all numbers are finite; a sum is faster than a test of each, and is finite only if they are."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def _bad_responses(dataset: Dataset, expected: str, got: str) -> DataError:
    return DataError(
        f"responses of {dataset.name}", expected=expected, got=got, fix="Correct the method 'responses' of the dataset."
    )


def _words(found: object) -> str:
    if isinstance(found, np.ndarray) and not isinstance(found, np.ma.MaskedArray):
        return f"{found.dtype}, shape {found.shape}"
    return f"a {type(found).__name__}"


def inspect_dataset(dataset: Dataset) -> CheckedDataset:
    """Read voxels, positions, responses and images of a dataset.

    Raises
    ------
    DataError
        If files of voxels or responses are missing, damaged or do not fit together, or responses are not finite.
    """
    check_ids(dataset)
    check_trials(dataset)
    table = covariate_table(dataset)
    covariates = {} if table is None else {str(name): int(table[name].isna().sum()) for name in table}
    voxels, n_images, n = check_voxels(dataset), len(dataset.stimuli), len(response_ids(dataset))
    check_rows(dataset, len(voxels))
    lowest, highest = np.full(len(voxels), np.inf), np.full(len(voxels), -np.inf)
    total = squares = 0.0
    for start in range(0, n, ROWS_AT_ONCE):
        rows = responses_of(dataset, np.arange(start, min(start + ROWS_AT_ONCE, n)))
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
