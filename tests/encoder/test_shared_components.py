"""Noise that voxels share hardly teaches the selectors; a signal that they share does so late."""

import numpy as np
import pytest
import torch

from bddn.encoder.explained import Kernel
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import Fitted, fit
from bddn.encoder.parts import Parts
from bddn.encoder.schedule import earliness
from bddn.encoder.shared_components import LimitedComponents, largest_of_own_noise
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


def _limited(responses: torch.Tensor, train: np.ndarray = TRAIN) -> LimitedComponents:
    source = Resident.of(_tokens())
    whitening = Whitening.of(source, pools_in_order(train, source.chunk_of))
    centred = (responses - responses[:N_TRAIN].mean(0)) / responses[:N_TRAIN].std(0)

    def kernel() -> Kernel:
        return Kernel.of(source, train, whitening, (SIDE, SIDE), SPEC.seed)

    return LimitedComponents.of(centred.__getitem__, torch.rand(N_VOXELS, 3), train, N, kernel, SPEC)


def test_noise_that_all_voxels_share_keeps_little() -> None:
    limited = _limited(_brain(noise=2)[1])
    rows = torch.arange(N)
    before, after = limited.targets(rows), limited(rows, 0)
    assert limited.shares[0] > 0.5
    assert limited.explained[0] < 0.1
    assert limited.explained[1] > 0.4  # a signal
    common = torch.full((N_VOXELS, 1), N_VOXELS**-0.5)
    kept = (after[:N_TRAIN] @ common).square().sum() / before[:N_TRAIN].square().sum()
    assert kept < largest_of_own_noise(N_TRAIN, N_VOXELS) + 1.1 * limited.shares[0] * limited.explained[0]
    assert torch.equal(before[N_TRAIN:], after[N_TRAIN:])  # images that do not train are not touched
    assert limited.described[0] == {"share": limited.shares[0].item(), "explained": limited.explained[0].item()}


def test_a_signal_that_all_voxels_share_stays() -> None:
    limited = _limited(_brain(signal=2)[1])
    rows = torch.arange(N)
    assert limited.shares[0] > 0.5
    assert limited.explained[0] > 0.9
    assert torch.corrcoef(torch.stack([limited(rows, 0).mean(1), limited.targets(rows).mean(1)]))[0, 1] > 0.99
    assert limited(rows, 0).square().sum() > 0.9 * limited.targets(rows).square().sum()


def test_a_signal_that_all_voxels_share_is_small_at_first() -> None:
    limited = _limited(_brain(signal=2)[1])
    rows = torch.arange(N)
    whole, half, least = (limited(rows, share) for share in (0, 0.5, 1))
    common = torch.full((N_VOXELS, 1), N_VOXELS**-0.5)
    assert (least[:N_TRAIN] @ common).square().sum() < 0.15 * limited.targets(rows)[:N_TRAIN].square().sum()
    torch.testing.assert_close(half, (whole + least) / 2, atol=1e-4, rtol=1e-4)
    assert torch.equal(least[N_TRAIN:], whole[N_TRAIN:])  # images that do not train are not touched
    assert [earliness(step, 10) for step in (0, 3, 6, 9)] == [1, 1, 0, 0]
    assert earliness(45, 100) == pytest.approx(0.5)


def test_noise_of_single_voxels_stays() -> None:
    limited = _limited(torch.randn(N, N_VOXELS, generator=torch.Generator().manual_seed(3)))
    rows = torch.arange(N)
    torch.testing.assert_close(limited(rows, 0), limited.targets(rows), atol=0.1, rtol=0)
    assert limited.described == []


def test_an_image_that_a_bootstrap_repeats_does_not_explain_itself() -> None:
    once = _limited(_brain(noise=2)[1])
    repeated = _limited(_brain(noise=2)[1], np.repeat(np.arange(N_TRAIN), 3))
    torch.testing.assert_close(repeated.explained[:1], once.explained[:1])


@pytest.mark.parametrize("n_features", [20, 3000])  # ridge regression on many predicts hardly anything
@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_the_share_that_is_explained_is_found_with_few_and_with_many_features(n_features: int, share: float) -> None:
    g = torch.Generator().manual_seed(4)
    x, n_columns = torch.randn(600, n_features, generator=g), 40
    signal = x @ torch.randn(n_features, n_columns, generator=g)
    noise = torch.randn(600, n_columns, generator=g)
    y = share**0.5 * signal / signal.std(0) + (1 - share) ** 0.5 * noise
    centred = x - x.mean(0)
    found = Kernel.of_products(torch.arange(len(y)), centred @ centred.T).share(y)
    least = {20: 0.1, 3000: 0.2}[n_features]  # how far the lower end of an interval is, on average
    assert share - least < found.mean() <= share + 0.03


def _fitted(coords: torch.Tensor, responses: torch.Tensor, **settings: object) -> Fitted:
    parts, spec = Parts(np.arange(350), np.arange(350, 400), np.arange(400, N)), SPEC.model_copy(update=settings)
    model = new_encoder(coords, {"early": WIDTH, "late": WIDTH}, (SIDE, SIDE), spec)
    return fit(model, Resident.of(_tokens()), responses.__getitem__, parts, spec)


def _r_of_x(one: Fitted, coords: torch.Tensor) -> float:
    return float(np.corrcoef(one.selection.place[:, 0].numpy(), coords[:, 1].numpy())[0, 1])


def test_selectors_are_found_beside_noise_that_all_voxels_share() -> None:
    coords, responses = _brain(noise=3)
    limited, kept = (_fitted(coords, responses, shared_noise=kind) for kind in ("limited", "kept"))
    assert _r_of_x(limited, coords) > 0.98
    assert _r_of_x(kept, coords) < 0.5
    assert robust_mean(limited.r2_test) > robust_mean(kept.r2_test) + 0.04


def test_selectors_are_found_beside_a_signal_that_all_voxels_share() -> None:
    coords, responses = _brain(signal=3)
    late, kept = (_fitted(coords, responses, shared_signal=kind, epochs=8) for kind in ("late", "kept"))
    assert _r_of_x(late, coords) > 0.95
    assert _r_of_x(kept, coords) < 0.75
    assert late.saturated == []
    assert robust_mean(late.r2_test) > robust_mean(kept.r2_test) + 0.02


def test_scales_that_all_run_in_one_direction_return_if_their_logit_is_limited() -> None:
    """A signal that all voxels share drives them."""
    coords, responses = _brain(signal=2)
    driven = {"shared_signal": "kept", "blurred_tokens": "kept", "epochs": 8}
    square, logit = (_fitted(coords, responses, scale_regularizer=kind, **driven) for kind in ("square", "logit"))
    assert square.saturated == ["scale"]
    assert logit.saturated == []


@pytest.mark.parametrize(("name", "value"), [("shared_noise", "limited"), ("shared_signal", "late")])
def test_raw_features_are_refused_in_words(name: str, value: str) -> None:
    with pytest.raises(SpecError, match=name):
        FitSpec.parse({name: value}, "test")
