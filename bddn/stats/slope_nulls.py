"""Tests of the hierarchy slope against chance: another order of the layers, and maps that have nothing to do with ROIs.

Both are one-sided: they ask whether the slope is larger than by chance.
"""

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import on_spheres
from bddn.machine.shared_setting import single_threaded_products
from bddn.stats.evidence import evident
from bddn.stats.hierarchy import Line
from bddn.stats.smooth_maps import SmoothMaps
from bddn.stream.order import evenly

Floats = npt.NDArray[np.float64]

N_ORDERS = 10_000
N_MAPS = 4000
N_VOXELS = 200
"""Voxels on which the slope of a map is compared with those of others."""
N_APART = 80
"""Voxels on which the smoothness is estimated: so few that what decides is how the map changes over long distances, as
it does from ROI to ROI; on neighbours, a map of two scales looks rougher than it is."""
COVERED = (2.5, 97.5)
ROUNDING = 1e-9


@dataclass(frozen=True)
class Null:
    """The slopes of a null hypothesis.

    Attributes
    ----------
    p : float
        Share of them that are at least as large as the slope that was found.
    n : int
        Their number.
    exact : bool
        Whether these are all of them; otherwise they were drawn at random.
    low, high : float
        Their central 95 %.
    """

    p: float
    n: int
    exact: bool
    low: float
    high: float

    @classmethod
    def of(cls, found: float, slopes: Floats, exact: bool = False) -> "Null":
        """Return the test of a slope; the one that was found counts as one of those that are drawn."""
        as_large, own = int((slopes >= found - ROUNDING).sum()), 0 if exact else 1
        low, high = np.percentile(slopes, COVERED)
        return cls((as_large + own) / (len(slopes) + own), len(slopes), exact, float(low), float(high))


def null_of_layers(line: Line, layer_weights: npt.NDArray[np.floating]) -> Null:
    """Test a slope against other orders of the same layers: does the order of the network matter?

    Parameters
    ----------
    line : Line
    layer_weights : array, (N, L)
        Of all voxels of the table.

    Returns
    -------
    Null
        No p-value is below 1 / L!. Layers next to each other are alike, and another order tears them apart; a map that
        has nothing to do with ROIs can have a small p-value. That is what `null_of_maps` tests.
    """
    of_layer = line.weight @ layer_weights[line.row].astype(np.float64)
    n_layers = len(of_layer)
    depths = np.linspace(0, 1, n_layers)
    exact = math.factorial(n_layers) <= N_ORDERS
    if exact:
        orders = np.array(list(permutations(range(n_layers))))
    else:
        orders = np.random.default_rng([0, 8]).permuted(np.tile(np.arange(n_layers), (N_ORDERS, 1)), axis=1)
    return Null.of(float(of_layer @ depths), depths[orders] @ of_layer, exact)


def null_of_maps(line: Line, voxels: pd.DataFrame) -> Null:
    """Test a slope against maps of depth that are as smooth as this one, but have nothing to do with ROIs.

    What is compared is the slope in units of the standard deviation of depth over the voxels of the hierarchy, that is,
    a correlation; so a map that varies more over all cortex is not favoured.

    Parameters
    ----------
    line : Line
    voxels : DataFrame, N rows
        With `depth`, and where voxels lie (`cortex.places`). The smoothness is that of the voxels with evidence.
    """
    rng = np.random.default_rng([0, 9])
    depth = voxels["depth"].to_numpy(np.float64)
    shown, some = evenly(np.flatnonzero(evident(voxels)), N_APART), evenly(np.arange(len(line.row)), N_VOXELS)
    at = on_spheres(voxels)
    coords = [at[rows] for rows in (shown, line.row[some])]
    with single_threaded_products():
        maps = SmoothMaps.of(coords[0]).draw(depth[shown], N_MAPS, rng, SmoothMaps.of(coords[1]))
        units = standardized(np.vstack([depth[line.row[some]], maps]))
        ideal = line.ideal[some] - line.ideal[some].mean()
        slopes = units @ ideal / (ideal @ ideal) * depth[line.row].std()
    return Null.of(float(slopes[0]), slopes[1:])


def standardized(maps: Floats) -> Floats:
    """Return maps (S, n) with mean 0 and variance 1 over voxels; a constant map is 0."""
    centred = maps - maps.mean(1, keepdims=True)
    deviation = centred.std(1, keepdims=True)
    return np.asarray(centred / np.where(deviation > 0, deviation, np.inf))
