"""What voxels select.

Shape letters: N voxels, L layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """What every voxel selects.

    `place` (N, 2) is x, y in [-1, 1] with y growing downwards, as in `grid_sample`; `layer` (N, L) sums to 1 over
    layers; `log_layer` is its logarithm; `scale` (N,) runs from 0, local token, to 1, global token.
    """

    place: Tensor
    layer: Tensor
    log_layer: Tensor
    scale: Tensor

    @classmethod
    def of(cls, space: Tensor, layer: Tensor, scale: Tensor) -> "Selection":
        """From free numbers (n, 2), (n, L) and (n,)."""
        log_layer = torch.log_softmax(layer, dim=-1)
        return cls(torch.tanh(space), log_layer.exp(), log_layer, torch.sigmoid(scale))
