"""Shard files are made directly, and are what zarr writes, to the last byte."""

from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from bddn.store.layout import SCALE, Layer, Layout, empty_files, shard_bytes
from bddn.store.precision import precision
from store.stores import PRECISIONS

BUFFER = default_buffer_prototype().buffer
SIZES = [  # images, in a chunk, in a shard
    (10, 2, 4),  # the last shard is not full
    (9, 2, 4),  # nor is its last chunk
    (11, 4, 4),  # one chunk in a shard
    (3, 4, 16),  # less than a chunk in all
    (40, 1, 16),  # an image in a chunk
]


def by_zarr(layout: Layout, filled: dict[str, np.ndarray]) -> dict[str, bytes]:
    """The files of all shards as zarr writes them."""
    ids, images = [str(i) for i in range(layout.n_images)], ["0" * 64] * layout.n_images
    files: dict[str, Any] = {
        name: BUFFER.from_bytes(data) for name, data in empty_files(layout, ids, images, {}).items()
    }
    before = set(files)
    group: Any = zarr.open_group(MemoryStore(files), mode="r+")
    for shard, (start, stop) in enumerate(layout.shards):
        for path, rows in filled.items():
            array = group[path].with_config({"write_empty_chunks": True})
            stored, scale = layout.precision.finish(rows[start:stop])
            array[start:stop] = stored
            if scale is not None:
                group[f"{SCALE}/{path}"].with_config({"write_empty_chunks": True})[shard] = scale
    return {name: buffer.to_bytes() for name, buffer in files.items() if name not in before}


@pytest.mark.parametrize("name", [*PRECISIONS, "bitround:1"])
@pytest.mark.parametrize(("n", "chunk", "shard"), SIZES)
def test_the_files_are_those_that_zarr_writes(name: str, n: int, chunk: int, shard: int) -> None:
    layers = (Layer("narrow", 1), Layer("odd", 3), Layer("wide", 768))
    layout = Layout(n, layers, (2, 3), precision(name), chunk, shard)
    rng = np.random.default_rng(0)
    ids = [str(i) for i in range(n)]
    filled = {
        path: layout.precision.fill(rng.normal(size=(n, *shape)).astype(np.float32), path, ids)
        for path, shape in layout.arrays().items()
    }
    filled["global/narrow"][:] = 0  # zarr leaves out what is empty, unless it is told not to
    found: dict[str, bytes] = {}
    for k, (start, stop) in enumerate(layout.shards):
        made = shard_bytes(layout, k, {path: rows[start:stop] for path, rows in filled.items()})
        assert sorted(made) == sorted(layout.shard_files(k))
        found |= made
    assert found == by_zarr(layout, filled)


def test_rows_that_do_not_lie_in_order_give_the_same_file() -> None:
    layout = Layout(4, (Layer("early", 3),), (2, 3), precision("float16"), 2, 4)
    rows = np.arange(4 * 2 * 3 * 3, dtype=np.float16).reshape(4, 2, 3, 3)
    turned = np.asfortranarray(rows)
    assert shard_bytes(layout, 0, {"local/early": turned}) == shard_bytes(layout, 0, {"local/early": rows})
