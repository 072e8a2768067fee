"""Where each voxel looks: place, layer and scale, each a small network of the voxel's position code.

Shape letters: N voxels, L layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


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


def _mlp(width_in: int, width: int, width_out: int) -> nn.Sequential:
    last = nn.Linear(width, width_out, bias=False)
    nn.init.zeros_(last.weight)  # every voxel starts at the centre, with equal layers and scale 1/2
    return nn.Sequential(nn.Linear(width_in, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last)


class Selectors(nn.Module):
    """The space, layer and scale selectors (paper, section 3): smooth over cortex since they see positions only."""

    def __init__(self, code_width: int, hidden_width: int, n_layers: int) -> None:
        super().__init__()
        self.space = _mlp(code_width, hidden_width, 2)
        self.layer = _mlp(code_width, hidden_width, n_layers)
        self.scale = _mlp(code_width, hidden_width, 1)

    def forward(self, code: Tensor) -> Selection:
        """(N, code_width) position codes to the selection of every voxel."""
        log_layer = torch.log_softmax(self.layer(code), dim=-1)
        return Selection(
            place=torch.tanh(self.space(code)),
            layer=log_layer.exp(),
            log_layer=log_layer,
            scale=torch.sigmoid(self.scale(code)).squeeze(-1),
        )
