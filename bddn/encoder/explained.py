"""How much of some responses the tokens of a network explain, before anything is fitted.

It is estimated as heritability is, by maximum likelihood: responses are normal, with the covariance
share · kernel + (1 - share) · identity between images. That holds where features are too many for a prediction to be
any good.

Shape letters: n images, B images of a batch, C channels of a layer, k columns of values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.encoder.components import IMAGES, TINY
from bddn.encoder.whitening import Whitening
from bddn.machine.parallel import each_on
from bddn.progress import progress
from bddn.stream.features import Features
from bddn.stream.loader import Source, batches
from bddn.stream.order import Rows, epoch_pools

MOST = 1500  # images, whose tokens explain
PLACES = 2  # rows and columns of the local tokens that explain, means of a quarter of the image
SHARES = [k / 100 for k in range(100)]  # that are tried


@dataclass(frozen=True)
class Kernel:
    """The products of the tokens of n images, as principal directions.

    Attributes
    ----------
    rows : Tensor of int64, (n,)
        The images.
    variances : Tensor, (n,) float64
        Of the directions; their mean is 1.
    directions : Tensor, (n, n) float64
        Columns of length 1.
    """

    rows: Tensor
    variances: Tensor
    directions: Tensor

    @classmethod
    def of(
        cls, source: Source, train: Rows, whitening: Whitening, grid: tuple[int, int], seed: int, global_: bool = True
    ) -> "Kernel":
        """Return the kernel of `MOST` training images, or of all.

        Parameters
        ----------
        source : Source
        train : array of int
            Rows of the training images; an image that a bootstrap repeats counts once, so that it does not explain
            itself.
        whitening : Whitening
        grid : tuple of int, (H, W)
        seed : int
            It draws the images.
        global_ : bool
            Whether global tokens explain, too.
        """
        pools = epoch_pools(np.unique(train), source.chunk_of, seed, 0)
        rows = torch.from_numpy(np.concatenate(pools)[:MOST])
        tokens, start = _Summaries(whitening, grid, len(rows), global_), 0
        with progress("components", len(rows), "images") as advance:
            for _, features in batches(source, pools, IMAGES):
                some = slice(start, min(start + len(features), len(rows)))
                tokens.put(some, features.at(slice(some.stop - start)))
                advance(some.stop - start)
                start = some.stop
                if start == len(rows):
                    break
        return cls.of_products(rows, tokens.products())

    @classmethod
    def of_products(cls, rows: Tensor, products: Tensor) -> "Kernel":
        """Return the kernel of the images `rows` (n,), given the products (n, n) of their centred features."""
        variances, directions = torch.linalg.eigh(products.double())
        return cls(rows, variances.clamp_min(0) / variances.mean().clamp_min(TINY), directions)

    def likelihood(self, values: Tensor) -> Tensor:
        """Return the logarithm of the likelihood of each of `SHARES`, for columns of values (n, k): (shares, k)."""
        squares = (self.directions.T @ (values - values.mean(0)).double()).square()
        shares = self.variances.new_tensor(SHARES)[:, None]
        of_direction = shares * self.variances + 1 - shares
        scale = ((1 / of_direction) @ squares / len(squares)).clamp_min(TINY)
        return -0.5 * (of_direction.log().sum(1, keepdim=True) + len(squares) * scale.log())

    def share(self, values: Tensor) -> Tensor:
        """Return the share (k,) of the variance of each column (n, k) that tokens explain, at least: the lower end of
        its 68 % interval."""
        likelihood = self.likelihood(values)
        inside = likelihood >= likelihood.amax(0) - 0.5
        return values.new_tensor(SHARES)[inside.int().argmax(0)]  # the first inside


def kernel_bytes(widths: Sequence[int], n_rows: int) -> int:
    """Return the memory that `Kernel.of` needs for tokens, in bytes."""
    return 4 * min(n_rows, MOST) * (PLACES**2 + 1) * sum(widths)


class _Summaries:
    """Whitened tokens of n images: local ones averaged over quarters of the image, and global ones, unless these are
    left out."""

    def __init__(self, whitening: Whitening, grid: tuple[int, int], n: int, global_: bool) -> None:
        self._grid = grid
        self._whitening = [*whitening.local, *(whitening.global_ if global_ else [])]
        n_local = len(whitening.local)
        # at once, because the memory of small parts stays with the process (malloc's heap)
        self._tokens = [
            mean.new_empty(n, len(mean) * (PLACES**2 if i < n_local else 1))
            for i, (mean, _) in enumerate(self._whitening)
        ]

    def put(self, images: slice, features: Features) -> None:
        """Set the tokens of some images."""
        kinds = [*features.local, *features.global_]

        def put(which: int) -> None:
            tokens, (mean, root) = kinds[which], self._whitening[which]
            if tokens.ndim == 3:
                on_grid = tokens.transpose(1, 2).unflatten(2, self._grid)
                tokens = F.adaptive_avg_pool2d(on_grid, PLACES).flatten(2).transpose(1, 2)
            self._tokens[which][images] = ((tokens - mean) @ root).flatten(1)

        each_on(features.global_[0].device, put, range(len(self._tokens)))

    def products(self) -> Tensor:
        """Return the products (n, n) of images, in which all layers, and both kinds, weigh the same. The tokens are
        centred and scaled in place."""
        n = len(self._tokens[0])
        for tokens in self._tokens:
            tokens.sub_(tokens.mean(0))
            tokens.mul_((n / max(tokens.square().sum().item(), TINY)) ** 0.5)
        total = self._tokens[0].new_zeros(n, n)

        def add(rows: slice) -> None:
            for tokens in self._tokens:
                total[rows].addmm_(tokens[rows], tokens.T)

        each_on(total.device, add, [slice(start, start + IMAGES) for start in range(0, n, IMAGES)])
        return total
