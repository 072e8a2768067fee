"""The images to which groups of voxels respond most and least, for a look at data before anything is fitted.

Shape letters: n images, N voxels, A groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.data import Dataset
from bddn.data.trials import response_ids
from bddn.errors import DataError
from bddn.progress import progress
from bddn.stats.scores import ROIS, in_roi, named_rois
from bddn.stream.order import evenly

Floats = npt.NDArray[np.float64]

SHOWN_ROIS = ("V1", "V4", "EBA", "FFA", "PPA")
MAX_GROUPS = 4
N_SCALED = 512  # responses from which the mean and the deviation of each voxel are taken to compare voxels
BLOCK_ROWS = 256


@dataclass(frozen=True)
class Preferred:
    """What groups of voxels respond to.

    Attributes
    ----------
    table : DataFrame, n rows
        `image`, its id, and a column per group: the mean response of its voxels, in standard deviations of each voxel.
    deviation : array of float64, (N,)
        Standard deviation of the responses of each voxel, in their own unit.
    contrasts : dict of str to array, (N,)
        For each group: mean response of every voxel to the strongest images of the group minus that to the weakest, in
        standard deviations.
    strongest, weakest : dict of str to list of int
        For each group: rows of these images, the strongest or the weakest first.
    """

    table: pd.DataFrame
    deviation: Floats
    contrasts: dict[str, Floats]
    strongest: dict[str, list[int]]
    weakest: dict[str, list[int]]


def groups_of(voxels: pd.DataFrame, rois: Sequence[str] | None = None) -> dict[str, npt.NDArray[np.bool_]]:
    """Return masks (N,) of some ROIs by name: by default well-known ones, or the largest. Without ROIs, they are single
    voxels: those with the highest noise ceilings, or some if these are unknown.

    Raises
    ------
    DataError
        If an ROI has no voxel.
    """
    known = named_rois(voxels)
    if rois is None:
        sizes = voxels.loc[voxels["roi"] != "", "roi"].value_counts()
        rois = [roi for roi in SHOWN_ROIS if roi in known] or [str(roi) for roi in sizes.index]
        rois = rois[:MAX_GROUPS]
        if not rois:
            ceiling = voxels["ceiling"].fillna(-1).to_numpy()
            best = (
                np.argsort(-ceiling, kind="stable")
                if (ceiling >= 0).any()
                else evenly(np.arange(len(voxels)), MAX_GROUPS)
            )
            names = voxels["voxel"] if "voxel" in voxels else voxels["vertex"]
            return {f"voxel {names.iloc[row]}": np.arange(len(voxels)) == row for row in best[:MAX_GROUPS]}
    if unknown := [roi for roi in rois if roi not in known]:
        raise DataError(
            f"--rois: '{unknown[0]}'",
            expected=f"ROIs of the data: {', '.join(known) or 'it has none'}",
            got="no voxel",
            fix=f"Give other ROIs. The ROIs {', '.join(ROIS)} are unions of labels."
            if known
            else "Leave out --rois: single voxels are shown then.",
        )
    return {roi: in_roi(voxels, roi) for roi in rois}


def preferred_images(dataset: Dataset, groups: Mapping[str, npt.NDArray[np.bool_]], n_shown: int) -> Preferred:
    """Read all responses of a dataset once, and find the strongest and the weakest images of each group.

    Parameters
    ----------
    dataset : Dataset
    groups : mapping of str to array of bool, (N,)
    n_shown : int
        Number of strongest, and of weakest images.
    """
    ids, shown = dataset.stimuli.ids, response_ids(dataset)
    row_of = {stimulus: row for row, stimulus in enumerate(ids)}
    image_of = np.array([row_of[stimulus] for stimulus in shown], np.intp)
    sample = dataset.responses(evenly(np.arange(len(shown)), N_SCALED)).astype(np.float64)
    mean, scale = sample.mean(0), np.where(sample.std(0) > 0, sample.std(0), np.inf)
    weights = np.stack([mask / (mask.sum() * scale) for mask in groups.values()])
    sums, squares, total = np.zeros((len(ids), len(groups))), np.zeros(len(mean)), np.zeros(len(mean))
    with progress("read", len(shown), "responses") as advance:
        for start in range(0, len(shown), BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, len(shown)))
            centred = dataset.responses(rows) - mean
            np.add.at(sums, image_of[rows], centred @ weights.T)
            total += centred.sum(0)
            squares += np.square(centred).sum(0)
            advance(len(rows))
    found = sums / np.bincount(image_of, minlength=len(ids))[:, None]
    order = {name: np.argsort(-found[:, k], kind="stable") for k, name in enumerate(groups)}
    n = min(n_shown, max(1, len(ids) // 2))

    def response(images: npt.NDArray[np.intp]) -> Floats:
        rows = np.flatnonzero(np.isin(image_of, images))
        return np.asarray((dataset.responses(rows).mean(0, dtype=np.float64) - mean) / scale)

    return Preferred(
        pd.DataFrame({"image": ids, **{name: found[:, k] for k, name in enumerate(groups)}}),
        np.sqrt(np.maximum(squares / len(shown) - np.square(total / len(shown)), 0)),
        {name: response(rows[:n]) - response(rows[-n:]) for name, rows in order.items()},
        {name: rows[:n].tolist() for name, rows in order.items()},
        {name: rows[::-1][:n].tolist() for name, rows in order.items()},
    )
