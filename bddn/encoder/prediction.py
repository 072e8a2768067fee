"""Predictions of many voxels, which need no gradient.

The features of a voxel are the weighted sum of the tokens that it reads; its prediction is their product with its
channel weights. Voxels with the same selection have the same features, which are computed once.

Shape letters: B images, N voxels, S selections, g of them, m voxels of each, T tokens of all layers, K tokens that one
voxel reads, D shared channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bddn.encoder.ablations import Unfactorized
from bddn.encoder.selectors import Factorized
from bddn.machine.parallel import each

FEATURE_FLOATS = 1 << 20  # of the features of a piece: they fit the processor's cache


@dataclass(frozen=True)
class Piece:
    """The work that one thread does at a time: selections (g) in one cell.

    Attributes
    ----------
    tokens : Tensor of int64, (K,)
        The tokens of the cell.
    weights : Tensor, (g, K)
        Their weights.
    voxels : list of (slice, Tensor of int64)
        Selections with equally many voxels each, and their voxels (n, m).
    """

    tokens: Tensor
    weights: Tensor
    voxels: list[tuple[slice, Tensor]]

    @classmethod
    def of(cls, selections: "Selections", some: Tensor, tokens: Tensor, weights: Tensor) -> "Piece":
        """Return the piece of `some` selections (g,) in the cell that reads `tokens` (K,). `weights` (S, K) are those
        of all selections."""
        some = some[selections.n_voxels[some].argsort(stable=True)]
        return cls(tokens, weights[some], list(_voxels(selections, some)))


Reading = list[Piece]


@dataclass(frozen=True)
class Selections:
    """The voxels of every selection.

    Attributes
    ----------
    n_voxels : Tensor of int64, (S,)
    """

    n_voxels: Tensor
    _order: Tensor
    _starts: Tensor

    @classmethod
    def of(cls, selectors: Factorized | Unfactorized) -> "Selections":
        """Return the selections of these selectors."""
        n = selectors.same_selection.bincount()
        return cls(n, selectors.same_selection.argsort(stable=True), n.cumsum(0) - n)

    @property
    def first(self) -> Tensor:
        """One voxel of each selection, (S,) int64."""
        return self._order[self._starts]

    def voxels(self, some: Tensor) -> Tensor:
        """Return the voxels (g, m) of some selections (g,), which have m voxels each."""
        return self._order[self._starts[some][:, None] + torch.arange(int(self.n_voxels[some[0]]))]


def read(selectors: Factorized | Unfactorized, n_images: int, d: int) -> Reading:
    """Return what all voxels read with the current weights, for about `n_images` images at a time and D channels."""
    selections = Selections.of(selectors)
    cells, weights = selectors.cells_and_weights(selections.first)
    by_number = selections.n_voxels.argsort(stable=True)
    order = by_number[cells[by_number].argsort(stable=True)]
    size = max(1, FEATURE_FLOATS // (n_images * d))
    pieces = []
    for of_cell in order.split(torch.unique(cells, return_counts=True)[1].tolist()):
        tokens = selectors.read_at(cells[of_cell[:1]]).flatten()
        pieces += [Piece.of(selections, some, tokens, weights) for some in of_cell.split(size)]
    return pieces


def features(tokens: Tensor, read: Tensor, weights: Tensor) -> Tensor:
    """Return the features (g, ..., D) of selections that read the tokens `read` (K,) of all (T, ..., D) with these
    weights (g, K)."""
    return (weights @ tokens[read].flatten(1)).view(len(weights), *tokens.shape[1:])


def predict(tokens: Tensor, reading: Sequence[Piece], channels: Tensor, bias: Tensor, divisor: float) -> Tensor:
    """Return predicted responses (B, N).

    Parameters
    ----------
    tokens : Tensor, (T, B, D)
    reading : sequence of Piece
        Of all voxels.
    channels : Tensor, (N, D)
    bias : Tensor, (N,)
    divisor : float
        Of the products of features and channel weights.
    """
    out = tokens.new_empty(len(channels), tokens.shape[1])

    def run(piece: Piece) -> None:
        v = features(tokens, piece.tokens, piece.weights)
        for some, voxels in piece.voxels:
            out[voxels] = channels[voxels] @ v[some].mT

    each(run, reading)
    return out.T.div_(divisor).add_(bias)


def _voxels(selections: Selections, some: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of selections with equally many voxels each, and their voxels; they are sorted by that number."""
    start = 0
    for n in torch.unique_consecutive(selections.n_voxels[some], return_counts=True)[1].tolist():
        at = slice(start, start + n)
        start += n
        yield at, selections.voxels(some[at])
