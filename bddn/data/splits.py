"""Split images into training, validation and test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bddn.errors import DataError


@dataclass(frozen=True)
class Split:
    """The stimulus ids of the three disjoint parts."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        """Return the three lists as JSON types."""
        return {"train": list(self.train), "val": list(self.val), "test": list(self.test)}


def split_by_id(ids: Sequence[str], shares: tuple[int, int, int], seed: int) -> Split:
    """Split images at random. The split depends on the ids but not on their order.

    Parameters
    ----------
    ids : sequence of str
        Unique stimulus ids.
    shares : three int
        Relative sizes of training, validation and test, e.g. (8, 1, 1).
    seed : int


    Raises
    ------
    DataError
        If a part would have fewer than two images, which is too few for a score.
    """
    ordered = sorted(ids)
    n = len(ordered)
    n_val, n_test = (round(n * share / sum(shares)) for share in shares[1:])
    n_train = n - n_val - n_test
    if min(n_train, n_val, n_test) < 2:
        raise DataError(
            "split",
            expected=f"at least two images in each of the parts {':'.join(map(str, shares))}",
            got=f"{n_train}, {n_val} and {n_test} of {n} images",
            fix="Use more images, or other shares.",
        )
    shuffled = np.random.default_rng([seed, 0]).permutation(n)
    train, val, test = np.split(shuffled, [n_train, n_train + n_val])

    def pick(rows: "np.ndarray") -> tuple[str, ...]:
        return tuple(ordered[i] for i in sorted(rows))

    return Split(pick(train), pick(val), pick(test))
