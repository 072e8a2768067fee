"""Where the aligned tokens of all layers lie, and which of them a voxel reads.

All layers' tokens stand in one list. A layer has its local tokens row by row with a border of zeros around them, so
that a voxel that looks at the edge reads zeros, and then its global token, zeros where it has none. Layers may differ
in grid and width. A voxel looks at one cell between four local tokens in every grid; voxels in the same cells read the
same tokens.

Shape letters: N voxels, L layers, T tokens of all layers, G different grids, H rows, W columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bddn.encoder.selection import Selection

N_READ = 5  # four corners of a cell and the global token, of every layer


@dataclass(frozen=True)
class LayerShape:
    """What one layer gives for an image: `channels`, local tokens on `grid` (rows, columns), and maybe a global one."""

    channels: int
    grid: tuple[int, int]
    has_global: bool = True


class Grids:
    """The tokens of all layers, early to late.

    Attributes
    ----------
    n_tokens : int
        T.
    distinct : tuple of (H, W)
        The G different grids.
    inner : list of Tensor
        By layer, where its local tokens are among the T, (H·W,) int64.
    global_ : list of int
        By layer, where its global token is.
    """

    def __init__(self, shapes: Mapping[str, LayerShape]) -> None:
        self.shapes = tuple(shapes.values())
        self.distinct = tuple(dict.fromkeys(shape.grid for shape in self.shapes))
        self.of_layer = [self.distinct.index(shape.grid) for shape in self.shapes]
        self.start, self.inner, self.global_ = [], [], []
        end = 0
        for shape in self.shapes:
            h, w = shape.grid
            self.start.append(end)
            bordered = torch.arange(end, end + (h + 2) * (w + 2)).view(h + 2, w + 2)
            self.inner.append(bordered[1:-1, 1:-1].reshape(-1))
            end += (h + 2) * (w + 2) + 1
            self.global_.append(end - 1)
        self.n_tokens = end

    def cells(self, place: Tensor) -> Tensor:
        """The cells (N, G) int64 that places (N, 2) are in: by grid, row-major in the (H+1) × (W+1) cells between
        bordered tokens."""
        found = []
        for h, w in self.distinct:
            column, row = (_before(at, n) for at, n in zip(place.unbind(-1), (w, h), strict=True))
            found.append((row + 1) * (w + 1) + column + 1)
        return torch.stack(found, dim=1)

    def weights(self, selection: Selection, cells: Tensor) -> Tensor:
        """The weights of the tokens that voxels read in their cells: A of `readout`, differentiable in the selection.

        Sampling follows the pixel-centre convention (`align_corners=False`) with zeros outside the grid. A layer
        without a global token is read at its place whatever the scale.

        Parameters
        ----------
        selection : Selection
        cells : Tensor, (N, G) int64
            Those of `cells`. They are not found again here, since other last bits of a place at the edge of a cell
            could then weigh tokens of one cell and read those of another.

        Returns
        -------
        Tensor, (N, 5, L)
        """
        looks = [
            _bilinear(selection.place, cell, grid) for cell, grid in zip(cells.unbind(1), self.distinct, strict=True)
        ]
        scale = selection.scale[:, None]

        def token(grid: int, has_global: bool) -> Tensor:
            if has_global:
                return torch.cat([(1 - scale) * looks[grid], scale], dim=1)
            return torch.cat([looks[grid], torch.zeros_like(scale)], dim=1)

        kinds = list(zip(self.of_layer, (shape.has_global for shape in self.shapes), strict=True))
        tokens = {kind: token(*kind) for kind in dict.fromkeys(kinds)}
        if len(tokens) == 1:  # the usual case, without a copy for every layer
            by_layer = tokens[kinds[0]][:, :, None]
        else:
            by_layer = torch.stack([tokens[kind] for kind in kinds], dim=2)
        return by_layer * selection.layer[:, None, :]

    def read_at(self, cells: Tensor) -> Tensor:
        """Which of the T tokens are read in some cells: (n, G) to (n, 5, L) int64."""
        read = []
        for layer, grid in enumerate(self.of_layer):
            w = self.distinct[grid][1]
            top_left = self.start[layer] + cells[:, grid] // (w + 1) * (w + 2) + cells[:, grid] % (w + 1)
            corners = [top_left, top_left + 1, top_left + w + 2, top_left + w + 3]
            read.append(torch.stack([*corners, torch.full_like(top_left, self.global_[layer])], dim=1))
        return torch.stack(read, dim=2)


def _token(at: Tensor, n: int) -> Tensor:
    """Coordinates in [-1, 1] counted in n tokens, with 0 at the centre of the first one."""
    return ((at + 1) * n - 1) / 2


def _before(at: Tensor, n: int) -> Tensor:
    """The last of n tokens, int64, that is not after a coordinate; -1 is the border before the first one."""
    return _token(at, n).floor().clamp(-1, n - 1).long()


def _bilinear(place: Tensor, cell: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bilinear weights (N, 4) of the corners of cells (N,) of one grid, for places (N, 2) in them."""
    h, w = grid
    x, y = place.unbind(-1)
    fx, fy = _token(x, w) - (cell % (w + 1) - 1), _token(y, h) - (cell // (w + 1) - 1)
    return torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], dim=-1)
