"""Run folders that are changed after the fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bddn.run.folder import summary_of_scores
from bddn.stats.hierarchy import hierarchy_slope


def change_voxels(run: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Write a run's table of voxels again."""
    change(pd.read_parquet(run / "voxels.parquet")).to_parquet(run / "voxels.parquet")


def change_json(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write a JSON file of a run again."""
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def prove(run: Path) -> None:
    """Let all voxels have evidence, which a handful of test images cannot give."""
    change_voxels(run, lambda voxels: voxels.assign(p_test=0.001, q_test=0.001))
    slope = hierarchy_slope(pd.read_parquet(run / "voxels.parquet"))
    change_json(run / "metrics.json", lambda metrics: metrics.update(hierarchy=slope))


def mark(run: Path, vertices: dict[str, int]) -> None:
    """Let one voxel of each hemisphere, at a given vertex, be predicted well, and all others badly."""

    def change(voxels: pd.DataFrame) -> pd.DataFrame:
        voxels["r2_test"] = 0.1
        for hemi, vertex in vertices.items():
            here = voxels.index[voxels["hemi"] == hemi]
            free = np.setdiff1d(np.arange(10_242), voxels.loc[here, "vertex"].to_numpy())
            if vertex in free:
                voxels.loc[here[0], "vertex"] = vertex
            voxels.loc[(voxels["hemi"] == hemi) & (voxels["vertex"] == vertex), "r2_test"] = 0.9
        return voxels

    change_voxels(run, change)
    scores = summary_of_scores(pd.read_parquet(run / "voxels.parquet"))
    change_json(run / "metrics.json", lambda metrics: metrics.update(r2_test=scores["r2_test"]))
