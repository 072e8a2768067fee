"""Shard by shard: each one is computed, written and committed under its lease, the last one's writing behind the next
one's computing."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from bddn.backbones.base import Backbone
from bddn.extract.rows import Images, Job, prepared, read_tokens
from bddn.progress import Advance
from bddn.store.lease import Lease, Watch
from bddn.store.precision import Rows

Owner = dict[str, Any]
Owners = dict[int, Owner]
ANOTHER: Owner = {"host": "another process", "pid": "?"}


class Work(Protocol):
    """Does what can be done of some shards; returns those that other jobs hold, with their owners."""

    def __call__(self, job: Job, backbone: Backbone, shards: list[int], advance: Advance) -> Owners: ...


@dataclass(frozen=True)
class Filled:
    """A shard that is to be written, with the lease that was taken before it was computed."""

    shard: int
    rows: dict[str, Rows]
    lease: Lease


def compute_all(job: Job, backbone: Backbone, shards: list[int], advance: Advance) -> Owners:
    """Compute shards one after the other in this process. See `Work`.

    An error or a signal drops the shard that is being computed; that of which the writing has begun is committed.
    """
    watch, others, ranges = Watch(job.writer.files), Owners(), job.writer.layout.shards
    rows = chain.from_iterable(range(*ranges[shard]) for shard in shards)
    with ThreadPoolExecutor(1) as writer, prepared(job, backbone, rows) as images:
        written: Future[Owner | None] = Future()
        written.set_result(None)

        def step(n: int) -> None:
            advance(n)
            if written.done():
                written.result()  # what went wrong there need not wait for the end of this shard

        def write_behind(filled: Filled) -> Future[Owner | None]:
            with ExitStack() as dropped:
                dropped.enter_context(filled.lease)
                written.result()  # of no more than two shards the rows are in memory
                begun = writer.submit(write, job, filled)
                dropped.pop_all()
                return begun

        computed: list[tuple[int, Future[Owner | None]]] = []
        for shard in shards:
            filled = fill(job, backbone, shard, watch, images, step)
            if isinstance(filled, Filled):
                written = write_behind(filled)
                computed.append((shard, written))
                del filled
            else:
                others[shard] = filled
        others |= {shard: owner for shard, one in computed if (owner := one.result()) is not None}
    return others


def compute(job: Job, backbone: Backbone, shard: int, watch: Watch, advance: Callable[[int], object]) -> Owner | None:
    """Compute, write and commit one shard. Returns None, or who else holds it."""
    with prepared(job, backbone, range(*job.writer.layout.shards[shard])) as images:
        filled = fill(job, backbone, shard, watch, images, advance)
    return write(job, filled) if isinstance(filled, Filled) else filled


def fill(
    job: Job, backbone: Backbone, shard: int, watch: Watch, images: Images, advance: Callable[[int], object]
) -> Filled | Owner:
    """Take the lease of a shard and compute its rows. Returns them with the lease, or who else holds it."""
    lease = watch.take(shard)
    if not isinstance(lease, Lease):
        return lease
    with ExitStack() as dropped:
        dropped.enter_context(lease)
        if job.writer.is_committed(shard):
            return ANOTHER
        rows = read_tokens(job, backbone, *job.writer.layout.shards[shard], images, advance)
        dropped.pop_all()
        return Filled(shard, rows, lease)


def write(job: Job, filled: Filled) -> Owner | None:
    """Write and commit a shard, and give its lease back. Returns None, or who else holds it."""
    with filled.lease:
        return None if job.writer.write(filled.shard, filled.rows, filled.lease) else ANOTHER
