"""Tokens per second out of a cache, in the order of a training epoch and checked, against reading its files alone."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bddn.store.reader import Cache
from bddn.stream.loader import Streamed, batches
from bddn.stream.plan import epoch_pools
from bench.caches import layout, tokens, write
from bench.report import keep


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_stream(true_size: bool, tmp_path: Path) -> None:
    n_images, n_layers, channels = (2048, 12, 768) if true_size else (64, 2, 16)
    made = layout(n_images, n_layers, channels, 16 if true_size else 4, 256 if true_size else 16)
    write(tmp_path / "cache.zarr", made, tokens(made))
    files = sorted(path for path in (tmp_path / "cache.zarr").rglob("c.*") if path.is_file())
    size = sum(path.stat().st_size for path in files) / 1e9

    def plain() -> None:
        for path in files:
            np.fromfile(path, np.uint8)

    def stream(batch: int) -> float:
        cache = Cache(tmp_path / "cache.zarr")  # opened again, so that every chunk is checked
        source = Streamed(cache, cache.layers, cache.ids)
        pools = epoch_pools(np.arange(n_images), source.chunk_of, 0, 0)
        return seconds(lambda: [None for _ in (batches(source, pools, batch) if batch else source.pools(pools))])

    found: dict[str, list[float]] = {"plain": [], "stream": [], "float32 batches of 64": []}
    for _ in range(5 if true_size else 1):
        found["plain"].append(size / seconds(plain))
        found["stream"].append(size / stream(0))
        found["float32 batches of 64"].append(size / stream(64))
    if true_size:
        medians = {name: float(np.median(rates)) for name, rates in found.items()}
        ratio = medians["stream"] / medians["plain"]
        what = f"{size:.2f} GB in page cache; plain: numpy.fromfile, file after file, nothing checked"
        keep("stream_cpu", {"what": what, "gb_s": found, "median_gb_s": medians, "stream_over_plain": ratio})
        assert ratio >= 0.8
