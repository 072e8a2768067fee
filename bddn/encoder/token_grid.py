"""The layout of the aligned tokens of all layers, and which of them a voxel reads.

The tokens of all layers are in one list. A layer has its local tokens row by row with a border of zeros, so that a
voxel at the edge reads zeros, and then its global token. All layers have the same grid, as in a cache. The place of a
voxel is in one cell between four local tokens; voxels in the same cell read the same tokens.

Where voxels select a size, a layer has its local tokens S times, each time blurred more, and a voxel reads the same
cell of each. A blur is a Gaussian over places whose weights sum to 1 within the grid.

Shape letters: N voxels, L layers, S blurs, T tokens of all layers, B images, D shared channels, H rows, W columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bddn.encoder.selection import Selection


class TokenGrid:
    """The tokens of all layers, early to late.

    Parameters
    ----------
    n_layers : int
        L.
    grid : (H, W)
        Rows and columns of the local tokens.
    blurs : sequence of float, (S,)
        Standard deviations of the blurs, in tokens.

    Attributes
    ----------
    n_bordered, n_of_layer, n_tokens : int
        Number of tokens of one grid with its border, of one layer, and of all layers (T).
    corners : tuple of int, (4·S,)
        Offsets of the four tokens around a cell in each blurred grid, from the top left one of the first grid.
    """

    def __init__(self, n_layers: int, grid: tuple[int, int], blurs: Sequence[float] = (0.0,)) -> None:
        self.n_layers, self.grid, self.blurs = n_layers, grid, tuple(blurs)
        h, w = grid
        self.n_bordered = (h + 2) * (w + 2)
        self.n_of_layer = len(self.blurs) * self.n_bordered + 1
        self.n_tokens = n_layers * self.n_of_layer
        starts = (size * self.n_bordered for size in range(len(self.blurs)))
        self.corners = tuple(start + corner for start in starts for corner in (0, 1, w + 2, w + 3))

    def local(self, tokens: Tensor) -> Tensor:
        """Return a view (L, S, H, W, ...) of the local tokens among all tokens (T, ...)."""
        h, w = self.grid
        bordered = tokens.view(self.n_layers, self.n_of_layer, *tokens.shape[1:])[:, :-1]
        return bordered.view(self.n_layers, len(self.blurs), h + 2, w + 2, *tokens.shape[1:])[:, :, 1:-1, 1:-1]

    def of_layer(self, tokens: Tensor, layer: int) -> Tensor:
        """Return a view of the tokens of one layer among all tokens (T, ...)."""
        return tokens[layer * self.n_of_layer : (layer + 1) * self.n_of_layer]

    def blur_matrices(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the blurs as matrices (S, H·W, H·W) over places; rows sum to 1."""
        rows, columns = (_blurs(self.blurs, n) for n in self.grid)
        return torch.einsum("sij,skl->sikjl", rows, columns).flatten(3, 4).flatten(1, 2).to(dtype)

    def global_(self, tokens: Tensor) -> Tensor:
        """Return a view (L, ...) of the global tokens among all tokens (T, ...)."""
        return tokens[self.n_of_layer - 1 :: self.n_of_layer]

    def cells(self, place: Tensor) -> Tensor:
        """Return the cells (N,) int64 of places (N, 2), row-major in the (H+1) × (W+1) between bordered tokens."""
        h, w = self.grid
        column, row = (_before(at, n) for at, n in zip(place.unbind(-1), (w, h), strict=True))
        return (row + 1) * (w + 1) + column + 1

    def weights(self, selection: Selection, cells: Tensor, gain: Tensor | None = None) -> Tensor:
        """Return the weights of the tokens that voxels read: A of `readout`, differentiable in the selection.

        Sampling follows the pixel-centre convention (`align_corners=False`) with zeros outside the grid.

        Parameters
        ----------
        selection : Selection
        cells : Tensor, (N,) int64
            Result of `cells`. They are not computed again here: rounding of a place at the edge of a cell could
            give weights of one cell and tokens of another.
        gain : Tensor, (S,), optional
            Factors of the blurs.

        Returns
        -------
        Tensor, (N, 4·S + 1, L)
        """
        scale, local = selection.scale[:, None], self._bilinear(selection.place, cells)
        if selection.size is not None:
            size = selection.size if gain is None else selection.size * gain
            local = (size[:, :, None] * local[:, None, :]).flatten(1)
        token = torch.cat([(1 - scale) * local, scale], dim=1)
        return token[:, :, None] * selection.layer[:, None, :]

    def read_at(self, cells: Tensor) -> Tensor:
        """Return which of the T tokens are read in some cells (n,): (n, 4·S + 1, L) int64."""
        w = self.grid[1]
        top_left = cells // (w + 1) * (w + 2) + cells % (w + 1)
        in_layer = torch.stack(
            [*(top_left + corner for corner in self.corners), torch.full_like(top_left, self.n_of_layer - 1)], dim=1
        )
        return in_layer[:, :, None] + self.n_of_layer * torch.arange(self.n_layers, device=cells.device)

    def _bilinear(self, place: Tensor, cells: Tensor) -> Tensor:
        """Return bilinear weights (N, 4) of the corners of cells (N,), for places (N, 2) in them."""
        h, w = self.grid
        x, y = place.unbind(-1)
        fx, fy = _token(x, w) - (cells % (w + 1) - 1), _token(y, h) - (cells // (w + 1) - 1)
        return torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], dim=-1)


def _blurs(blurs: Sequence[float], n: int) -> Tensor:
    """Return Gaussians (S, n, n) over n places in a row, float64."""
    away = torch.arange(n, dtype=torch.float64)[:, None] - torch.arange(n)
    found = [torch.exp(-away.square() / (2 * blur**2)) if blur else (away == 0).double() for blur in blurs]
    return torch.stack([one / one.sum(1, keepdim=True) for one in found])


def _token(at: Tensor, n: int) -> Tensor:
    """Return coordinates in [-1, 1] as positions among n tokens; 0 is the centre of the first one."""
    return ((at + 1) * n - 1) / 2


def _before(at: Tensor, n: int) -> Tensor:
    """Return the last of n tokens, int64, that is not after a coordinate; -1 is the border before the first one."""
    return _token(at, n).floor().clamp(-1, n - 1).long()
