"""Whether a fit can be trusted: its selectors must not saturate, and must have stopped moving.

With too little regularization selectors saturate, and then their gradients vanish.
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from bddn.encoder.learning import Bytes, Learning
from bddn.encoder.selection import Selection
from bddn.stats.audit import shared_noise
from bddn.text import shorten

LEAST_SLOPE = 0.05  # of tanh or sigmoid, relative to the largest slope; 0.05 is |x| = 0.975
MOST_WEIGHT = 0.999
MOST_MOVED = {"layer_changed": 0.1, "confidence_moved": 0.05, "place_moved": 0.05, "scale_moved": 0.05}


def saturated(selection: Selection, fixed: str | None = None) -> list[str]:
    """Return the names of the saturated selectors, without the scale where it is `fixed` to local tokens.

    A place or scale selector is saturated if the slope of its last activation, averaged over voxels, is close to zero.
    The layer selector is saturated if all voxels select the same one of several layers. One size for all voxels may be
    the right one, and its regularizer does not fade.
    """
    x, y = selection.place.unbind(1)
    slopes = {"place x": _tanh(x), "place y": _tanh(y), "scale": 4 * selection.scale * (1 - selection.scale)}
    if fixed == "local":
        del slopes["scale"]
    dead = [name for name, slope in slopes.items() if slope.mean() < LEAST_SLOPE]
    one_layer = selection.layer.shape[1] > 1 and selection.layer.mean(0).max() > MOST_WEIGHT
    return dead + ["layer"] * bool(one_layer)


def unread(selection: Selection, layers: Sequence[str]) -> list[str]:
    """Return the names of the layers that no voxel reads: their weights are all below half of an even share."""
    most = selection.layer.amax(0)
    return [name for name, weight in zip(layers, most, strict=True) if weight < 0.5 / len(layers)]


def _tanh(value: Tensor) -> Tensor:
    return 1 - value.square()


def convergence(learning: Learning, regularized: bool) -> dict[str, float | bool] | None:
    """Return how far the selectors of the recorded voxels moved in the last quarter of the steps.

    Parameters
    ----------
    learning : Learning
    regularized : bool
        Whether the part of the regularizer that fades still acted at the last step.

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


def tell(
    dead: Sequence[str],
    unread: Sequence[str],
    settled: Mapping[str, float | bool] | None,
    components: Sequence[Mapping[str, float]] | None,
    trained_voxels: Mapping[str, int | str],
) -> None:
    """Print what a reader of the maps must know: saturated selectors, layers that no voxel reads, selectors that had
    not converged (see `convergence`), large noise that voxels share (see `encoder.shared_components`), and that most
    voxels were silent (see `encoder.responsive`)."""
    if dead:
        print(  # noqa: T201 - a failed fit must not look like a good one
            f"warning: saturated selector: {', '.join(dead)}. Its values are meaningless. Fit again with a larger "
            "regularizer, more regularizer_steps or a smaller learning_rate.",
            file=sys.stderr,
        )
    if unread and "layer" not in dead:
        print(  # noqa: T201 - a layer map does not tell it from a layer that predicts nothing
            f"note: no voxel reads {shorten(unread)}. Another layer that predicts almost as well may have taken the "
            "place; more seeds show whether it is always the same.",
            file=sys.stderr,
        )
    if settled is not None and not settled["converged"]:
        end = ", and the regularizer acted until the end" if settled["regularized"] else ""
        print(  # noqa: T201 - nor a fit that has not ended like one that has
            "note: the selectors had not converged: in the last quarter of the steps, "
            f"{settled['layer_changed']:.0%} of the voxels changed their layer, and confidence, place and scale moved "
            f"by {settled['confidence_moved']:.2f}, {settled['place_moved']:.2f} and {settled['scale_moved']:.2f} on "
            f"average{end}. Depth and place may change with more epochs.",
            file=sys.stderr,
        )
    if trained_voxels["chosen"] == "responsive":
        print(  # noqa: T201 - it says something about the data
            "note: the tokens explain the responses of less than half of the voxels. The selectors were trained on "
            f"{trained_voxels['n']:,} voxels, mostly of these.",
            file=sys.stderr,
        )
    if (noise := shared_noise(components)) is not None:
        print(f"note: {noise}", file=sys.stderr)  # noqa: T201 - it says something about the data
