"""The responses that a fit predicts.

Shape letters: B images, N voxels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bddn.errors import FitError
from bddn.stream.order import Rows

Targets = Callable[[Tensor], Tensor]
"""Takes rows (B,) of a dataset; returns their responses (B, N) float32."""

ROWS_PER_READ = 64
LARGEST = 1e30  # float32 ends at 3e38
ROUNDING = 1e-6  # a standard deviation below this share of the mean is rounding of a constant


@dataclass(frozen=True)
class Standardized:
    """Responses with mean 0 and variance 1 over the training images, so that a fit does not depend on their unit.

    Attributes
    ----------
    targets : callable
        The responses in their own unit.
    mean, sd : Tensor, (N,) float32
        A response that does not vary is only centred: its `sd` is 1.
    voxels : Tensor of int64, (n,), optional
        The voxels to return; by default all.
    """

    targets: Targets
    mean: Tensor
    sd: Tensor
    voxels: Tensor | None = None

    @classmethod
    def of(cls, targets: Targets, train: Rows) -> "Standardized":
        """Return standardized responses; `train` names the rows of the training images, in any order.

        Raises
        ------
        FitError
            If responses of training images are not finite, or so large that float32 predictions of them would
            overflow.
        """
        rows = torch.from_numpy(np.sort(train))
        first = targets(rows[:1])[0].double()
        total, square = torch.zeros_like(first), torch.zeros_like(first)
        for some in rows.split(ROWS_PER_READ):
            centred = targets(some) - first
            total += centred.sum(0)
            square += centred.square().sum(0)
        mean = total / len(rows)
        sd = (square / len(rows) - mean.square()).clamp_min(0).sqrt()
        largest = ((mean + first).abs() + sd).max().item()
        if math.isnan(largest):
            raise FitError(
                "responses",
                expected="finite values for every training image",
                got="nan or inf",
                fix="Leave out the voxels or images that have them. No run was written.",
            )
        if largest >= LARGEST:
            raise FitError(
                "responses",
                expected=f"values below {LARGEST:g}",
                got=f"{largest:.3g}",
                fix="Use another unit. No run was written.",
            )
        varies = sd > ROUNDING * (mean + first).abs()
        return cls(targets, (mean + first).float(), torch.where(varies, sd, 1).float())

    def of_voxels(self, voxels: Tensor) -> "Standardized":
        """Return the responses of some voxels (n,) int64."""
        return Standardized(self.targets, self.mean[voxels], self.sd[voxels], voxels)

    def __call__(self, rows: Tensor) -> Tensor:
        responses = self.targets(rows)
        if self.voxels is not None:
            responses = responses[:, self.voxels]
        return (responses - self.mean) / self.sd
