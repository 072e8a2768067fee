"""Compute, write and commit each shard of a store under its lease. One shard is written while the next is computed."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol

from bddn.extraction.source import ImageQueue, TokenSource
from bddn.progress import Advance
from bddn.store.lease import UNKNOWN_OWNER, Lease, LeaseMonitor
from bddn.store.precision import TokenRows
from bddn.store.writer import Writer

Owner = dict[str, Any]
Owners = dict[int, Owner]

Compute = Callable[[list[int], Advance], Owners]
"""A function that computes those of the given shards that no other job holds, and returns the others with their
owners."""


@dataclass(frozen=True)
class Job:
    """An extraction in progress: the source of tokens, and the writer of the store.

    Attributes
    ----------
    source : TokenSource
    writer : Writer
    monitor : LeaseMonitor
        Monitor of the store's leases. The job keeps it, because one monitor must observe a lease for some time before
        it can tell that the owner is dead.
    """

    source: TokenSource
    writer: Writer
    monitor: LeaseMonitor

    def compute(self, shard: int, advance: Callable[[int], object]) -> Owner | None:
        """Compute, write and commit one shard. Return None, or the owner if another job holds it."""
        with self.source.prefetch(range(*self.writer.layout.shards[shard])) as images:
            filled = self.fill(shard, images, advance)
        return self.write(filled) if isinstance(filled, ComputedShard) else filled

    def fill(self, shard: int, images: ImageQueue, advance: Callable[[int], object]) -> "ComputedShard | Owner":
        """Take the lease of a shard and compute its rows. Return both, or the owner if another job holds it."""
        lease = self.monitor.take(shard)
        if not isinstance(lease, Lease):
            return lease
        with ExitStack() as dropped:
            dropped.enter_context(lease)
            if self.writer.is_committed(shard):
                return UNKNOWN_OWNER
            rows = self.source.read(*self.writer.layout.shards[shard], images, advance)
            dropped.pop_all()
            return ComputedShard(shard, rows, lease)

    def write(self, filled: "ComputedShard") -> Owner | None:
        """Write and commit a shard, and release its lease. Return None, or the owner if another job took it over."""
        with filled.lease:
            return None if self.writer.write(filled.shard, filled.rows, filled.lease) else UNKNOWN_OWNER


@dataclass(frozen=True)
class ComputedShard:
    """A computed shard that is to be written, with its lease."""

    shard: int
    rows: dict[str, TokenRows]
    lease: Lease


class Work(Protocol):
    """A place where the shards of a job are computed: this process or a cluster."""

    def __call__(self, job: Job) -> AbstractContextManager[Compute]:
        """Prepare for a job. The context gives a function that can be called several times until the context ends."""


@contextmanager
def in_this_process(job: Job) -> Iterator[Compute]:
    """Compute shards one after the other in this process. See `Work`."""
    yield partial(compute_all, job)


def compute_all(job: Job, shards: list[int], advance: Advance) -> Owners:
    """Compute shards one after the other. See `Compute`.

    After an error or a signal, the shard that is being computed is lost; the shard that is being written is committed.
    """
    others, ranges = Owners(), job.writer.layout.shards
    rows = chain.from_iterable(range(*ranges[shard]) for shard in shards)
    with ThreadPoolExecutor(1) as writer, job.source.prefetch(rows) as images:
        written: Future[Owner | None] = Future()
        written.set_result(None)

        def step(n: int) -> None:
            advance(n)
            if written.done():
                written.result()  # so that a write error ends the job now, not after this shard

        def write_in_background(filled: ComputedShard) -> Future[Owner | None]:
            with ExitStack() as dropped:
                dropped.enter_context(filled.lease)
                written.result()  # so that at most two shards are in memory
                begun = writer.submit(job.write, filled)
                dropped.pop_all()
                return begun

        computed: list[tuple[int, Future[Owner | None]]] = []
        for shard in shards:
            filled = job.fill(shard, images, step)
            if isinstance(filled, ComputedShard):
                written = write_in_background(filled)
                computed.append((shard, written))
                del filled
            else:
                others[shard] = filled
        others |= {shard: owner for shard, one in computed if (owner := one.result()) is not None}
    return others
