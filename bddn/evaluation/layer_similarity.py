"""Compare the tokens of two caches of the same images, layer by layer."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.errors import MismatchError
from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.progress import progress
from bddn.stats.representations import cka_between, neighbour_overlap
from bddn.store.layout import Layer
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed, rows_of
from bddn.stream.order import pools_in_order
from bddn.stream.sampled import tokens_at_places, whole_chunks

N_IMAGES = 2000  # at most so many are compared, because time grows with their square

Tokens = npt.NDArray[np.float32]


@own_settings()
def compare_layers(before: Cache, after: Cache, layers: tuple[str, ...]) -> tuple[pd.DataFrame, int]:
    """Compare the layers with the same names, on at most 2,000 images that are evenly spread over the first cache.

    One layer is in memory at a time.

    Parameters
    ----------
    before, after : Cache
        Of the same images.
    layers : tuple of str, (L,)

    Returns
    -------
    table : DataFrame, L rows
        `layer`, `cka_local` (at a few places of the grid), `cka_global`, and `neighbours` (of global tokens).
    n_images : int
        Number of compared images.

    Raises
    ------
    MismatchError
        If a cache lacks a layer, or the second one lacks images of the first, or has another grid.
    """
    rows = np.arange(len(before.ids))
    rows_of(after, before.ids)
    if before.grid != after.grid:
        raise MismatchError(
            f"cache '{after.files.place}'",
            expected=f"a grid of {before.grid[0]}×{before.grid[1]}, as in cache '{before.files.place}'",
            got=f"a grid of {after.grid[0]}×{after.grid[1]}",
            fix="Extract both with the same 'grid'.",
        )
    sample = whole_chunks(rows, rows // before.layout.chunk_images, N_IMAGES)[:N_IMAGES]
    ids, found = [before.ids[row] for row in sample], []
    pairs = list(zip(before.select_layers(layers), after.select_layers(layers), strict=True))
    with single_threaded_kernels(), progress("compare", len(pairs), "layers") as advance:
        for own, other in pairs:
            (local, one), (local_after, one_after) = _tokens(before, own, ids), _tokens(after, other, ids)
            found.append(
                {
                    "layer": own.name,
                    "cka_local": cka_between(local, local_after),
                    "cka_global": cka_between(one[:, None], one_after[:, None]),
                    "neighbours": neighbour_overlap(one, one_after),
                }
            )
            advance()
    return pd.DataFrame(found), len(sample)


def _tokens(cache: Cache, layer: Layer, ids: Sequence[str]) -> tuple[Tokens, Tokens]:
    """Return local tokens (n, P, C) and global tokens (n, C) of these images, in this order."""
    source, rows = Streamed(cache, [layer], ids), np.arange(len(ids))
    local, global_ = tokens_at_places(source, rows, cache.grid)
    back = np.argsort(np.concatenate(pools_in_order(rows, source.chunk_of)))
    return local[0][back], global_[0][back]
