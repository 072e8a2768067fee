"""The order of images, and what is kept in memory."""

import numpy as np
import pytest

from bddn.stream.order import POOL_CHUNKS, RUN_CHUNKS, Residency, epoch_pools, n_batches, pools_in_order

CHUNK_OF = np.arange(1000) // 10
ROWS = np.random.default_rng(0).permutation(1000)[:800]


def test_an_epoch_visits_every_row_once() -> None:
    found = np.concatenate(epoch_pools(ROWS, CHUNK_OF, 0, 3))
    assert sorted(found) == sorted(ROWS)
    assert sorted(np.concatenate(pools_in_order(ROWS, CHUNK_OF))) == sorted(ROWS)


def test_rows_that_are_drawn_twice_are_visited_twice() -> None:
    rows = np.array([5, 5, 5, 999, 17])
    assert sorted(np.concatenate(epoch_pools(rows, CHUNK_OF, 0, 0))) == sorted(rows)


def test_a_pool_holds_all_rows_of_some_chunks() -> None:
    pools = epoch_pools(ROWS, CHUNK_OF, 0, 0)
    assert len(pools) == -(-100 // POOL_CHUNKS)
    for pool in pools:
        chunks = np.unique(CHUNK_OF[pool])
        assert len(chunks) <= POOL_CHUNKS
        assert len(pool) == np.isin(CHUNK_OF[ROWS], chunks).sum()


def test_chunks_that_follow_each_other_are_drawn_together() -> None:
    n_runs = []
    for pool in epoch_pools(ROWS, CHUNK_OF, 0, 0):
        chunks = np.unique(CHUNK_OF[pool])
        n_runs.append(len(np.unique(chunks // RUN_CHUNKS)))
    assert max(n_runs) <= POOL_CHUNKS // RUN_CHUNKS
    assert np.ptp(np.unique(CHUNK_OF[epoch_pools(ROWS, CHUNK_OF, 0, 0)[0]])) > POOL_CHUNKS  # from all over


def test_an_order_is_shuffled_within_pools_and_between_chunks() -> None:
    pools = epoch_pools(ROWS, CHUNK_OF, 0, 0)
    assert (np.diff(CHUNK_OF[pools[0]]) < 0).sum() > 20
    assert np.corrcoef(np.concatenate(pools), np.arange(800))[0, 1] < 0.15
    in_order = np.concatenate(pools_in_order(ROWS, CHUNK_OF))
    assert (np.diff(in_order) > 0).all()


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return [int(row) for pool in epoch_pools(ROWS, CHUNK_OF, seed, epoch) for row in pool]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_the_last_batch_may_be_smaller() -> None:
    assert [n_batches(n, 8) for n in (1, 8, 9)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("memory", "features", "responses"), [(12, True, True), (11, False, True), (5, False, True), (4, False, False)]
)
def test_what_has_room_is_kept(memory: int, features: bool, responses: bool) -> None:
    chosen = Residency.choose(7 << 30, 2 << 30, 3 << 30, memory << 30)
    assert (chosen.features, chosen.responses) == (features, responses)
    assert f"features 7.00 GiB {'kept in memory' if features else 'streamed'}" in str(chosen)
