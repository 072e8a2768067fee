"""A figure of the maps of a run beside those of brute force."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from bddn.cortex.places import on_spheres, place_columns
from bddn.evaluation.check.comparison import CHECK, MAX_SCALE
from bddn.figures.grid import CortexPanel, Panel
from bddn.figures.paper import Sheet
from bddn.maps.kinds import column_map, place_map, scale_map
from bddn.maps.map import Map
from bddn.stats.truth import PARTS

ABOUT_GREY = "Voxels without evidence are not marked; grey cortex was not judged."


def checked(run: pd.DataFrame, sample: pd.DataFrame, heading: str) -> Sheet:
    """Return a sheet with depth, place and scale of a run and of brute force, in the same colours.

    Parameters
    ----------
    run : DataFrame, one row per voxel
        Voxel table of the run.
    sample : DataFrame, one row per sampled voxel
        `bddn.evaluation.check.comparison.Compared.voxels`. Every voxel shows brute force's answer for the nearest
        sampled voxel of its hemisphere. Both maps are grey cortex where that one was not judged, for places also where
        it reads global tokens.
    heading : str
    """
    near = sample.iloc[_nearest(run, sample)].reset_index(drop=True)
    judged = near["judged"].to_numpy()
    shown = [run[[*place_columns(run), "roi", *PARTS]].reset_index(drop=True) for _ in range(2)]
    for part in PARTS:
        where = judged & ((near[f"scale{CHECK}"] < MAX_SCALE) | (part not in "xy"))
        for table, values in zip(shown, (run[part], near[f"{part}{CHECK}"]), strict=True):
            table[part] = np.where(where, values.to_numpy(np.float64).round(6), np.nan)  # no depth of 1.0000001
    makers: dict[str, Callable[[pd.DataFrame], Map]] = {
        "depth, 0 first layer, 1 last": lambda table: column_map(table, "depth"),
        "place, of voxels that read local tokens": place_map,
        "scale": scale_map,
    }
    rows: list[list[Panel]] = []
    for name, make in makers.items():
        both, n = make(pd.concat(shown, ignore_index=True)), len(run)
        halves = (
            replace(both, values=values, table={}, about_hatched=ABOUT_GREY)
            for values in (both.values[:n], both.values[n:])
        )
        titles = (f"{who}: {name}" for who in ("run", "brute force"))
        rows.append([CortexPanel(*panel) for panel in zip(titles, halves, shown, strict=True)])
    return Sheet("Run and brute force", heading, rows)


def _nearest(run: pd.DataFrame, sample: pd.DataFrame) -> "np.ndarray":
    """Return for each voxel the row of the nearest sampled voxel; the hemispheres are far apart."""
    from scipy.spatial import KDTree

    every = on_spheres(run)
    return np.asarray(KDTree(every[sample["row"]]).query(every)[1])
