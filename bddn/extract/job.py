"""The shards of one store: each is computed, written and committed under its lease. One shard is written while the next
one is computed."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol

from bddn.extract.source import Images, TokenSource
from bddn.progress import Advance
from bddn.store.lease import ANOTHER, Lease, Watch
from bddn.store.precision import Rows
from bddn.store.writer import Writer

Owner = dict[str, Any]
Owners = dict[int, Owner]

Compute = Callable[[list[int], Advance], Owners]
"""Compute those of some shards that no other job holds; return the others, with their owners."""


@dataclass(frozen=True)
class Job:
    """Tokens and the store that they go into.

    Attributes
    ----------
    source : TokenSource
    writer : Writer
    watch : Watch
        Of the store's leases. It lives as long as the job, since a lease is dead when it has not changed for a while
        in the eyes of one watch.
    """

    source: TokenSource
    writer: Writer
    watch: Watch

    def compute(self, shard: int, advance: Callable[[int], object]) -> Owner | None:
        """Compute, write and commit one shard. Returns None, or the owner where another job holds it."""
        with self.source.prefetch(range(*self.writer.layout.shards[shard])) as images:
            filled = self.fill(shard, images, advance)
        return self.write(filled) if isinstance(filled, Filled) else filled

    def fill(self, shard: int, images: Images, advance: Callable[[int], object]) -> "Filled | Owner":
        """Take the lease of a shard and compute its rows. Returns them with the lease, or the owner of the shard."""
        lease = self.watch.take(shard)
        if not isinstance(lease, Lease):
            return lease
        with ExitStack() as dropped:
            dropped.enter_context(lease)
            if self.writer.is_committed(shard):
                return ANOTHER
            rows = self.source.read(*self.writer.layout.shards[shard], images, advance)
            dropped.pop_all()
            return Filled(shard, rows, lease)

    def write(self, filled: "Filled") -> Owner | None:
        """Write and commit a shard, and release its lease. Returns None, or the owner of the shard."""
        with filled.lease:
            return None if self.writer.write(filled.shard, filled.rows, filled.lease) else ANOTHER


@dataclass(frozen=True)
class Filled:
    """A shard that is to be written, with the lease that was taken before it was computed."""

    shard: int
    rows: dict[str, Rows]
    lease: Lease


class Work(Protocol):
    """Where the shards of a job are computed: in this process, or on a cluster."""

    def __call__(self, job: Job) -> AbstractContextManager[Compute]:
        """Set up for a job; what is set up stays until the context ends, whatever the number of calls in it."""


@contextmanager
def in_this_process(job: Job) -> Iterator[Compute]:
    """Compute shards one after the other in this process. See `Work`."""
    yield partial(compute_all, job)


def compute_all(job: Job, shards: list[int], advance: Advance) -> Owners:
    """Compute shards one after the other. See `Compute`.

    An error or a signal drops the shard that is being computed; the one that is being written is committed.
    """
    others, ranges = Owners(), job.writer.layout.shards
    rows = chain.from_iterable(range(*ranges[shard]) for shard in shards)
    with ThreadPoolExecutor(1) as writer, job.source.prefetch(rows) as images:
        written: Future[Owner | None] = Future()
        written.set_result(None)

        def step(n: int) -> None:
            advance(n)
            if written.done():
                written.result()  # an error of the writing ends the job now, not at the end of this shard

        def write_in_background(filled: Filled) -> Future[Owner | None]:
            with ExitStack() as dropped:
                dropped.enter_context(filled.lease)
                written.result()  # the rows of no more than two shards are in memory
                begun = writer.submit(job.write, filled)
                dropped.pop_all()
                return begun

        computed: list[tuple[int, Future[Owner | None]]] = []
        for shard in shards:
            filled = job.fill(shard, images, step)
            if isinstance(filled, Filled):
                written = write_in_background(filled)
                computed.append((shard, written))
                del filled
            else:
                others[shard] = filled
        others |= {shard: owner for shard, one in computed if (owner := one.result()) is not None}
    return others
