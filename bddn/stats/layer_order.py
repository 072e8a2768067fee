"""Where along the hierarchy of ROIs each layer is selected, and which layers are out of order.

The place of a layer is the mean ideal depth of the ROIs, weighted by how much they select it. In a network that lines
up with the hierarchy, places rise from the first layer to the last.

Shape letters: N voxels, n voxels of the hierarchy, L layers, R ROIs, B blocks of cortex.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bddn.stats.hierarchy import Line

Floats = npt.NDArray[np.float64]

LEVEL = 0.05
"""Chance that any pair of layers is called out of order although all are in order."""
LEAST_SHARE = 0.5
"""A layer has a place if its mean weight is at least this share of 1/L, the weight in a map that selects nothing."""
LEAST_APART = 0.1
"""Smallest distance of two places, in units of ideal depth, that counts as another order."""


@dataclass(frozen=True)
class Misplaced:
    """A layer out of order: its number, and the numbers of the layers that it is on the wrong side of.

    Attributes
    ----------
    layer : int
    before : tuple of int
        Layers of the network before this one, which are selected in later cortex.
    after : tuple of int
        Layers of the network after this one, which are selected in earlier cortex.
    """

    layer: int
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class LayerOrder:
    """The places of the layers.

    Attributes
    ----------
    place : array of float64, (L,)
        Mean ideal depth of the ROIs that select the layer; NaN for a layer that is hardly selected.
    low, high : array of float64, (L,)
        Ends of the 95 % interval of each place.
    roi : tuple of str, (L,)
        The ROI that selects the layer most.
    misplaced : tuple of Misplaced
        The fewest layers, as a greedy search finds them, without which all others are in order.
    """

    place: Floats
    low: Floats
    high: Floats
    roi: tuple[str, ...]
    misplaced: tuple[Misplaced, ...]


def layer_order(line: Line, layer_weights: npt.NDArray[np.floating]) -> LayerOrder | None:
    """Find the places of the layers, and those out of order.

    All ROIs count alike, however many voxels they have. Errors are those of a jackknife that leaves out one ROI of one
    hemisphere at a time, as for the slope; deviations that both hemispheres share are not in them. Two layers are out
    of order if the place of the earlier one is higher by at least 0.1, and the interval of their distance does not
    contain 0. Its level is 95 % for all pairs together (Bonferroni).

    Parameters
    ----------
    line : Line
    layer_weights : array, (N, L)
        Of all voxels of the table, layers from early to late.

    Returns
    -------
    LayerOrder
        None if without one block all ROIs have the same ideal depth, so that there is no error.
    """
    from scipy.stats import t

    weights = layer_weights[line.row].astype(np.float64)
    blocks = np.unique(line.part)
    without = [line.part != block for block in blocks]
    if any(np.ptp(line.ideal[kept]) == 0 for kept in without):
        return None
    by_roi, ideal = _by_roi(line, weights, np.ones(len(weights), np.bool_))
    place, known = _places(by_roi, ideal), by_roi.mean(0) >= LEAST_SHARE / weights.shape[1]
    others = np.stack([_places(*_by_roi(line, weights, kept)) for kept in without])
    apart = place[:, None] - place
    error, error_apart = _jackknife(others), _jackknife(others[:, :, None] - others[:, None, :])
    n_pairs = max(1, int(known.sum() * (known.sum() - 1) / 2))
    n_in_both = len(blocks) - len(np.unique(line.roi))
    freedom = len(blocks) - max(1, n_in_both)  # an ROI in both hemispheres tells one difference
    reach = float(t.ppf(0.975, freedom)) * error
    surely = apart - float(t.ppf(1 - LEVEL / 2 / n_pairs, freedom)) * error_apart > 0
    wrong = np.triu(surely & (apart >= LEAST_APART) & known & known[:, None], 1)
    names = [line.rois[k] for k in np.unique(line.roi)]
    return LayerOrder(
        np.where(known, place, np.nan),
        np.where(known, place - reach, np.nan),
        np.where(known, place + reach, np.nan),
        tuple(names[k] for k in by_roi.argmax(0)),
        _out_of_order(wrong, np.where(wrong, apart, 0)),
    )


def _by_roi(line: Line, weights: Floats, kept: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the mean weights (R, L) and the ideal depth (R,) of the ROIs of some voxels."""
    inside = [kept & (line.roi == roi) for roi in np.unique(line.roi[kept])]
    return np.stack([weights[here].mean(0) for here in inside]), np.array([line.ideal[here][0] for here in inside])


def _places(by_roi: Floats, ideal: Floats) -> Floats:
    return np.asarray(ideal @ by_roi / np.maximum(by_roi.sum(0), np.finfo(np.float64).tiny))


def _jackknife(others: Floats) -> Floats:
    """Return standard errors of numbers from those without each block, (B, …)."""
    return np.asarray(np.sqrt((len(others) - 1) * others.var(0)))


def _out_of_order(wrong: npt.NDArray[np.bool_], apart: Floats) -> tuple[Misplaced, ...]:
    """Return the layers to leave out so that no wrong pair (L, L) remains: most pairs first, then most apart."""
    found, left = [], wrong.copy()
    while left.any():
        n_pairs = left.sum(0) + left.sum(1)
        size = np.where(left, apart, 0).sum(0) + np.where(left, apart, 0).sum(1)
        layer = int(np.lexsort((size, n_pairs))[-1])
        before, after = np.flatnonzero(left[:, layer]), np.flatnonzero(left[layer])
        found.append(Misplaced(layer, tuple(before.tolist()), tuple(after.tolist())))
        left[layer] = left[:, layer] = False
    return tuple(sorted(found, key=lambda one: one.layer))
