"""The selection of voxels: place, layer and scale.

Shape letters: N voxels, L layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """What every voxel selects.

    `place` (N, 2) is x, y in [-1, 1], y growing downwards, as in `grid_sample`. `layer` (N, L) are layer weights that
    sum to 1, and `log_layer` their logarithms. `scale` (N,) is 0 for the local token and 1 for the global token.
    """

    place: Tensor
    layer: Tensor
    log_layer: Tensor
    scale: Tensor

    @classmethod
    def of(cls, space: Tensor, layer: Tensor, scale: Tensor) -> "Selection":
        """Return the selection of unbounded numbers (n, 2), (n, L) and (n,)."""
        log_layer = torch.log_softmax(layer, dim=-1)
        return cls(torch.tanh(space), log_layer.exp(), log_layer, torch.sigmoid(scale))
