"""A forward pass on the CPU or on a device, and its tokens back in memory as they are stored."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from bddn.tokens import Tokens

Forward = Callable[[Tensor], Tokens]
Arrays = dict[str, npt.NDArray[Any]]


def on_cpu(forward: Forward, pixels: Tensor, layers: Sequence[str]) -> Arrays:
    """The tokens of a batch by the path of their array, without a copy. It may run in several threads at once."""
    return {path: values.numpy() for path, values in as_stored(forward(pixels), layers).items()}


class OnDevice:
    """The same on a CUDA device: one forward after the other, the next one queued while the last one's tokens come
    back, in one copy. Copies go through pinned memory and beside the forward, in streams of their own.

    It is called from several threads at once.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def __call__(self, forward: Forward, pixels: Tensor, layers: Sequence[str]) -> Arrays:
        beside = torch.cuda.Stream()
        with torch.cuda.stream(beside):
            there = pixels.pin_memory().to("cuda", non_blocking=True)
        beside.synchronize()
        with self._turn:
            tokens = as_stored(forward(there), layers)
            flat = flattened(tokens)
            done = torch.cuda.Event()
            done.record()
        beside.wait_event(done)
        with torch.cuda.stream(beside):
            here = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True).copy_(flat, non_blocking=True)
        beside.synchronize()  # `there` and `flat` live until here, so that no other stream is given their memory
        return split(here, tokens)


def as_stored(tokens: Tokens, layers: Sequence[str]) -> dict[str, Tensor]:
    """Tokens of a batch by the path of their array, channels last."""
    found = {}
    for layer in layers:
        values = tokens[layer]
        assert values.global_ is not None
        found[f"local/{layer}"] = values.local_.permute(0, 2, 3, 1)
        found[f"global/{layer}"] = values.global_
    return found


def flattened(tokens: Mapping[str, Tensor]) -> Tensor:
    """All of them in one row."""
    return torch.cat([values.reshape(-1) for values in tokens.values()])


def split(flat: Tensor, like: Mapping[str, Tensor]) -> Arrays:
    """What was flattened, in the shapes that it had."""
    parts = flat.split([values.numel() for values in like.values()])
    return {path: part.view(like[path].shape).numpy() for path, part in zip(like, parts, strict=True)}
