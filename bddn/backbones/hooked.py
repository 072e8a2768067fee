"""What networks with hooks on their layers share: those of the transformers library, and torch modules."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from bddn.backbones.code import fingerprint, measure
from bddn.backbones.first_run import noise
from bddn.backbones.hooks import LayerHooks, Reduce, frozen, pooling
from bddn.backbones.in_step import may_run_at_once
from bddn.errors import BackboneError
from bddn.spec import CacheSpec
from bddn.tokens import LayerTokens, Tokens


class HookedNetwork:
    """A frozen network with hooks on its layers; implements `Trainable`, `ShowsFullSize`, and most of `Backbone`.

    A subclass sets the attributes, and defines `_forward` and `preprocess`.

    Attributes
    ----------
    spec : CacheSpec
    layers : tuple of str
        The stored layers, early to late.
    identity : dict
        See `Backbone.identity`.
    """

    spec: CacheSpec
    layers: tuple[str, ...]
    identity: dict[str, Any]
    _device: str
    _model: Any  # on the device
    _hooks: LayerHooks
    _turn: AbstractContextManager[Any] = nullcontext()  # a lock, if only one thread at a time may run it

    def _forward(self, pixels: Tensor) -> object:
        """Run the network on pixels (B, 3, H, W) on its device."""
        raise NotImplementedError

    def _run(self, pixels: Tensor) -> object:
        with frozen(self._device, self.spec.autocast):
            return self._forward(pixels.to(self._device))

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self._model
        return module

    def __call__(self, pixels: Tensor) -> Tokens:
        return Tokens(self.each_layer(pixels, pooling(self.spec)))

    def each_layer(self, pixels: Tensor, reduce: Reduce) -> dict[str, Any]:
        with self._turn, frozen(self._device, self.spec.autocast):
            pixels = pixels.to(self._device)
            return self._read_layers(pixels, self.layers, reduce)

    def _read_layers(self, pixels: Tensor, names: Sequence[str], reduce: Reduce) -> dict[str, Any]:
        def whole(tokens: LayerTokens) -> Any:
            if len(tokens.local_) != len(pixels):  # the hooks see the first part alone
                raise BackboneError(
                    type(self._model).__name__,
                    expected=f"submodules that run once for a batch of {len(pixels)} images",
                    got=f"tokens of {len(tokens.local_)}: the network splits large batches into parts",
                    fix=f"Turn this off, or set batch_size: {len(tokens.local_)} in the spec.",
                )
            return reduce(tokens)

        return self._hooks.run(lambda: self._forward(pixels), names, whole)

    def last_global(self, pixels: Tensor) -> Tensor:
        pixels, last = pixels.to(self._device), self.layers[-1]
        with self._turn:
            found: Tensor = self._read_layers(
                pixels, [last], lambda tokens: tokens.stored_global(self.spec.global_token)
            )[last]
        return found

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """See `Trainable.save`: a folder in the Hugging Face format."""
        self._model.save_pretrained(folder, state_dict=dict(state))

    def _measure(self) -> dict[str, list[float]]:
        """Return numbers that tell the network's code; see `measure`. Later passes take turns if they have to."""
        pixels = noise(2, self.spec.image_hw)
        measured = measure(self._fingerprint, pixels)
        # on a GPU passes always take turns
        if self._device == "cpu" and not may_run_at_once(self._fingerprint, pixels):
            self._turn = Lock()
        return measured

    def _fingerprint(self, pixels: Tensor) -> dict[str, Any]:
        """Return the fingerprint of each layer, in full precision if the weights are float32."""
        full = all(weight.dtype == torch.float32 for weight in self._model.parameters())
        with frozen(self._device, None if full else self.spec.autocast):
            pixels = pixels.to(self._device)
            return self._read_layers(pixels, self.layers, fingerprint)
