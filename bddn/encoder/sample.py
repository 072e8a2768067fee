"""Voxels along a curve through cortex, and a sample of them that is spread evenly."""

import torch
from torch import Tensor

from bddn.spec import FitSpec

BITS = 10  # of each coordinate: steps of about 0.2 mm over the brain


def n_trained(n_voxels: int, spec: FitSpec) -> int:
    """Return the number of voxels on which selectors and alignment are trained."""
    return min(n_voxels, spec.sample or n_voxels) if spec.selection == "topological" else n_voxels


def evenly_spread(coords_mm: Tensor, n: int | None) -> Tensor:
    """Return the rows (n,) int64 of voxels that are spread as the voxels are, in ascending order.

    Every N/n-th voxel along a curve through cortex is taken. Equal positions give equal samples; no random number is
    drawn.

    Parameters
    ----------
    coords_mm : Tensor, (N, 3)
    n : int, optional
        All voxels, if it is None or at least N.
    """
    n_voxels = len(coords_mm)
    if n is None or n >= n_voxels:
        return torch.arange(n_voxels, device=coords_mm.device)
    order = along_curve(coords_mm)
    return order[(torch.arange(n, device=order.device) * n_voxels + n_voxels // 2) // n].sort().values


def along_curve(coords_mm: Tensor) -> Tensor:
    """Return the rows (N,) int64 of voxels along a curve that fills space and visits neighbours one after the other
    (Morton's order)."""
    low = coords_mm.min(0).values
    step = ((coords_mm - low).max() / (2**BITS - 1)).clamp_min(1e-6)
    cell = ((coords_mm - low) / step).long()
    place = torch.zeros_like(cell[:, 0])
    for bit in range(BITS):
        for axis in range(3):
            place |= (cell[:, axis] >> bit & 1) << (3 * bit + axis)
    return place.argsort(stable=True)
