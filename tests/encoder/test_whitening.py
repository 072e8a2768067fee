"""Whitening: channels decorrelated, gradients those of the textbook form, and gone from the finished encoder."""

import numpy as np
import pytest
import torch

import oracle
from bddn.encoder import whitening
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.whitening import SHRINKAGE, Whitening
from bddn.spec import FitSpec
from bddn.stream.features import Features
from bddn.stream.loader import Resident

WIDTHS, GRID = {"a": 6, "b": 4, "c": 6}, (3, 3)
POOLS = [np.arange(30), np.arange(30, 60)]


def _features() -> Features:
    """Correlated channels of very different sizes, far from zero."""
    g = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        mix = torch.randn(shape[-1], shape[-1], generator=g) * torch.logspace(-2, 2, shape[-1])
        return torch.randn(shape, generator=g) @ mix + 50

    return Features(
        [drawn(60, 9, channels) for channels in WIDTHS.values()],
        [drawn(60, channels) for channels in WIDTHS.values()],
    )


def test_whitened_channels_are_uncorrelated_and_of_one_size() -> None:
    features = _features()
    found = Whitening.of(Resident.of(features), POOLS)
    tokens_of = [values.flatten(0, 1) for values in features.local] + list(features.global_)
    for values, (mean, matrix) in zip(tokens_of, [*found.local, *found.global_], strict=True):
        tokens = values.double()
        torch.testing.assert_close(mean.double(), tokens.mean(0), rtol=1e-5, atol=1e-4)
        shrunk = torch.cov(tokens.T, correction=0)
        shrunk += SHRINKAGE * shrunk.diagonal().mean() * torch.eye(len(shrunk))
        seen = matrix.double().T @ shrunk @ matrix.double()
        torch.testing.assert_close(seen, torch.eye(len(seen), dtype=torch.float64), rtol=0, atol=1e-4)


def test_only_the_first_images_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whitening, "LOCAL_IMAGES", 35)
    monkeypatch.setattr(whitening, "GLOBAL_IMAGES", 45)
    features = _features()
    found = Whitening.of(Resident.of(features), POOLS)
    torch.testing.assert_close(found.local[0][0], features.local[0][:35].mean((0, 1)), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.global_[0][0], features.global_[0][:45].mean(0), rtol=1e-4, atol=1e-3)


def test_a_layer_that_does_not_vary_is_no_problem() -> None:
    features = Features([torch.ones(60, 9, 6)], [torch.ones(60, 6)])
    mean, matrix = Whitening.of(Resident.of(features), POOLS).local[0]
    assert torch.isfinite(matrix).all()
    torch.testing.assert_close(mean, torch.ones(6))


def _model() -> tuple[FactorTopy, Features]:
    torch.manual_seed(0)
    features = _features()
    model = FactorTopy(torch.rand(40, 3, dtype=torch.float64) * 100, WIDTHS, GRID, FitSpec(channels=7)).double()
    found = Whitening.of(Resident.of(features), POOLS)
    model.whitening = Whitening(
        [(m.double(), w.double()) for m, w in found.local], [(m.double(), w.double()) for m, w in found.global_]
    )
    for selector in (model.selectors.space, model.selectors.layer, model.selectors.scale):
        torch.nn.init.normal_(list(selector.parameters())[-1])  # type: ignore[union-attr]
    some = features.at(slice(0, 8))
    return model, Features([v.double() for v in some.local], [v.double() for v in some.global_])


def _seen(features: Features, found: Whitening) -> Features:
    """What the textbook form would be given."""
    local, far = (
        [(v - mean) @ matrix for v, (mean, matrix) in zip(values, whitening, strict=True)]
        for values, whitening in ((features.local, found.local), (features.global_, found.global_))
    )
    return Features(local, far)


def test_gradients_are_those_of_whitened_tokens() -> None:
    model, features = _model()
    assert model.whitening is not None
    seen = _seen(features, model.whitening)
    target = torch.randn(8, 40, dtype=torch.float64)
    torch.testing.assert_close(model.predict(features), oracle.predict(model, seen).detach())
    oracle.objective(model, seen, target, beta=0.1, softness=0.05).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.backward(features, target, beta=0.1, softness=0.05)
    for name, parameter in model.named_parameters():
        if name in expected:
            assert parameter.grad is not None
            assert (parameter.grad - expected[name]).abs().max() <= 1e-9 * expected[name].abs().max(), name


def test_a_folded_encoder_predicts_the_same_from_raw_tokens() -> None:
    model, features = _model()
    before = model.predict(features)
    model.fold()
    assert model.whitening is None
    torch.testing.assert_close(model.predict(features), before)
