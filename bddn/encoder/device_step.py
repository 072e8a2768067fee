"""Training steps on a CUDA device: bitwise reproducible, and launched as one CUDA graph.

A step has about a hundred small kernels. Launching them one by one takes the host longer than the device needs to run
them; a graph launches them all at once.
"""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bddn.stream.features import Features

Step = Callable[[Features, Tensor, float | Tensor, float | Tensor], tuple[Tensor, Tensor]]
"""Takes features, responses (B, N), learning rate and softness; returns the loss and the gradient norm, both ()."""


_device = threading.RLock()


@contextmanager
def repeatable(device: torch.device, arithmetic: str) -> Iterator[None]:
    """Restrict torch to deterministic kernels and to the given arithmetic within the `with` block.

    On a CUDA device, other threads wait here: arithmetic is a setting of the process, and the capture of a graph fails
    if another thread uses the device.
    """
    if device.type != "cuda":
        yield
        return
    with _device:
        yield from _repeatable_on_device(arithmetic)


def _repeatable_on_device(arithmetic: str) -> Iterator[None]:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it for deterministic sums
    products = torch.backends.cuda.matmul
    before = products.allow_tf32, torch.are_deterministic_algorithms_enabled()
    products.allow_tf32 = arithmetic != "float32"
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        products.allow_tf32 = before[0]
        torch.use_deterministic_algorithms(before[1])


class GraphedStep:
    """A step as a CUDA graph, captured at the second batch of the usual size; batches of other sizes run without it.

    Parameters
    ----------
    device : device
    """

    def __init__(self, device: torch.device) -> None:
        self._rate, self._softness = (torch.zeros((), device=device) for _ in range(2))
        self._size = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._features: Features | None = None

    def __call__(
        self, step: Step, features: Features, target: Tensor, rate: float | Tensor, softness: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run one step, the same at every call, which must not wait for the device. The others are as in `Step`.

        The step is not kept, so that a graph and its memory are freed with the training whose method it is.
        """
        self._rate.fill_(rate)
        self._softness.fill_(softness)
        if len(features) != self._size:
            self._size = self._size or len(features)
            return step(features, target, self._rate, self._softness)
        if self._graph is None or self._features is None:
            self._features, self._target = features.copy(), target.clone()
            self._graph = torch.cuda.CUDAGraph()
            with _no_collection(), torch.cuda.graph(self._graph):
                self._outputs = step(self._features, self._target, self._rate, self._softness)
        self._features.fill(features)
        self._target.copy_(target)
        self._graph.replay()
        loss, norm = self._outputs
        return loss.clone(), norm.clone()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let Python free no cycles meanwhile: a call that frees what is on a device could end the capture of a graph."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
