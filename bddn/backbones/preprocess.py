"""Preprocessing: pixels of an image."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bddn.spec.library import IMAGENET

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN, IMAGENET_STD = IMAGENET.mean, IMAGENET.std
HALF = (0.5, 0.5, 0.5)


def squash(
    image: "Image",
    size: tuple[int, int],
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Tensor:
    """Resize to `size` (height, width) without keeping the aspect ratio, subtract a mean, and divide by a deviation.

    With the values of ImageNet this is the preprocessing `paper`, which the paper's code uses for every backbone, also
    CLIP and SAM. With 0.5 and 0.5, pixels are in [-1, 1].

    Returns
    -------
    Tensor, (3, height, width) float32
    """
    from PIL.Image import Resampling

    height, width = size
    pixels = np.asarray(image.resize((width, height), Resampling.BILINEAR), dtype=np.float32) / 255
    normed = (pixels - np.array(mean, dtype=np.float32)) / np.array(std, dtype=np.float32)
    return torch.from_numpy(normed).permute(2, 0, 1).contiguous()
