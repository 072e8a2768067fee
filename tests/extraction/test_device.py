"""Tokens come back from a device in one copy, and are what they would be without it."""

import numpy as np
import pytest
import torch

from bddn.extraction.device import OnDevice, as_stored, flattened, on_cpu, split
from bddn.tokens import LayerTokens, Tokens

LAYERS = ("early", "late")


def forward(pixels: torch.Tensor) -> Tokens:
    """Layers of unlike width, the first with channels last as transformers give them."""
    early = pixels.flatten(1)[:, :48].view(-1, 12, 4).transpose(1, 2).unflatten(2, (3, 4))
    late = pixels[:, :, ::4, ::4]
    return Tokens({"early": LayerTokens(early, early.mean((2, 3))), "late": LayerTokens(late, late.mean((2, 3)))})


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_one_copy_gives_what_copies_of_each_array_give(pixels: torch.Tensor) -> None:
    tokens = as_stored(forward(pixels), LAYERS)
    found, expected = split(flattened(tokens).clone(), tokens), on_cpu(forward, pixels, LAYERS)
    assert list(found) == list(expected) == [f"{kind}/{layer}" for layer in LAYERS for kind in ("local", "global")]
    assert expected["local/early"].shape == (5, 3, 4, 4)
    for path, values in expected.items():
        assert found[path].shape == values.shape
        assert np.array_equal(found[path], values)


def test_tokens_of_the_cpu_are_not_copied(pixels: torch.Tensor) -> None:
    tokens = forward(pixels)
    found = on_cpu(lambda _: tokens, pixels, LAYERS)
    assert np.shares_memory(found["local/late"], tokens["late"].local_.numpy())


@pytest.mark.gpu
def test_a_device_gives_what_the_cpu_gives(pixels: torch.Tensor) -> None:
    run, expected = OnDevice(), on_cpu(forward, pixels, LAYERS)
    for _ in range(3):
        found = run(forward, pixels, LAYERS)
        assert all(np.allclose(found[path], values, atol=1e-6) for path, values in expected.items())
