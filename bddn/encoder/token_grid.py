"""The layout of the aligned tokens of all layers, and which of them a voxel reads.

The tokens of all layers are in one list. A layer has its local tokens row by row with a border of zeros, so that a
voxel at the edge reads zeros, and then its global token. All layers have the same grid, as in a cache. The place of a
voxel is in one cell between four local tokens; voxels in the same cell read the same tokens.

Shape letters: N voxels, L layers, T tokens of all layers, B images, D shared channels, H rows, W columns.
"""

import torch
from torch import Tensor

from bddn.encoder.selection import Selection

N_READ = 5  # four corners of a cell and the global token, of every layer


class TokenGrid:
    """The tokens of all layers, early to late.

    Parameters
    ----------
    n_layers : int
        L.
    grid : (H, W)
        Rows and columns of the local tokens.

    Attributes
    ----------
    n_of_layer, n_tokens : int
        Number of tokens of one layer with its border, and of all layers (T).
    corners : tuple of int
        Offsets of the four tokens around a cell from the top left one.
    """

    def __init__(self, n_layers: int, grid: tuple[int, int]) -> None:
        self.n_layers, self.grid = n_layers, grid
        h, w = grid
        self.n_of_layer = (h + 2) * (w + 2) + 1
        self.n_tokens = n_layers * self.n_of_layer
        self.corners = 0, 1, w + 2, w + 3

    def local(self, tokens: Tensor) -> Tensor:
        """Return a view (L, H, W, ...) of the local tokens among all tokens (T, ...)."""
        h, w = self.grid
        bordered = tokens.view(self.n_layers, self.n_of_layer, *tokens.shape[1:])[:, :-1]
        return bordered.view(self.n_layers, h + 2, w + 2, *tokens.shape[1:])[:, 1:-1, 1:-1]

    def global_(self, tokens: Tensor) -> Tensor:
        """Return a view (L, ...) of the global tokens among all tokens (T, ...)."""
        return tokens[self.n_of_layer - 1 :: self.n_of_layer]

    def cells(self, place: Tensor) -> Tensor:
        """Return the cells (N,) int64 of places (N, 2), row-major in the (H+1) × (W+1) between bordered tokens."""
        h, w = self.grid
        column, row = (_before(at, n) for at, n in zip(place.unbind(-1), (w, h), strict=True))
        return (row + 1) * (w + 1) + column + 1

    def weights(self, selection: Selection, cells: Tensor) -> Tensor:
        """Return the weights of the tokens that voxels read: A of `readout`, differentiable in the selection.

        Sampling follows the pixel-centre convention (`align_corners=False`) with zeros outside the grid.

        Parameters
        ----------
        selection : Selection
        cells : Tensor, (N,) int64
            Result of `cells`. They are not computed again here: rounding of a place at the edge of a cell could
            give weights of one cell and tokens of another.

        Returns
        -------
        Tensor, (N, 5, L)
        """
        scale = selection.scale[:, None]
        token = torch.cat([(1 - scale) * self._bilinear(selection.place, cells), scale], dim=1)
        return token[:, :, None] * selection.layer[:, None, :]

    def read_at(self, cells: Tensor) -> Tensor:
        """Return the indices of the tokens that are read in cells (n,): (n, 5, L) int64."""
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


def _token(at: Tensor, n: int) -> Tensor:
    """Return coordinates in [-1, 1] as positions among n tokens; 0 is the centre of the first one."""
    return ((at + 1) * n - 1) / 2


def _before(at: Tensor, n: int) -> Tensor:
    """Return the last of n tokens, int64, that is not after a coordinate; -1 is the border before the first one."""
    return _token(at, n).floor().clamp(-1, n - 1).long()
