"""Agreement of layer maps between subjects: at the same vertex of fsaverage, and by ROI.

Brains differ in their anatomy, and points of two subjects have no place in common. ROIs can always be compared: the
overlap of two runs in an ROI is that of the distributions of their selected layers over its voxels, Σ min(p, q), from 0
(no layer in common) to 1 (equal). It says nothing about places within an ROI, so it is larger than the agreement.

Shape letters: R runs of a subject, N voxels, V vertices of both hemispheres, L layers, A ROIs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.fsaverage import N_VERTICES
from bddn.cortex.places import keys_of, on_mesh, place_columns, space_of
from bddn.stats.scores import ROIS

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class LayerMaps:
    """The layer maps of one subject through one network.

    Attributes
    ----------
    voxels : DataFrame, N rows
        Where its voxels lie (see `cortex.places`), and `roi`.
    chosen : array of int, (R, N)
        Number of the layer that each run selects in each voxel, from 0.
    """

    voxels: pd.DataFrame
    chosen: npt.NDArray[np.integer]

    @property
    def roi(self) -> "pd.Series[str]":
        """The ROI of each voxel: that of `stats.scores.ROIS`, which unites labels as V1v and V1d, or else its label."""
        names = {part: roi for roi, parts in ROIS.items() for part in parts}
        return self.voxels["roi"].fillna("").map(lambda label: names.get(label, label))

    def shares(self, n_layers: int) -> npt.NDArray[np.float32]:
        """Return the share of runs that select each layer, (N, L)."""
        counts = [(self.chosen == layer).mean(0, dtype=np.float32) for layer in range(n_layers)]
        return np.stack(counts, axis=1)

    def placed(self) -> tuple[Rows, Rows]:
        """Return rows of voxels, and the vertex of fsaverage7 of each, from 0 to V - 1. There are none of points."""
        if space_of(self.voxels) == "points":
            return np.empty(0, np.intp), np.empty(0, np.intp)
        once = np.flatnonzero(~self.voxels.duplicated(keys_of(self.voxels)))
        there = on_mesh(self.voxels[place_columns(self.voxels)].iloc[once], "fsaverage7")
        is_right = (there["hemi"] == "rh").to_numpy()
        return once[there.index.to_numpy(np.intp)], there["vertex"].to_numpy(np.intp) + N_VERTICES * is_right

    def distributions(self, rois: Sequence[str], n_layers: int) -> Floats:
        """Return the share of each layer among the voxels of each ROI, (R, A, L); NaN without voxels."""
        found = np.full((len(self.chosen), len(rois), n_layers), np.nan)
        roi = self.roi.to_numpy()
        for k, name in enumerate(rois):
            inside = self.chosen[:, roi == name]
            if inside.shape[1]:
                found[:, k] = np.stack([(inside == layer).mean(1) for layer in range(n_layers)], axis=1)
        return found


def agreement_between(subjects: Sequence[LayerMaps], n_layers: int) -> list[Floats]:
    """Return for each run the probability that a run of another subject selects the same layer at the same vertex.

    It is the mean over vertices that another subject has too; subjects count alike, however many runs they have.

    Returns
    -------
    list of array, (R,) each
        NaN if no other subject has a vertex in common, as for points.
    """
    places = [one.placed() for one in subjects]
    total, n = np.zeros((2 * N_VERTICES, n_layers), np.float32), np.zeros(2 * N_VERTICES, np.int32)
    for one, (rows, at) in zip(subjects, places, strict=True):
        total[at] += one.shares(n_layers)[rows]
        n[at] += 1
    found = []
    for one, (rows, at) in zip(subjects, places, strict=True):
        shared = n[at] > 1
        here, there = rows[shared], at[shared]
        if not len(here):
            found.append(np.full(len(one.chosen), np.nan))
            continue
        others = (total[there] - one.shares(n_layers)[here]) / (n[there] - 1)[:, None]
        same = [np.take_along_axis(others, own[here, None].astype(np.intp), 1).mean() for own in one.chosen]
        found.append(np.array(same, np.float64))
    return found


def overlap_of_rois(subjects: Sequence[LayerMaps], n_layers: int) -> list[tuple[Floats, Floats]]:
    """Return for each run the mean overlap with other runs of its subject, and with runs of other subjects.

    It is the mean over ROIs that both have; other subjects count alike, however many runs they have.

    Returns
    -------
    list of (array, array), (R,) each
        NaN without another run, or without an ROI in common.
    """
    rois = sorted({str(roi) for one in subjects for roi in one.roi.unique()} - {""})
    every = [one.distributions(rois, n_layers) for one in subjects]
    found = []
    for k, own in enumerate(every):
        within, between = np.full(len(own), np.nan), np.full(len(own), np.nan)
        for run, mine in enumerate(own):
            within[run] = _mean(_overlaps(mine, np.delete(own, run, axis=0)))
            between[run] = _mean(np.array([_mean(_overlaps(mine, other)) for j, other in enumerate(every) if j != k]))
        found.append((within, between))
    return found


def _overlaps(mine: Floats, others: Floats) -> Floats:
    """Return the overlap of distributions (A, L) with those of other runs (R, A, L), (R,)."""
    overlap = np.minimum(mine, others).sum(-1)  # NaN without voxels
    return np.array([_mean(one) for one in overlap])


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
