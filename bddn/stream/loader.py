"""Tokens from a cache into the encoder, in the order of a plan: streamed from disk, or kept in memory.

Both give the same batches. Streaming reads one pool ahead into memory that is used again: at any time there are the
pool that is being used and the one that is being read, whatever the number of images.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bddn.errors import MismatchError
from bddn.parallel import ahead
from bddn.progress import progress
from bddn.store.layout import KINDS, Layer
from bddn.store.reader import Cache
from bddn.stream.features import Features
from bddn.stream.plan import POOL_CHUNKS, Rows, pools_in_order

CHUNK_IMAGES = 16  # of tokens that come from no cache
READERS = 2


class Source(Protocol):
    """Tokens of the images of a dataset, by row."""

    @property
    def chunk_of(self) -> Rows:
        """By row, its chunk; see `plan.epoch_pools`."""

    def pools(self, pools: Sequence[Rows]) -> Iterator[Features]:
        """The tokens of every pool of rows, in the stored precision. What is yielded may be used until the next."""


@dataclass(frozen=True)
class Resident:
    """Tokens that are in memory, on any device."""

    features: Features
    chunk_of: Rows

    @classmethod
    def of(cls, features: Features) -> "Resident":
        """Tokens that come from no cache."""
        return cls(features, np.arange(len(features)) // CHUNK_IMAGES)

    def pools(self, pools: Sequence[Rows]) -> Iterator[Features]:
        """As of `Source`."""
        for pool in pools:
            yield self.features.at(torch.from_numpy(pool))


class Streamed:
    """Tokens that are read from a cache when they are needed, every chunk checked.

    Parameters
    ----------
    cache : Cache
    layers : sequence of Layer
        Early to late.
    ids : sequence of str
        The stimuli of the dataset; row r is that of `ids[r]`.
    readers : int
        Threads that read; with 0 nothing is read ahead.
    device : str
        Where tokens are put.

    Raises
    ------
    MismatchError
        Where the cache lacks some of the ids.
    """

    def __init__(
        self, cache: Cache, layers: Sequence[Layer], ids: Sequence[str], readers: int = READERS, device: str = "cpu"
    ) -> None:
        row_of = {stimulus: row for row, stimulus in enumerate(cache.ids)}
        missing = [stimulus for stimulus in ids if stimulus not in row_of]
        if missing:
            raise MismatchError(
                f"cache '{cache.files.place}'",
                expected=f"the {len(ids)} stimuli of the dataset",
                got=f"a cache of {len(cache.ids)} without {len(missing)} of them, the first '{missing[0]}'",
                fix="Run 'bddn extract' with this dataset.",
            )
        self._cache, self._layers, self._readers, self._device = cache, layers, readers, torch.device(device)
        self.waited_s = 0.0
        """Seconds for which tokens were waited for."""
        self._row = np.array([row_of[stimulus] for stimulus in ids], np.intp)
        self.chunk_of: Rows = self._row // cache.layout.chunk_images
        tokens = cache.grid[0] * cache.grid[1] + 1
        self.n_bytes = len(ids) * tokens * sum(v.channels for v in layers) * cache.layout.precision.decoded.itemsize
        self.pool_bytes = self.n_bytes * min(1, POOL_CHUNKS * cache.layout.chunk_images / len(ids))

    def pools(self, pools: Sequence[Rows]) -> Iterator[Features]:
        """As of `Source`."""
        size = max(map(len, pools), default=0)
        buffers = cycle([self._buffer(size) for _ in range(2 if self._readers else 1)])
        with ExitStack() as stack:
            if not self._readers:
                filled: Iterator[Features] = (self._fill(pool, next(buffers), map) for pool in pools)
            else:
                readers = stack.enter_context(ThreadPoolExecutor(self._readers, thread_name_prefix="read"))
                one = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="read-ahead"))
                # the third pool is begun when the second is asked for, so that the first's memory is free by then
                filled = ahead(lambda pool: self._fill(pool, next(buffers), readers.map), pools, 2, one)
            while True:
                asked = time.perf_counter()
                features = next(filled, None)
                self.waited_s += time.perf_counter() - asked
                if features is None:
                    break
                here = features.to(self._device)
                if self._device.type == "cuda":  # else the buffer could be filled again before it has been copied
                    torch.cuda.current_stream().synchronize()
                yield here

    def load(self) -> Resident:
        """Read all tokens into memory."""
        rows = np.arange(len(self._row))
        all_ = self._buffer(len(rows), pinned=False)
        pools = pools_in_order(rows, self.chunk_of)
        began = time.perf_counter()
        with (
            ThreadPoolExecutor(max(1, self._readers)) as readers,
            progress("read", len(rows), "images") as advance,
        ):
            for pool in pools:
                self._fill(pool, all_, readers.map, at=pool)
                advance(len(pool))
        self.waited_s += time.perf_counter() - began
        return Resident(all_.to(self._device), self.chunk_of)

    def _buffer(self, n: int, pinned: bool = True) -> Features:
        h, w = self._cache.grid
        pinned = pinned and self._device.type == "cuda"

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=self._cache.layout.precision.decoded, pin_memory=pinned)

        return Features(
            [empty(n, h * w, layer.channels) for layer in self._layers],
            [empty(n, layer.channels) for layer in self._layers],
        )

    def _fill(self, pool: Rows, into: Features, run: Callable[..., Iterator[None]], at: Rows | None = None) -> Features:
        """Read the rows of a pool chunk by chunk to the places `at`, by default the first ones; returns those."""
        places = np.arange(len(pool)) if at is None else at
        rows, chunk = self._row[pool], self.chunk_of[pool]
        jobs = [
            (kind, layer, number, rows[mine] % self._cache.layout.chunk_images, places[mine])
            for number, mine in ((int(k), np.flatnonzero(chunk == k)) for k in np.unique(chunk))
            for kind in KINDS
            for layer in range(len(self._layers))
        ]

        def read(job: tuple[str, int, int, Rows, Rows]) -> None:
            kind, layer, number, wanted, to = job
            values = into.local[layer] if kind == "local" else into.global_[layer]
            assert values is not None
            block = self._cache.read_chunk(kind, self._layers[layer].name, number)
            source, target = block.reshape(len(block), -1), _as_numpy(values).reshape(len(values), -1)
            for place, row in zip(to.tolist(), wanted.tolist(), strict=True):  # faster than an index of many
                target[place] = source[row]

        for _ in run(read, jobs):
            pass
        return into if at is not None else into.at(slice(0, len(pool)))


def _as_numpy(values: Tensor) -> np.ndarray:
    """The same memory; of bfloat16, which numpy has not, the bits."""
    return (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()


def batches(source: Source, pools: Sequence[Rows], size: int, skip: int = 0) -> Iterator[tuple[Tensor, Features]]:
    """Rows (B,) and their tokens as float32, for the batches that pools are cut into, one after the other.

    Parameters
    ----------
    source : Source
    pools : sequence of arrays of int
    size : int
        B; the last batch may be smaller.
    skip : int
        Batches from the start that are left out; pools that only they need are not read.
    """
    ends = np.cumsum([len(pool) for pool in pools])
    first = int(np.searchsorted(ends, skip * size, side="right"))
    order = np.concatenate([*pools, np.empty(0, np.intp)])
    start, pending = skip * size, list[Features]()
    begins = ends - [len(pool) for pool in pools]
    for begin, end, pool in zip(begins[first:], ends[first:], source.pools(pools[first:]), strict=True):
        while start < end:
            stop = min(start + size, len(order))
            low = max(start, int(begin))
            pending.append(pool.at(slice(low - int(begin), min(stop, int(end)) - int(begin))).float())
            if stop > end:  # the rest of this batch is in the next pool
                break
            yield torch.from_numpy(order[start:stop]), Features.cat(pending)
            pending, start = [], stop
