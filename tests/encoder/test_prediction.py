"""Predictions of voxels that share selections."""

import pytest
import torch

from bddn.encoder import prediction
from bddn.encoder.factor_topy import FactorTopy
from bddn.spec import FitSpec
from bddn.stream.features import Features

WIDTHS, GRID, N_VOXELS = {"a": 6, "b": 5}, (4, 3), 200


def _setup(**settings: object) -> tuple[FactorTopy, Features]:
    """An encoder with random selectors, and the tokens of 9 images."""
    torch.manual_seed(0)
    model = FactorTopy(torch.rand(N_VOXELS, 3) * 60, WIDTHS, GRID, FitSpec(channels=8, **settings))
    for selector in (model.selectors.space, model.selectors.layer, model.selectors.scale):
        if isinstance(selector, torch.nn.Sequential):
            torch.nn.init.normal_(selector[-1].weight, std=2.0)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.bias)
    local = [torch.randn(9, GRID[0] * GRID[1], channels) for channels in WIDTHS.values()]
    return model, Features(local, [torch.randn(9, channels) for channels in WIDTHS.values()])


def _one_by_one(model: FactorTopy, features: Features) -> torch.Tensor:
    """The definition: the weighted sum of what each voxel reads, times its channel weights."""
    tokens = model.align(features)
    cells, weights = model.selectors.cells_and_weights(torch.arange(N_VOXELS))
    read = model.selectors.read_at(cells).flatten(1)
    each = [
        torch.einsum("k,kbd->bd", w, tokens[at]) @ c for w, at, c in zip(weights, read, model.channels, strict=True)
    ]
    return torch.stack(each, dim=1) / model.divisor + model.bias


@pytest.mark.parametrize("blurs", [(0.0,), (0.0, 1.5)])
@pytest.mark.parametrize("resolution", [None, 4.0, 1000.0])
def test_predictions_are_the_definition(resolution: float | None, blurs: tuple[float, ...]) -> None:
    """Every voxel with its own selection, some with the same, and all with the same."""
    model, features = _setup(resolution=resolution, blurs=blurs)
    n = int(model.selectors.same_selection.max()) + 1
    assert n == {None: N_VOXELS, 1000.0: 1}.get(resolution, n)
    reading = model.read(4)
    assert isinstance(reading, list)
    assert sum(len(piece.weights) for piece in reading) == n
    with torch.no_grad():
        torch.testing.assert_close(model.predict(features, reading), _one_by_one(model, features))


def test_the_size_of_pieces_changes_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    model, features = _setup(resolution=2.0)
    expected = model.predict(features)
    monkeypatch.setattr(prediction, "FEATURE_FLOATS", 9 * 8 * 2)
    reading = model.read(9)
    assert isinstance(reading, list)
    assert max(len(piece.weights) for piece in reading) == 2
    torch.testing.assert_close(model.predict(features, reading), expected)
