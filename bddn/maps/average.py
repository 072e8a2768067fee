"""The average of several subjects, matched by vertex."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bddn.errors import DataError
from bddn.stats.hierarchy import confidence, depth

AVERAGED = ("r2_val", "r2_test", "x", "y", "scale", "ceiling")


def average(tables: Sequence[pd.DataFrame], layers: Sequence[str]) -> pd.DataFrame:
    """Average the layer weights, places, scales and scores of several voxel tables.

    Layer, depth and confidence are computed from the mean weights. Voxels are matched by hemisphere and vertex. A voxel
    that only some subjects have is the mean over these subjects; `n_subjects` is their number.

    Parameters
    ----------
    tables : sequence of DataFrame
        Voxel tables of runs with the same layers.
    layers : sequence of str, (L,)
        Names of the layers, from early to late.

    Returns
    -------
    DataFrame, one row per vertex that any subject has
        `roi` is the most frequent name among the subjects; of equally frequent names, the first in the alphabet.

    Raises
    ------
    DataError
        If a table lacks a layer.
    """
    weights = [f"weight_{layer}" for layer in layers]
    for i, table in enumerate(tables, 1):
        if missing := [name for name in weights if name not in table]:
            raise DataError(
                f"run {i} of {len(tables)}",
                expected="the layers of the first run",
                got=f"a run without {missing[0].removeprefix('weight_')}",
                fix="Give only runs of one network with the same layers.",
            )
    together = pd.concat(tables, ignore_index=True)
    groups = together.groupby(["hemi", "vertex"], sort=True)
    out = groups[[*weights, *(name for name in AVERAGED if name in together)]].mean()
    out["n_subjects"] = groups.size()
    out["roi"] = groups["roi"].agg(lambda names: names.mode().iloc[0])
    out = out.reset_index()
    mean = out[weights].to_numpy(dtype=np.float64)
    out["layer_argmax"] = np.array(list(layers), dtype=object)[mean.argmax(axis=1)]
    out["depth"], out["confidence"] = depth(mean), confidence(mean)
    return out
