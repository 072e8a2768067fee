"""Preprocessing: pixels of an image."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bddn.backbones.family_kind import PROCESSOR
from bddn.errors import SpecError
from bddn.spec.library import IMAGENET, PixelsSpec

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


def check_pixels(pixels: PixelsSpec, folder: Path) -> None:
    """Compare a mean and a deviation with those of the image processor in a folder of weights, if it has one.

    Raises
    ------
    SpecError
        If they differ.
    """
    try:
        told = json.loads((folder / PROCESSOR).read_bytes())
        own = PixelsSpec(mean=told["image_mean"], std=told["image_std"])
        differ = told.get("do_normalize", True) and not np.allclose(
            own.mean + own.std, pixels.mean + pixels.std, atol=1e-3
        )
    except (OSError, ValueError, LookupError, TypeError):  # no such file, or a processor of another kind
        return
    if differ:
        raise SpecError(
            "backbone.pixels",
            expected=f"mean {list(own.mean)} and std {list(own.std)}, as {PROCESSOR} of the weights says",
            got=f"mean {list(pixels.mean)} and std {list(pixels.std)}",
            fix=f"Set pixels: {{mean: {list(own.mean)}, std: {list(own.std)}}} in the spec, or preprocess: paper.",
        )
