"""How brain-like the order of a network's layers is: depth, confidence and the hierarchy slope."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.stats.scores import in_roi

Floats = npt.NDArray[np.floating]

IDEAL_DEPTH: Mapping[str, float] = {"V1": 0.0, "V2": 0.33, "V3": 0.33, "OPA": 0.66, "EBA": 1.0}
"""Where a hierarchical network's layers would map (paper, section 4)."""


def depth(layer_weights: Floats) -> Floats:
    """Mean relative depth of the selected layers, (n_voxels, L) weights to (n_voxels,) in [0, 1]."""
    relative: Floats = np.linspace(0, 1, layer_weights.shape[1])
    return np.asarray(layer_weights @ relative)


def confidence(layer_weights: Floats) -> Floats:
    """1 for a single selected layer, 0 for equal weights: 1 - entropy / log L, (n_voxels, L) to (n_voxels,).

    Where there is one layer only, nothing is chosen: 1.
    """
    w = np.asarray(layer_weights, dtype=np.float64)
    if w.shape[1] == 1:
        return np.ones(len(w))
    entropy = -(w * np.log(np.where(w > 0, w, 1))).sum(1)
    return np.asarray(np.clip(1 - entropy / np.log(w.shape[1]), 0, 1))


def hierarchy_slope(voxels: pd.DataFrame) -> dict[str, float] | None:
    """Fit depth = slope · ideal + b0 over the voxels of the regions of `IDEAL_DEPTH` (paper, Table 2).

    Parameters
    ----------
    voxels : table
        With `depth` and text columns of ROI labels.

    Returns
    -------
    dict with `slope`, `b0` (0 if early layers are selected), `b1` = slope + b0 (1 if late ones are) and `n_voxels`;
    None where one of the regions has no voxel.
    """
    ideal, found = [], []
    for roi, value in IDEAL_DEPTH.items():
        depths = voxels.loc[in_roi(voxels, roi), "depth"].to_numpy()
        if not len(depths):
            return None
        found.append(depths)
        ideal.append(np.full(len(depths), value))
    slope, b0 = np.polyfit(np.concatenate(ideal), np.concatenate(found), 1)
    return {
        "slope": float(slope),
        "b0": float(b0),
        "b1": float(slope + b0),
        "n_voxels": sum(len(d) for d in found),
    }
