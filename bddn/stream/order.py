"""The order in which rows are visited, and the choice of what to keep in memory.

Rows are visited in pools. A pool contains random runs of consecutive chunks of the store, and its rows are shuffled. So
reads are long, but the images of a batch come from the whole store. The order depends only on seed, epoch, rows and
their chunks, not on the number of readers, nor on whether tokens are streamed or in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POOL_CHUNKS = 16
RUN_CHUNKS = 4  # consecutive chunks that are drawn and read together

Rows = npt.NDArray[np.intp]


def epoch_pools(rows: Rows, chunk_of: Rows, seed: int, epoch: int) -> list[Rows]:
    """Return the rows of one epoch in shuffled pools (arrays of int), each row as often as it is in `rows`.

    Parameters
    ----------
    rows : array of int, (n,)
    chunk_of : array of int, (n_images,)
        The chunk of the store that contains each row.
    seed, epoch : int
    """
    rng = np.random.default_rng([seed, 1, epoch])
    chunks, chunk = np.unique(chunk_of[rows], return_inverse=True)
    runs, run = np.unique(chunks // RUN_CHUNKS, return_inverse=True)
    turn = np.empty(len(chunks), np.intp)
    turn[np.argsort(rng.permutation(len(runs))[run], kind="stable")] = np.arange(len(chunks))
    return [rng.permutation(pool) for pool in _cut(rows, turn[chunk])]


def pools_in_order(rows: Rows, chunk_of: Rows) -> list[Rows]:
    """Return the rows in pools, in the order of the store."""
    rows = rows[np.lexsort((rows, chunk_of[rows]))]
    return _cut(rows, np.unique(chunk_of[rows], return_inverse=True)[1])


def evenly(rows: Rows, n: int) -> Rows:
    """Return at most `n` of some rows, at regular steps."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(np.intp))]


def distinct(keys: Sequence[str] | Rows) -> tuple[Rows, Rows]:
    """Return the first row of each different key, in the order of the rows, and the number of the key of each row."""
    _, first, which = np.unique(np.asarray(keys), return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return first[order], number[which]


def by_image(rows: Rows, image_of: Rows | None) -> list[Rows]:
    """Return some rows image by image, in the order of their first rows.

    Parameters
    ----------
    rows : array of int, (n,)
    image_of : array of int, (n_rows,), optional
        The image of every row; by default, each row is of another image.
    """
    if image_of is None:
        return list(rows.reshape(-1, 1))
    number = distinct(image_of[rows])[1]
    return np.split(rows[np.argsort(number, kind="stable")], np.cumsum(np.bincount(number))[:-1])


def n_batches(n_rows: int, size: int) -> int:
    """Return the number of batches in an epoch; the last batch may be smaller."""
    return -(-n_rows // size)


@dataclass(frozen=True)
class Residency:
    """The choice of what to keep in memory. Tokens or responses that do not fit are read again in every epoch.

    Attributes
    ----------
    features, responses : bool
        Whether all tokens, or all responses, are kept in memory.
    feature_bytes, response_bytes : int
        Their sizes.
    rest_bytes : int
        Memory that the fit needs besides them.
    memory_bytes : int
        Available memory.
    """

    features: bool
    responses: bool
    feature_bytes: int
    response_bytes: int
    rest_bytes: int
    memory_bytes: int

    @classmethod
    def choose(cls, feature_bytes: int, response_bytes: int, rest_bytes: int, memory_bytes: int) -> "Residency":
        """Keep the responses in memory if they fit, then the tokens if they fit too."""
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
    """Divide rows into pools by the position of their chunks in the order."""
    pool = np.asarray(turn) // POOL_CHUNKS
    order = np.argsort(pool, kind="stable")
    edges = np.flatnonzero(np.diff(pool[order])) + 1
    return [np.asarray(part, np.intp) for part in np.split(rows[order], edges)]
