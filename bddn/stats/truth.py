"""How close a fit came to a planted truth."""

import numpy as np
import pandas as pd

MIN_CEILING = 0.1  # below it a voxel says nothing
MIN_VOXELS = 3  # for a correlation
MAX_SCALE = 0.5  # above it the response hardly depends on place, so the place cannot be known


def compare_with_truth(found: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float | None]:
    """Compare recovered `depth`, `x`, `y`, `scale` and `r2_test` with the planted ones, voxel by voxel.

    Over the voxels with a ceiling above 0.1; place over those of them whose planted scale is below 0.5.

    Returns
    -------
    dict
        Correlations `depth_r`, `place_x_r`, `place_y_r`, `scale_r`; `depth_slope` of recovered on planted depth, which
        soft selectors shrink; `r2_over_ceiling`, mean score over mean ceiling; `mean_ceiling`; `n_voxels`, `n_near`.
        None where fewer than three voxels are left, or they are all alike.
    """
    known = (truth["ceiling"] > MIN_CEILING).to_numpy()
    near = known & (truth["scale"] < MAX_SCALE).to_numpy()

    def r(column: str, where: "np.ndarray") -> float | None:
        a, b = found.loc[where, column].to_numpy(), truth.loc[where, column].to_numpy()
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
    }
