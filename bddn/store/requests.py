"""How many requests an extraction makes to an object store, told beforehand. What a request does is in `remote.py`."""

from dataclasses import dataclass

from bddn.store.layout import Layout
from bddn.store.manifest import expected_files

PER_SHARD = 11  # reads of a shard besides two for each file: taking, asking for and giving back its lease, its record
LISTED_AT_ONCE = 1000  # names in the answer to one listing, as S3 has it


@dataclass(frozen=True)
class Requests:
    """Requests to an object store, by the kinds that it charges for.

    Attributes
    ----------
    reads, writes, lists, deletes : int
    """

    reads: int
    writes: int
    lists: int
    deletes: int

    @property
    def total(self) -> int:
        return self.reads + self.writes + self.lists + self.deletes


def requests(layout: Layout) -> Requests:
    """Return the number of requests of one whole, undisturbed extraction.

    Large objects are read and written in parts, of 16 MiB and more, which count once here.
    """
    n, per_shard = layout.n_shards, len(layout.shard_files(0))
    n_files = sum(1 for _ in expected_files(layout))
    metadata = n_files - n * per_shard
    return Requests(
        reads=n * (PER_SHARD + 2 * per_shard + 1) + metadata,
        writes=n * (per_shard + 2) + metadata + 2,
        lists=6 + 2 * (n_files + n) // LISTED_AT_ONCE,
        deletes=n + n // LISTED_AT_ONCE + 1,
    )
