"""Cached tokens of some images, ready for the encoder.

Shape letters: n images, L layers, C_l channels of layer l, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Tokens of n images, early layer to late: `local` L × (n, H·W, C_l), and `global_` L × (n, C_l)."""

    local: Sequence[Tensor]
    global_: Sequence[Tensor]

    def __len__(self) -> int:
        """n."""
        return len(self.local[0])

    def at(self, images: Tensor | slice) -> "Features":
        """The tokens of some images; of a slice a view."""
        return self._each(lambda v: v[images])

    def float(self, images: Tensor | slice = slice(None)) -> "Features":
        """As a float32 copy, of some images."""
        return self._each(lambda v: v[images].to(torch.float32, copy=True))

    def to(self, device: torch.device) -> "Features":
        """On a device; from pinned memory without waiting."""
        return self._each(lambda v: v.to(device, non_blocking=True))

    def copy(self) -> "Features":
        """In memory of its own."""
        return self._each(Tensor.clone)

    def fill(self, other: "Features", images: Tensor | slice = slice(None)) -> None:
        """Take the tokens of as many images into the memory of some."""
        for mine, theirs in zip((*self.local, *self.global_), (*other.local, *other.global_), strict=True):
            mine[images] = theirs

    @classmethod
    def cat(cls, parts: Sequence["Features"]) -> "Features":
        """The images of several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            [torch.cat(same) for same in zip(*(part.local for part in parts), strict=True)],
            [torch.cat(same) for same in zip(*(part.global_ for part in parts), strict=True)],
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Features":
        return Features([change(v) for v in self.local], [change(v) for v in self.global_])
