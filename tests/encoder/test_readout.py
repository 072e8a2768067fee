"""The readout against the textbook form: outputs and every gradient."""

import pytest
import torch

import oracle
from bddn.encoder import readout
from bddn.encoder.factor_topy import FactorTopy
from bddn.spec import FitSpec
from bddn.stream.loader import Features

GRID = (3, 5)
WIDTHS = {"a": 6, "b": 4, "c": 6}


def _model(n_voxels: int, spread: float) -> tuple[FactorTopy, Features, torch.Tensor]:
    """A model whose voxels look at many places, up to far outside the outermost token centres."""
    torch.manual_seed(0)
    coords = torch.rand(n_voxels, 3, dtype=torch.float64) * 100
    model = FactorTopy(coords, WIDTHS, GRID, FitSpec(channels=7, selector_width=16)).double()
    for selector in (model.selectors.space, model.selectors.layer, model.selectors.scale):
        torch.nn.init.normal_(list(selector.parameters())[-1], std=spread)
    torch.nn.init.normal_(model.bias)
    features = Features(
        [torch.randn(4, GRID[0] * GRID[1], c, dtype=torch.float64) for c in WIDTHS.values()],
        [torch.randn(4, c, dtype=torch.float64) for c in WIDTHS.values()],
    )
    return model, features, torch.randn(4, n_voxels, dtype=torch.float64) * 0.3


@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("chunk", [readout.CHUNK_FLOATS, 1])
def test_readout_agrees_with_the_textbook_form(monkeypatch: pytest.MonkeyPatch, spread: float, chunk: int) -> None:
    monkeypatch.setattr(readout, "CHUNK_FLOATS", chunk)
    monkeypatch.setattr(readout, "MIN_CHUNK", 5 if chunk == 1 else readout.MIN_CHUNK)
    model, features, target = _model(233, spread)
    torch.testing.assert_close(model.predict(features), oracle.predict(model, features).detach(), rtol=1e-6, atol=1e-9)

    oracle.objective(model, features, target, beta=0.1, softness=0.05).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.backward(features, target, beta=0.1, softness=0.05)
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        size = value.abs().max().item()
        assert torch.allclose(got[name], value, rtol=1e-6, atol=1e-6 * size), name


def test_voxels_at_the_very_edge_are_inside_the_border() -> None:
    model, features, _ = _model(9, 0.0)
    corners = torch.tensor([[x, y] for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0)], dtype=torch.float64)
    selection = model.select()
    at_edge = type(selection)(corners, selection.layer, selection.log_layer, selection.scale)
    model.select = lambda: at_edge  # type: ignore[method-assign]
    torch.testing.assert_close(model.predict(features), oracle.predict(model, features))


def test_loss_is_smooth_l1() -> None:
    model, features, target = _model(50, 1.0)
    loss = model.backward(features, target, beta=0.1, softness=0.3)
    expected = torch.nn.functional.smooth_l1_loss(oracle.predict(model, features), target, beta=0.1)
    torch.testing.assert_close(loss, expected.detach())
