"""What every backbone gives: names of its layers, a way to prepare an image, and the tokens of a batch."""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from bddn.tokens import LayerTokens, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image


class Backbone(Protocol):
    """A frozen network, ready to run.

    A *layer* is whatever the network names: a block, or a diffusion block at a time-step. Layers may differ in
    channels, and may have registers (see `LayerTokens`).
    """

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are to be stored, early to late."""

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the features besides the spec: class, hash of the weights, and under `made_with` what changes
        their last bits only: versions of the libraries."""

    def preprocess(self, image: "Image") -> Tensor:
        """An RGB image to float32 pixels (3, H, W)."""

    def __call__(self, pixels: Tensor) -> Tokens:
        """Pixels (B, 3, H, W) to the tokens of every layer, resized to the grid of the spec.

        Tokens are float32, without gradient, on the backbone's device. It may be called from several threads at once.
        """


@runtime_checkable
class ShowsFullSize(Protocol):
    """A backbone whose tokens can also be seen before they are resized. All of bddn's own can."""

    def each_layer(self, pixels: Tensor, keep: Callable[[LayerTokens], Any]) -> dict[str, Any]:
        """What `keep` makes of the full-size tokens of each layer, for pixels (B, 3, H, W).

        If modules run at several steps, it is their first step, and the names are those of the modules alone.
        """


def weights_sha256(state: dict[str, Tensor]) -> str:
    """Hash of a state dict: names, types, shapes and bytes, whatever file format it came from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
