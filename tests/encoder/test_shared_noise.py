"""Noise that voxels share hardly teaches the selectors; a signal that they share does."""

import numpy as np
import pytest
import torch

from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.parts import Parts
from bddn.encoder.shared_noise import LimitedNoise, largest_of_own_noise, left_out_r2
from bddn.encoder.whitening import Whitening
from bddn.errors import SpecError
from bddn.spec import FitSpec
from bddn.stats.scores import robust_mean
from bddn.stream.features import Features
from bddn.stream.loader import Resident
from bddn.stream.order import pools_in_order

N, N_TRAIN, N_VOXELS, SIDE, WIDTH = 500, 400, 200, 4, 24
TRAIN = np.arange(N_TRAIN)
SPEC = FitSpec.parse(
    FitSpec.recipe("fast").to_dict() | {"channels": 12, "selector_width": 32, "batch_size": 4, "epochs": 3}, "test"
)


def _tokens() -> Features:
    """Two layers on a grid on which neighbours are alike."""
    g = torch.Generator().manual_seed(1)
    at = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).float()
    near = torch.exp(-torch.cdist(at, at).square() / 2)
    local = [near @ torch.randn(N, SIDE**2, WIDTH, generator=g) for _ in range(2)]
    return Features(local, [layer.mean(1) for layer in local])


def _brain(noise: float = 0.0, signal: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and responses of voxels that read the two layers at places that run smoothly over cortex;
    with noise, or a signal of the mean token, that all voxels share."""
    g, tokens = torch.Generator().manual_seed(2), _tokens()
    coords = torch.rand(N_VOXELS, 3, generator=g) * 100
    at = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).float()
    place = torch.softmax(-torch.cdist(coords[:, :2] / 100 * (SIDE - 1), at).square(), 1)
    depth, mixture = coords[:, 2] / 100, torch.randn(N_VOXELS, 4, generator=g)
    responses = torch.zeros(N, N_VOXELS)
    for weight, layer in zip((1 - depth, depth), tokens.local, strict=True):
        read = torch.randn(WIDTH, 4, generator=g)
        responses += weight * torch.einsum("npk,vp,vk->nv", layer @ read, place, mixture)
    responses /= responses.std(0)
    responses += noise * torch.randn(N, 1, generator=g)
    of_all = tokens.global_[0] @ torch.randn(WIDTH, generator=g)
    responses += signal * (of_all / of_all.std())[:, None]
    return coords, responses + 0.5 * torch.randn(N, N_VOXELS, generator=g)


def _limited(responses: torch.Tensor, train: np.ndarray = TRAIN) -> LimitedNoise:
    source, widths = Resident.of(_tokens()), {"early": WIDTH, "late": WIDTH}
    model = new_encoder(torch.rand(N_VOXELS, 3), widths, (SIDE, SIDE), SPEC)
    model.whitening = Whitening.of(source, pools_in_order(train, source.chunk_of))
    centred = (responses - responses[:N_TRAIN].mean(0)) / responses[:N_TRAIN].std(0)
    return LimitedNoise.of(centred.__getitem__, model, source, train, 0)


def test_noise_that_all_voxels_share_keeps_little() -> None:
    limited = _limited(_brain(noise=2)[1])
    rows = torch.arange(N)
    before, after = limited.targets(rows), limited(rows)
    assert limited.shares[0] > 0.5
    assert limited.predicted[0] < 0.1
    assert limited.predicted[1] > 0.4  # a signal
    common = torch.full((N_VOXELS, 1), N_VOXELS**-0.5)
    kept = (after[:N_TRAIN] @ common).square().sum() / before[:N_TRAIN].square().sum()
    assert kept < largest_of_own_noise(N_TRAIN, N_VOXELS) + 1.1 * limited.shares[0] * limited.predicted[0]
    assert torch.equal(before[N_TRAIN:], after[N_TRAIN:])  # images that do not train are not touched
    assert limited.described[0] == {"share": limited.shares[0].item(), "predicted": limited.predicted[0].item()}


def test_a_signal_that_all_voxels_share_stays() -> None:
    limited = _limited(_brain(signal=2)[1])
    rows = torch.arange(N)
    assert limited.shares[0] > 0.5
    assert limited.predicted[0] > 0.9
    assert torch.corrcoef(torch.stack([limited(rows).mean(1), limited.targets(rows).mean(1)]))[0, 1] > 0.99
    assert limited(rows).square().sum() > 0.9 * limited.targets(rows).square().sum()


def test_noise_of_single_voxels_stays() -> None:
    limited = _limited(torch.randn(N, N_VOXELS, generator=torch.Generator().manual_seed(3)))
    rows = torch.arange(N)
    torch.testing.assert_close(limited(rows), limited.targets(rows), atol=0.1, rtol=0)
    assert limited.described == []


def test_an_image_that_a_bootstrap_repeats_does_not_predict_itself() -> None:
    once = _limited(_brain(noise=2)[1])
    repeated = _limited(_brain(noise=2)[1], np.repeat(np.arange(N_TRAIN), 3))
    torch.testing.assert_close(repeated.predicted[:1], once.predicted[:1])


def test_left_out_r2_is_that_of_fits_without_the_image() -> None:
    g = torch.Generator().manual_seed(4)
    x, noise = torch.randn(40, 6, generator=g), torch.randn(40, 3, generator=g)
    y = torch.cat([x @ torch.randn(6, 1, generator=g), noise], 1)
    y[:, 1] += y[:, 0]
    centred = x - x.mean(0)
    found = left_out_r2(centred @ centred.T, y)
    unit = (centred.square().sum() / 40).item()
    best = torch.zeros(4)
    for penalty in (10 ** (k / 2) for k in range(-6, 7)):
        predicted = torch.empty_like(y)
        for one in range(40):
            rest = torch.arange(40) != one
            mean_x, mean_y = centred[rest].mean(0), y[rest].mean(0)
            a = centred[rest] - mean_x
            w = torch.linalg.solve(a.T @ a + penalty * unit * torch.eye(6), a.T @ (y[rest] - mean_y))
            predicted[one] = mean_y + (centred[one] - mean_x) @ w
        r2 = 1 - (y - predicted).square().sum(0) / (y - y.mean(0)).square().sum(0)
        best = best.maximum(r2)
    torch.testing.assert_close(found, best, atol=0.01, rtol=0)
    assert found[0] > 0.99
    assert found[2:].max() < 0.3


def test_selectors_are_found_beside_noise_that_all_voxels_share() -> None:
    coords, responses = _brain(noise=1.5)
    parts, source = Parts(np.arange(350), np.arange(350, 400), np.arange(400, N)), Resident.of(_tokens())

    def fitted(shared_noise: str) -> Fitted:
        spec = SPEC.model_copy(update={"shared_noise": shared_noise})
        model = new_encoder(coords, {"early": WIDTH, "late": WIDTH}, (SIDE, SIDE), spec)
        return fit(model, source, responses.__getitem__, parts, spec)

    def r(one: Fitted) -> float:
        return float(np.corrcoef(one.selection.place[:, 0].numpy(), coords[:, 1].numpy())[0, 1])

    limited, kept = fitted("limited"), fitted("kept")
    assert r(limited) > 0.98 > r(kept)
    assert robust_mean(limited.r2_test) > 1.1 * robust_mean(kept.r2_test)


def test_raw_features_are_refused_in_words() -> None:
    with pytest.raises(SpecError, match="shared_noise"):
        FitSpec.parse({"shared_noise": "limited"}, "test")
