"""The two models that the paper compares with FactorTopy: selection without smoothness, and selection without factors.

Shape letters: N voxels, L layers, K tokens that one voxel reads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bddn.encoder.readout import VoxelWeights
from bddn.encoder.regularizer import Regularizer
from bddn.encoder.selection import Selection
from bddn.encoder.selectors import Factorized
from bddn.encoder.token_grid import TokenGrid


class FreeSelectors(Factorized):
    """Selectors without the topological constraint: place, layer and scale of each voxel are free parameters."""

    def __init__(self, n_voxels: int, grid: TokenGrid, regularizer: Regularizer) -> None:
        super().__init__(grid, regularizer)
        self.same_selection = torch.arange(n_voxels)
        self.space = nn.Parameter(torch.zeros(n_voxels, 2))
        self.layer = nn.Parameter(torch.zeros(n_voxels, grid.n_layers))
        self.scale = nn.Parameter(torch.zeros(n_voxels))
        n_blurs = len(grid.blurs)
        self.size = nn.Parameter(torch.zeros(n_voxels, n_blurs)) if n_blurs > 1 else None

    def forward(self, voxels: slice | Tensor = slice(None)) -> Selection:
        """See `Factorized.forward`."""
        return Selection.of(*(parameter[voxels] for parameter in self.parameters()))

    def place(self, voxels: slice | Tensor) -> Tensor:
        """Return the places (n, 2) that the given voxels select."""
        return torch.tanh(self.space[voxels])

    def weigh(self, voxels: slice | Tensor, cells: Tensor, softness: float | Tensor) -> VoxelWeights:
        """Return the weights; see `Factorized.weigh`. `backward` returns gradients of the rows of these voxels."""
        rows = [parameter.detach()[voxels].requires_grad_() for parameter in self.parameters()]
        return self._weights_of(Selection.of(*rows), cells, rows, softness, len(self.scale))

    def accumulate_gradient(self, voxels: slice | Tensor, gradients: Sequence[Tensor]) -> None:
        """Set the rows of the given voxels in the gradients."""
        for parameter, rows in zip(self.parameters(), gradients, strict=True):
            _set_rows(parameter, voxels, rows)

    @property
    def _parts(self) -> list[slice]:
        return [slice(None)]  # one part, because there is little to compute


class Unfactorized(nn.Module):
    """Free weights of every voxel for every token of every layer, as in models before FactorTopy."""

    def __init__(self, n_voxels: int, grid: TokenGrid) -> None:
        super().__init__()
        self.same_selection, self.gain = torch.arange(n_voxels), None
        rows, columns = ((torch.arange(n) + 0.5) * 2 / n - 1 for n in grid.grid)
        at = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1).flatten(0, 1)
        of_layer = torch.cat([at, torch.full((1, 2), torch.nan)])  # the global token has no place
        token = torch.arange(grid.n_tokens)
        self._read = torch.cat([grid.local(token).flatten(1), grid.global_(token)[:, None]], dim=1).flatten()
        self._layer = torch.arange(grid.n_layers).repeat_interleave(len(of_layer))
        self._place, self._n_layers = of_layer.repeat(grid.n_layers, 1), grid.n_layers
        self.weights = nn.Parameter(torch.full((n_voxels, len(self._read)), 1 / len(self._read)))

    def select(self, voxels: slice | Tensor = slice(None)) -> Selection:
        """Return the selection of the given voxels: shares and centres of gravity of the absolute weights."""
        size = self.weights[voxels].abs()
        size = size / size.sum(1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
        layer = size.new_zeros(len(size), self._n_layers).index_add(1, self._layer, size)
        near = ~self._place.isnan().any(1)
        local = size[:, near]
        share = local.sum(1)
        place = local @ self._place[near].to(size.dtype) / share[:, None].clamp_min(torch.finfo(size.dtype).tiny)
        return Selection(place, layer, layer.clamp_min(torch.finfo(size.dtype).tiny).log(), 1 - share)

    def cells(self) -> Tensor:
        """Return cell 0 for all voxels, (N,) int64; every voxel reads all tokens."""
        return torch.zeros(len(self.weights), dtype=torch.int64)

    def cells_and_weights(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cells (n,) int64 of some voxels (n,) and their weights (n, K), detached."""
        return self.cells()[voxels], self.weights.detach()[voxels]

    def weigh(self, voxels: Tensor, cells: Tensor, softness: float | Tensor) -> VoxelWeights:
        """Return the weights of the given voxels. `softness` is ignored: free weights have no regularizer."""
        return VoxelWeights(self.weights.detach()[voxels], lambda gradient: [gradient])

    def accumulate_gradient(self, voxels: Tensor, gradients: Sequence[Tensor]) -> None:
        """Set the rows of the given voxels in the gradient."""
        _set_rows(self.weights, voxels, gradients[0])

    def read_at(self, cells: Tensor) -> Tensor:
        """Return the indices of all tokens for every cell, (n, K) int64."""
        return self._read.expand(len(cells), -1)


def _set_rows(parameter: nn.Parameter, voxels: slice | Tensor, rows: Tensor) -> None:
    """Set some rows of the gradient. All rows must be set before the gradient is used."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    parameter.grad[voxels] = rows
