"""Which rows in which order, and what is kept in memory: decided by numbers alone.

Rows are visited in pools. A pool holds the rows of some runs of chunks of the store, drawn at random, and is shuffled;
so a pool is read with long reads, and yet images that follow each other come from all over the store. The order depends
on seed, epoch, rows and their chunks, and on nothing else: not on the number of readers, nor on whether tokens are
streamed or resident.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POOL_CHUNKS = 16
RUN_CHUNKS = 4  # that follow each other in the store and are drawn together, since they are read together

Rows = npt.NDArray[np.intp]


def epoch_pools(rows: Rows, chunk_of: Rows, seed: int, epoch: int) -> list[Rows]:
    """The rows of one epoch, each as often as it is in `rows`, in pools.

    Parameters
    ----------
    rows : array of int, (n,)
    chunk_of : array of int, (n_images,)
        By row, the chunk of the store that it is in.
    seed, epoch : int
    """
    rng = np.random.default_rng([seed, 1, epoch])
    chunks, chunk = np.unique(chunk_of[rows], return_inverse=True)
    runs, run = np.unique(chunks // RUN_CHUNKS, return_inverse=True)
    turn = np.empty(len(chunks), np.intp)
    turn[np.argsort(rng.permutation(len(runs))[run], kind="stable")] = np.arange(len(chunks))
    return [rng.permutation(pool) for pool in _cut(rows, turn[chunk])]


def pools_in_order(rows: Rows, chunk_of: Rows) -> list[Rows]:
    """The rows in the order of the store, in pools."""
    rows = rows[np.lexsort((rows, chunk_of[rows]))]
    return _cut(rows, np.unique(chunk_of[rows], return_inverse=True)[1])


def n_batches(n_rows: int, size: int) -> int:
    """Number of batches that an epoch is cut into; the last one may be smaller."""
    return -(-n_rows // size)


@dataclass(frozen=True)
class Residency:
    """What is kept in memory, and why: tokens and responses are read again in every epoch where there is no room.

    Attributes
    ----------
    features, responses : bool
        Whether all tokens, all responses are kept.
    feature_bytes, response_bytes : int
    rest_bytes : int
        What the fit needs beside them.
    memory_bytes : int
        What there is.
    """

    features: bool
    responses: bool
    feature_bytes: int
    response_bytes: int
    rest_bytes: int
    memory_bytes: int

    @classmethod
    def choose(cls, feature_bytes: int, response_bytes: int, rest_bytes: int, memory_bytes: int) -> "Residency":
        """Keep the responses where there is room for them, and then the tokens."""
        left = memory_bytes - rest_bytes - response_bytes
        return cls(left >= feature_bytes, left >= 0, feature_bytes, response_bytes, rest_bytes, memory_bytes)

    def __str__(self) -> str:
        words = [
            f"{name} {_gib(size)} {'kept in memory' if kept else 'streamed'}"
            for name, size, kept in (
                ("features", self.feature_bytes, self.features),
                ("responses", self.response_bytes, self.responses),
            )
        ]
        return f"{', '.join(words)}; the fit itself takes {_gib(self.rest_bytes)} of {_gib(self.memory_bytes)}"


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"


def _cut(rows: Rows, turn: Sequence[int] | Rows) -> list[Rows]:
    """Rows by the pool of their chunk's turn."""
    pool = np.asarray(turn) // POOL_CHUNKS
    order = np.argsort(pool, kind="stable")
    edges = np.flatnonzero(np.diff(pool[order])) + 1
    return [np.asarray(part, np.intp) for part in np.split(rows[order], edges)]
