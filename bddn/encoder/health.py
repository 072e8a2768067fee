"""Whether a selector has died: with too little regularization they saturate, and then nothing moves them any more."""

from torch import Tensor

from bddn.encoder.selection import Selection

LEAST_SLOPE = 0.05  # of tanh or sigmoid, relative to its largest; 0.05 is |x| = 0.975
MOST_WEIGHT = 0.999


def saturated(selection: Selection) -> list[str]:
    """Which selectors are dead, in words.

    A place or scale is dead where the slope of its last activation, on the mean over voxels, is next to nothing; layers
    are where all voxels select the same one and nothing else.
    """
    x, y = selection.place.unbind(1)
    slopes = {"place x": _tanh(x), "place y": _tanh(y), "scale": 4 * selection.scale * (1 - selection.scale)}
    dead = [name for name, slope in slopes.items() if slope.mean() < LEAST_SLOPE]
    return dead + ["layer"] * bool(selection.layer.mean(0).max() > MOST_WEIGHT)


def _tanh(value: Tensor) -> Tensor:
    return 1 - value.square()
