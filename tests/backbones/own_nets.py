"""Networks as a user has them in a file of their own."""

import torch
from PIL.Image import Image
from torch import Tensor, nn


class Patches(nn.Module):
    """Cuts an image into 64 patches of 8 channels, with a token before them."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.cut(pixels).flatten(2).transpose(1, 2)
        return torch.cat([x.mean(1, keepdim=True), x], 1)


def build() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("patches", Patches())
    net.add_module("blocks", nn.Sequential(*[nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)]))
    return net


def with_preprocess() -> tuple[nn.Module, object]:
    def preprocess(image: Image) -> Tensor:
        return torch.zeros(3, 32, 32)

    return build(), preprocess


def with_preprocess_that_fails() -> tuple[nn.Module, object]:
    def preprocess(image: Image) -> Tensor:
        raise ValueError("only images of 7 x 7 pixels")

    return build(), preprocess


def number() -> int:
    return 3


def fails() -> nn.Module:
    raise RuntimeError("no weights")
