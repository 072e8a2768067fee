"""Distances between layer maps: to another network, and between seeds of one."""

import math

import numpy as np
import pytest

from bddn.stats.rewiring import distance, seed_distances, voxel_p_values

RNG = np.random.default_rng(0)
N, PATCH = 400, np.arange(400) // 20
DEPTH = np.linspace(0, 1, N)


def _fit(error: float) -> np.ndarray:
    """Depths with errors that the voxels of a patch share."""
    return np.asarray(DEPTH + error * RNG.normal(size=20)[PATCH] + 0.2 * error * RNG.normal(size=N))


def test_no_movement_is_no_distance() -> None:
    seeds = seed_distances([_fit(0.05), _fit(0.05)])
    found = distance(np.zeros(N), seeds, PATCH)
    assert (found.moved, found.ratio, found.low, found.high) == (0, 0, 0, 0)
    assert found.p > 0.99
    assert (voxel_p_values(np.zeros(N), seeds) == 1).all()


def test_a_moved_map_is_farther_than_seeds() -> None:
    before = _fit(0.05)
    seeds = seed_distances([before, _fit(0.05), _fit(0.05)])
    assert seeds.shape == (3, N)
    moved = np.abs(np.where(DEPTH > 0.5, _fit(0.05) - 0.4, _fit(0.05)) - before)
    found = distance(moved, seeds, PATCH)
    assert found.moved == pytest.approx(moved.mean())
    assert found.noise == pytest.approx(seeds.mean())
    assert 1 < found.low < found.ratio < found.high
    assert found.p < 0.01
    p = voxel_p_values(moved, seeds)
    assert (p[DEPTH > 0.5] < 0.01).mean() > 0.9
    assert (p[DEPTH < 0.5] < 0.01).mean() < 0.1


def test_another_seed_is_seldom_called_farther() -> None:
    """Under the null hypothesis, of fits whose errors the voxels of a patch share."""
    p = []
    for _ in range(200):
        before = _fit(0.05)
        p.append(distance(np.abs(_fit(0.05) - before), seed_distances([before, _fit(0.05)]), PATCH).p)
    assert np.mean(np.array(p) <= 0.05) < 0.10
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.12)


def test_what_is_not_known_is_not_a_number() -> None:
    none = seed_distances([_fit(0.05)])
    found = distance(np.full(N, 0.1), none, PATCH)
    assert found.moved == pytest.approx(0.1)
    assert all(map(math.isnan, (found.noise, found.ratio, found.low, found.p)))
    assert np.isnan(voxel_p_values(np.full(N, 0.1), none)).all()
    assert math.isnan(distance(np.zeros(0), none[:, :0], PATCH[:0]).moved)
    few = distance(np.full(40, 0.2), np.full((1, 40), 0.1), PATCH[:40])
    assert few.ratio == pytest.approx(2)
    assert math.isnan(few.low)
    assert math.isnan(distance(np.full(N, 0.2), np.zeros((1, N)), PATCH).ratio)
