"""Selectors of place, layer and scale: each is a small network of the voxel's position code.

Shape letters: N voxels, L layers, K tokens that one voxel reads.
"""

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bddn.encoder.position import PositionCode
from bddn.encoder.readout import VoxelWeights
from bddn.encoder.regularizer import Regularizer
from bddn.encoder.selection import Selection
from bddn.encoder.token_grid import TokenGrid
from bddn.machine.parallel import each_on
from bddn.spec import FitSpec

M = TypeVar("M", bound=nn.Module)

PART_VOXELS = 4096  # voxels whose intermediate values each thread holds at a time
DEVICE_PART_VOXELS = 1 << 15


class Factorized(nn.Module):
    """Base class of selectors that give every voxel a place, a layer and a scale.

    Parameters
    ----------
    grid : TokenGrid
    regularizer : Regularizer
    """

    same_selection: Tensor
    """Numbers (N,) int64 from 0 upwards, equal for voxels that always select the same."""
    gain: Tensor | None
    """Factors (S,) of blurred tokens; see `encoder.blur_gain`. None: 1."""

    def __init__(self, grid: TokenGrid, regularizer: Regularizer) -> None:
        super().__init__()
        self.grid = grid
        self.regularizer = regularizer
        self.register_buffer("gain", None)

    def forward(self, voxels: slice | Tensor = slice(None)) -> Selection:
        """Return the selection of the given voxels, among tokens times `gain`."""
        raise NotImplementedError

    def select(self, voxels: slice | Tensor = slice(None)) -> Selection:
        """Return the selection of the given voxels, among tokens as they are."""
        found: Selection = self(voxels)
        return found if self.gain is None else found.without(self.gain)

    def place(self, voxels: slice | Tensor) -> Tensor:
        """Return the places (n, 2) that the given voxels select."""
        raise NotImplementedError

    def weigh(self, voxels: slice | Tensor, cells: Tensor, softness: float | Tensor) -> VoxelWeights:
        """Return the weights (n, K) of the tokens that voxels read in their `cells` (n,), with their backward.

        The backward adds the gradient of the `Regularizer`, averaged over voxels, with the weight `softness`.
        """
        raise NotImplementedError

    def accumulate_gradient(self, voxels: slice | Tensor, gradients: Sequence[Tensor]) -> None:
        """Add the gradients that `weigh(...).backward` returned for some voxels to those of the parameters."""
        raise NotImplementedError

    def _weights_of(
        self,
        selection: Selection,
        cells: Tensor,
        parameters: Sequence[Tensor],
        softness: float | Tensor,
        n_voxels: int,
    ) -> VoxelWeights:
        """Return the weights of a selection in its `cells` (n,), with their backward to `parameters`. All voxels
        together are `n_voxels`."""
        weights = self.grid.weights(selection, cells, self.gain).flatten(1)
        penalty = self.regularizer(selection, softness) / n_voxels

        def backward(gradient: Tensor) -> Sequence[Tensor]:
            return torch.autograd.grad([weights, penalty], parameters, [gradient, None])

        return VoxelWeights(weights.detach(), backward)

    @property
    def _parts(self) -> list[slice]:
        """Slices that together contain all voxels."""
        raise NotImplementedError

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def cells(self) -> Tensor:
        """Return the cell (N,) of every voxel; see `TokenGrid.cells`."""

        def part(voxels: slice) -> Tensor:
            with torch.no_grad():
                return self.grid.cells(self.place(voxels))

        return torch.cat(each_on(self._device, part, self._parts))

    def cells_and_weights(self, voxels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the cells (n,) of all voxels, or of the rows `voxels` (n,) int64, and their weights (n, K), without
        gradient."""

        def part(some: slice | Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                selection = self(some)
                cells = self.grid.cells(selection.place)
                return cells, self.grid.weights(selection, cells, self.gain).flatten(1)

        parts = self._parts if voxels is None else voxels.split(PART_VOXELS)
        cells, weights = zip(*each_on(self._device, part, parts), strict=True)
        return torch.cat(cells), torch.cat(weights)

    def read_at(self, cells: Tensor) -> Tensor:
        """Return the indices of the tokens that are read in some cells; see `TokenGrid.read_at`."""
        return self.grid.read_at(cells)

    def backward(self, cells: Tensor, gradient: Tensor, softness: float | Tensor) -> None:
        """Set the gradient of the parameters from the gradient of all weights (N, K).

        Intermediate values are computed again here, part by part; storing them would need most of the memory of a fit.
        """
        for voxels in self._parts:
            self.accumulate_gradient(voxels, self.weigh(voxels, cells[voxels], softness).backward(gradient[voxels]))


class Selectors(Factorized):
    """The space, layer and scale selectors (paper, section 3): smooth over cortex, as functions of position.

    Parameters
    ----------
    coords_mm : Tensor, (N, 3)
    grid : TokenGrid
    spec : FitSpec
    """

    code: Tensor
    basis: Tensor

    def __init__(self, coords_mm: Tensor, grid: TokenGrid, spec: FitSpec) -> None:
        super().__init__(grid, Regularizer.of(spec))
        self.position = PositionCode(coords_mm, spec.code_frequencies, spec.code_period, spec.code_steps)
        if spec.resolution is not None:
            coords_mm = merged(coords_mm, spec.resolution * self.position.step_mm, spec.merged_at)
        code, basis = self.position.compact(coords_mm)  # constant
        self.same_selection = torch.unique(coords_mm, dim=0, return_inverse=True)[1]
        self.register_buffer("code", code, persistent=False)
        self.register_buffer("basis", basis, persistent=False)
        self.space = _mlp(self.position.width, spec.selector_width, 2)
        self.layer = _mlp(self.position.width, spec.selector_width, grid.n_layers)
        self.scale = _mlp(self.position.width, spec.selector_width, 1)
        n_blurs = len(grid.blurs)
        self.size = _mlp(self.position.width, spec.selector_width, n_blurs) if n_blurs > 1 else None
        self.only_local = spec.fixed == "local"
        parts = {"place": self.space, "layer": self.layer, "scale": self.scale, "local": self.scale}
        if spec.fixed is not None:  # its output stays zero
            parts[spec.fixed].requires_grad_(False)

    def forward(self, voxels: slice | Tensor = slice(None)) -> Selection:
        """See `Factorized.forward`."""
        code = self.code[voxels]
        space, layer, scale = (self._see(network, code) for network in (self.space, self.layer, self.scale))
        size = None if self.size is None else self._see(self.size, code)
        if self.only_local:
            scale = scale.new_full(scale.shape, -math.inf)
        return Selection.of(space, layer, scale.squeeze(-1), size)

    def place(self, voxels: slice | Tensor) -> Tensor:
        """Return the places (n, 2) that the given voxels select."""
        return torch.tanh(self._see(self.space, self.code[voxels]))

    def of_voxels(self, voxels: Tensor) -> "Selectors":
        """Return the selectors of some voxels (n,) int64: the same networks, and the same bounds of the position
        code."""
        part = twin(self)
        part.code = self.code[voxels]
        part.same_selection = torch.unique(self.same_selection[voxels.cpu()], return_inverse=True)[1]
        return part

    def weigh(self, voxels: slice | Tensor, cells: Tensor, softness: float | Tensor) -> VoxelWeights:
        """See `Factorized.weigh`."""
        return self._weights_of(self(voxels), cells, self._learned, softness, len(self.code))

    def accumulate_gradient(self, voxels: slice | Tensor, gradients: Sequence[Tensor]) -> None:
        """Add to the gradient of the networks, which all voxels share."""
        for parameter, one in zip(self._learned, gradients, strict=True):
            parameter.grad = one if parameter.grad is None else parameter.grad.add_(one)

    @property
    def _learned(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _see(self, network: nn.Sequential, code: Tensor) -> Tensor:
        """Return a network's output for compact codes (n, R)."""
        first, *others = network
        assert isinstance(first, nn.Linear)
        hidden = F.linear(code, first.weight @ self.basis, first.bias)
        for step in others:
            hidden = step(hidden)
        return hidden

    @property
    def _parts(self) -> list[slice]:
        n_voxels = len(self.code)
        n = max(2, -(-n_voxels // (DEVICE_PART_VOXELS if self.code.is_cuda else PART_VOXELS)))
        edges = [n_voxels * k // n for k in range(n + 1)]
        return [slice(a, b) for a, b in pairwise(edges) if b > a]


def merged(coords_mm: Tensor, spacing_mm: Tensor, at: Literal["centre", "mean"]) -> Tensor:
    """Return positions (N, 3) that are equal for all voxels in one cell of a cubic grid of this spacing: its centre, or
    the mean of their positions, which leaves a voxel that is alone in its cell where it is."""
    cells = (coords_mm / spacing_mm).round()
    if at == "centre":
        return cells * spacing_mm
    _, cell, n = torch.unique(cells, dim=0, return_inverse=True, return_counts=True)
    total = torch.stack([torch.bincount(cell, weights=axis.double()) for axis in coords_mm.T], dim=1)
    mean: Tensor = total / n[:, None]
    return mean[cell].to(coords_mm.dtype)


def twin(module: M) -> M:
    """Return a module with the same parameters, buffers and modules, which can be replaced in one of the two."""
    found = copy.copy(module)
    for kind in ("_parameters", "_buffers", "_modules"):
        found.__dict__[kind] = dict(module.__dict__[kind])
    return found


def _mlp(width_in: int, width: int, width_out: int) -> nn.Sequential:
    last = nn.Linear(width, width_out, bias=False)
    nn.init.zeros_(last.weight)  # every voxel starts at the centre, with equal layers and scale 1/2
    return nn.Sequential(nn.Linear(width_in, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last)
