"""The channel align before the first step, from the covariance of tokens and responses.

Where layers have more channels than the encoder shares, a random align holds only a part of what voxels respond to, and
little of it in wide networks. Places then have hardly a gradient until the align is learned, and drift until they
saturate. There every shared channel is turned towards one principal component of the training responses: in every
layer, towards the covariance of the component with the tokens, as far as that covariance is more than chance. What is
chance stays random. This is not in the paper.

Shape letters: n training rows, B images of a batch, N voxels, C channels of a layer, D shared channels, k components.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from bddn.encoder.components import IMAGES, principal_components
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.targets import Targets
from bddn.machine.parallel import each_on
from bddn.progress import progress
from bddn.stream.loader import Source, batches
from bddn.stream.order import Rows, pools_in_order


@torch.no_grad()
def align_to_responses(model: FactorTopy, source: Source, targets: Targets, train: Rows, seed: int) -> None:
    """Turn the align of `model`, in place, unless all layers have at most D channels, which a random align spans. The
    columns of its matrices keep their lengths on average.

    Parameters
    ----------
    model : FactorTopy
        With whitening.
    source : Source
    targets : callable
        Rows (B,) to standardized responses (B, N) float32.
    train : array of int, (n,)
        Rows of the training images, in any order.
    seed : int
        Of the start of the iteration that finds the components.
    """
    assert model.whitening is not None
    if max(model.widths.values()) <= model.channels.shape[1]:
        return
    pools = pools_in_order(train, source.chunk_of)
    rows, d = torch.from_numpy(np.concatenate(pools)), model.channels.shape[1]
    components, _ = principal_components(targets, rows, model.coords_mm, d, seed)
    local, global_ = _Covariances(model.whitening.local), _Covariances(model.whitening.global_)
    with progress("align", len(rows), "images") as advance:
        for (at, features), some in zip(batches(source, pools, IMAGES), components.split(IMAGES), strict=True):
            local.add([tokens.mean(1) for tokens in features.local], some)
            global_.add(features.global_, some)
            advance(len(at))
    local.turn(model.align_local)
    global_.turn(model.align_global)


class _Covariances:
    """The covariances of all layers' whitened tokens, local ones averaged over places or global ones, with
    components."""

    def __init__(self, whitening: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._layers = [_Covariance(*one) for one in whitening]

    def add(self, tokens: Sequence[Tensor], components: Tensor) -> None:
        """Add the tokens of some images, L × (B, C), and their part of the components (B, k)."""
        pairs = zip(self._layers, tokens, strict=True)
        each_on(components.device, lambda pair: pair[0].add(pair[1], components), pairs)

    def turn(self, align: Iterable[Tensor]) -> None:
        """Turn the matrices (C, D) of all layers."""
        for layer, matrix in zip(self._layers, align, strict=True):
            layer.turn(matrix)


class _Covariance:
    """Sums over images: of whitened tokens with components, (C, k), and what the noise of that sum depends on."""

    def __init__(self, mean: Tensor, root: Tensor) -> None:
        self._mean, self._root = mean, root
        self._n, self._sum, self._square = 0, torch.zeros_like(mean), mean.new_zeros(())
        self._products: Tensor | None = None

    def add(self, tokens: Tensor, components: Tensor) -> None:
        whitened = (tokens - self._mean) @ self._root
        if self._products is None:
            self._products = whitened.new_zeros(whitened.shape[1], components.shape[1])
        self._products.addmm_(whitened.T, components)
        self._n += len(tokens)
        self._sum += whitened.sum(0)
        self._square += whitened.square().sum()

    def turn(self, matrix: Tensor) -> None:
        assert self._products is not None
        columns = matrix[:, : self._products.shape[1]]
        size = self._products.square().sum(0)
        by_chance = (self._square - self._sum.square().sum() / self._n) / self._n  # tokens without a relation
        share = torch.where(size > 0, (1 - by_chance / size).clamp(0, 1), 0)
        direction = self._products / size.sqrt().clamp_min(torch.finfo(size.dtype).tiny)
        columns.copy_(share.sqrt() * direction * columns.norm(dim=0) + (1 - share).sqrt() * columns)
