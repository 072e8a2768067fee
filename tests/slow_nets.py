"""Small networks for tests: one that can be held up from outside, so that a test can interrupt who uses it."""

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

HOLD = "SLOW_NETS_HOLD"  # of the environment: a file; while it is there every batch takes some time
HELD_S = 5.0


class Slow(nn.Module):
    """Cuts an image into patches, slowly while it is held up."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, pixels: Tensor) -> Tensor:
        if (hold := os.environ.get(HOLD)) and Path(hold).exists():
            time.sleep(HELD_S)
        patches: Tensor = self.cut(pixels)
        return patches


def build() -> nn.Module:
    """Two layers of 8 channels."""
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("cut", Slow())
    net.add_module("blocks", nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)))
    return net


def alike() -> nn.Module:
    """Eight layers of 8 channels with the same tokens."""
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("cut", Slow())
    net.add_module("blocks", nn.Sequential(*(nn.Identity() for _ in range(8))))
    return net
