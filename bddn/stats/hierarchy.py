"""Depth and confidence of layer selections, and the hierarchy slope, which measures how brain-like a network is."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.stats.evidence import evident, without_evidence
from bddn.stats.scores import in_roi

Floats = npt.NDArray[np.floating]

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


def hierarchy_slope(voxels: pd.DataFrame) -> dict[str, float] | None:
    """Fit depth = slope · ideal + b0 over the voxels with evidence in the ROIs of `IDEAL_DEPTH` (paper, Table 2).

    A voxel whose responses the encoder does not predict better than by chance says nothing about depth, so it is left
    out. In a table without a test of evidence, as in runs of version 0.2.0, all voxels are used.

    Parameters
    ----------
    voxels : DataFrame
        Voxel table with the column `depth` and text columns of ROI labels.

    Returns
    -------
    dict with `slope`, `b0` (0 if early layers are selected), `b1` = slope + b0 (1 if late layers are selected),
    `n_voxels`, the number of voxels that were used, and in a table with a test `n_without_evidence`, the number of
    those left out; None if one of the ROIs has no voxel with evidence.
    """
    ideal, selected, inside = [], [], np.zeros(len(voxels), np.bool_)
    has_evidence = evident(voxels)
    for roi, value in IDEAL_DEPTH.items():
        of_roi = in_roi(voxels, roi)
        inside |= of_roi
        depths = voxels.loc[of_roi & has_evidence, "depth"].to_numpy()
        if not len(depths):
            return None
        selected.append(depths)
        ideal.append(np.full(len(depths), value))
    slope, b0 = np.polyfit(np.concatenate(ideal), np.concatenate(selected), 1)
    return {
        "slope": float(slope),
        "b0": float(b0),
        "b1": float(slope + b0),
        "n_voxels": sum(len(d) for d in selected),
        **without_evidence(voxels[inside]),
    }
