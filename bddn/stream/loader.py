"""Load tokens from a cache in a given order: streamed from disk, or kept in memory.

Both ways give the same batches. Streaming prefetches one pool into reused memory: memory holds only the pool in use and
the pool being read, for any number of images. Chunks are read directly to their final place, and a batch selects its
rows there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.errors import MismatchError
from bddn.machine.parallel import ahead
from bddn.progress import progress
from bddn.store.layout import Layer
from bddn.store.reader import Cache
from bddn.stream.features import Features
from bddn.stream.order import POOL_CHUNKS, RUN_CHUNKS, Rows, distinct, pools_in_order

CHUNK_IMAGES = 16  # chunk size for tokens that do not come from a cache
READERS = 2


class Source(Protocol):
    """A source of the tokens of a dataset's images, by response row; several rows may be of one image."""

    @property
    def chunk_of(self) -> Rows:
        """The chunk of each row; see `bddn.stream.order.epoch_pools`."""

    def pools(self, pools: Sequence[Rows]) -> Iterator[tuple[Features, Tensor]]:
        """Yield for every pool of rows its tokens in the stored precision, and the place of each row among them. The
        tokens are valid until the next pool is requested."""

    def release(self) -> None:
        """Free the memory that is kept for the next pools."""


@dataclass(frozen=True)
class Resident:
    """Tokens in memory, on any device.

    Attributes
    ----------
    features : Features
    chunk_of : array of int, (n_rows,)
        See `Source`.
    place_of : array of int, (n_rows,), optional
        Place of each row among the features; by default, row r is at r.
    """

    features: Features
    chunk_of: Rows
    place_of: Rows | None = None

    @classmethod
    def of(cls, features: Features) -> "Resident":
        """Return a source of tokens that do not come from a cache."""
        return cls(features, np.arange(len(features)) // CHUNK_IMAGES)

    def pools(self, pools: Sequence[Rows]) -> Iterator[tuple[Features, Tensor]]:
        """Yield tokens and places for every pool; see `Source`."""
        for pool in pools:
            places = pool if self.place_of is None else self.place_of[pool]
            yield self.features, torch.from_numpy(places).to(self.features.local[0].device)

    def release(self) -> None:
        """Do nothing; see `Source`."""


class Streamed:
    """Tokens that are read from a cache on demand, with every chunk checked.

    Parameters
    ----------
    cache : Cache
    layers : sequence of Layer
        Early to late.
    ids : sequence of str
        The stimulus of each row; a stimulus may have several rows.
    readers : int
        Number of reading threads; 0 disables prefetching.
    device : str
        The device of the yielded tokens.

    Raises
    ------
    MismatchError
        If the cache lacks some of the ids.
    """

    def __init__(
        self, cache: Cache, layers: Sequence[Layer], ids: Sequence[str], readers: int = READERS, device: str = "cpu"
    ) -> None:
        self._cache, self._layers, self._readers, self._device = cache, layers, readers, torch.device(device)
        self.waited_s = 0.0
        """Seconds spent waiting for tokens."""
        self._row = rows_of(cache, ids)
        self.chunk_of: Rows = self._row // cache.layout.chunk_images
        tokens = cache.grid[0] * cache.grid[1] + 1
        image_bytes = tokens * sum(v.channels for v in layers) * cache.layout.precision.decoded.itemsize
        self.n_bytes = len(np.unique(self._row)) * image_bytes
        self._pool_images = min(POOL_CHUNKS, len(np.unique(self.chunk_of))) * cache.layout.chunk_images
        self.pool_bytes = self._pool_images * image_bytes
        self._spare: list[Features] = []

    def pools(self, pools: Sequence[Rows]) -> Iterator[tuple[Features, Tensor]]:
        """Yield tokens and places for every pool; see `Source`."""
        own = [
            self._spare.pop() if self._spare else self._empty(self._pool_images)
            for _ in range(2 if self._readers else 1)
        ]
        buffers = cycle(own)
        with ExitStack() as stack:
            stack.callback(self._spare.extend, own)
            if not self._readers:
                filled = (self._fill(pool, next(buffers), map) for pool in pools)
            else:
                readers = stack.enter_context(ThreadPoolExecutor(self._readers, thread_name_prefix="read"))
                one = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="read-ahead"))
                # the third pool is started when the second is requested; by then the memory of the first is free
                filled = ahead(lambda pool: self._fill(pool, next(buffers), readers.map), pools, 2, one)
            while True:
                asked = time.perf_counter()
                found = next(filled, None)
                self.waited_s += time.perf_counter() - asked
                if found is None:
                    break
                here = found[0].to(self._device), found[1].to(self._device)
                if self._device.type == "cuda":  # otherwise the buffer could be overwritten before it is copied
                    torch.cuda.current_stream().synchronize()
                yield here

    def release(self) -> None:
        """Free the buffers; see `Source`."""
        self._spare.clear()

    def load(self) -> Resident:
        """Read all tokens into memory, those of each image once."""
        rows, place_of = distinct(self._row)
        all_, pools = self._empty(len(rows), self._device), pools_in_order(rows, self.chunk_of)
        waited_s, began = self.waited_s, time.perf_counter()
        with progress("read", len(rows), "images") as advance:
            for pool, (tokens, places) in zip(pools, self.pools(pools), strict=True):
                all_.fill(tokens.at(places), torch.from_numpy(place_of[pool]).to(self._device))
                advance(len(pool))
        self.release()
        self.waited_s = waited_s + time.perf_counter() - began
        return Resident(all_, self.chunk_of, None if len(rows) == len(place_of) else place_of)

    def _empty(self, n: int, device: torch.device | None = None) -> Features:
        """Return uninitialised tokens of n images: on `device`, or in host memory, pinned if the source is on a GPU."""
        h, w = self._cache.grid
        pinned = device is None and self._device.type == "cuda"

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=self._cache.layout.precision.decoded, device=device, pin_memory=pinned)

        return Features(
            [empty(n, h * w, layer.channels) for layer in self._layers],
            [empty(n, layer.channels) for layer in self._layers],
        )

    def _fill(self, pool: Rows, into: Features, run: Callable[..., Iterator[None]]) -> tuple[Features, Tensor]:
        """Read the chunks of a pool into `into`, and return it with the places of the pool's rows."""
        layout = self._cache.layout
        n = layout.chunk_images
        chunks, turn = np.unique(self.chunk_of[pool], return_inverse=True)
        together = np.stack([chunks // RUN_CHUNKS, chunks * n // layout.shard_images, chunks - np.arange(len(chunks))])
        edges = np.flatnonzero(np.diff(together).any(axis=0)) + 1
        runs = list(zip([0, *edges.tolist()], [*edges.tolist(), len(chunks)], strict=True))

        arrays = [
            (kind, layer.name, _as_numpy(tokens))
            for kind, values in (("local", into.local), ("global", into.global_))
            for layer, tokens in zip(self._layers, values, strict=True)
        ]

        def read(between: tuple[int, int]) -> None:
            start, stop = between
            for kind, layer, rows in arrays:
                self._cache.read_chunks(kind, layer, int(chunks[start]), rows[start * n : stop * n])

        for _ in run(read, runs):
            pass
        return into, torch.from_numpy(turn * n + self._row[pool] % n)


def rows_of(cache: Cache, ids: Sequence[str]) -> Rows:
    """Return the rows of these stimuli in a cache, (len(ids),) int.

    Raises
    ------
    MismatchError
        If the cache lacks some of them.
    """
    missing = [stimulus for stimulus in ids if stimulus not in cache.row_of]
    if missing:
        raise MismatchError(
            f"cache '{cache.files.place}'",
            expected=f"the {len(ids)} stimuli of the dataset",
            got=f"a cache of {len(cache.ids)} stimuli that lacks {len(missing)} of them, the first '{missing[0]}'",
            fix="Run 'bddn extract' with this dataset, or with several --data into one cache.",
        )
    return np.array([cache.row_of[stimulus] for stimulus in ids], np.intp)


def _as_numpy(tokens: Tensor) -> npt.NDArray[Any]:
    """Return a numpy view of tokens (n, ...); bfloat16, which numpy lacks, is viewed as uint16."""
    return (tokens.view(torch.uint16) if tokens.dtype == torch.bfloat16 else tokens).numpy()


def batches(source: Source, pools: Sequence[Rows], size: int, skip: int = 0) -> Iterator[tuple[Tensor, Features]]:
    """Yield the batches of consecutive pools: rows (B,) and their tokens as float32.

    Parameters
    ----------
    source : Source
    pools : sequence of arrays of int
    size : int
        B; the last batch may be smaller.
    skip : int
        Number of batches to skip at the start; pools that only these need are not read.
    """
    ends = np.cumsum([len(pool) for pool in pools])
    first = int(np.searchsorted(ends, skip * size, side="right"))
    order = np.concatenate([*pools, np.empty(0, np.intp)])
    start, pending = skip * size, list[Features]()
    begins = ends - [len(pool) for pool in pools]
    for begin, end, (tokens, places) in zip(begins[first:], ends[first:], source.pools(pools[first:]), strict=True):
        while start < end:
            stop = min(start + size, len(order))
            low = max(start, int(begin))
            pending.append(tokens.float(places[low - int(begin) : min(stop, int(end)) - int(begin)]))
            if stop > end:  # the rest of this batch is in the next pool
                break
            yield torch.from_numpy(order[start:stop]), Features.cat(pending)
            pending, start = [], stop
