"""Nearest neighbours of images in other parts of a split, exact, in blocks of rows.

Shape letters: n images, R rows, K neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bddn.machine.parallel import each
from bddn.machine.shared_setting import single_threaded_products

Rows = npt.NDArray[np.intp]
Distances = npt.NDArray[np.float32]
Floating = TypeVar("Floating", np.float32, np.float64)

BLOCK = 128  # rows that are compared with all images at once


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours in other parts: `rows` (R,), and for each of them `nearest` (R, K), the nearest first, and
    their `distance` (R, K), infinite where there are fewer than K."""

    rows: Rows
    nearest: Rows
    distance: Distances

    def pairs(self, most: float = np.inf) -> npt.NDArray[np.intp]:
        """Return the pairs (·, 2) that are at most so far apart, the smaller row first, each once, sorted."""
        near = np.isfinite(self.distance) & (self.distance <= most)
        found = np.stack([np.broadcast_to(self.rows[:, None], near.shape)[near], self.nearest[near]], axis=1)
        return np.unique(np.sort(found, axis=1), axis=0)


def by_hash(hashes: npt.NDArray[np.uint64], part: Rows, k: int) -> Neighbours:
    """Find neighbours by the number of bits in which their hashes (n,) differ; see `_nearest`."""
    return _nearest(lambda rows: np.bitwise_count(hashes[rows][:, None] ^ hashes).astype(np.float32), part, k)


def by_cosine(vectors: npt.NDArray[np.float32], part: Rows, k: int) -> Neighbours:
    """Find neighbours by 1 - cosine of their vectors (n, C); see `_nearest`."""
    unit = unit_vectors(vectors)
    return _nearest(lambda rows: 1 - unit[rows] @ unit.T, part, k)


def unit_vectors(vectors: npt.NDArray[Floating]) -> npt.NDArray[Floating]:
    """Return the vectors (n, C) with length 1; zeros remain."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1))


def _nearest(distances: Callable[[Rows], Distances], part: Rows, k: int) -> Neighbours:
    """Return the k nearest neighbours in other parts of all images, except those of the largest part.

    Each pair of parts is still compared, because the neighbours come from all parts. The result is the same for any
    number of threads.

    Parameters
    ----------
    distances : callable
        From rows (B,) to their distances (B, n) from all images.
    part : array of int, (n,)
        The part of each image.
    k : int
    """
    rows = np.flatnonzero(part != np.bincount(part).argmax())

    def of(at: int) -> tuple[Rows, Distances]:
        some = rows[at : at + BLOCK]
        apart = distances(some)
        apart[part[some][:, None] == part] = np.inf
        places, nearest = np.arange(len(some)), np.empty((len(some), k), np.intp)
        distance = np.empty((len(some), k), np.float32)
        for j in range(k):
            nearest[:, j] = apart.argmin(1)
            distance[:, j] = apart[places, nearest[:, j]]
            apart[places, nearest[:, j]] = np.inf
        return nearest, distance

    with single_threaded_products():
        found = each(of, range(0, len(rows), BLOCK))
    nearest = np.concatenate([block[0] for block in found] or [np.empty((0, k), np.intp)])
    return Neighbours(rows, nearest, np.concatenate([block[1] for block in found] or [np.empty((0, k), np.float32)]))
