"""Tokens per second out of a cache, in the order of a training epoch and checked, against reading its files alone."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bddn.store.reader import Cache
from bddn.stream.loader import Streamed, batches
from bddn.stream.order import epoch_pools
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

    cache = Cache(tmp_path / "cache.zarr")
    source = Streamed(cache, cache.layers, cache.ids)
    kept = torch.empty(2 * source.pool_bytes, dtype=torch.uint8).fill_(0).numpy()

    def plain() -> None:
        for path in files:
            np.fromfile(path, np.uint8)

    def plain_kept() -> None:
        at = 0
        for path in files:
            with path.open("rb", buffering=0) as file:
                n = path.stat().st_size
                at = 0 if at + n > len(kept) else at
                at += file.readinto(kept[at : at + n].data)

    def stream(batch: int = 0) -> None:
        pools = epoch_pools(np.arange(n_images), source.chunk_of, 0, 0)
        for _ in batches(source, pools, batch) if batch else source.pools(pools):
            pass

    works = {
        "numpy.fromfile": plain,
        "plain reads that are kept": plain_kept,
        "stream": stream,
        "float32 batches of 64": lambda: stream(64),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    stream()  # its memory is used again from then on
    for _ in range(9 if true_size else 1):
        for name, work in works.items():
            for path in files:
                os.utime(path)  # so that every chunk is checked again
            found[name].append(size / seconds(work))
    if true_size:
        medians = {name: float(np.median(rates)) for name, rates in found.items()}
        what = (
            f"{size:.2f} GB in page cache, every chunk checked while streaming; plain: file after file, nothing "
            "checked, into memory that each next file overwrites, or kept as a pool of the stream is"
        )
        ratios = {f"stream / {name}": medians["stream"] / medians[name] for name in list(works)[:2]}
        keep("stream_cpu", {"what": what, "gb_s": found, "median_gb_s": medians, "ratios": ratios})
        assert ratios["stream / numpy.fromfile"] >= 0.8
