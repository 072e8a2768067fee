"""The hashes of very many images in little memory: 32 bytes each, instead of 121 bytes for a string in a list."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

BYTES = 32  # size of a SHA-256


class Hashes(Sequence[str]):
    """A sequence of SHA-256 hashes of images; an element is returned as hexadecimal text.

    Parameters
    ----------
    rows : (n, 32) uint8
    """

    def __init__(self, rows: npt.NDArray[np.uint8]) -> None:
        if rows.ndim != 2 or rows.shape[1] != BYTES:
            raise ValueError(f"expected an array of shape (n, {BYTES}); got {rows.shape}")
        self.rows = rows

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Hashes":
        """Return hexadecimal hashes in this compact form."""
        if isinstance(texts, Hashes):
            return texts
        rows = np.empty((len(texts), BYTES), np.uint8)
        for row, text in enumerate(texts):
            rows[row] = np.frombuffer(bytes.fromhex(text), np.uint8)
        return cls(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> "Hashes": ...

    def __getitem__(self, at: int | slice) -> "str | Hashes":
        return Hashes(self.rows[at]) if isinstance(at, slice) else self.rows[at].tobytes().hex()

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, Hashes):
            return np.array_equal(self.rows, other.rows)
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
