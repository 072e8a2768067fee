"""Depth and confidence of layer selections, and the hierarchy slope, which measures how brain-like a network is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.stats.evidence import evident, without_evidence
from bddn.stats.scores import in_roi

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.intp]

IDEAL_DEPTH: Mapping[str, float] = {"V1": 0.0, "V2": 0.33, "V3": 0.33, "OPA": 0.66, "EBA": 1.0}
"""The relative depth at which each ROI would select layers of an ideally hierarchical network (paper, section 4)."""


def depth(layer_weights: Floats) -> Floats:
    """Return the mean relative depth of the selected layers, (n_voxels,) from 0 to 1, of weights (n_voxels, L)."""
    relative: Floats = np.linspace(0, 1, layer_weights.shape[1])
    return np.asarray(layer_weights @ relative)


def confidence(layer_weights: Floats) -> Floats:
    """Return the confidence 1 - entropy / log L of weights (n_voxels, L): 1 for one layer alone, 0 for equal weights.

    The shape is (n_voxels,). With only one layer, the confidence is 1.
    """
    w = np.asarray(layer_weights, dtype=np.float64)
    if w.shape[1] == 1:
        return np.ones(len(w))
    entropy = -(w * np.log(np.where(w > 0, w, 1))).sum(1)
    return np.asarray(np.clip(1 - entropy / np.log(w.shape[1]), 0, 1))


def depth_spread(layer_weights: Floats) -> Floats:
    """Return the standard deviation of relative depth under weights (n_voxels, L), (n_voxels,) from 0 to 0.5.

    It is 0 for one layer alone and 0.5 for the first and the last in equal parts. Unlike the confidence, it does not
    depend on the number of layers, so it compares networks of different sizes.
    """
    w = np.asarray(layer_weights, dtype=np.float64)
    away = np.linspace(0, 1, w.shape[1]) - depth(w)[:, None]
    return np.asarray(np.sqrt((w * np.square(away)).sum(1)))


@dataclass(frozen=True)
class Line:
    """The voxels of a hierarchy, from which the slope is computed.

    Attributes
    ----------
    rois : tuple of str, (R,)
    roi : array of int, (n,)
        The ROI of each voxel; of several, the first.
    ideal : array of float64, (n,)
        Its ideal depth.
    row : array of int, (n,)
        Its row in the voxel table.
    right : array of bool, (n,)
        Whether it is in the right hemisphere.
    """

    rois: tuple[str, ...]
    roi: Rows
    ideal: npt.NDArray[np.float64]
    row: Rows
    right: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, voxels: pd.DataFrame, ideal: Mapping[str, float]) -> "Line | None":
        """Return the voxels with evidence in these ROIs; None if one of the ROIs has no voxel with evidence, or all
        voxels have the same ideal depth."""
        used = np.stack([in_roi(voxels, roi) for roi in ideal]) & evident(voxels)
        row = np.flatnonzero(used.any(0))
        roi = used[:, row].argmax(0)
        at = np.array(list(ideal.values()), np.float64)[roi]
        if not used.any(1).all() or np.ptp(at) == 0:
            return None
        return cls(tuple(ideal), roi, at, row, (voxels["hemi"].iloc[row] == "rh").to_numpy())

    @property
    def part(self) -> Rows:
        """The block of cortex of each voxel, (n,): its ROI in its hemisphere."""
        return np.asarray(2 * self.roi + self.right)

    @property
    def weight(self) -> npt.NDArray[np.float64]:
        """The weights (n,) of depths in the slope, which is linear in them."""
        centred = self.ideal - self.ideal.mean()
        return np.asarray(centred / (centred @ centred))

    def fit(self, depth: Floats) -> tuple[float, float]:
        """Return slope and b0 of depths (n,)."""
        slope = float(self.weight @ depth)
        return slope, float(depth.mean() - slope * self.ideal.mean())

    def jackknife(self, depth: Floats, of: Literal["slope", "b0", "b1"] = "slope") -> tuple[float, float] | None:
        """Return the 95 % interval of slope, b0 or b1, leaving out one block of cortex at a time.

        Neighbouring voxels are not independent; ROIs of one hemisphere are taken as independent blocks (t distribution
        with one degree of freedom less than there are blocks; Bell & McCaffrey, Survey Methodology 2002). None if
        without one block all voxels have the same ideal depth.
        """
        from scipy.stats import t

        blocks = np.unique(self.part)
        others = []
        for block in blocks:
            kept = self.part != block
            if np.ptp(self.ideal[kept]) == 0:
                return None
            others.append(np.polyfit(self.ideal[kept], depth[kept], 1))
        parts = {"slope": (1, 0), "b0": (0, 1), "b1": (1, 1)}[of]
        error = np.sqrt((len(blocks) - 1) * np.var(np.array(others) @ parts))
        value, reach = float(np.dot(self.fit(depth), parts)), float(t.ppf(0.975, len(blocks) - 1) * error)
        return value - reach, value + reach


def hierarchy_slope(voxels: pd.DataFrame, ideal: Mapping[str, float] = IDEAL_DEPTH) -> dict[str, float] | None:
    """Fit depth = slope · ideal + b0 over the voxels with evidence in some ROIs (paper, Table 2).

    A voxel whose responses the encoder does not predict better than by chance says nothing about depth, so it is left
    out. In a table without a test of evidence, as in runs of version 0.2.0, all voxels are used.

    A voxel of several ROIs counts once, in the first of them. The interval of the slope is that of `Line.jackknife`.

    Parameters
    ----------
    voxels : DataFrame
        Voxel table with the columns `hemi` and `depth`, and text columns of ROI labels.
    ideal : mapping of str to float
        The ideal depth of each ROI, by the names of `in_roi`; by default the paper's.

    Returns
    -------
    dict with `slope`, its 95 % interval `slope_low` to `slope_high` (missing if there are too few parts), `b0` (0 if
    early layers are selected), `b1` = slope + b0 (1 if late layers are selected), `n_voxels`, the number of voxels that
    were used, and in a table with a test `n_without_evidence`, the number of those left out; None if one of the ROIs
    has no voxel with evidence.
    """
    line = Line.of(voxels, ideal)
    if line is None:
        return None
    selected = voxels["depth"].to_numpy(dtype=np.float64)[line.row]
    (slope, b0), interval = line.fit(selected), line.jackknife(selected)
    asked = np.any([in_roi(voxels, roi) for roi in ideal], axis=0)
    return {
        "slope": slope,
        **({} if interval is None else {"slope_low": interval[0], "slope_high": interval[1]}),
        "b0": b0,
        "b1": slope + b0,
        "n_voxels": len(line.row),
        **without_evidence(voxels[asked]),
    }


def missing_rois(voxels: pd.DataFrame, ideal: Mapping[str, float] = IDEAL_DEPTH) -> list[str]:
    """Return the ROIs that have no voxel with evidence, without which there is no slope."""
    has_evidence = evident(voxels)
    return [roi for roi in ideal if not (in_roi(voxels, roi) & has_evidence).any()]


def in_words(found: Mapping[str, float] | None, voxels: pd.DataFrame, planted: float | None = None) -> str:
    """Describe a result of `hierarchy_slope` on one line, with the slope of the planted depth where it is known."""
    if found is None:
        which = "voxel" if evident(voxels).all() else "voxel with evidence"
        return f"no slope, because these ROIs have no {which}: {', '.join(missing_rois(voxels))}"
    notes = [f"95 % interval {found['slope_low']:.2f} to {found['slope_high']:.2f}"] if "slope_low" in found else []
    notes += [] if planted is None else [f"planted {planted:.2f}"]
    told = f" ({', '.join(notes)})" if notes else ""
    return f"slope {found['slope']:.2f}{told}, b0 {found['b0']:.2f}, b1 {found['b1']:.2f}"
