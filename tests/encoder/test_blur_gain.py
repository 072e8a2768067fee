"""Blurred tokens vary less than sharp ones, by as much as the textbook says; a fit undoes it."""

import math

import numpy as np
import pytest
import torch

import oracle
from bddn.encoder.blur_gain import blur_gain
from bddn.encoder.factor_topy import FactorTopy, new_encoder
from bddn.encoder.whitening import Whitening
from bddn.spec import FitSpec
from bddn.stream.features import Features
from bddn.stream.loader import Resident

N, GRID, WIDTHS, BLURS = 96, (5, 6), {"a": 6, "b": 4}, (0.0, 1.0, 2.0)
SPEC = FitSpec.parse({"channels": 7, "blurs": BLURS, "features": "whitened", "blurred_tokens": "scaled"}, "test")


def _whitened(local: list[torch.Tensor]) -> tuple[FactorTopy, Resident, list[np.ndarray]]:
    source = Resident.of(Features(local, [torch.randn(N, width) for width in WIDTHS.values()]))
    model, pools = new_encoder(torch.rand(9, 3), WIDTHS, GRID, SPEC), [np.arange(N)]
    model.whitening = Whitening.of(source, pools)
    return model, source, pools


def test_it_is_the_ratio_of_deviations_in_the_mean_over_layers() -> None:
    torch.manual_seed(0)
    local = [torch.randn(N, math.prod(GRID), width).cumsum(1) for width in WIDTHS.values()]
    model, source, pools = _whitened(local)
    assert model.whitening is not None
    shares = []
    for tokens, (mean, root) in zip(local, model.whitening.local, strict=True):
        on_grid = ((tokens - mean) @ root).transpose(1, 2).unflatten(2, GRID)
        deviations = [oracle.blurred(on_grid, blur).var(0, correction=0).mean().sqrt() for blur in BLURS]
        shares.append(torch.stack(deviations) / deviations[0])
    torch.testing.assert_close(blur_gain(model, source, pools), 1 / torch.stack(shares).mean(0))


def test_what_is_the_same_in_all_images_does_not_count() -> None:
    """Such as the position code of a transformer, of which a blur leaves little."""
    torch.manual_seed(0)
    local = [torch.randn(N, math.prod(GRID), width) for width in WIDTHS.values()]
    model, source, pools = _whitened(local)
    expected = blur_gain(model, source, pools)
    pattern = [tokens + 5 * torch.randn(1, *tokens.shape[1:]) for tokens in local]
    other = Resident.of(Features(pattern, source.features.global_))
    torch.testing.assert_close(blur_gain(model, other, pools), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("constant", [[0], [0, 1]])
def test_constant_layers_have_no_say(constant: list[int]) -> None:
    torch.manual_seed(0)
    local = [torch.randn(N, math.prod(GRID), width) for width in WIDTHS.values()]
    for layer in constant:
        local[layer][:] = 1.0
    gain = blur_gain(*_whitened(local))
    assert gain.isfinite().all()
    assert gain[0] == 1
