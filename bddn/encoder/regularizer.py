"""The regularizer of the selectors, which keeps them soft while little is known."""

import math
from dataclasses import dataclass
from typing import Literal, Self

from torch import Tensor

from bddn.encoder.selection import Selection
from bddn.spec import FitSpec

SIZE_SOFTNESS = 3e-5
"""Weight of the size that stays when the softness has fallen to 0. Size often changes predictions so little that all
voxels, whose gradients have one direction, would run into one blur, from which none returns."""


@dataclass(frozen=True)
class Regularizer:
    """The negative entropy of the layer weights as a fraction of its largest value, plus the square of the scale's
    distance from 1/2. It is lowest for soft selectors. The weights of sizes count as those of layers.

    Attributes
    ----------
    layers : float
        Weight of the layers that stays when the softness has fallen to 0.
    scale : {'square', 'logit'}
        With `logit`, the square of the scale's logit, over 16, takes the place of that of the distance. Near 1/2 they
        are equal; but far from it the gradient of the distance fades, and a scale that has run to 0 or 1 stays there.
    """

    layers: float = 0.0
    scale: Literal["square", "logit"] = "square"

    @classmethod
    def of(cls, spec: FitSpec) -> Self:
        """Return the regularizer of a fit."""
        return cls(spec.layer_regularizer, spec.scale_regularizer)

    def __call__(self, selection: Selection, softness: float | Tensor) -> Tensor:
        """Return the regularizer with its weights, summed over voxels, ()."""
        of_layer = _negative_entropy(selection.layer, selection.log_layer)
        total: Tensor = (of_layer + self._of_scale(selection)) * softness
        if self.layers:
            total = total + of_layer * self.layers
        if selection.size is not None and selection.log_size is not None:
            total = total + _negative_entropy(selection.size, selection.log_size) * (softness + SIZE_SOFTNESS)
        return total

    def _of_scale(self, selection: Selection) -> Tensor:
        if self.scale == "square":
            return (selection.scale - 0.5).square().sum()
        assert selection.scale_logit is not None
        return selection.scale_logit.square().sum() / 16


def _negative_entropy(share: Tensor, log_share: Tensor) -> Tensor:
    """Return the negative entropy of weights (n, L), divided by the largest entropy, summed over n."""
    return (share * log_share).sum() / (math.log(share.shape[1]) or 1.0)
