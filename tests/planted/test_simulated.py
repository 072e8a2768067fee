"""Responses simulated on a cache: the formula of planted brains, with the same bytes for any batches and threads."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from bddn.machine import parallel
from bddn.planted import laws, simulated
from bddn.planted.brain import RESPONSE_STD, receptive_fields, true_maps, true_responses
from bddn.planted.simulated import Batch, Simulated, measured_noise, simulate
from bddn.planted.subject import Planted
from bddn.spec import PlantSpec
from bddn.testing import DatasetContract

GRID, N_LAYERS, WIDTH = (3, 4), 3, 10


def _arrays(n: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    local = [torch.randn(n, 12, WIDTH, generator=generator) * (k + 1) + 1000 * k for k in range(N_LAYERS)]
    return local, [torch.randn(n, WIDTH, generator=generator) - 50 * k for k in range(N_LAYERS)]


def _batches(n: int, cuts: Sequence[int]) -> Iterable[Batch]:
    local, global_ = _arrays(n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    for rows in order.tensor_split(list(cuts)):
        yield rows, [values[rows] for values in local], [values[rows] for values in global_]


@pytest.fixture
def maps(planted_spec: PlantSpec) -> pd.DataFrame:
    return true_maps(planted_spec, N_LAYERS)


def _simulate(planted: Planted, maps: pd.DataFrame, cuts: Sequence[int] = (20,), **options: object) -> Simulated:
    weights = laws.tuned_to(maps["depth"].to_numpy(), N_LAYERS, 0.6)
    n = len(planted.stimuli)
    return simulate(planted, lambda: _batches(n, cuts), GRID, maps, weights, 3, **options)  # type: ignore[arg-type]


def test_the_signal_is_that_of_the_formula_on_whole_arrays(planted: Planted, maps: pd.DataFrame) -> None:
    """With the channels and mixtures that both draw at random given, the textbook sum."""
    found = _simulate(planted, maps.assign(ceiling=1.0)).responses()
    weights = laws.tuned_to(maps["depth"].to_numpy(), N_LAYERS, 0.6)
    rng, n_features = np.random.default_rng([3, 5]), simulated.FEATURES
    channels = [np.linalg.qr(rng.normal(size=(WIDTH, n_features)))[0] for _ in range(N_LAYERS)]
    mixture = rng.normal(size=(len(maps), n_features))
    fields, scale = receptive_fields(maps, *GRID, 1.0), maps["scale"].to_numpy()
    local, global_ = (one for one in _arrays(len(planted.stimuli)))
    expected = np.zeros((len(planted.stimuli), len(maps)))
    for layer in range(N_LAYERS):
        near, far = local[layer].double().numpy(), global_[layer].double().numpy()
        near, far = (near / near.std((0, 1))) @ channels[layer], (far / far.std(0)) @ channels[layer]
        seen = (1 - scale) * np.einsum("vp,npf,vf->nv", fields, near, mixture)
        expected += weights[:, layer] * (seen + scale * np.einsum("nf,vf->nv", far, mixture))
    expected = (expected - expected.mean(0)) / expected.std(0)
    np.testing.assert_allclose(found / RESPONSE_STD, expected, atol=2e-3)


def test_it_is_a_brain_of_the_same_family(planted: Planted, maps: pd.DataFrame, planted_spec: PlantSpec) -> None:
    """Not the same numbers as `true_responses`, but the same variance, signal and noise."""
    n = len(planted.stimuli)
    local, global_ = _arrays(n)
    arrays = [v.reshape(n, *GRID, WIDTH).double().numpy() for v in local], [v.double().numpy() for v in global_]
    other = true_responses(*arrays, maps, planted_spec)
    found = _simulate(planted, maps).responses()
    assert found.shape == other.shape
    np.testing.assert_allclose(found.std(), other.std(), rtol=0.05)


def test_batches_threads_and_the_place_of_the_responses_change_nothing(
    planted: Planted, maps: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _simulate(planted, maps)
    monkeypatch.setattr(simulated, "BLOCK_BYTES", 1 << 14)
    blocks = _simulate(planted, maps, file=tmp_path / "responses.npy")
    np.testing.assert_allclose(blocks.responses(), first.responses(), atol=1e-5)
    np.testing.assert_array_equal(np.load(tmp_path / "responses.npy"), blocks.responses())
    monkeypatch.setattr(parallel, "n_threads", lambda: 5)
    parallel._pool.cache_clear()
    again = _simulate(planted, maps)
    parallel._pool.cache_clear()
    np.testing.assert_array_equal(again.responses(), blocks.responses())
    np.testing.assert_allclose(_simulate(planted, maps, (5, 6, 40)).responses(), first.responses(), atol=1e-3)


def test_ceilings_are_the_shares_of_the_signal(planted: Planted, maps: pd.DataFrame) -> None:
    signal = _simulate(planted, maps.assign(ceiling=1.0)).responses()
    found = _simulate(planted, maps.assign(ceiling=0.5)).responses()
    shares = np.array([np.corrcoef(a, b)[0, 1] ** 2 for a, b in zip(signal.T, found.T, strict=True)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    silent = _simulate(planted, maps.assign(ceiling=0.0)).responses()
    assert abs(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(signal.T, silent.T, strict=True)])) < 0.05


def test_measured_noise_keeps_the_correlations_between_voxels(planted: Planted, maps: pd.DataFrame) -> None:
    measured = planted.responses()
    noise = measured_noise(planted, 0, measured.mean(0), measured.std(0))
    found = _simulate(planted, maps.assign(ceiling=0.0), noise=noise).responses()
    np.testing.assert_allclose(np.corrcoef(found.T), np.corrcoef(measured.T), atol=1e-5)
    assert not np.allclose(found / RESPONSE_STD, (measured - measured.mean(0)) / measured.std(0))


def test_weights_have_the_depth_that_is_asked_for() -> None:
    depth = np.linspace(0.01, 0.99, 50)
    for n_layers, spread in ((4, 0.3), (4, 1.2), (12, 0.6), (24, 2.0)):
        weights = laws.tuned_to(depth, n_layers, spread)
        np.testing.assert_allclose(weights.sum(1), 1)
        np.testing.assert_allclose(weights @ np.linspace(0, 1, n_layers), depth, atol=1e-3)


def test_a_smooth_map_has_variance_1_and_the_length_that_is_asked_for() -> None:
    at = np.random.default_rng(0).uniform(0, 1, (40, 3))
    at[1] = at[0] + (0.3, 0, 0)
    drawn = np.stack([laws.smooth_wave(np.random.default_rng(seed), at, 0.3) for seed in range(2000)])
    assert drawn.var() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] == pytest.approx(np.exp(-0.5), abs=0.05)


class TestSimulated(DatasetContract):
    """It is a dataset like any other."""

    @pytest.fixture
    def dataset(self, planted: Planted, maps: pd.DataFrame) -> Simulated:
        return _simulate(planted, maps)
