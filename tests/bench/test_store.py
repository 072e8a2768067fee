"""How fast the store writes, reads and verifies, in which layout, and what integrity costs: ratios of one run."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bddn.spec import FitSpec
from bddn.store import lease, manifest, writer
from bddn.store.check import verify
from bddn.store.layout import Layout
from bddn.store.reader import Cache
from bench.caches import layout, tokens, write
from bench.report import keep

SHAPES = [(1, 256), (4, 256), (8, 256), (16, 128), (16, 256), (16, 512), (32, 256), (64, 256), (256, 256)]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def blocks(cache: Cache) -> list[tuple[int, int]]:
    """Ranges of 16 rows, or of a chunk where that is larger, in random order: what a training epoch reads."""
    n, size = cache.layout.n_images, max(16, cache.layout.chunk_images)
    starts = np.random.default_rng(0).permutation(np.arange(0, n, size))
    return [(int(a), int(min(a + size, n))) for a in starts]


def read_shuffled(cache: Cache) -> None:
    """All layers of every block of rows."""
    for start, stop in blocks(cache):
        for layer in cache.layers:
            for kind in ("local", "global"):
                cache.read(kind, layer.name, start, stop)


def read_one_layer(cache: Cache) -> None:
    """One layer from the first row to the last, shard by shard."""
    for start, stop in cache.layout.shards:
        for kind in ("local", "global"):
            cache.read(kind, cache.layers[0].name, start, stop)


def test_layout(true_size: bool, tmp_path: Path) -> None:
    """Rates for two readers and the writer, by the number of images in a chunk and in a shard."""
    n_images, n_layers, channels = (1024, 12, 768) if true_size else (64, 2, 16)
    found = []
    for chunk, shard in SHAPES if true_size else [(4, 16), (8, 32)]:
        made = layout(n_images, n_layers, channels, chunk, shard)
        rows, size = tokens(made), made.token_bytes() / 1e9
        root = tmp_path / "cache.zarr"
        writing = seconds(lambda made=made, rows=rows, root=root: write(root, made, rows))  # type: ignore[misc]
        shuffled, one = [], []
        for _ in range(3):
            cache = Cache(root)
            read_shuffled(cache)  # the first reading also checks every file
            shuffled.append(seconds(lambda cache=cache: read_shuffled(cache)))  # type: ignore[misc]
            one.append(seconds(lambda cache=cache: read_one_layer(cache)))  # type: ignore[misc]
        cache = Cache(root)
        single = np.random.default_rng(1).integers(0, n_images, 50).tolist()
        random_image = seconds(
            lambda cache=cache, single=single: [cache.read("local", cache.layers[0].name, i, i + 1) for i in single]  # type: ignore[misc]
        )
        found.append(
            {
                "chunk_images": chunk,
                "shard_images": shard,
                "write_gb_s": size / writing,
                "all_layers_shuffled_gb_s": size / min(shuffled),
                "one_layer_gb_s": size / n_layers / min(one),
                "one_random_image_ms": 1e3 * random_image / len(single),
            }
        )
        shutil.rmtree(root)
    if true_size:
        keep("layout_cpu", {"what": "1024 images, 12 layers x 768, 8x8+1 tokens, float16, page cache", "shapes": found})


@contextmanager
def timed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """Time spent in what bddn does for integrity: hashing, flushing, records, leases, sealing."""
    spent: dict[str, float] = {}

    def watch(module: Any, name: str) -> None:
        inner = getattr(module, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

        monkeypatch.setattr(module, name, outer)

    watch(writer, "shard_records")
    watch(manifest, "encode_json")
    watch(writer, "contents")
    watch(os, "fsync")
    watch(lease.Lease, "is_held")
    watch(lease.LeaseMonitor, "take")
    watch(writer.Writer, "seal")
    yield spent


def test_integrity_of_extraction(true_size: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of an extraction that goes into integrity, with ViT-B/16 on 224 px images at true size."""
    from bddn.data.algonauts import Algonauts
    from bddn.extraction import extract
    from bddn.spec import CacheSpec, FamilySpec, WeightsSpec
    from bench.test_whole_way import write_brain, write_network

    n_layers, width, size, patch, n_images = (12, 768, 224, 16, 256) if true_size else (2, 64, 32, 8, 12)
    write_network(tmp_path / "network", n_layers, width, size, patch)
    write_brain(tmp_path / "subj01", n_images, 50)
    weights = WeightsSpec(folder=str(tmp_path / "network"))
    spec = CacheSpec(title="bench", backbone=FamilySpec(family="clip"), weights=weights, image_size=size)
    data = Algonauts(tmp_path / "subj01")
    with timed(monkeypatch) as spent:
        whole = seconds(lambda: extract(spec, data, tmp_path / "cache.zarr"))
    assert {"shard_records", "fsync", "seal"} <= set(spent)
    if true_size:
        keep(
            "integrity_extract_cpu",
            {
                "what": f"{n_images} images through ViT-B/16, one shard",
                "seconds": whole,
                "integrity_seconds": spent,
                "integrity_share": sum(spent.values()) / whole,
            },
        )


def _plain(root: Path, made: Layout, rows: Callable[[int], dict[str, Any]]) -> zarr.Group:
    """The same arrays, chunks and shards in plain Zarr, without any checksum."""
    group = zarr.create_group(root)
    for path, shape in made.arrays().items():
        array = group.create_array(
            path,
            shape=(made.n_images, *shape),
            chunks=(made.chunk_images, *shape),
            shards=(made.shard_images, *shape),
            dtype="float16",
            compressors=None,
        )
        for shard, (start, stop) in enumerate(made.shards):
            array[start:stop] = rows(shard)[path]
    return zarr.open_group(root, mode="r")


def test_integrity_of_streaming(true_size: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shuffled epochs of a fit through `Cache`, from opening on, against the same without looking at checksums and
    stamps, and against plain Zarr without any; and `verify` against reading alone."""
    n_epochs = FitSpec().epochs if true_size else 2
    n_images, n_layers, channels = (2048, 12, 768) if true_size else (64, 2, 16)
    made = layout(n_images, n_layers, channels, 16, 256 if true_size else 32)
    rows, size = tokens(made), made.token_bytes() / 1e9
    write(tmp_path / "cache.zarr", made, rows)
    plain = _plain(tmp_path / "plain.zarr", made, rows)

    def ours() -> list[float]:
        cache = Cache(tmp_path / "cache.zarr")
        return [seconds(lambda: read_shuffled(cache)) for _ in range(n_epochs)]

    def unchecked() -> list[float]:
        with monkeypatch.context() as patch:
            patch.setattr("bddn.store.shards._is_good", lambda *_: True)
            patch.setattr("bddn.store.files.LocalFiles.stamp", lambda *_: ())
            return ours()

    def theirs() -> list[float]:
        arrays: list[Any] = [plain[path] for path in made.arrays()]
        order = blocks(Cache(tmp_path / "cache.zarr"))
        return [seconds(lambda: [array[a:b] for a, b in order for array in arrays]) for _ in range(2)]

    rounds = [(ours(), unchecked(), theirs()) for _ in range(3 if true_size else 1)]
    checked = min((verify(tmp_path / "cache.zarr") for _ in range(3)), key=lambda found: found.seconds)
    assert not checked.bad
    raw = min(
        seconds(lambda: [p.read_bytes() for p in (tmp_path / "cache.zarr").rglob("c.*") if p.is_file()])
        for _ in range(3)
    )
    if true_size:
        best = [min(sum(one[side]) for one in rounds) for side in range(3)]
        keep(
            "integrity_stream_cpu",
            {
                "what": f"{n_images} images, 12 layers x 768, {size:.2f} GB in page cache, {n_epochs} shuffled epochs",
                "epochs_s": [one[0] for one in rounds],
                "unchecked_epochs_s": [one[1] for one in rounds],
                "plain_zarr_epochs_s": [one[2] for one in rounds],
                "gb_s": n_epochs * size / best[0],
                "unchecked_gb_s": n_epochs * size / best[1],
                "plain_zarr_gb_s": 2 * size / best[2],
                "cost_of_integrity": 1 - best[1] / best[0],
                "cost_in_the_first_epoch": 1 - min(one[1][0] for one in rounds) / min(one[0][0] for one in rounds),
                "verify_gb_s": checked.n_bytes / 1e9 / checked.seconds,
                "reading_alone_gb_s": size / raw,
            },
        )
