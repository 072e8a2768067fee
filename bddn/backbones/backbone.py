"""The interface of a backbone: names of its layers, preprocessing of an image, and the tokens of a batch."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bddn.tokens import LayerTokens, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image


class Backbone(Protocol):
    """A frozen network, ready to run.

    A *layer* is a part of the network with a name: a block, or a diffusion block at a time-step. Layers may differ
    in channels, and may have registers (see `LayerTokens`).
    """

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the stored layers, early to late."""

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the features besides the spec: class, hash of the weights, and under `made_with` library
        versions, which change only the last bits."""

    def preprocess(self, image: "Image") -> Tensor:
        """Return the pixels of an RGB image, (3, H, W) float32."""

    def __call__(self, pixels: Tensor) -> Tokens:
        """Return the tokens of every layer for pixels (B, 3, H, W), resized to the grid of the spec.

        Tokens are float32, without gradient, on the backbone's device. Several threads may call this at the same time.
        """


@runtime_checkable
class ShowsFullSize(Protocol):
    """A backbone that also returns tokens before they are resized. All backbones of bddn do."""

    def each_layer(self, pixels: Tensor, reduce: Callable[[LayerTokens], Any]) -> dict[str, Any]:
        """Return `reduce(tokens)` of each layer's full-size tokens, by layer, for pixels (B, 3, H, W).

        If modules run at several steps, only the first step is run, and keys are the names of the modules alone.
        """


@runtime_checkable
class CanChange(Protocol):
    """A backbone of a network that its user also holds, and may have changed since."""

    def check_unchanged(self) -> None:
        """Raise a BackboneError if the network is no longer the one of `identity`."""


@runtime_checkable
class Trainable(Protocol):
    """A backbone whose weights can be trained: vision transformers and own modules."""

    @property
    def module(self) -> nn.Module:
        """The network itself, in eval mode. A change of its weights changes the tokens."""

    def last_global(self, pixels: Tensor) -> Tensor:
        """Return the global token (B, C) float32 of the last layer for pixels (B, 3, H, W).

        It has a gradient where gradients are enabled. Several threads may call this at the same time.
        """

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write the network with these weights, named as in `module.state_dict()`, into a folder.

        `Kind.in_folder` gives the spec that opens it.
        """


def weights_sha256(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of a state dict: names, types, shapes and bytes, independent of the file format."""
    digest = hashlib.sha256()
    add_weights(digest, state)
    return digest.hexdigest()


def add_weights(digest: "hashlib._Hash", state: Mapping[str, Tensor], prefix: str = "") -> None:
    """Add the weights of a state dict to a digest, so that those of several models need not be in memory together."""
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{prefix}{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
