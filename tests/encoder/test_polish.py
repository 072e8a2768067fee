"""The closed form: the ridge solution of every voxel, chosen on validation images."""

import re
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from bddn.encoder import polish as polishing
from bddn.encoder import ridge_problem
from bddn.encoder.brain_score import score
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.polish import PASS_BYTES, polish
from bddn.encoder.ridge_problem import ALPHAS
from bddn.spec import FitSpec
from bddn.stream.features import Features
from bddn.stream.loader import Resident

WIDTHS, GRID = {"a": 6, "b": 5}, (3, 2)
N_VOXELS, D = 40, 8
TRAIN, VAL = [np.arange(0, 70), np.arange(70, 120)], [np.arange(120, 160)]


def _setup(noise: float = 1.0, d: int = D) -> tuple[FactorTopy, Resident, torch.Tensor]:
    torch.manual_seed(0)
    spec = FitSpec(channels=d, readout="root")
    model = FactorTopy(torch.rand(N_VOXELS, 3) * 100, WIDTHS, GRID, spec)
    for selector in (model.selectors.space, model.selectors.layer, model.selectors.scale):
        torch.nn.init.normal_(list(selector.parameters())[-1], std=2.0)  # type: ignore[union-attr]
    features = Features(
        [torch.randn(160, 6, channels) + 3 for channels in WIDTHS.values()],
        [torch.randn(160, channels) for channels in WIDTHS.values()],
    )
    right = FactorTopy(model.coords_mm, WIDTHS, GRID, spec)
    right.load_state_dict(model.state_dict())
    torch.nn.init.normal_(right.channels)
    torch.nn.init.normal_(right.bias)
    responses = right.predict(features) + noise * torch.randn(160, N_VOXELS)
    return model, Resident.of(features), responses


def _polish(
    model: FactorTopy,
    source: Resident,
    responses: torch.Tensor,
    pass_bytes: int = PASS_BYTES,
    train: Sequence[np.ndarray] = TRAIN,
) -> np.ndarray:
    return polish(model, source, responses.__getitem__, train, VAL, pass_bytes)


def _voxel_features(model: FactorTopy, features: Features) -> np.ndarray:
    """(n_images, N, D): the prediction with unit channel weights, one after the other."""
    kept = model.channels.data.clone(), model.bias.data.clone()
    model.bias.data.zero_()
    found = []
    for k in range(model.channels.shape[1]):
        model.channels.data.zero_()
        model.channels.data[:, k] = 1
        found.append(model.predict(features).double().numpy())
    model.channels.data, model.bias.data = kept
    return np.stack(found, axis=-1)


DRAWN = [np.sort(np.random.default_rng(0).choice(pool, len(pool))) for pool in TRAIN]  # some several times, some never


@pytest.mark.parametrize(
    ("pools", "d"),
    [(TRAIN, D), (DRAWN, D), (TRAIN, 1), (DRAWN, 5)],
    ids=["each once", "bootstrap", "one channel", "odd"],
)
def test_every_voxel_gets_its_ridge_solution(
    monkeypatch: pytest.MonkeyPatch, pools: list[np.ndarray], d: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ridge_problem, "NEGLIGIBLE", 0)
    model, source, responses = _setup(d=d)
    v, y = _voxel_features(model, source.features), responses.double().numpy()
    alpha = _polish(model, source, responses, train=pools)
    assert set(alpha) <= {*ALPHAS, np.inf}
    train = np.concatenate(pools)
    n = len(np.unique(train)) + len(VAL[0])
    assert f"polish: {n}/{n} images" in capsys.readouterr().err  # each is read once
    for i in range(N_VOXELS):
        if np.isinf(alpha[i]):
            assert not model.channels[i].any()
            continue
        centred, mean = v[train, i] - v[train, i].mean(0), v[train, i].mean(0)
        covariance = centred.T @ centred / len(train)
        penalty = alpha[i] * covariance.trace() / d
        left = centred.T @ (y[train, i] - y[train, i].mean()) / len(train)
        expected = np.linalg.solve(covariance + penalty * np.eye(d), left)
        np.testing.assert_allclose(model.channels[i].detach(), expected, rtol=2e-3, atol=2e-4)
        assert model.bias[i].item() == pytest.approx(y[train, i].mean() - mean @ expected, abs=2e-3)


def test_tokens_that_are_left_out_change_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, n_read = [], []
    for share in (0.0, ridge_problem.NEGLIGIBLE):
        monkeypatch.setattr(ridge_problem, "NEGLIGIBLE", share)
        monkeypatch.setattr(polishing, "SELECTIONS", 1)
        model, source, responses = _setup()
        n_read.append(sum(len(problem._read) for problem in polishing._problems(model)))
        _polish(model, source, responses)
        scores.append(score(model, source, responses.__getitem__, np.arange(160)))
    assert n_read[1] < n_read[0]
    np.testing.assert_allclose(scores[1], scores[0], atol=0.002)


def test_without_noise_the_right_weights_are_found() -> None:
    model, source, responses = _setup(noise=0.0)
    assert score(model, source, responses.__getitem__, np.arange(160)).mean() < 0.5
    _polish(model, source, responses)
    assert score(model, source, responses.__getitem__, np.arange(160)).min() > 0.999


def test_responses_that_say_nothing_get_no_weights_or_the_largest_penalty() -> None:
    """In nearly all voxels: over 40 validation images a smaller penalty looks better in some by chance."""
    alpha = []
    for seed in range(8):
        model, source, _ = _setup()
        noise = torch.randn(160, N_VOXELS, generator=torch.Generator().manual_seed(seed))
        alpha.append(_polish(model, source, noise))
    assert np.mean(np.concatenate(alpha) >= ALPHAS[-1]) > 0.85


@pytest.mark.parametrize("least_bytes", [1, 4 * D * D * 10, 1 << 28])
def test_what_a_voxel_gets_does_not_depend_on_how_many_are_solved_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], least_bytes: int
) -> None:
    """However many voxels the mean errors are those of."""
    monkeypatch.setattr(polishing, "SELECTIONS", 3)
    monkeypatch.setattr(polishing, "LEAST_BYTES", least_bytes)
    found = []
    for n_bytes in (1, 4 * D * D * 20, 1 << 30):
        model, source, responses = _setup()
        _polish(model, source, responses, n_bytes)
        found.append(model.channels.detach().clone())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    images = [int(text) for text in re.findall(r"polish: (\d+)/\1 images", capsys.readouterr().err)]
    assert images[-1] == 160
    if least_bytes < 1 << 28:
        assert images[0] > images[1] > images[2]  # passes over the images


def test_the_mean_errors_of_a_part_of_the_voxels_choose_as_well_as_those_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polishing, "SELECTIONS", 1)
    scores = []
    for least_bytes, part in ((4 * D * D * 10, 0.25), (1 << 28, 1.0)):
        monkeypatch.setattr(polishing, "LEAST_BYTES", least_bytes)
        model, source, responses = _setup()
        assert polishing._plan(model, 1)[1] == pytest.approx(part * N_VOXELS, abs=3)
        _polish(model, source, responses)
        scores.append(score(model, source, responses.__getitem__, VAL[0]).mean())
    assert scores[0] == pytest.approx(scores[1], abs=0.01)


@pytest.mark.parametrize("n_bytes", [6000, 8000, 1 << 30])
def test_sums_and_candidates_fit_into_the_memory_that_is_told(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    monkeypatch.setattr(polishing, "SELECTIONS", 3)
    monkeypatch.setattr(polishing, "LEAST_BYTES", 5000)
    model = _setup()[0]
    passes, n_first = polishing._plan(model, n_bytes)
    n_voxels = [sum(problem.voxels.numel() for problem in some) for some in passes]
    sums = [sum(problem.sums_bytes for problem in some) for some in passes]
    candidates = [4 * D * (len(ALPHAS) + 1) * n for n in n_voxels]
    assert sum(n_voxels) == N_VOXELS
    assert 0 < n_first <= n_voxels[0]
    assert max(*sums, *candidates) <= polishing.polish_bytes(model, n_bytes) <= n_bytes
    assert (len(passes) == 1) == (n_bytes == 1 << 30)


def test_the_memory_of_a_pass_is_what_is_free_within_limits() -> None:
    assert polishing.pass_bytes_in(0) == polishing.LEAST_BYTES
    assert polishing.pass_bytes_in(1 << 29) == 1 << 29
    assert polishing.pass_bytes_in(1 << 40) == PASS_BYTES


def test_the_memory_of_a_pass_is_free_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polishing, "SELECTIONS", 3)
    monkeypatch.setattr(polishing, "LEAST_BYTES", 1)
    made, empty = list[weakref.ref[object]](), polishing._Candidates.empty

    def counted(n: int, model: FactorTopy) -> object:
        assert not any(ref() is not None for ref in made)
        candidates = empty(n, model)
        made.extend(weakref.ref(one.untyped_storage()) for one in candidates.values)
        return candidates

    monkeypatch.setattr(polishing._Candidates, "empty", counted)
    _polish(*_setup(), 1)
    assert len(made) > 6


def test_voxels_that_select_the_same_share_their_features() -> None:
    """As if each had its own: rounded positions give equal selections."""
    torch.manual_seed(0)
    apart = torch.rand(N_VOXELS, 3) * 100
    close = apart.repeat_interleave(3, 0) + torch.rand(3 * N_VOXELS, 3) * 0.01
    spec = FitSpec(channels=D, readout="root", resolution=1.0)
    model = FactorTopy(close, WIDTHS, GRID, spec)
    _, source, _ = _setup()
    responses = (
        torch.randn(160, 3 * N_VOXELS, generator=torch.Generator().manual_seed(3)) + source.features.global_[0][:, :1]
    )
    selections = model.selectors.same_selection
    assert N_VOXELS <= len(selections.unique()) < 2 * N_VOXELS
    _polish(model, source, responses)
    shared = model.channels.detach().clone()
    model.selectors.same_selection = torch.arange(3 * N_VOXELS)
    _polish(model, source, responses)
    torch.testing.assert_close(model.channels.detach(), shared, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_val", [6, 40])
def test_voxels_that_respond_to_one_image_do_not_choose_for_all(n_val: int) -> None:
    """Nothing explains their validation responses, which hardly vary, so that relative errors of them are large."""
    scores, n_odd = [], 4
    for is_odd in (False, True):
        model, source, responses = _setup(noise=0.1)
        if is_odd:
            responses[:, :n_odd] = 0
            responses[1, :n_odd] = 5
            responses[:, :n_odd] -= responses[:120, :n_odd].mean(0)
        polish(model, source, responses.__getitem__, TRAIN, [np.arange(120, 120 + n_val)])
        scores.append(score(model, source, responses.__getitem__, np.arange(120, 160))[n_odd:].mean())
    assert scores[1] > scores[0] - 0.03


@pytest.mark.parametrize("first", [120, 124, 130, 140])
def test_two_validation_images_are_enough_for_clear_signals(first: int) -> None:
    """Responses that are near the mean in both by chance have large relative errors, and do not choose for all."""
    scores = []
    for n_val in (2, 20):
        model, source, responses = _setup(noise=0.1)
        polish(model, source, responses.__getitem__, TRAIN, [np.arange(first, first + n_val)])
        scores.append(score(model, source, responses.__getitem__, np.arange(120, 160)).mean())
    assert scores[0] > scores[1] - 0.08


@pytest.mark.parametrize("level", [1e-12, 0.1, 3.3, 1e4, 1e12])
def test_constant_features_predict_the_mean(level: float) -> None:
    model, source, responses = _setup()
    for kind in (source.features.local, source.features.global_):
        for tokens in kind:
            tokens.copy_(level * torch.randn(tokens.shape[1:]))
    _polish(model, source, responses)
    mean = responses[:120].mean(0).expand(160, -1)
    torch.testing.assert_close(model.predict(source.features), mean, rtol=0, atol=1e-4)
