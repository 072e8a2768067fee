"""Threads that share the work use one thread per kernel each, whatever the process does in between."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import bddn
from bddn.machine import parallel


@pytest.fixture
def idle_pool() -> Iterator[None]:
    """The pool of `each` with new threads that have not used torch, in a process that then sets other numbers."""
    before = torch.get_num_threads()
    parallel._pool.cache_clear()
    all_begin = threading.Barrier(parallel.n_pool_threads())
    parallel.each(lambda _: all_begin.wait(), range(parallel.n_pool_threads()))
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)
    parallel._pool.cache_clear()


@pytest.mark.usefixtures("idle_pool")
def test_threads_of_the_pool_keep_their_number() -> None:
    together = threading.Barrier(parallel.n_pool_threads())

    def number(_: int) -> int:
        together.wait()
        return torch.get_num_threads()

    assert parallel.each(number, range(parallel.n_pool_threads())) == [1] * parallel.n_pool_threads()
    assert torch.get_num_threads() == 3


def _fitted(recipe: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    features = {
        name: (rng.normal(size=(24, 4, 3, c)).astype(np.float32), rng.normal(size=(24, c)).astype(np.float32))
        for name, c in (("early", 5), ("late", 6))
    }
    responses = features["late"][1] @ rng.normal(size=(6, 7)) + 0.1 * rng.normal(size=(24, 7))
    small: dict[str, Any] = {"channels": 8, "code_frequencies": 4, "selector_width": 8, "epochs": 2, "seed": 3}
    found = bddn.FactorTopy(recipe, **small).fit(features, responses, rng.normal(size=(7, 3)))
    return [found.channels_, found.place_, found.layer_weights_]


@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_a_fit_gives_the_same_bytes_in_threads_that_began_before(recipe: str, request: pytest.FixtureRequest) -> None:
    """A kernel that is divided between threads sums in another order."""
    first = _fitted(recipe)
    request.getfixturevalue("idle_pool")
    first_use = threading.Barrier(parallel.n_pool_threads())
    parallel.each(lambda _: (first_use.wait(), torch.ones(1 << 16).sum()), range(parallel.n_pool_threads()))
    assert all(np.array_equal(a, b) for a, b in zip(first, _fitted(recipe), strict=True))


@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_fits_in_several_threads_give_the_same_bytes_as_alone(recipe: str) -> None:
    """The random state, and the number of threads of BLAS, belong to the process: fits must not change each other's."""
    alone, before = _fitted(recipe), torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(_fitted, [recipe] * 8))
    assert all(np.array_equal(a, b) for found in together for a, b in zip(alone, found, strict=True))
    assert torch.get_num_threads() == before
