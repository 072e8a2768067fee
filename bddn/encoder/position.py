"""The sinusoidal code of a voxel's position, which makes the selectors smooth over cortex."""

import math

import torch
from torch import Tensor, nn

from bddn.machine.parallel import single_threaded_kernels


class PositionCode(nn.Module):
    """Code of positions as sines and cosines of several frequencies per axis (paper, section 3; code recipe).

    The bounds are set when the model is built, and saved with it. Bounds of other positions, passed later, would change
    the code of every voxel.

    Parameters
    ----------
    coords_mm : Tensor, (N, 3)
        Positions of the voxels of the model; they set the bounds.
    n_frequencies : int
        Frequencies per axis.
    period : float
        Base of the geometric series of periods.
    n_steps : float
        Length to which the longest side of the bounds is scaled, so that neighbours are about one step apart.
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
        """Return the codes (N, 6 × n_frequencies) of positions (N, 3) in mm, computed in float64."""
        return torch.cat([self._axis(coords_mm, k) for k in range(3)], dim=1).to(coords_mm.dtype)

    def compact(self, coords_mm: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same codes with fewer numbers: (N, R), and an orthonormal basis (6 × n_frequencies, R).

        Waves much longer than the brain are almost straight lines, so many codes are nearly dependent: of 192 numbers
        about 80 are independent in float32. `codes @ basis.T` are the full codes to that precision, so a network whose
        first matrix is `w` can use `codes @ (basis.T @ w)`.
        """
        codes, bases = [], []
        with single_threaded_kernels():  # sums must not depend on the number of threads
            for axis in range(3):
                full = self._axis(coords_mm, axis)
                _, size, directions = torch.linalg.svd(torch.linalg.qr(full, mode="r").R, full_matrices=False)
                basis = directions[size > torch.finfo(coords_mm.dtype).eps * size[0]].T
                codes.append((full @ basis).to(coords_mm.dtype))
                bases.append(basis.to(coords_mm.dtype))
        return torch.cat(codes, dim=1), torch.block_diag(*bases)

    def _axis(self, coords_mm: Tensor, axis: int) -> Tensor:
        """Return the codes of one coordinate, (N, 2 × n_frequencies) float64."""
        steps = (coords_mm[:, axis].double() - self.low[axis].double()) / self.step_mm.double()
        angle = steps[:, None] * self.frequency.double()
        return torch.cat([angle.sin(), angle.cos()], dim=1)
