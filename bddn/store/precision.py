"""How numbers are stored: how many bits of a token are kept, and how they come back."""

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

Rows = npt.NDArray[Any]
Scale = npt.NDArray[np.float32]

INT8_MAX = 127
ZSTD_LEVEL = 1
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
LARGEST_SCALE = float(np.nextafter(np.finfo(np.float32).max / INT8_MAX, np.float32(0)))  # 127 times it is finite


@dataclass(frozen=True)
class Precision:
    """A number format of stored tokens.

    `float16` and `float32` are stored as they are. `bfloat16` is stored as its 16 bits in a uint16. `bitround:K` is
    float16 of which K of the 10 bits of the mantissa are kept, which compresses. `int8` is a signed byte, times one
    float32 scale for each shard and channel.

    Attributes
    ----------
    name : str
        As in the spec.
    stored : str
        Data type of the Zarr array.
    filled : str
        Data type of the shard that is being filled, before `finish`.
    compressed : bool
        Whether chunks are compressed (Zstandard) before their checksum.
    scaled : bool
        Whether there is a scale per shard and channel.
    """

    name: str
    stored: str
    filled: str
    keep_bits: int | None = None
    compressed: bool = False
    scaled: bool = False

    @property
    def fill_value(self) -> float | int:
        """What plain Zarr answers for rows that were never written: NaN where the format has one."""
        return {"uint16": 0x7FC0, "int8": -128}.get(self.stored, float("nan"))

    @property
    def decoded(self) -> torch.dtype:
        """Type of a number in memory, as `decode` gives it."""
        return {"uint16": torch.bfloat16, "float16": torch.float16}.get(self.stored, torch.float32)

    @property
    def ratio(self) -> float:
        """Stored bytes over bytes in memory: sign, exponent and kept mantissa, of which only the last two compress."""
        return 1.0 if self.keep_bits is None else (6 + self.keep_bits) / 16

    def fill(self, values: npt.NDArray[np.float32], array: str, ids: Sequence[str]) -> Rows:
        """Round tokens of the images `ids`; what does not fit is an error, never an infinity.

        Parameters
        ----------
        values : array of float32, (n, ...)
        array : str
            Path of the array, for the error.

        Returns
        -------
        array of `filled`, (n, ...)

        Raises
        ------
        BackboneError
            Naming array, image and largest value where a stored number would not be finite.
        """
        rows = self._rounded(values)
        bad = _any_not_finite(rows)
        if self.keep_bits is not None:  # rounding turns some NaNs into zero, and some numbers into infinity
            rows = numcodecs.BitRound(self.keep_bits).encode(rows).view(rows.dtype).reshape(rows.shape)
            bad |= _any_not_finite(rows)
        if bad.any():
            first = int(np.argmax(bad))
            raise BackboneError(
                f"features {array}",
                expected=f"finite numbers in {self.name}",
                got=f"{int(bad.sum())} of {len(ids)} images that are not, the first '{ids[first]}' "
                f"with a largest magnitude of {np.abs(values[first]).max():.3g}",
                fix="Set precision: bfloat16 or float32 in the spec; if that fails too, the weights are damaged.",
            )
        return rows

    def _rounded(self, values: npt.NDArray[np.float32]) -> Rows:
        """Of type `filled`. torch rounds to 16 bits much faster than numpy, and to the same bits."""
        dtype = {"float16": torch.float16, "uint16": torch.bfloat16}.get(self.filled)
        if dtype is None:
            return values.astype(self.filled)
        rounded = torch.from_numpy(values).to(dtype, memory_format=torch.contiguous_format)
        rows: Rows = rounded.view(torch.int16).numpy().view(self.filled)
        return rows

    def finish(self, rows: Rows) -> tuple[Rows, Scale | None]:
        """A filled shard (n, ..., C) as it is stored, and its scale (C,) where there is one."""
        if not self.scaled:
            return rows, None
        largest = np.abs(rows).reshape(-1, rows.shape[-1]).max(axis=0)
        scale = np.minimum(largest / INT8_MAX, LARGEST_SCALE).astype(np.float32)
        scale[scale < SMALLEST_SCALE] = 1  # a channel of zeros
        return np.clip(np.rint(rows / scale), -INT8_MAX, INT8_MAX).astype(np.int8), scale

    def stored_bytes(self, stored: Rows) -> int:
        """Bytes that these rows take on disk, as one chunk."""
        return len(numcodecs.Zstd(ZSTD_LEVEL).encode(stored)) if self.compressed else stored.nbytes

    def decode(self, stored: Rows, scale: Scale | None = None) -> Tensor:
        """Stored rows (n, ..., C) as float16, bfloat16 or float32; `scale` is (C,), or (n, C) with one per row."""
        if self.stored == "uint16":
            return torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16)
        if scale is not None:
            each = scale if scale.ndim == 1 else scale.reshape(len(stored), *(1,) * (stored.ndim - 2), stored.shape[-1])
            return torch.from_numpy(stored * each)
        return torch.from_numpy(stored)


def _any_not_finite(rows: Rows) -> npt.NDArray[np.bool_]:
    """By image, whether any of its numbers is infinite or none: such have every bit of the exponent set."""
    exponent = {"float16": 0x7C00, "uint16": 0x7F80, "float32": 0x7F80_0000}[rows.dtype.name]
    bits = rows.view(f"u{rows.itemsize}").reshape(len(rows), -1)
    magnitude = bits & np.array((1 << 8 * rows.itemsize - 1) - 1, bits.dtype)
    found: npt.NDArray[np.bool_] = magnitude.max(axis=1) >= exponent
    return found


def precision(name: str) -> Precision:
    """The format that a spec names: float16, bfloat16, float32, bitround:1 to bitround:9, int8.

    Raises
    ------
    ValueError
        Where there is no such format.
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
