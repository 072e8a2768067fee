"""Factors that give blurred tokens the variance of sharp ones.

A blur averages tokens that differ, so blurred tokens vary less between images. Predictions grow with the tokens that a
voxel reads, and early in a fit they are too small. So voxels would turn to sharp tokens, or to the global one, even if
blurred ones predict better: wide fields would seem narrow, and scales too high. Training uses the factors, maps show
the selection without them. This is not in the paper.

Shape letters: B images, P places, C channels of a layer, L layers, S blurs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bddn.encoder.factor_topy import FactorTopy
from bddn.machine.parallel import each_on
from bddn.stream.loader import Source
from bddn.stream.order import Rows

IMAGES, FLOATS = 128, 1 << 24  # whose tokens are used, at most
LEAST_IMAGES = 8
LEAST = 0.1  # share of the deviation of sharp tokens: less is left of tokens that alternate between places


def blur_gain(model: FactorTopy, source: Source, pools: Sequence[Rows]) -> Tensor:
    """Return the factor of each blur, (S,): how much more sharp tokens vary, in the mean over layers.

    Parameters
    ----------
    model : FactorTopy
        With whitening.
    source : Source
    pools : sequence of arrays of int
        Rows; the first images are used.
    """
    tokens, images = next(iter(source.pools(pools)))

    def of_layer(layer: int) -> Tensor:
        local = tokens.local[layer]
        n = max(LEAST_IMAGES, min(IMAGES, FLOATS // local[0].numel()))
        return _deviations(model, layer, local[images[:n]])

    shares = each_on(model.bias.device, of_layer, range(len(model.layers)))
    return 1 / torch.stack(shares).mean(0).clamp_min(LEAST)


def _deviations(model: FactorTopy, layer: int, local: Tensor) -> Tensor:
    """Return the standard deviation between images of each blur (S,) of local tokens (B, P, C), as a share of that of
    sharp tokens."""
    assert model.whitening is not None
    mean, root = model.whitening.local[layer]
    tokens = (local.float() - mean) @ root
    by_place = (tokens - tokens.mean(0)).transpose(0, 1).flatten(1)  # (P, B·C)
    deviations = torch.stack([(blur @ by_place).square().mean() for blur in model.blurs]).sqrt()
    return deviations / deviations[0] if deviations[0] > 0 else torch.ones_like(deviations)
