"""Read the global tokens of one layer, which are small enough for the memory."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bddn.store.layout import Layer
from bddn.store.reader import Cache
from bddn.stream.loader import rows_of


def global_tokens(store: Cache, layer: Layer, ids: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the global tokens of some stimuli in one layer, float32 (len(ids), channels).

    Raises
    ------
    MismatchError
        If the cache lacks some of the ids.
    CorruptStoreError
        If any byte that was read differs from the seal.
    """
    rows, step = rows_of(store, ids), store.layout.shard_images
    found = np.empty((len(rows), layer.channels), np.float32)
    for start in (np.unique(rows // step) * step).tolist():
        here = np.flatnonzero(rows // step == start // step)
        tokens = store.read("global", layer.name, start, min(start + step, len(store.ids))).float().numpy()
        found[here] = tokens[rows[here] - start]
    return found
