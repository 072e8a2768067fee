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


def depth_spread(layer_weights: Floats) -> Floats:
    """Return the standard deviation of relative depth under weights (n_voxels, L), (n_voxels,) from 0 to 0.5.

    It is 0 for one layer alone and 0.5 for the first and the last in equal parts. Unlike the confidence, it does not
    depend on the number of layers, so it compares networks of different sizes.
    """
    w = np.asarray(layer_weights, dtype=np.float64)
    away = np.linspace(0, 1, w.shape[1]) - depth(w)[:, None]
    return np.asarray(np.sqrt((w * np.square(away)).sum(1)))


def hierarchy_slope(voxels: pd.DataFrame) -> dict[str, float] | None:
    """Fit depth = slope · ideal + b0 over the voxels with evidence in the ROIs of `IDEAL_DEPTH` (paper, Table 2).

    A voxel whose responses the encoder does not predict better than by chance says nothing about depth, so it is left
    out. In a table without a test of evidence, as in runs of version 0.2.0, all voxels are used.

    A voxel of several ROIs counts once, in the first of them. The interval of the slope is a jackknife that leaves out
    one ROI of one hemisphere at a time, because neighbouring voxels are not independent (t distribution with one degree
    of freedom less than there are such parts; Bell & McCaffrey, Survey Methodology 2002).

    Parameters
    ----------
    voxels : DataFrame
        Voxel table with the columns `hemi` and `depth`, and text columns of ROI labels.

    Returns
    -------
    dict with `slope`, its 95 % interval `slope_low` to `slope_high`, `b0` (0 if early layers are selected), `b1` =
    slope + b0 (1 if late layers are selected), `n_voxels`, the number of voxels that were used, and in a table with a
    test `n_without_evidence`, the number of those left out; None if one of the ROIs has no voxel with evidence.
    """
    masks = np.stack([in_roi(voxels, roi) for roi in IDEAL_DEPTH])
    used = masks & evident(voxels)
    if not used.any(1).all():
        return None
    inside = np.asarray(used.any(0))
    roi_of = used.argmax(0)[inside]  # the first ROI of each voxel
    ideal = np.array(list(IDEAL_DEPTH.values()))[roi_of]
    selected = voxels.loc[inside, "depth"].to_numpy(dtype=np.float64)
    slope, b0 = np.polyfit(ideal, selected, 1)
    part = 2 * roi_of + (voxels.loc[inside, "hemi"] == "rh").to_numpy()
    low, high = _jackknife_interval(float(slope), ideal, selected, part)
    return {
        "slope": float(slope),
        "slope_low": low,
        "slope_high": high,
        "b0": float(b0),
        "b1": float(slope + b0),
        "n_voxels": int(inside.sum()),
        **without_evidence(voxels[np.asarray(masks.any(0))]),
    }


def missing_rois(voxels: pd.DataFrame) -> list[str]:
    """Return the ROIs of `IDEAL_DEPTH` that have no voxel with evidence, without which there is no slope."""
    has_evidence = evident(voxels)
    return [roi for roi in IDEAL_DEPTH if not (in_roi(voxels, roi) & has_evidence).any()]


def in_words(found: Mapping[str, float] | None, voxels: pd.DataFrame, planted: float | None = None) -> str:
    """Describe a result of `hierarchy_slope` on one line, with the slope of the planted depth where it is known."""
    if found is None:
        which = "voxel" if evident(voxels).all() else "voxel with evidence"
        return f"no slope, because these ROIs have no {which}: {', '.join(missing_rois(voxels))}"
    notes = [f"95 % interval {found['slope_low']:.2f} to {found['slope_high']:.2f}"] if "slope_low" in found else []
    notes += [] if planted is None else [f"planted {planted:.2f}"]
    told = f" ({', '.join(notes)})" if notes else ""
    return f"slope {found['slope']:.2f}{told}, b0 {found['b0']:.2f}, b1 {found['b1']:.2f}"


def _jackknife_interval(slope: float, x: Floats, y: Floats, part: npt.NDArray[np.integer]) -> tuple[float, float]:
    """Return the 95 % interval of the slope of y (n,) on x (n,), leaving out one part (n,) at a time."""
    from scipy.stats import t

    parts = np.unique(part)
    others = np.array([np.polyfit(x[part != one], y[part != one], 1)[0] for one in parts])
    error = np.sqrt((len(parts) - 1) * others.var())
    reach = float(t.ppf(0.975, len(parts) - 1) * error)
    return slope - reach, slope + reach
