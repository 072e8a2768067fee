"""Whether a fit can be trusted: its selectors must not saturate, and must have stopped moving.

With too little regularization selectors saturate, and then their gradients vanish.
"""

import numpy as np
from torch import Tensor

from bddn.encoder.learning import Bytes, Learning
from bddn.encoder.selection import Selection

LEAST_SLOPE = 0.05  # of tanh or sigmoid, relative to the largest slope; 0.05 is |x| = 0.975
MOST_WEIGHT = 0.999
MOST_MOVED = {"layer_changed": 0.1, "confidence_moved": 0.05, "place_moved": 0.05, "scale_moved": 0.05}


def saturated(selection: Selection, fixed: str | None = None) -> list[str]:
    """Return the names of the saturated selectors, without the scale where it is `fixed` to local tokens.

    A place or scale selector is saturated if the slope of its last activation, averaged over voxels, is close to zero.
    The layer selector is saturated if all voxels select the same one of several layers.
    """
    x, y = selection.place.unbind(1)
    slopes = {"place x": _tanh(x), "place y": _tanh(y), "scale": 4 * selection.scale * (1 - selection.scale)}
    if fixed == "local":
        del slopes["scale"]
    dead = [name for name, slope in slopes.items() if slope.mean() < LEAST_SLOPE]
    one_layer = selection.layer.shape[1] > 1 and selection.layer.mean(0).max() > MOST_WEIGHT
    return dead + ["layer"] * bool(one_layer)


def _tanh(value: Tensor) -> Tensor:
    return 1 - value.square()


def convergence(learning: Learning, regularized: bool) -> dict[str, float | bool] | None:
    """Return how far the selectors of the recorded voxels moved in the last quarter of the steps.

    Parameters
    ----------
    learning : Learning
    regularized : bool
        Whether the regularizer still acted at the last step.

    Returns
    -------
    dict
        `layer_changed`, share of voxels whose layer with the highest weight changed; `confidence_moved`, `place_moved`
        and `scale_moved`, mean absolute changes (place from -1 to 1); `regularized`; and `converged`, whether all of
        them are small and the regularizer had ended. None if no voxel was recorded.
    """
    if not len(learning.voxel):
        return None
    before = int(np.searchsorted(learning.step, 0.75 * learning.step[-1], side="right")) - 1

    def moved(values: Bytes, unit: float) -> float:
        return float(np.abs(values[-1].astype(np.float64) - values[before]).mean() / 255 * unit)

    found: dict[str, float | bool] = {
        "layer_changed": float((learning.layer[-1] != learning.layer[before]).mean()),
        "confidence_moved": moved(learning.confidence, 1),
        "place_moved": moved(learning.place, 2),
        "scale_moved": moved(learning.scale, 1),
    }
    still = all(value <= MOST_MOVED[name] for name, value in found.items())
    return {**found, "regularized": regularized, "converged": still and not regularized}
