"""Networks of different kinds for planted brains: what a recipe for fits must cope with.

None is trained. Each is built by a function of its own, as a user's network is.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Norm(nn.Module):
    """Every place to mean 0 and variance 1 over channels."""

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)
        return normed


class Block(nn.Module):
    """A residual block of depthwise 3×3 and pointwise convolutions; `change` is the share that it adds and forgets."""

    def __init__(self, width: int, change: float) -> None:
        super().__init__()
        self.change = change
        self.norm, self.places = Norm(), nn.Conv2d(width, width, 3, padding=1, groups=width, padding_mode="reflect")
        self.up, self.down = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)
        nn.init.orthogonal_(self.up.weight, gain=2)
        nn.init.orthogonal_(self.down.weight)
        nn.init.normal_(self.places.weight, std=1 / 3)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.norm(self.down(F.gelu(self.up(self.norm(self.places(self.norm(x)))))))
        return math.sqrt(1 - self.change) * x + math.sqrt(self.change) * added


class Gain(nn.Module):
    """The same tokens, larger or smaller."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


class Mixer(nn.Module):
    """Patches, then `depth` blocks on one grid. What is stored of block k is `taps.k`, times a gain that runs from 1 to
    `growth`; `copy` is a block whose output is stored again as the next one's."""

    def __init__(
        self, seed: int, depth: int, width: int, change: float = 0.35, growth: float = 1.0, copy: int | None = None
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.cut = nn.Conv2d(3, width, 14, stride=7, padding=4)
            self.blocks = nn.ModuleList([Block(width, change) for _ in range(depth)])
        self.taps = nn.ModuleList([Gain(growth ** (k / (depth - 1))) for k in range(depth)])
        self.norm, self.copy = Norm(), copy

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.norm(self.cut(pixels))
        for k, (block, tap) in enumerate(zip(self.blocks, self.taps, strict=True)):
            if k - 1 != self.copy:
                x = block(x)
            tap(x)
        return x


class Pyramid(nn.Module):
    """A random CNN: two blocks on each of three grids, each half as fine and half as wide again."""

    def __init__(self, seed: int, width: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            widths = [width, width * 3 // 2, width * 2]
            self.stem = nn.Conv2d(3, width, 7, stride=4, padding=3)
            self.downs = nn.ModuleList([nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths)])
            self.blocks = nn.ModuleList([Block(w, 0.5) for w in widths for _ in range(2)])
        self.norm = Norm()

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.norm(self.stem(pixels))
        for k, block in enumerate(self.blocks):
            if k in (2, 4):
                x = self.norm(self.downs[k // 2 - 1](x))
            x = block(x)
        return x


def mixer_12() -> nn.Module:
    return Mixer(1, 12, 192)


def mixer_growing() -> nn.Module:
    return Mixer(2, 8, 96, growth=100.0)


def mixer_alike() -> nn.Module:
    return Mixer(3, 24, 96, change=0.08)


def mixer_4() -> nn.Module:
    return Mixer(4, 4, 96, change=0.6)


def mixer_falling() -> nn.Module:
    return Mixer(5, 10, 144, growth=0.01)


def mixer_alike_16() -> nn.Module:
    return Mixer(6, 16, 96, change=0.12)


def mixer_copy() -> nn.Module:
    return Mixer(7, 8, 96, copy=4)


def pyramid() -> nn.Module:
    return Pyramid(8, 64)


def pyramid_wide() -> nn.Module:
    return Pyramid(9, 96)
