"""The selection of voxels: place, layer, scale and size.

Shape letters: N voxels, L layers, S sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """What every voxel selects.

    `place` (N, 2) is x, y in [-1, 1], y growing downwards, as in `grid_sample`. `layer` (N, L) are layer weights that
    sum to 1, and `log_layer` their logarithms. `scale` (N,) is 0 for the local token and 1 for the global token. `size`
    (N, S) are weights of the blurs of the grid that sum to 1, and `log_size` their logarithms; None with one blur.
    `scale_logit` (N,) is the logit of the scale; None where selectors have none.
    """

    place: Tensor
    layer: Tensor
    log_layer: Tensor
    scale: Tensor
    size: Tensor | None = None
    log_size: Tensor | None = None
    scale_logit: Tensor | None = None

    @classmethod
    def of(cls, space: Tensor, layer: Tensor, scale: Tensor, size: Tensor | None = None) -> "Selection":
        """Return the selection of unbounded numbers (n, 2), (n, L), (n,) and (n, S)."""
        log_layer = torch.log_softmax(layer, dim=-1)
        log_size = None if size is None else torch.log_softmax(size, dim=-1)
        sizes = None if log_size is None else log_size.exp()
        return cls(torch.tanh(space), log_layer.exp(), log_layer, torch.sigmoid(scale), sizes, log_size, scale)

    def without(self, gain: Tensor) -> "Selection":
        """Return the selection that reads the same, up to a factor, from tokens that are not multiplied by the gains
        (S,) of the blurs."""
        assert self.log_size is not None
        assert self.scale_logit is not None
        log_size = self.log_size + gain.log()
        log_local = torch.logsumexp(log_size, dim=-1)  # of all blurs together, for the weight 1
        logit, log_size = self.scale_logit - log_local, log_size - log_local[:, None]
        return replace(self, scale=torch.sigmoid(logit), scale_logit=logit, size=log_size.exp(), log_size=log_size)

    def cpu(self) -> "Selection":
        """Return a copy in the memory of the host."""
        moved: list[Any] = [None if value is None else value.cpu() for value in vars(self).values()]
        return Selection(*moved)

    def sizes(self, blurs: Sequence[float]) -> npt.NDArray[np.float32] | None:
        """Return the mean blur (N,) of the voxels, in tokens; None if there is one blur."""
        if self.size is None:
            return None
        mean: npt.NDArray[np.float32] = self.size.detach().cpu().numpy() @ np.array(blurs, np.float32)
        return mean
