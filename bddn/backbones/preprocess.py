"""Preprocessing: pixels of an image."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bddn.backbones.family_kind import ALL_PROCESSORS, PROCESSOR
from bddn.errors import SpecError
from bddn.spec.library import IMAGENET, PixelsSpec

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN, IMAGENET_STD = IMAGENET.mean, IMAGENET.std
HALF = (0.5, 0.5, 0.5)
PLAIN = (224, 224)  # size of images of one color, of which processors make pixels
DIGITS = 6


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
        If they differ, or if it changes the order of channels.
    """
    own = _measured(folder) or _told(folder)
    if own is not None and not np.allclose(own.mean + own.std, pixels.mean + pixels.std, atol=1e-3):
        file = PROCESSOR if (folder / PROCESSOR).is_file() else ALL_PROCESSORS
        raise SpecError(
            "backbone.pixels",
            expected=f"mean {list(own.mean)} and std {list(own.std)}, as {file} of the weights says",
            got=f"mean {list(pixels.mean)} and std {list(pixels.std)}",
            fix=f"Set pixels: {{mean: {list(own.mean)}, std: {list(own.std)}}} in the spec, or preprocess: paper.",
        )


def _measured(folder: Path) -> PixelsSpec | None:
    """Return what an image processor subtracts and divides by, from the pixels that it makes of plain images.

    Its file does not tell all: fields have defaults, and may scale, shift or turn channels. None if there is no
    processor that this version of transformers opens, or one that returns no images (3, H, W).
    """
    from PIL import Image
    from transformers import AutoImageProcessor

    def made(*color: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
        pixels = processor(Image.new("RGB", PLAIN, color), return_tensors="np")["pixel_values"][0]
        return np.asarray(pixels, dtype=np.float64)[:, pixels.shape[1] // 2, pixels.shape[2] // 2].reshape(3)

    try:
        processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, backend="pil", trust_remote_code=False
        )
        black, white, red, green = made(0, 0, 0), made(255, 255, 255), made(255, 0, 0), made(0, 255, 0)
    except Exception:  # noqa: BLE001 - of another kind, or whatever a class of transformers raises
        return None
    if not np.allclose([red, green], np.where(np.eye(3)[:2], white, black), atol=1e-3):
        raise SpecError(
            "backbone.pixels",
            expected="an image processor that gives the network red, green and blue in this order",
            got="one that turns or mixes the channels, as do_flip_channel_order does",
            fix="Give the network as backbone.module, with a function that makes its pixels.",
        )
    std = 1 / (white - black)
    return PixelsSpec(mean=_rounded(-black * std), std=_rounded(std))


def _rounded(values: "np.ndarray[Any, Any]") -> tuple[float, float, float]:
    first, second, third = (round(float(value), DIGITS) + 0.0 for value in values)  # 0.0 for -0.0
    return first, second, third


def _told(folder: Path) -> PixelsSpec | None:
    """Return what the file of an image processor says, if it says it."""
    try:
        told = json.loads((folder / PROCESSOR).read_bytes())
        scale = 255 * float(told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1)
        normalizes = told.get("do_normalize", True)
        mean, std = (np.broadcast_to(told[name], 3) for name in ("image_mean", "image_std")) if normalizes else (0, 1)
        return PixelsSpec(mean=_rounded(mean / scale + np.zeros(3)), std=_rounded(std / scale + np.zeros(3)))
    except (OSError, ValueError, LookupError, TypeError):  # no such file, or a processor of another kind
        return None
