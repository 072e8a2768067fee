"""The number formats of stored tokens: how tokens are rounded, stored and decoded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numcodecs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.errors import BackboneError
from bddn.spec import PRECISION

TokenRows = npt.NDArray[Any]
Scale = npt.NDArray[np.float32]

INT8_MAX = 127
ZSTD_LEVEL = 1
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
LARGEST_SCALE = float(np.nextafter(np.finfo(np.float32).max / INT8_MAX, np.float32(0)))  # 127 times this is finite


@dataclass(frozen=True)
class Precision:
    """A number format of stored tokens.

    `float16` and `float32` are stored unchanged. `bfloat16` is stored as its 16 bits in a uint16. `bitround:K` is
    float16 with K of its 10 mantissa bits kept, which compresses well. `int8` is a signed byte, to be multiplied by one
    float32 scale for each shard and channel.

    Attributes
    ----------
    name : str
        The name in the spec.
    stored : str
        Data type of the Zarr array.
    filled : str
        Data type of rows before `finish`.
    compressed : bool
        Whether chunks are compressed (Zstandard) before their checksum.
    scaled : bool
        Whether each shard and channel has a scale.
    """

    name: str
    stored: str
    filled: str
    keep_bits: int | None = None
    compressed: bool = False
    scaled: bool = False

    @property
    def fill_value(self) -> float | int:
        """The value that Zarr returns for rows that were never written: NaN if the format has one."""
        return {"uint16": 0x7FC0, "int8": -128}.get(self.stored, float("nan"))

    @property
    def decoded(self) -> torch.dtype:
        """The data type that `decode` returns."""
        return {"uint16": torch.bfloat16, "float16": torch.float16}.get(self.stored, torch.float32)

    @property
    def ratio(self) -> float:
        """Estimated ratio of stored bytes to bytes in memory."""
        return 1.0 if self.keep_bits is None else (6 + self.keep_bits) / 16

    def fill(self, values: npt.NDArray[np.float32], array: str, ids: Sequence[str]) -> TokenRows:
        """Round the tokens of the images `ids`. A number that does not fit raises an error and never becomes infinite.

        Parameters
        ----------
        values : array of float32, (n, ...)
        array : str
            Path of the array, for the error message.

        Returns
        -------
        array of `filled`, (n, ...)

        Raises
        ------
        BackboneError
            If a stored number would not be finite. The message names the array, the image and its largest value.
        """
        rows = self._rounded(values)
        bad = _any_not_finite(rows)
        if self.keep_bits is not None:  # rounding can turn NaN into zero, and a large number into infinity
            rows = numcodecs.BitRound(self.keep_bits).encode(rows).view(rows.dtype).reshape(rows.shape)
            bad |= _any_not_finite(rows)
        if bad.any():
            first = int(np.argmax(bad))
            raise BackboneError(
                f"features {array}",
                expected=f"finite numbers in {self.name}",
                got=f"other numbers in {int(bad.sum())} of {len(ids)} images; the first is '{ids[first]}', "
                f"with a largest magnitude of {np.abs(values[first]).max():.3g}",
                fix="Set precision: bfloat16 or float32 in the spec; if that fails too, the weights are damaged.",
            )
        return rows

    def _rounded(self, values: npt.NDArray[np.float32]) -> TokenRows:
        """Return `values` rounded to the type `filled`. torch does this much faster than numpy, with the same bits."""
        dtype = {"float16": torch.float16, "uint16": torch.bfloat16}.get(self.filled)
        if dtype is None:
            return values.astype(self.filled)
        rounded = torch.from_numpy(values).to(dtype, memory_format=torch.contiguous_format)
        rows: TokenRows = rounded.view(torch.int16).numpy().view(self.filled)
        return rows

    def finish(self, rows: TokenRows) -> tuple[TokenRows, Scale | None]:
        """Return the rows of a shard (n, ..., C) in their stored form, and their scale (C,) if the format has one."""
        if not self.scaled:
            return rows, None
        largest = np.abs(rows).reshape(-1, rows.shape[-1]).max(axis=0)
        scale = np.minimum(largest / INT8_MAX, LARGEST_SCALE).astype(np.float32)
        scale[scale < SMALLEST_SCALE] = 1  # a channel of zeros
        return np.clip(np.rint(rows / scale), -INT8_MAX, INT8_MAX).astype(np.int8), scale

    def stored_bytes(self, stored: TokenRows) -> int:
        """Return the size in bytes of these rows on disk, as one chunk."""
        return len(numcodecs.Zstd(ZSTD_LEVEL).encode(stored)) if self.compressed else stored.nbytes

    def decode(self, stored: TokenRows, scale: Scale | None = None) -> Tensor:
        """Return stored rows (n, ..., C) as float16, bfloat16 or float32; `scale` has the shape (C,) or (n, C)."""
        if self.stored == "uint16":
            return torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16)
        if scale is not None:
            each = scale if scale.ndim == 1 else scale.reshape(len(stored), *(1,) * (stored.ndim - 2), stored.shape[-1])
            return torch.from_numpy(stored * each)
        return torch.from_numpy(stored)


def _any_not_finite(rows: TokenRows) -> npt.NDArray[np.bool_]:
    """Return for each image whether any of its numbers is NaN or infinite, that is, has all exponent bits set."""
    exponent = {"float16": 0x7C00, "uint16": 0x7F80, "float32": 0x7F80_0000}[rows.dtype.name]
    bits = rows.view(f"u{rows.itemsize}").reshape(len(rows), -1)
    magnitude = bits & np.array((1 << 8 * rows.itemsize - 1) - 1, bits.dtype)
    found: npt.NDArray[np.bool_] = magnitude.max(axis=1) >= exponent
    return found


def precision(name: str) -> Precision:
    """Return the format with this name: float16, bfloat16, float32, bitround:1 to bitround:9, or int8.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    if not re.fullmatch(PRECISION, name):
        raise ValueError(f"no precision {name!r}")
    if name.startswith("bitround:"):
        return Precision(name, "float16", "float16", keep_bits=int(name.partition(":")[2]), compressed=True)
    return {
        "float16": Precision(name, "float16", "float16"),
        "float32": Precision(name, "float32", "float32"),
        "bfloat16": Precision(name, "uint16", "uint16"),
        "int8": Precision(name, "int8", "float32", scaled=True),
    }[name]
