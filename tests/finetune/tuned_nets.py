"""Own networks for fine-tuning: one with convolutions and BatchNorm, and some that cannot be trained."""

import torch
from torch import Tensor, nn


def convolutions() -> nn.Module:
    """Convolutions with BatchNorm, whose statistics differ from those of any batch, and a 1×1 convolution."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(16)
    assert norm.running_mean is not None
    norm.running_mean.normal_()
    first, middle, last = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 12, 3, padding=1)
    return nn.Sequential(first, norm, nn.ReLU(inplace=True), nn.Dropout2d(0.5), middle, last)


class _Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(self.stem(pixels))


class _Precise(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4, dtype=dtype)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.as_tensor(self.stem(pixels.to(self.stem.weight.dtype)))


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 16, 8, 8), nn.Conv2d(16, 16, 1)
        self.own, self.first, self.second = (nn.Conv2d(16, 16, 1) for _ in range(3))
        self.second.weight = self.first.weight
        self.again = self.same = nn.Conv2d(16, 16, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.second(torch.relu(self.first(torch.relu(self.own(self.stem(pixels))))))
        return torch.as_tensor(self.last(self.same(self.again(tokens))))


def tied() -> nn.Module:
    """Layers that share a weight, and one that is there under two names."""
    torch.manual_seed(0)
    return _Tied()


def double() -> nn.Module:
    """A network in double precision."""
    torch.manual_seed(0)
    return _Precise(torch.float64)


def adapted() -> nn.Module:
    """A network with changes by peft that were not merged."""
    from peft import LoraConfig, inject_adapter_in_model

    network = tied()
    inject_adapter_in_model(LoraConfig(target_modules=["last"]), network)
    return network


def detached() -> nn.Module:
    """A network whose forward computes no gradients."""
    return _Detached()


def half() -> nn.Module:
    """A network in half precision."""
    return _Precise(torch.bfloat16)


def depthwise() -> nn.Module:
    """A network without any linear layer."""
    return nn.Sequential(nn.Conv2d(3, 6, 4, 4, groups=3))
