"""Run a forward pass on the CPU or on a CUDA device, and return its tokens in memory, in their stored shape."""

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
    """Return the tokens of a batch by the path of their array, without a copy. It is thread-safe."""
    return {path: values.numpy() for path, values in as_stored(forward(pixels), layers).items()}


class OnDevice:
    """A function like `on_cpu` for a CUDA device, thread-safe.

    Forward passes run one after the other. While the next one runs, the tokens of a batch are copied back in one piece,
    through pinned memory and in a separate stream.
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
        beside.synchronize()  # keeps `there` and `flat` alive until here, so that no other stream gets their memory
        return split(here, tokens)


def as_stored(tokens: Tokens, layers: Sequence[str]) -> dict[str, Tensor]:
    """Return the tokens of a batch by the path of their array: local (B, H, W, C), global (B, C), and registers
    (B, R, C) if they are stored."""
    found = {}
    for layer in layers:
        values = tokens[layer]
        assert values.global_ is not None
        found[f"local/{layer}"] = values.local_.permute(0, 2, 3, 1)
        found[f"global/{layer}"] = values.global_
        if values.register is not None:
            found[f"register/{layer}"] = values.register
    return found


def flattened(tokens: Mapping[str, Tensor]) -> Tensor:
    """Return all tokens in one flat tensor."""
    return torch.cat([values.reshape(-1) for values in tokens.values()])


def split(flat: Tensor, like: Mapping[str, Tensor]) -> Arrays:
    """Return a flattened tensor as arrays with the names and shapes of `like`."""
    parts = flat.split([values.numel() for values in like.values()])
    return {path: part.view(like[path].shape).numpy() for path, part in zip(like, parts, strict=True)}
