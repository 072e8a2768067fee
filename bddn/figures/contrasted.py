"""A figure of the differences between models: R² and depth, one row per pair."""

import pandas as pd

from bddn.figures.grid import CortexPanel
from bddn.figures.paper import Sheet
from bddn.maps.kinds import contrast_maps
from bddn.stats.evidence import FDR


def contrasted(voxels: pd.DataFrame, whose: str) -> Sheet:
    """Return a sheet with the difference of R² and of depth of each pair of models, in the same colours.

    Parameters
    ----------
    voxels : DataFrame, one row per pair and voxel
        `bddn.evaluation.contrast.tables.Compared.voxels` of one subject, or `bddn.stats.average.average_differences`.
        Differences of R² with a false discovery rate above 0.05 are hatched, as are differences of depth where one of
        the models has no evidence or the interval, if there is one, contains 0.
    whose : str
        The subject, or the number of subjects.
    """
    is_known = voxels["depth_low"].notna() if "depth_low" in voxels else pd.Series(False, voxels.index)
    has_0 = is_known & (voxels["depth_low"] <= 0) & (voxels["depth_high"] >= 0) if is_known.any() else is_known
    known = voxels["depth_difference"].notna()
    table = voxels.assign(differs=voxels["q"] <= FDR, deeper=voxels["evident"] & known & ~has_0)
    pairs = {pair: of.reset_index(drop=True) for pair, of in table.groupby(["first", "second"], sort=False)}
    tables = list(pairs.values())
    hatched, more = "no evidence" if known.all() else "no evidence, or no layer found", ""
    if is_known.any():
        hatched, more = f"{hatched}, or interval contains 0", " and the interval does not contain 0"
    found = f"Differences of R² are shown where the false discovery rate is at most {FDR:g}."
    scores = contrast_maps(tables, "r2_difference", "difference of R²", "differs", "no difference found", found)
    both = f"Differences of depth are shown where both models have evidence{more}."
    depths = contrast_maps(tables, "depth_difference", "difference of depth", "deeper", hatched, both)
    rows: list[list[CortexPanel]] = []
    for (first, second), own, score, depth in zip(pairs, tables, scores, depths, strict=True):
        words = f"{second} minus {first}"
        rows.append([CortexPanel(f"{words}: R²", score, own), CortexPanel(f"{words}: depth", depth, own)])
    heading = f"{whose}: R² on the same test images, and depth of the selected layers, 0 first, 1 last"
    return Sheet("Differences between models", heading, [list(row) for row in rows])
