"""A batch of cached tokens for the encoder.

Shape letters: n images, L layers, C_l channels of layer l, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bddn.machine.parallel import each_on


@dataclass(frozen=True)
class Features:
    """Tokens of n images, early to late layer: `local` is L × (n, H·W, C_l), `global_` is L × (n, C_l)."""

    local: Sequence[Tensor]
    global_: Sequence[Tensor]

    def __len__(self) -> int:
        """Return n, the number of images."""
        return len(self.local[0])

    def at(self, images: Tensor | slice) -> "Features":
        """Return the tokens of these images; a slice gives a view."""
        return self._each(lambda v: v[images])

    def float(self, images: Tensor | slice = slice(None)) -> "Features":
        """Return a float32 copy of the tokens of these images."""
        kinds = *self.local, *self.global_
        found = each_on(self.local[0].device, lambda v: v[images].to(torch.float32, copy=True), kinds)
        return Features(found[: len(self.local)], found[len(self.local) :])

    def to(self, device: torch.device) -> "Features":
        """Return the tokens on a device. A copy from pinned memory does not block."""
        return self._each(lambda v: v.to(device, non_blocking=True))

    def copy(self) -> "Features":
        """Return a copy."""
        return self._each(Tensor.clone)

    def fill(self, other: "Features", images: Tensor | slice = slice(None)) -> None:
        """Copy the tokens of `other` into the rows `images`, whose number must be equal."""
        for mine, theirs in zip((*self.local, *self.global_), (*other.local, *other.global_), strict=True):
            mine[images] = theirs

    @classmethod
    def cat(cls, parts: Sequence["Features"]) -> "Features":
        """Return the concatenation of several batches."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            [torch.cat(same) for same in zip(*(part.local for part in parts), strict=True)],
            [torch.cat(same) for same in zip(*(part.global_ for part in parts), strict=True)],
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Features":
        return Features([change(v) for v in self.local], [change(v) for v in self.global_])
