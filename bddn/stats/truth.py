"""Comparison of a fit with the truth of planted data."""

import numpy as np
import pandas as pd

MIN_CEILING = 0.1  # a voxel with a lower noise ceiling is ignored
MIN_VOXELS = 3  # for a correlation
MAX_SCALE = 0.5  # above it the response hardly depends on the place, so the place cannot be recovered


def compare_with_truth(found: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float | None]:
    """Compare fitted `depth`, `x`, `y`, `scale` and `r2_test` with the planted values, voxel by voxel.

    Only voxels with a noise ceiling above 0.1 are used; for the place, only those with a planted scale below 0.5.

    Returns
    -------
    dict
        Correlations `depth_r`, `place_x_r`, `place_y_r`, `scale_r`, and if size was selected `size_r`, with the planted
        field size; `depth_slope`, the slope of fitted on planted depth, below 1 for soft selectors; `r2_over_ceiling`,
        mean score divided by mean ceiling; `mean_ceiling`; `n_voxels`, `n_near`. A value is None if there are fewer
        than three voxels, or they are all equal.
    """
    known = (truth["ceiling"] > MIN_CEILING).to_numpy()
    near = known & (truth["scale"] < MAX_SCALE).to_numpy()

    def r(column: str, where: "np.ndarray", planted: str = "") -> float | None:
        a, b = found.loc[where, column].to_numpy(), truth.loc[where, planted or column].to_numpy()
        if len(a) < MIN_VOXELS or np.ptp(a) == 0 or np.ptp(b) == 0:
            return None
        return float(np.corrcoef(a, b)[0, 1])

    ceiling = float(truth.loc[known, "ceiling"].mean())
    enough = known.sum() >= MIN_VOXELS
    slope = float(np.polyfit(truth.loc[known, "depth"], found.loc[known, "depth"], 1)[0]) if enough else None
    return {
        "depth_r": r("depth", known),
        "depth_slope": slope,
        "place_x_r": r("x", near),
        "place_y_r": r("y", near),
        "scale_r": r("scale", known),
        "r2_over_ceiling": float(found.loc[known, "r2_test"].mean() / ceiling) if enough else None,
        "mean_ceiling": ceiling if enough else None,
        "n_voxels": int(known.sum()),
        "n_near": int(near.sum()),
        **({"size_r": r("size", near, "sigma")} if "size" in found and "sigma" in truth else {}),
    }
