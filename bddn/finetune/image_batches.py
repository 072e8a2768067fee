"""Images of a set as pixels and labels, read ahead of the network, and the global tokens of some of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.backbones.backbone import Backbone, Trainable
from bddn.data.image_sets.labelled import LabelledImages
from bddn.extraction.source import CPU_BATCH, pixels_of
from bddn.machine.parallel import ahead, n_threads

GPU_BATCH = 64  # images in a forward pass without gradients
BATCHES_AHEAD = 4  # batches that are read ahead of the network

Rows = npt.NDArray[np.intp]


class Network(Backbone, Trainable, Protocol):
    """A backbone that can be trained."""


@dataclass(frozen=True)
class Inputs:
    """The images of a set, as one network sees them.

    Attributes
    ----------
    network : Network
    images : LabelledImages
    sha256 : sequence of str
        SHA-256 of the image files; a file with other bytes is refused.
    device : str
        'cpu' or 'cuda'.
    autocast : str, optional
        'float16' or 'bfloat16'.
    """

    network: Network
    images: LabelledImages
    sha256: Sequence[str]
    device: str
    autocast: str | None

    def labels(self, rows: Rows) -> Tensor:
        """Return the classes of images, (n,) int64."""
        return torch.from_numpy(self.images.labels[rows])

    def batches(self, batches: Iterable[Rows]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield pixels (B, 3, H, W) and labels (B,) of batches. Threads read some batches ahead."""
        return ahead(lambda rows: (self._pixels(rows), self.labels(rows)), batches, BATCHES_AHEAD)

    def tokens(self, rows: Rows, advance: Callable[[int], object]) -> Tensor:
        """Return the global tokens of images, (n, C) float32 on the CPU, without gradient."""
        size = CPU_BATCH if self.device == "cpu" else GPU_BATCH
        parts = [rows[at : at + size] for at in range(0, len(rows), size)]
        found = []
        for one in self._tokens_of(parts):
            found.append(one)
            advance(len(one))
        return torch.cat(found)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the global tokens (B, C) float32 of pixels (B, 3, H, W), in the precision of the training."""
        dtype = None if self.autocast is None else getattr(torch, self.autocast)
        with torch.autocast(self.device, dtype=dtype, enabled=dtype is not None):
            return self.network.last_global(pixels)

    def _tokens_of(self, parts: Sequence[Rows]) -> Iterator[Tensor]:
        def compute(pixels: Tensor) -> Tensor:
            with torch.no_grad():
                return self.forward(pixels).cpu()

        if self.device == "cpu":  # batches in parallel, each with its own images
            yield from ahead(lambda rows: compute(self._pixels(rows)), parts, 2 * n_threads())
        else:
            yield from map(compute, ahead(self._pixels, parts, BATCHES_AHEAD))

    def _pixels(self, rows: Rows) -> Tensor:
        stimuli = self.images.stimuli
        return torch.stack([pixels_of(self.network, stimuli, int(row), self.sha256[row]) for row in rows])
