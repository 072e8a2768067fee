"""The ridge problems of voxels that read the same tokens of a network; see `encoder.polish`.

Shape letters: B images, T tokens of all layers, K tokens of a cell, g selections, n voxels of them, i of which m voxels
of each, D shared channels, R candidates.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from bddn.encoder.prediction import Piece, features
from bddn.encoder.targets import ROUNDING
from bddn.machine.parallel import each_of

ALPHAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # in units of the mean variance of a voxel's features
NEGLIGIBLE = 0.01  # share of the weights of a voxel; the smallest ones that together are less are left out


def problem_bytes(n_selections: int, n_voxels: int, d: int) -> int:
    """Return the memory of the sums of selections, or that of the candidates of their voxels and of the best of these,
    which take their place: the larger one."""
    return 4 * max(n_selections * sum(_product_floats(d)) + n_voxels * d, n_voxels * d * (len(ALPHAS) + 1))


def _product_floats(d: int) -> tuple[int, int]:
    """Return the sizes of the upper left quarter, and of the lower half, of products of features with features, which
    are symmetric."""
    half = d // 2
    return half * half, (d - half) * d


def _not_negligible(weights: Tensor) -> Tensor:
    """Return for weights (g, K) of selections which of them count, (g, K) bool."""
    size, order = weights.abs().sort(dim=1)
    left_out = size.cumsum(1) <= NEGLIGIBLE * size.sum(1, keepdim=True)
    return torch.ones_like(left_out).scatter(1, order, ~left_out)


class Means:
    """The means over images of tokens (T, D) and of the responses of a pass (n,), and differences to those of the first
    batch, which lose no digits in sums."""

    def __init__(self) -> None:
        self._n = 0

    def add(self, tokens: Tensor, y: Tensor, times: Tensor) -> None:
        """Add images: tokens (T, B, D) and responses (n, B), which become differences, and how often each counts,
        (B,)."""
        if not self._n:
            self.first = tokens.mean(1), y.mean(1)
            self._sums = tuple(torch.zeros_like(one) for one in self.first)
        self.subtract(tokens, y)
        for sum_, values in zip(self._sums, (tokens, y), strict=True):
            each_of(lambda sum_, values: sum_.add_(torch.einsum("nb...,b->n...", values, times)), sum_, values)
        self._n += int(times.sum())

    def subtract(self, tokens: Tensor, y: Tensor) -> None:
        """Turn tokens and responses into differences to the means of the first batch."""
        for values, first in zip((tokens, y), self.first, strict=True):
            each_of(lambda values, first: values.sub_(first[:, None]), values, first)

    @property
    def of_differences(self) -> tuple[int, Tensor, Tensor]:
        """The number of images, and the means of the differences."""
        z, y = self._sums
        return self._n, z / self._n, y / self._n


class Problem:
    """The ridge problems of some voxels in one cell: sums over training images, candidates, and errors on validation
    images.

    Parameters
    ----------
    piece : Piece
        Its selections. The weights of their tokens are divided by the readout's divisor.
    d : int
        D.
    device : torch.device

    Attributes
    ----------
    voxels : Tensor of int64, (n,)
        The voxels, selection by selection.
    """

    def __init__(self, piece: Piece, d: int, device: torch.device) -> None:
        self.voxels = torch.cat([voxels.flatten() for _, voxels in piece.voxels]).to(device)
        self._alike = [(some, voxels.shape[1]) for some, voxels in piece.voxels]
        self._all_read, self._all_weights = piece.tokens.to(device), piece.weights.to(device)
        kept = _not_negligible(self._all_weights).any(0)
        self._read, self._weights = self._all_read[kept], self._all_weights[:, kept]
        self._d = d

    def __len__(self) -> int:
        """Return the number of selections."""
        return len(self._weights)

    @property
    def sums_floats(self) -> tuple[int, int, int]:
        """The sizes of the sums: products of features with features, in two parts, and with responses."""
        quarter, half = _product_floats(self._d)
        return len(self) * quarter, len(self) * half, self.voxels.numel() * self._d

    @property
    def sums_bytes(self) -> int:
        """The memory of the sums."""
        return 4 * sum(self.sums_floats)

    @property
    def n_bytes(self) -> int:
        """The memory of the sums, or of the candidates, whichever is larger."""
        return problem_bytes(len(self), self.voxels.numel(), self._d)

    def start(self, sums: Tensor, first: int, channels: Tensor, bias: Tensor, error: Tensor) -> None:
        """Start with sums of 0, in the memory of `sums`, which is flat; `first` is the row of its first voxel among
        those of the pass. `channels` (n, R - 1, D), `bias` and `error` (n, R) are the memory of its candidates."""
        self._channels, self._biases, self._error = channels, bias, error
        self._rows = slice(first, first + self.voxels.numel())
        quarter, half, with_y = sums.split(self.sums_floats)
        self._n_quarter = self._d // 2
        self._quarter = quarter.view(len(self), self._n_quarter, self._n_quarter)
        self._half = half.view(len(self), -1, self._d)
        self._with_y = with_y.view(-1, self._d)

    def add(self, tokens: Tensor, y: Tensor, times: Tensor) -> None:
        """Add training images: differences of aligned tokens (T, B, D) and of the responses of the pass (n, B), and how
        often they count (B,)."""
        v = self._features(tokens)
        weighted = v * times[:, None]
        above, below = weighted.mT.split([self._n_quarter, self._d - self._n_quarter], dim=1)
        self._quarter.baddbmm_(above, v[:, :, : self._n_quarter])
        self._half.baddbmm_(below, v)
        for some, (with_y, y_of) in self._by_number(self._with_y, y[self._rows]):
            with_y.baddbmm_(y_of, weighted[some])

    def solve(self, means: Means) -> None:
        """Compute the candidates, and free the memory of the sums."""
        n, mean_z, mean_y = means.of_differences
        first_z, first_y = means.first
        mean_v, y, first = self._features(mean_z), mean_y[self._rows], first_y[self._rows]
        covariance = self._products().div_(n).baddbmm_(mean_v[:, :, None], mean_v[:, None], alpha=-1)
        size = covariance.diagonal(dim1=1, dim2=2).mean(1)
        level = self._features(first_z + mean_z).square().mean(1)
        size = torch.where(size > ROUNDING**2 * level, size, level)  # the covariance of constant features is rounding
        size = torch.where(size > 0, size, 1)
        left = self._with_y.div_(n)
        for some, (left_of, y_of) in self._by_number(left, y):
            left_of.baddbmm_(y_of[:, :, None], mean_v[some, None], alpha=-1)
        for k, alpha in enumerate(ALPHAS):
            penalized = covariance.clone()
            penalized.diagonal(dim1=1, dim2=2).add_(alpha * size[:, None])
            root = torch.linalg.cholesky(penalized, upper=True)  # faster than the lower one
            for some, (left_of, channels) in self._by_number(left, self._channels):
                channels[:, :, k] = torch.cholesky_solve(left_of.mT, root[some], upper=True).mT
        mean_v, first_v = (self._all_weights @ z[self._all_read] for z in (first_z + mean_z, first_z))
        self._offsets = torch.empty_like(self._biases)
        # the first candidate has channel weights of 0
        for some, (channels, biases, offsets) in self._by_number(self._channels, self._biases, self._offsets):
            biases[:] = -pad(torch.einsum("gmrd,gd->gmr", channels, mean_v[some]), (1, 0))
            offsets[:] = biases + pad(torch.einsum("gmrd,gd->gmr", channels, first_v[some]), (1, 0))
        self._biases += (first + y)[:, None]
        self._offsets += y[:, None]
        self._error.zero_()
        self._quarter = self._half = self._with_y = torch.empty(0)

    def evaluate(self, tokens: Tensor, y: Tensor, times: Tensor) -> None:
        """Add the squared errors of validation images, given as differences, as often as they count (B,)."""
        v = self._features(tokens)
        parts = self._by_number(self._channels, self._offsets, y[self._rows], self._error)
        for some, (channels, offsets, y_of, total) in parts:
            predicted = torch.bmm(channels.flatten(1, 2), v[some].mT).view(*channels.shape[:3], -1)
            missed = pad(predicted, (0, 0, 1, 0)).add_(offsets[..., None]).sub_(y_of[:, :, None])
            total.add_(missed.square_() @ times)

    def _by_number(self, *of_voxels: Tensor) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
        """Yield slices of selections with equally many voxels each, and views (i, m, ...) of their rows in tensors
        (n, ...)."""
        start = 0
        for some, m in self._alike:
            stop = start + (some.stop - some.start) * m
            yield some, tuple(values[start:stop].view(-1, m, *values.shape[1:]) for values in of_voxels)
            start = stop

    def _products(self) -> Tensor:
        """Return the products of features with features, (g, D, D)."""
        both: Tensor = self._half.new_empty(len(self), self._d, self._d)
        n = self._n_quarter
        both[:, :n, :n], both[:, n:], both[:, :n, n:] = self._quarter, self._half, self._half[:, :, :n].mT
        return both

    def _features(self, tokens: Tensor) -> Tensor:
        """Return the features (g, ..., D) for tokens (T, ..., D)."""
        return features(tokens, self._read, self._weights)
