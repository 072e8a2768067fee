"""Cached tokens in memory, ready to be gathered by row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor

from bddn.errors import MismatchError, StoreError
from bddn.progress import progress
from bddn.store.layout import Layer
from bddn.store.reader import Cache

SPARE_BYTES = 2 << 30  # for the model, the responses and the rest of the machine


@dataclass(frozen=True)
class Features:
    """Tokens of some images, early layer to late: `local` L × (n, H·W, C_l), `global_` L × (n, C_l)."""

    local: Sequence[Tensor]
    global_: Sequence[Tensor]

    def rows(self, rows: Tensor) -> "Features":
        """The tokens of some rows as float32."""
        return Features([v[rows].float() for v in self.local], [v[rows].float() for v in self.global_])


def load(cache: Cache, layers: Sequence[Layer], ids: Sequence[str]) -> Features:
    """Read the tokens of `ids`, in this order, in the stored precision.

    Raises
    ------
    MismatchError
        Where the cache lacks some of the ids.
    StoreError
        Where they do not fit the machine's memory.
    """
    row_of = {stimulus: row for row, stimulus in enumerate(cache.ids)}
    missing = [stimulus for stimulus in ids if stimulus not in row_of]
    if missing:
        raise MismatchError(
            f"cache '{cache.files.place}'",
            expected=f"the {len(ids)} stimuli of the dataset",
            got=f"a cache of {len(cache.ids)} without {len(missing)} of them, the first '{missing[0]}'",
            fix="Run 'bddn extract' with this dataset.",
        )
    rows = np.array([row_of[stimulus] for stimulus in ids])
    tokens = cache.grid[0] * cache.grid[1] + 1
    size = len(rows) * tokens * sum(layer.channels for layer in layers) * cache.layout.precision.decoded_bytes
    _check_memory(cache, size)
    local, global_ = [], []
    with progress("read", len(layers), "layers") as advance:
        for layer in layers:
            local.append(_gather(cache, "local", layer.name, rows).flatten(1, 2))
            global_.append(_gather(cache, "global", layer.name, rows))
            advance()
    return Features(local, global_)


def _gather(cache: Cache, kind: str, layer: str, rows: np.ndarray) -> Tensor:
    """Read whole shards one after the other and keep the rows that are wanted."""
    out: Tensor | None = None
    for start, stop in cache.layout.shards:
        wanted = np.flatnonzero((rows >= start) & (rows < stop))
        if len(wanted):
            block = cache.read(kind, layer, start, stop)
            out = block.new_empty((len(rows), *block.shape[1:])) if out is None else out
            out[torch.from_numpy(wanted)] = block[torch.from_numpy(rows[wanted] - start)]
    assert out is not None
    return out


def _check_memory(cache: Cache, size: int) -> None:
    free = psutil.virtual_memory().available
    if size + SPARE_BYTES > free:
        raise StoreError(
            f"cache '{cache.files.place}'",
            expected=f"{(size + SPARE_BYTES) / 2**30:.1f} GiB of free memory to hold its tokens",
            got=f"{free / 2**30:.1f} GiB",
            fix="Fit on fewer layers (--layers), or on a larger machine.",
        )
