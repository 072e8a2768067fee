"""Whitening of the channels of a layer, so that one learning rate suits all of them.

The channels of a network differ in size by orders of magnitude and are correlated; gradient descent learns the large
ones first. Here every layer is mapped by x → (x - mean) M with M Mᵀ = (covariance + shrinkage)⁻¹. The next step is
linear, so only its matrix changes: tokens stay as they are, and the fitted encoder takes raw tokens.

Shape letters: n tokens, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bddn.machine.parallel import each_on
from bddn.stream.features import Features
from bddn.stream.loader import Source
from bddn.stream.order import Rows

SHRINKAGE = 1.0  # of the mean variance, added to each variance: neighbouring tokens stay alike, so that place is found
LOCAL_IMAGES, GLOBAL_IMAGES = 512, 2048  # images whose tokens are used


@dataclass(frozen=True)
class Whitening:
    """For each layer the `mean` (C,) and the `matrix` M (C, C) of its local and of its global tokens."""

    local: Sequence[tuple[Tensor, Tensor]]
    global_: Sequence[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, source: Source, pools: Sequence[Rows]) -> "Whitening":
        """Return the whitening of the first images in some pools."""
        n_seen, local, global_ = 0, list[Moments](), list[Moments]()
        for tokens, places in source.pools(pools):
            images = places[: max(0, GLOBAL_IMAGES - n_seen)]
            if not len(images):
                break
            if not n_seen:
                local, global_ = (
                    [Moments(v.shape[-1], v.device) for v in kind] for kind in (tokens.local, tokens.global_)
                )
            _add(local, global_, tokens, images, max(0, LOCAL_IMAGES - n_seen))
            n_seen += len(images)
        return cls([m.whitening() for m in local], [m.whitening() for m in global_])


class Moments:
    """Mean and covariance of tokens, accumulated in float64."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self._n = 0
        self._sum = torch.zeros(channels, dtype=torch.float64, device=device)
        self._products = torch.zeros(channels, channels, dtype=torch.float64, device=device)
        self._shift: Tensor | None = None

    def add(self, tokens: Tensor) -> None:
        """Add tokens (n, C)."""
        tokens = tokens.float()
        if self._shift is None:  # differences to it lose no digits in products
            self._shift = tokens.mean(0)
        centred = tokens - self._shift
        self._n += len(tokens)
        self._sum += centred.sum(0, dtype=torch.float64)
        self._products += centred.T @ centred

    def whitening(self) -> tuple[Tensor, Tensor]:
        """Return the mean (C,) and M (C, C), both float32."""
        assert self._shift is not None
        mean = self._sum / self._n
        covariance = self._products / self._n - torch.outer(mean, mean)
        size = covariance.diagonal().mean()
        # a constant layer stays as it is
        covariance.diagonal().add_(torch.where(size > 0, SHRINKAGE * size, torch.ones_like(size)))
        root = torch.linalg.cholesky(covariance)
        one = torch.eye(len(root), dtype=root.dtype, device=root.device)
        inverse = torch.linalg.solve_triangular(root, one, upper=False)
        return (self._shift + mean).float(), inverse.T.float().contiguous()


def _add(local: Sequence[Moments], global_: Sequence[Moments], tokens: Features, images: Tensor, n_local: int) -> None:
    """Add the global tokens of some images, and the local tokens of the first `n_local` of them."""

    def add(layer: int) -> None:
        if n_local:
            local[layer].add(tokens.local[layer][images[:n_local]].flatten(0, 1))
        global_[layer].add(tokens.global_[layer][images])

    each_on(images.device, add, range(len(local)))
