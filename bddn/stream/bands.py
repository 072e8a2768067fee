"""Features and responses as two matrices, a band of columns per layer, for ridge regression in other libraries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bddn.data import Dataset
from bddn.data.dataset_check import check_rows, responses_of
from bddn.data.trials import response_ids
from bddn.errors import DataError
from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.progress import progress
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed, batches
from bddn.stream.order import by_image, distinct, pools_in_order

BATCH_IMAGES = 32


@dataclass(frozen=True)
class Bands:
    """Features and responses for banded ridge regression.

    Attributes
    ----------
    X : array of float32, (n, P)
        Features: for each layer, early to late, its global token and the mean of its local tokens over places, C
        channels each.
    Y : array of float32, (n, N)
        Responses, in the unit of the data.
    ids : tuple of str, (n,)
        Stimulus of each row.
    slices : dict of slice
        Columns of X by the name of the layer.
    groups : array of int, (P,)
        Number of the layer of each column, from 0.
    """

    X: npt.NDArray[np.float32]
    Y: npt.NDArray[np.float32]
    ids: tuple[str, ...]
    slices: dict[str, slice]
    groups: npt.NDArray[np.intp]


@own_settings()
def bands(cache: Cache, dataset: Dataset, ids: Sequence[str] | None, layers: tuple[str, ...] | None) -> Bands:
    """Read features and responses; see `bddn.api.to_himalaya`."""
    chosen = cache.select_layers(layers)
    every = response_ids(dataset)
    check_rows(dataset, len(dataset.voxels()))
    chosen_ids = tuple(dataset.stimuli.ids if ids is None else ids)
    rows_of = {every[rows[0]]: rows for rows in by_image(np.arange(len(every)), distinct(every)[1])}
    if not chosen_ids:
        raise DataError("ids", expected="at least one stimulus of the dataset", got="none", fix="Give some, or None.")
    if missing := [stimulus for stimulus in chosen_ids if stimulus not in rows_of]:
        raise DataError(
            dataset.name,
            expected=f"the {len(chosen_ids)} stimuli in 'ids'",
            got=f"a dataset that lacks {len(missing)} of them, the first '{missing[0]}'",
            fix="Give ids of this dataset.",
        )
    of_dataset = np.concatenate([rows_of[stimulus] for stimulus in chosen_ids])
    ids = tuple(every[row] for row in of_dataset)
    source, rows = Streamed(cache, chosen, ids), np.arange(len(ids))
    edges = np.cumsum([0, *(2 * layer.channels for layer in chosen)])
    x = np.empty((len(ids), edges[-1]), np.float32)
    with torch.no_grad(), single_threaded_kernels(), progress("read", len(ids), "images") as advance:
        for at, tokens in batches(source, pools_in_order(rows, source.chunk_of), BATCH_IMAGES):
            pairs = zip(tokens.global_, tokens.local, strict=True)
            x[at.numpy()] = torch.cat([part for one, many in pairs for part in (one, many.mean(1))], dim=1).numpy()
            advance(len(at))
    y = responses_of(dataset, of_dataset)
    names = [layer.name for layer in chosen]
    slices = {name: slice(int(a), int(b)) for name, a, b in zip(names, edges[:-1], edges[1:], strict=True)}
    return Bands(x, y, ids, slices, np.repeat(np.arange(len(names)), np.diff(edges)))
