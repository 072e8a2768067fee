"""Where each voxel looks: place, layer and scale, each a small network of the voxel's position code.

Shape letters: N voxels, L layers, G grids, K tokens that one voxel reads.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bddn.encoder.grids import Grids
from bddn.encoder.position import PositionCode
from bddn.encoder.selection import Selection
from bddn.parallel import ahead, each_on, n_threads
from bddn.spec import FitSpec

PART_VOXELS = 2048  # voxels whose intermediate values are alive at a time, in each thread
DEVICE_PART_VOXELS = 1 << 15


class Factorized(nn.Module):
    """What selectors share that give every voxel a place, a layer and a scale.

    Parameters
    ----------
    grids : Grids
    """

    def __init__(self, grids: Grids) -> None:
        super().__init__()
        self.grids = grids

    def forward(self, voxels: slice | Tensor = slice(None)) -> Selection:
        """What some voxels select."""
        raise NotImplementedError

    @property
    def _parts(self) -> list[slice]:
        """All voxels, some at a time."""
        raise NotImplementedError

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def look(self) -> tuple[Tensor, Tensor]:
        """The cells (N, G) that voxels look at, and their weights (N, K), without gradient; see `Grids.locate`."""

        def part(voxels: slice) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                return self.grids.locate(self(voxels))

        cells, weights = zip(*each_on(self._device, part, self._parts), strict=True)
        return torch.cat(cells), torch.cat(weights).flatten(1)

    def read_at(self, cells: Tensor) -> Tensor:
        """Which tokens are read in some cells; see `Grids.read_at`."""
        return self.grids.read_at(cells)

    def backward(self, gradient: Tensor, softness: float | Tensor) -> None:
        """Set the gradient of the parameters from that of the weights (N, K), and of the regularizer times `softness`.

        The regularizer is the negative entropy of the layer weights as a fraction of its largest value and the squared
        distance of the scale from 1/2, both averaged over voxels: lowest where selectors are soft.

        Intermediate values are computed again here, part by part: to keep them would take most of a fit's memory.
        """
        parameters = list(self.parameters())

        def part(voxels: slice) -> tuple[Tensor, ...]:
            selection = self(voxels)
            weights = self.grids.locate(selection)[1].flatten(1)
            objective = (weights * gradient[voxels]).sum() + softness * regularizer(selection) / len(gradient)
            return torch.autograd.grad(objective, parameters)

        done = map(part, self._parts) if self._device.type == "cuda" else ahead(part, self._parts, n_threads() + 1)
        for k, found in enumerate(done):  # added in the parts' order, whichever was first
            for parameter, one in zip(parameters, found, strict=True):
                parameter.grad = one if k == 0 or parameter.grad is None else parameter.grad.add_(one)


class Selectors(Factorized):
    """The space, layer and scale selectors (paper, section 3): smooth over cortex since they see positions only.

    Parameters
    ----------
    coords_mm : Tensor, (N, 3)
    grids : Grids
    spec : FitSpec
    """

    code: Tensor
    basis: Tensor

    def __init__(self, coords_mm: Tensor, grids: Grids, spec: FitSpec) -> None:
        super().__init__(grids)
        self.position = PositionCode(coords_mm, spec.code_frequencies, spec.code_period, spec.code_steps)
        code, basis = self.position.compact(coords_mm)  # constant, so computed once
        self.register_buffer("code", code, persistent=False)
        self.register_buffer("basis", basis, persistent=False)
        self.space = _mlp(self.position.width, spec.selector_width, 2)
        self.layer = _mlp(self.position.width, spec.selector_width, len(grids.shapes))
        self.scale = _mlp(self.position.width, spec.selector_width, 1)

    def forward(self, voxels: slice | Tensor = slice(None)) -> Selection:
        """What some voxels select."""
        code = self.code[voxels]
        log_layer = torch.log_softmax(self._see(self.layer, code), dim=-1)
        return Selection(
            place=torch.tanh(self._see(self.space, code)),
            layer=log_layer.exp(),
            log_layer=log_layer,
            scale=torch.sigmoid(self._see(self.scale, code)).squeeze(-1),
        )

    def _see(self, network: nn.Sequential, code: Tensor) -> Tensor:
        """What a network makes of compact codes (n, R)."""
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


def regularizer(selection: Selection) -> Tensor:
    """What keeps selectors soft, summed over voxels; see `Selectors.backward`."""
    most = math.log(selection.layer.shape[1]) or 1.0
    return (selection.layer * selection.log_layer).sum() / most + (selection.scale - 0.5).square().sum()


def _mlp(width_in: int, width: int, width_out: int) -> nn.Sequential:
    last = nn.Linear(width, width_out, bias=False)
    nn.init.zeros_(last.weight)  # every voxel starts at the centre, with equal layers and scale 1/2
    return nn.Sequential(nn.Linear(width_in, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last)
