"""Statistics of an array of tokens, which show whether a layer is constant or not finite."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bddn.store.layout import Layout
from bddn.store.precision import TokenRows

BLOCK = 1 << 20
LARGE = 1e15  # squares of larger numbers overflow single precision when summed


@dataclass(frozen=True)
class Contents:
    """Sums over rows of an array, from which its mean and root mean square follow.

    Attributes
    ----------
    n : int
        Count of numbers.
    sum, sum_squares : float
    min, max : float
    non_finite : int
        Count of NaN and infinite numbers; always 0 in a cache that bddn wrote.
    """

    n: int
    sum: float
    sum_squares: float
    min: float
    max: float
    non_finite: int

    @property
    def mean(self) -> float:
        return self.sum / self.n

    @property
    def rms(self) -> float:
        """Root of the mean square."""
        return math.sqrt(self.sum_squares / self.n)

    @property
    def is_constant(self) -> bool:
        """Whether all numbers are equal."""
        return self.min == self.max

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def contents(layout: Layout, filled: TokenRows) -> Contents:
    """Return the sums over the rows of a shard as they will be read back, except for the rounding of int8.

    They are computed in blocks of fixed size, so that the same rows always give the same bits.
    """
    flat = filled.reshape(-1)
    parts = [
        _block(layout.precision.decode(flat[at : at + BLOCK]).float().numpy()) for at in range(0, len(flat), BLOCK)
    ]
    return merged(parts)


def merged(parts: Sequence[Contents]) -> Contents:
    """Return the sums over all rows from the sums over parts of them."""
    return Contents(
        n=sum(part.n for part in parts),
        sum=math.fsum(part.sum for part in parts),
        sum_squares=math.fsum(part.sum_squares for part in parts),
        min=min(part.min for part in parts),
        max=max(part.max for part in parts),
        non_finite=sum(part.non_finite for part in parts),
    )


def _block(values: np.ndarray) -> Contents:
    low, high = float(values.min()), float(values.max())
    finite = np.isfinite(low) and np.isfinite(high)
    large = not finite or max(-low, high) > LARGE
    squares = np.square(values, dtype=np.float64 if large else np.float32)
    return Contents(
        n=values.size,
        sum=float(values.sum(dtype=squares.dtype)),
        sum_squares=float(squares.sum()),
        min=low,
        max=high,
        non_finite=0 if finite else int(np.count_nonzero(~np.isfinite(values))),
    )
