"""What a network of the transformers library reads instead of pixels (B, 3, H, W).

Shape letters: B images, H rows and W columns of patches, P pixels along the side of a patch, T frames.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bddn.backbones.orders import windows
from bddn.spec import TransformersSpec

Arguments = tuple[Any, ...]


def arguments(about: TransformersSpec, config: Any) -> Callable[[Tensor], Arguments]:
    """Return a function from pixels (B, 3, height, width) to the positional arguments of the network's forward.

    Parameters
    ----------
    about : TransformersSpec
    config : configuration of transformers
        Its `patch_size` is needed for patches.
    """
    if about.input == "image":
        return lambda pixels: (pixels,)
    if about.input == "video":
        return lambda pixels: (pixels[:, None].expand(-1, about.frames, -1, -1, -1),)
    if about.input == "patches":
        return lambda pixels: _patches(pixels, config.patch_size)
    assert isinstance(about.order, tuple)
    merged = about.order[-1]
    return lambda pixels: _packed(pixels, config.patch_size, merged, about.frames)


def _patches(pixels: Tensor, patch: int) -> Arguments:
    """Return patches (B, H × W, P × P × 3), row by row, a mask (B, H × W) of ones, and rows and columns (B, 2)."""
    grid = _grid(pixels, patch)
    n, h, w = grid.shape[:3]
    shapes = torch.tensor([[h, w]] * n, device=pixels.device)
    mask = torch.ones(n, h * w, dtype=torch.int32, device=pixels.device)
    return grid.permute(0, 1, 2, 4, 5, 3).reshape(n, h * w, -1), mask, shapes


def _packed(pixels: Tensor, patch: int, merged: int, frames: int) -> Arguments:
    """Return patches (B × H × W, 3 × T × P × P), image by image in windows of `merged` × `merged` patches, and frames,
    rows and columns (B, 3)."""
    grid = _grid(pixels, patch)
    n, h, w = grid.shape[:3]
    order = windows(torch.arange(h * w).view(h, w), (merged,)).to(pixels.device)
    ordered = grid.flatten(1, 2)[:, order]
    repeated = ordered[:, :, :, None].expand(-1, -1, -1, frames, -1, -1)
    return repeated.reshape(n * h * w, -1), torch.tensor([[1, h, w]] * n, device=pixels.device)


def _grid(pixels: Tensor, patch: int) -> Tensor:
    """Return patches (B, H, W, 3, P, P)."""
    split: Tensor = pixels.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    return split.permute(0, 2, 4, 1, 3, 5)
