"""Brute force finds what was planted in random tokens, and its parts do what they say."""

import numpy as np
import pytest
import torch

from bddn.baselines.second_opinion import SecondOpinion, second_opinion, spread_out
from bddn.baselines.windows import N_CHANNELS, Principal, Windows
from bddn.cortex.fsaverage import positions_mm
from bddn.stream.features import Features
from bddn.stream.loader import Resident

N, L, C, GRID, V = 400, 4, 6, (6, 7), 120


def test_a_window_reads_its_place() -> None:
    windows = Windows.of((8, 10))
    np.testing.assert_allclose(windows.weights.sum(1), 1, rtol=1e-5)
    bright = torch.zeros(8, 10)
    bright[1, 8] = 1
    x, y = windows.centres[(windows.weights @ bright.flatten()).argmax()].tolist()
    assert (x, y) == pytest.approx((5 / 6, -5 / 6 + 1 / 3 * (y > -0.7)), abs=1e-5)


def test_a_side_of_few_tokens_has_a_window_for_each() -> None:
    windows = Windows.of((1, 3))
    assert windows.weights.shape == (3, 3)
    assert windows.centres.tolist() == pytest.approx(np.array([[-2 / 3, 0], [0, 0], [2 / 3, 0]]), abs=1e-6)


def test_principal_channels_are_those_of_standardized_tokens() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(500, 60)) @ rng.normal(size=(60, 60)) * np.exp(rng.normal(size=60)) + 3
    tokens[:, 7] = 1.0
    found = Principal.of(torch.from_numpy(tokens).float())(torch.from_numpy(tokens).float()).double().numpy()
    scaled = (tokens - tokens.mean(0)) / np.where(tokens.std(0) > 0, tokens.std(0), 1)
    variances = np.linalg.eigvalsh(scaled.T @ scaled / 500)[::-1][:N_CHANNELS]
    np.testing.assert_allclose(found.T @ found / 500, np.diag(variances), atol=2e-3 * variances[0])


def test_a_sample_is_spread_evenly() -> None:
    rng = np.random.default_rng(0)
    crowded = np.concatenate([rng.normal(size=(900, 3)), 20 + rng.normal(size=(100, 3))]).astype(np.float32)
    rows = spread_out(crowded, 100)
    assert len(np.unique(rows)) == 100
    assert 30 < (rows >= 900).sum() < 70
    assert spread_out(crowded, 5000).tolist() == list(range(1000))


@pytest.fixture(scope="module")
def planted() -> dict[str, np.ndarray]:
    """What 120 voxels on two patches read of independent random layers, smooth along each patch."""
    along = np.tile(np.linspace(0, 1, V // 2), 2)
    return {
        "depth": along,
        "x": np.sin(3 * along),
        "y": 0.8 * np.cos(4 * along),
        "scale": (np.sin(9 * along) > 0) * 1.0,
    }


@pytest.fixture(scope="module")
def opinion(planted: dict[str, np.ndarray]) -> SecondOpinion:
    rng = np.random.default_rng(0)
    local = torch.from_numpy(rng.normal(size=(L, N, GRID[0] * GRID[1], C))).float()
    global_ = torch.from_numpy(rng.normal(size=(L, N, C))).float()
    rows, columns = ((np.arange(n) + 0.5) * 2 / n - 1 for n in GRID)
    away = np.square(rows[:, None] - planted["y"][:, None, None]) + np.square(columns - planted["x"][:, None, None])
    field = np.exp(-away / (2 * 0.3**2)).reshape(V, -1)
    field /= np.linalg.norm(field, axis=1, keepdims=True)
    layer = np.round(planted["depth"] * (L - 1)).astype(int)
    responses = np.empty((N, V), np.float32)
    for v in range(V):
        near = (field[v] @ local[layer[v]].numpy()).sum(1)
        far = global_[layer[v]].numpy().sum(1)
        responses[:, v] = (far if planted["scale"][v] else near) + rng.normal(size=N) * 2
    vertex = np.arange(V) % (V // 2)
    coords = positions_mm(np.repeat(["lh", "rh"], V // 2), vertex)
    coords[:, 1:] = 0
    coords[:, 0] = np.repeat([0, 500], V // 2) + 4 * vertex
    source = Resident.of(Features(list(local), list(global_)))
    rows_ = np.random.default_rng(1).permutation(N)
    return second_opinion(source, responses, coords, np.arange(V), rows_[:360], rows_[360:], GRID, L)


def test_it_finds_what_was_planted(opinion: SecondOpinion, planted: dict[str, np.ndarray]) -> None:
    local = planted["scale"] == 0
    for part, where in (("depth", ...), ("x", local), ("y", local), ("scale", ...)):
        for answer, least in ((opinion.answer, 0.9), *((half, 0.8) for half in opinion.halves)):
            found = getattr(answer, part)[where]
            assert np.corrcoef(found, planted[part][where])[0, 1] > least, part
    assert opinion.test.shape == (L, 37, V)
    assert 0.1 < np.median(opinion.test.max((0, 1))) < 0.9
    np.testing.assert_allclose(opinion.answer.layer.sum(1), 1)
    np.testing.assert_allclose(opinion.answer.window.sum(1), 1)
