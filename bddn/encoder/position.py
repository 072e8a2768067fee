"""The sinusoidal code of a voxel's position, which makes the selectors smooth over cortex."""

import math

import torch
from torch import Tensor, nn


class PositionCode(nn.Module):
    """Code positions as sines and cosines of several frequencies per axis (paper, section 3; code recipe).

    The bounds are fixed when the model is built and saved with it. Taken from whatever positions are
    passed later, they would silently change the code of every voxel.

    Parameters
    ----------
    coords_mm : Tensor, (N, 3)
        Positions of the voxels that the model is built for; they set the bounds.
    n_frequencies : int
        Frequencies per axis.
    period : float
        Base of the geometric series of periods.
    n_steps : float
        Length to which the longest side of the bounds is scaled; neighbours are then about a step apart.
    """

    low: Tensor
    step_mm: Tensor
    frequency: Tensor

    def __init__(self, coords_mm: Tensor, n_frequencies: int, period: float, n_steps: float) -> None:
        super().__init__()
        low, high = coords_mm.min(0).values, coords_mm.max(0).values
        exponent = torch.arange(n_frequencies, dtype=coords_mm.dtype) / n_frequencies
        self.register_buffer("low", low)
        self.register_buffer("step_mm", ((high - low).max() / n_steps).clamp_min(1e-6))
        self.register_buffer("frequency", torch.exp(-math.log(period) * exponent))
        self.width = 3 * n_frequencies * 2

    def forward(self, coords_mm: Tensor) -> Tensor:
        """(N, 3) positions in mm to (N, 6 × n_frequencies) codes."""
        angle = ((coords_mm - self.low) / self.step_mm)[:, :, None] * self.frequency
        return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(1)
