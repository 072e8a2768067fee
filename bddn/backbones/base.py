"""What every backbone gives: names of its layers, a way to prepare an image, and the tokens of a batch."""

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bddn.tokens import Tokens

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(Protocol):
    """A frozen network, ready to run.

    A *layer* is whatever the network names: a block, or a diffusion block at a time-step. Layers may differ in
    channels and grid, and may lack a global token or have registers (see `LayerTokens`).
    """

    @property
    def layers(self) -> tuple[str, ...]:
        """All layer names, early to late."""

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the features besides the spec: class, hash of the weights, and under `made_with` what changes
        their last bits only: versions of the libraries."""

    def preprocess(self, image: "Image") -> Tensor:
        """An RGB image to float32 pixels (3, H, W)."""

    def __call__(self, pixels: Tensor) -> Tokens:
        """Pixels (B, 3, H, W) to the tokens of every layer, float32, without gradient, on the backbone's device.

        It may be called from several threads at once.
        """


def squash(image: "Image", size: int) -> Tensor:
    """The preprocessing `paper`: resized to a square without keeping the aspect, ImageNet mean and deviation.

    Returns float32 (3, size, size). The paper's code does so for every backbone, CLIP and SAM included.
    """
    from PIL.Image import Resampling

    pixels = np.asarray(image.resize((size, size), Resampling.BILINEAR), dtype=np.float32) / 255
    mean, std = (np.array(values, dtype=np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
    normed = (pixels - mean) / std
    return torch.from_numpy(normed).permute(2, 0, 1).contiguous()


def weights_sha256(state: dict[str, Tensor]) -> str:
    """Hash of a state dict: names, types, shapes and bytes, whatever file format it came from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
