"""AdamW with clipping is that of torch."""

import copy

import pytest
import torch
from torch import nn

from bddn.encoder.adamw import AdamW


def _module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))


@pytest.mark.parametrize("size", [0.01, 100.0])  # below and above the largest norm
def test_steps_are_those_of_torch(size: float) -> None:
    ours, theirs = _module(), _module()
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.03, weight_decay=0.1)
    mine = AdamW(ours, 0.1)
    for _ in range(10):
        x = torch.randn(4, 7) * size
        for module in (ours, theirs):
            module.zero_grad()
            module(x).square().mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        torch.testing.assert_close(mine.step(0.03, 0.5, torch.zeros(())), norm)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_a_gradient_in_another_memory_order_is_the_same_gradient() -> None:
    """Such as that of a convolution whose images have their channels last in memory, as blocks of transformers do."""
    torch.manual_seed(0)
    ours, gradient = nn.Conv2d(3, 4, 3), torch.randn(4, 3, 3, 3)
    other = copy.deepcopy(ours)
    for module, given in ((ours, gradient), (other, gradient.to(memory_format=torch.channels_last))):
        module.weight.grad = given
        AdamW(module, 0.1).step(0.03, 0.5, torch.zeros(()))
    assert torch.equal(ours.weight, other.weight)


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_taken(bad: str) -> None:
    module = _module()
    optimizer = AdamW(module, 0.1)
    before = [p.clone() for p in module.parameters()]
    module(torch.full((1, 7), float("inf") if bad == "gradient" else 1.0)).sum().backward()
    norm = optimizer.step(0.03, 0.5, torch.tensor(float("nan") if bad == "loss" else 1.0))
    assert not torch.isfinite(norm)
    for a, b in zip(module.parameters(), before, strict=True):
        assert torch.equal(a, b)
    assert all((value == 0).all() for value in optimizer.state().values())


def test_a_state_can_be_taken_up() -> None:
    ours, other = _module(), _module()
    first, second = AdamW(ours, 0.1), AdamW(other, 0.1)

    def step(module: nn.Module, optimizer: AdamW, k: int) -> None:
        module.zero_grad()
        module(torch.full((1, 7), 1.0 + k)).square().mean().backward()
        optimizer.step(0.03, 0.5, torch.zeros(()))

    for k in range(3):
        step(ours, first, k)
    other.load_state_dict(ours.state_dict())
    second.load({name: value.clone() for name, value in first.state().items()}, 3)
    for k in range(3):
        step(ours, first, k)
        step(other, second, k)
    for a, b in zip(ours.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
