"""Detect saturated selectors: with too little regularization they saturate, and then their gradients vanish."""

from torch import Tensor

from bddn.encoder.selection import Selection

LEAST_SLOPE = 0.05  # of tanh or sigmoid, relative to the largest slope; 0.05 is |x| = 0.975
MOST_WEIGHT = 0.999


def saturated(selection: Selection) -> list[str]:
    """Return the names of the saturated selectors.

    A place or scale selector is saturated if the slope of its last activation, averaged over voxels, is close to zero.
    The layer selector is saturated if all voxels select the same single layer.
    """
    x, y = selection.place.unbind(1)
    slopes = {"place x": _tanh(x), "place y": _tanh(y), "scale": 4 * selection.scale * (1 - selection.scale)}
    dead = [name for name, slope in slopes.items() if slope.mean() < LEAST_SLOPE]
    return dead + ["layer"] * bool(selection.layer.mean(0).max() > MOST_WEIGHT)


def _tanh(value: Tensor) -> Tensor:
    return 1 - value.square()
