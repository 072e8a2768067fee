"""Tokens from a cache: streamed and resident give the same batches, whatever the readers."""

import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from bddn.errors import CorruptStoreError, MismatchError
from bddn.store.reader import Cache
from bddn.stream import loader
from bddn.stream.features import Features
from bddn.stream.loader import Resident, Source, Streamed, batches
from bddn.stream.order import epoch_pools, pools_in_order

Batch = tuple[list[int], list[torch.Tensor]]


@pytest.fixture(autouse=True)
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """48 images in chunks of 4 are 12 chunks: 6 pools."""
    monkeypatch.setattr("bddn.stream.order.POOL_CHUNKS", 2)


def _streamed(sealed: Path, readers: int = 2) -> Streamed:
    cache = Cache(sealed)
    shuffled = np.random.default_rng(1).permutation(len(cache.ids))[:40]  # the dataset's order is not the cache's
    return Streamed(cache, cache.layers, [cache.ids[i] for i in shuffled], readers)


def _all(source: Source, size: int, skip: int = 0, epoch: int = 0) -> list[Batch]:
    pools = epoch_pools(np.arange(40), source.chunk_of, 0, epoch)
    return [
        (at.tolist(), [v.clone() for v in (*features.local, *features.global_)])
        for at, features in batches(source, pools, size, skip)
    ]


def _same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        rows == other_rows and all(torch.equal(v, w) for v, w in zip(values, others, strict=True))
        for (rows, values), (other_rows, others) in zip(a, b, strict=True)
    )


def test_batches_hold_the_tokens_of_their_rows(sealed: Path) -> None:
    source, cache = _streamed(sealed), Cache(sealed)
    ids = [cache.ids[row] for row in source._row]
    for rows, values in _all(source, 7):
        for i, row in enumerate(rows):
            at = cache.ids.index(ids[row])
            for k, layer in enumerate(cache.layers):
                local = cache.read("local", layer.name, at, at + 1)[0].flatten(0, 1).float()
                assert torch.equal(values[k][i], local)
                far = cache.read("global", layer.name, at, at + 1)[0].float()
                assert torch.equal(values[len(cache.layers) + k][i], far)


@pytest.mark.parametrize("size", [1, 7, 8, 19, 40, 100])
def test_streamed_and_resident_give_the_same_batches_with_any_number_of_readers(sealed: Path, size: int) -> None:
    expected = _all(_streamed(sealed).load(), size)
    assert [len(rows) for rows, _ in expected] == [min(size, 40 - i) for i in range(0, 40, size)]
    for readers in (0, 1, 2, 4):
        assert _same(_all(_streamed(sealed, readers), size), expected)


def test_skipped_batches_change_nothing_else_and_are_not_read(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _all(_streamed(sealed), 7)
    for skip in range(len(expected) + 1):
        assert _same(_all(_streamed(sealed), 7, skip), expected[skip:])
    source = _streamed(sealed)
    asked: list[int] = []
    original = source.pools
    monkeypatch.setattr(source, "pools", lambda pools: asked.append(len(pools)) or original(pools))  # type: ignore[func-returns-value]
    _all(source, 7, skip=5)
    assert asked == [1]


def test_at_most_two_pools_are_alive(sealed: Path) -> None:
    source = _streamed(sealed)
    pools = epoch_pools(np.arange(40), source.chunk_of, 0, 0)
    places = {features.local[0].data_ptr() for features, _ in source.pools(pools)}
    assert len(pools) == 6
    assert len(places) == 2


def test_released_buffers_are_freed_and_made_again(sealed: Path) -> None:
    source = _streamed(sealed)
    before = _all(source, 5)
    buffers = [weakref.ref(kept.local[0]) for kept in source._spare]
    assert len(buffers) == 2
    source.release()
    assert [buffer() for buffer in buffers] == [None, None]
    assert _same(_all(source, 5), before)


def test_an_epoch_that_is_left_early_leaves_no_thread_behind(sealed: Path) -> None:
    def readers() -> set[threading.Thread]:
        return {one for one in threading.enumerate() if one.name.startswith("read")}

    before = readers()
    source = _streamed(sealed)
    found = batches(source, pools_in_order(np.arange(40), source.chunk_of), 3)
    next(found)
    assert readers() > before
    found.close()  # type: ignore[attr-defined]
    gc.collect()
    assert readers() == before


def test_damage_is_found_while_streaming(sealed: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "cache.zarr"
    shutil.copytree(sealed, root)
    source = _streamed(root)
    path = next(root.glob("local/*/c.1.*"))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptStoreError, match=path.parent.name):
        _all(source, 7)


def test_a_stimulus_that_is_not_cached_is_an_error(sealed: Path) -> None:
    cache = Cache(sealed)
    with pytest.raises(MismatchError, match="'nsd-other'"):
        Streamed(cache, cache.layers, [*cache.ids, "nsd-other"])


def test_tokens_of_no_cache_have_chunks_too() -> None:
    features = Features([torch.arange(120).view(40, 3, 1).half()], [torch.arange(40).view(40, 1).half()])
    source = Resident.of(features)
    assert source.chunk_of.tolist() == [i // loader.CHUNK_IMAGES for i in range(40)]
    ((at, got),) = batches(source, [np.array([2, 0])], 4)
    assert at.tolist() == [2, 0]
    assert got.local[0].dtype == torch.float32
    assert got.local[0][:, 0, 0].tolist() == [6, 0]
    assert got.global_[0][:, 0].tolist() == [2, 0]
