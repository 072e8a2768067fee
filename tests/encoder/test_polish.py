"""The closed form: the ridge solution of every voxel, chosen on validation images."""

import numpy as np
import pytest
import torch

from bddn.encoder import polish as polishing
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.fit import score
from bddn.encoder.polish import ALPHAS, n_passes, polish
from bddn.spec import FitSpec
from bddn.stream.features import Features
from bddn.stream.loader import Resident

WIDTHS, GRID = {"a": 6, "b": 5}, (3, 2)
N_VOXELS, D = 40, 8
TRAIN, VAL = [np.arange(0, 70), np.arange(70, 120)], [np.arange(120, 160)]


def _setup(noise: float = 1.0) -> tuple[FactorTopy, Resident, torch.Tensor]:
    torch.manual_seed(0)
    model = FactorTopy(torch.rand(N_VOXELS, 3) * 100, WIDTHS, GRID, FitSpec(channels=D, readout="root"))
    for selector in (model.selectors.space, model.selectors.layer, model.selectors.scale):
        torch.nn.init.normal_(list(selector.parameters())[-1], std=2.0)  # type: ignore[union-attr]
    features = Features(
        [torch.randn(160, 6, channels) + 3 for channels in WIDTHS.values()],
        [torch.randn(160, channels) for channels in WIDTHS.values()],
    )
    right = FactorTopy(model.coords_mm, WIDTHS, GRID, FitSpec(channels=D, readout="root"))
    right.load_state_dict(model.state_dict())
    torch.nn.init.normal_(right.channels)
    torch.nn.init.normal_(right.bias)
    responses = right.predict(features) + noise * torch.randn(160, N_VOXELS)
    return model, Resident.of(features), responses


def _polish(model: FactorTopy, source: Resident, responses: torch.Tensor) -> np.ndarray:
    return polish(model, source, responses.__getitem__, TRAIN, VAL, lambda n=1, note="", earlier=False: None)


def _voxel_features(model: FactorTopy, features: Features) -> np.ndarray:
    """(n_images, N, D): the prediction with unit channel weights, one after the other."""
    kept = model.channels.data.clone(), model.bias.data.clone()
    model.bias.data.zero_()
    found = []
    for k in range(D):
        model.channels.data.zero_()
        model.channels.data[:, k] = 1
        found.append(model.predict(features).double().numpy())
    model.channels.data, model.bias.data = kept
    return np.stack(found, axis=-1)


def test_every_voxel_gets_its_ridge_solution() -> None:
    model, source, responses = _setup()
    before = model.channels.detach().double().numpy().copy()
    v, y = _voxel_features(model, source.features), responses.double().numpy()
    alpha = _polish(model, source, responses)
    assert set(alpha) <= {*ALPHAS, np.inf}
    train = np.concatenate(TRAIN)
    for i in range(N_VOXELS):
        if np.isinf(alpha[i]):
            np.testing.assert_allclose(model.channels[i].detach(), before[i])
            continue
        centred, mean = v[train, i] - v[train, i].mean(0), v[train, i].mean(0)
        covariance = centred.T @ centred / len(train)
        penalty = alpha[i] * covariance.trace() / D
        left = centred.T @ (y[train, i] - y[train, i].mean()) / len(train) - covariance @ before[i]
        expected = before[i] + np.linalg.solve(covariance + penalty * np.eye(D), left)
        np.testing.assert_allclose(model.channels[i].detach(), expected, rtol=2e-3, atol=2e-4)
        assert model.bias[i].item() == pytest.approx(y[train, i].mean() - mean @ expected, abs=2e-3)


def test_without_noise_the_right_weights_are_found() -> None:
    model, source, responses = _setup(noise=0.0)
    assert score(model, source, responses.__getitem__, np.arange(160)).mean() < 0.5
    _polish(model, source, responses)
    assert score(model, source, responses.__getitem__, np.arange(160)).min() > 0.999


def test_responses_that_say_nothing_leave_the_trained_weights_or_penalize_most() -> None:
    """In nearly all voxels: over 40 validation images a smaller penalty looks better in some by chance."""
    alpha = []
    for seed in range(8):
        model, source, _ = _setup()
        torch.nn.init.zeros_(model.channels)
        noise = torch.randn(160, N_VOXELS, generator=torch.Generator().manual_seed(seed))
        alpha.append(_polish(model, source, noise))
    assert np.mean(np.concatenate(alpha) >= ALPHAS[-1]) > 0.85


def test_what_a_voxel_gets_does_not_depend_on_how_many_are_solved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polishing, "PROBLEM_VOXELS", 7)
    monkeypatch.setattr(polishing, "VOXELS", 3)
    found = []
    for n_bytes in (1, 4 * D * D * 20, 1 << 30):
        monkeypatch.setattr(polishing, "PASS_BYTES", n_bytes)
        model, source, responses = _setup()
        _polish(model, source, responses)
        found.append((n_passes(N_VOXELS, D), model.channels.detach().clone()))
    assert [n for n, _ in found] == [6, 2, 1]
    assert torch.equal(found[0][1], found[1][1])
    assert torch.equal(found[0][1], found[2][1])
