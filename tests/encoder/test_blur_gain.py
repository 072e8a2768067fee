"""Blurred tokens vary less than sharp ones, by as much as the textbook says; a fit undoes it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import oracle
from bddn.encoder import checkpoint
from bddn.encoder.blur_gain import blur_gain
from bddn.encoder.factor_topy import FactorTopy, new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.parts import Parts
from bddn.encoder.whitening import Whitening
from bddn.spec import FitSpec
from bddn.stats.scores import robust_mean
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


def test_tokens_that_alternate_between_places_get_a_finite_factor() -> None:
    sign = torch.tensor([(-1.0) ** (row + column) for row in range(GRID[0]) for column in range(GRID[1])])
    local = [torch.randn(N, 1, width) * sign[:, None] for width in WIDTHS.values()]
    assert blur_gain(*_whitened(local)).tolist() == pytest.approx([1, 10, 10])


def test_a_fine_grid_needs_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, source, pools = _whitened([torch.randn(N, math.prod(GRID), width) for width in WIDTHS.values()])
    few = [pool[: N // 4] for pool in pools]
    expected = blur_gain(model, source, few)
    monkeypatch.setattr("bddn.encoder.blur_gain.FLOATS", N // 4 * math.prod(GRID) * WIDTHS["a"])
    monkeypatch.setattr("bddn.encoder.blur_gain.IMAGES", N // 4)
    torch.testing.assert_close(blur_gain(model, source, pools), expected)
    monkeypatch.setattr("bddn.encoder.blur_gain.FLOATS", 1)
    eight = [pool[:8] for pool in pools]
    found = blur_gain(model, source, pools)
    monkeypatch.setattr("bddn.encoder.blur_gain.FLOATS", 1 << 24)
    torch.testing.assert_close(found, blur_gain(model, source, eight))


@pytest.mark.parametrize("constant", [[0], [0, 1]])
def test_constant_layers_have_no_say(constant: list[int]) -> None:
    torch.manual_seed(0)
    local = [torch.randn(N, math.prod(GRID), width) for width in WIDTHS.values()]
    for layer in constant:
        local[layer][:] = 1.0
    gain = blur_gain(*_whitened(local))
    assert gain.isfinite().all()
    assert gain[0] == 1


def _wide_brain() -> tuple[Features, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, positions, field sizes in tokens (0.5 to 2), and responses of voxels that read local tokens alone; the
    global token is their mean."""
    n, n_voxels, side, width = 400, 200, 6, 12
    g = torch.Generator().manual_seed(0)
    at = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
    alike = torch.exp(-torch.cdist(at, at).square())
    local = [alike @ torch.randn(n, side**2, width, generator=g) for _ in range(2)]
    coords = torch.rand(n_voxels, 3, generator=g) * 100
    size = 0.5 + 1.5 * coords[:, 2] / 100
    away = torch.cdist(1 + coords[:, :2] / 100 * (side - 3), at).square()
    fields = torch.softmax(-away / (2 * size[:, None] ** 2), 1)
    mixture = torch.randn(n_voxels, 4, generator=g)
    responses = sum(
        torch.einsum("npk,vp,vk->nv", layer @ torch.randn(width, 4, generator=g), fields, mixture) for layer in local
    )
    assert isinstance(responses, torch.Tensor)
    noisy = responses / responses.std(0) + 0.7 * torch.randn(n, n_voxels, generator=g)
    return Features(local, [layer.mean(1) for layer in local]), coords, size, noisy


def test_sizes_of_wide_fields_are_found_and_are_not_taken_for_a_high_scale() -> None:
    tokens, coords, size, responses = _wide_brain()
    parts = Parts(np.arange(300), np.arange(300, 340), np.arange(340, 400))
    small = {"channels": 12, "selector_width": 32, "batch_size": 4}

    def fitted(kind: str) -> Fitted:
        spec = FitSpec.parse(FitSpec.recipe("fast").to_dict() | small | {"blurred_tokens": kind}, "test")
        model = new_encoder(coords, {"a": 12, "b": 12}, (6, 6), spec)
        return fit(model, Resident.of(tokens), responses.__getitem__, parts, spec)

    scaled, kept = fitted("scaled"), fitted("kept")
    found = scaled.selection.sizes(BLURS)
    assert found is not None
    assert np.corrcoef(found, size.numpy())[0, 1] > 0.95
    assert 0.7 < np.polyfit(size.numpy(), found, 1)[0] < 1.4
    assert scaled.selection.scale.mean() < 0.05
    assert kept.selection.scale.mean() > 0.3
    assert robust_mean(scaled.r2_test) > robust_mean(kept.r2_test) + 0.03


def test_a_saved_encoder_keeps_the_factors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = new_encoder(torch.rand(9, 3) * 100, WIDTHS, GRID, SPEC)
    assert model.selectors.gain is not None
    model.selectors.gain.copy_(torch.tensor([1.0, 1.5, 2.5]))
    features = Features(
        [torch.randn(3, math.prod(GRID), width) for width in WIDTHS.values()],
        [torch.randn(3, width) for width in WIDTHS.values()],
    )
    checkpoint.save(model, SPEC, tmp_path / "encoder.safetensors")
    loaded = checkpoint.load(tmp_path / "encoder.safetensors")
    assert torch.equal(loaded.predict(features), model.predict(features))
    with torch.no_grad():
        assert torch.equal(loaded.select().scale, model.select().scale)
