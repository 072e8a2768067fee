"""Comparison of a fit with the truth of planted data, in each hemisphere."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import sides
from bddn.stats.evidence import evident
from bddn.stats.fit_intervals import RANGES
from bddn.stats.hierarchy import hierarchy_slope
from bddn.stats.scores import robust_mean

MIN_CEILING = 0.1  # a voxel with a lower noise ceiling is ignored
MIN_VOXELS = 3  # for a correlation
MAX_SCALE = 0.5  # above it the response hardly depends on the place, so the place cannot be recovered
PARTS = ("depth", "x", "y", "scale")

Recovered = dict[str, float | None]


def compare_with_truth(found: pd.DataFrame, truth: pd.DataFrame) -> dict[str, Any]:
    """Compare fitted `depth`, `x`, `y`, `scale` and `r2_test` with the planted values, voxel by voxel.

    Only voxels with a noise ceiling above 0.1 are used; for the place, only those with a planted scale below 0.5. Each
    hemisphere is compared for itself: the places of both differ in sign, and this difference alone correlates.

    Returns
    -------
    dict
        For each of `depth`, `x`, `y`, `scale`, and each of `lh`, `rh`: correlation `r`, `slope` of fitted on planted
        values, and root mean square error `rmse`. For `size`, if it was selected: `r` with the planted field size.
        `planted_slope`, the hierarchy slope of the planted depth; `r2_over_ceiling`, mean score divided by mean
        ceiling; `mean_ceiling`; `n_voxels`, `n_near`. A value is None if there are fewer than three voxels, or all
        planted or fitted values are equal.
    """
    known = (truth["ceiling"] > MIN_CEILING).to_numpy()
    near = known & (truth["scale"] < MAX_SCALE).to_numpy()

    def both(part: str, where: npt.NDArray[np.bool_], planted: str) -> dict[str, Recovered]:
        where = where & found[part].notna().to_numpy()  # several fits may disagree about a place
        return {
            side: _compare(truth.loc[rows & where, planted].to_numpy(), found.loc[rows & where, part].to_numpy())
            for side, rows in sides(truth).items()
        }

    out: dict[str, Any] = {part: both(part, near if part in "xy" else known, part) for part in PARTS}
    if "size" in found and "sigma" in truth:
        out["size"] = {hemi: {"r": side["r"]} for hemi, side in both("size", near, "sigma").items()}
    scored = known & found["r2_test"].notna().to_numpy()
    enough = scored.sum() >= MIN_VOXELS
    ceiling = float(truth.loc[scored, "ceiling"].mean())
    planted = hierarchy_slope(found.assign(depth=truth["depth"].to_numpy()))
    return {
        **out,
        "planted_slope": None if planted is None else planted["slope"],
        "r2_over_ceiling": robust_mean(found.loc[scored, "r2_test"].to_numpy()) / ceiling if enough else None,
        "mean_ceiling": ceiling if enough else None,
        "n_voxels": int(known.sum()),
        "n_near": int(near.sum()),
    }


def covered(found: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float | None]:
    """Return the share of voxels with evidence whose interval contains the planted value, for depth, x and y.

    Places are judged where the planted scale is below 0.5. None where no voxel is judged.
    """
    out: dict[str, float | None] = {}
    for part in RANGES:
        judged = evident(found) & ((truth["scale"] < MAX_SCALE).to_numpy() | (part not in "xy"))
        planted, low, high = truth[part], found[f"{part}_low"], found[f"{part}_high"]
        inside = ((low <= planted) & (planted <= high)).to_numpy()[judged]
        out[part] = float(inside.mean()) if len(inside) else None
    return out


def worse_hemisphere(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the hemisphere that was recovered worse, for a result of `compare_with_truth`.

    These are the lower `r`, the `slope` that is further from 1, and the higher `rmse`, as `depth_r`, `depth_slope` and
    so on, with the values of both hemispheres. Empty for comparisons over both hemispheres at once, which earlier
    versions wrote.
    """
    if "depth" not in truth:
        return {}
    out: dict[str, Any] = {}
    for part in (*PARTS, "size"):
        sides = list(truth.get(part, {}).values())
        for name in ("r", "slope", "rmse"):
            values = [side[name] for side in sides if side.get(name) is not None]
            if sides and name in sides[0]:  # a correlation of 1 and a slope of 1 are best, and an error of 0
                best = 0 if name == "rmse" else 1
                out[f"{part}_{name}"] = max(values, key=lambda value: abs(value - best), default=None)
    return {**out, **{name: value for name, value in truth.items() if not isinstance(value, Mapping)}}


def truth_lines(truth: Mapping[str, Any]) -> list[str]:
    """Return lines of text for each hemisphere, and one for both, for a result of `compare_with_truth`."""
    if "depth" not in truth:
        return ["truth: compared by an earlier version, over both hemispheres at once; fit again to compare each"]

    def text(part: str, side: Recovered) -> str:
        values = (f"{_NAMES[name]} {value:.3f}" for name, value in side.items() if value is not None)
        return f"{part} {' '.join(values) or 'unknown'}"

    lines = [
        f"truth, {hemi}: " + ", ".join(text(part, truth[part][hemi]) for part in (*PARTS, "size") if part in truth)
        for hemi in truth["depth"]
    ]
    if truth["r2_over_ceiling"] is not None:
        score, ceiling = truth["r2_over_ceiling"], truth["mean_ceiling"]
        lines.append(f"truth: R²/ceiling {score:.3f} at a mean ceiling of {ceiling:.3f}")
    return lines


_NAMES = {"r": "r", "slope": "slope", "rmse": "RMSE"}


def _compare(planted: npt.NDArray[Any], fitted: npt.NDArray[Any]) -> Recovered:
    if len(planted) < MIN_VOXELS or np.ptp(planted) == 0:
        return {"r": None, "slope": None, "rmse": None}
    r = float(np.corrcoef(planted, fitted)[0, 1]) if np.ptp(fitted) else None
    slope = float(np.polyfit(planted, fitted, 1)[0])
    return {"r": r, "slope": slope, "rmse": float(np.sqrt(np.square(planted - fitted).mean()))}
