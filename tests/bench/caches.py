"""Caches of any size, filled with numbers like tokens, for the benchmarks of the store."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bddn.data import Stimuli
from bddn.store.files import LocalFiles
from bddn.store.layout import Layer, Layout
from bddn.store.lease import Lease, LeaseMonitor
from bddn.store.precision import TokenRows, precision
from bddn.store.writer import Writer, new_header


def layout(n_images: int, n_layers: int, channels: int, chunk: int, shard: int, kept: str = "float16") -> Layout:
    """Layers of one width, tokens on 8 × 8."""
    layers = tuple(Layer(f"block_{i}", channels) for i in range(n_layers))
    return Layout(n_images, layers, (8, 8), precision(kept), chunk, shard)


def tokens(made: Layout) -> Callable[[int], dict[str, TokenRows]]:
    """Rows of a shard: normal numbers with a deviation per channel, drawn once and used for every shard."""
    rng = np.random.default_rng(0)
    n = min(made.shard_images, made.n_images)
    drawn = {}
    for path, shape in made.arrays().items():
        values = rng.normal(size=(n, *shape)).astype(np.float32) * np.exp(rng.normal(size=shape[-1])).astype(np.float32)
        drawn[path] = made.precision.fill(values, path, [""] * n)

    def rows(shard: int) -> dict[str, TokenRows]:
        start, stop = made.shards[shard]
        return {path: values[: stop - start] for path, values in drawn.items()}

    return rows


def write(
    root: Path, made: Layout, rows: Callable[[int], dict[str, TokenRows]], stimuli: Stimuli | None = None
) -> Writer:
    """Write and seal a cache, with the ids and the images of these stimuli, or made-up ones."""
    ids = [f"nsd-{i:05d}" for i in range(made.n_images)] if stimuli is None else list(stimuli.ids)
    images = [f"{i:064x}" if stimuli is None else stimuli.sha256(i) for i in range(made.n_images)]
    spec = {
        "image_size": [16 * side for side in made.grid],  # as if, so that maps and pages can be drawn
        "preprocess": "native",
        "global_token": "mean",
        "grid": list(made.grid),
        "precision": made.precision.name,
        "chunk_images": made.chunk_images,
        "shard_images": made.shard_images,
    }
    header = new_header(made, ids, images, {"spec": spec, "backbone": {}, "made_with": {}})
    writer = Writer(LocalFiles(root), made, ids, images, header)
    writer.prepare()
    monitor = LeaseMonitor(writer.files)
    for shard in writer.pending():
        lease = monitor.take(shard)
        assert isinstance(lease, Lease)
        with lease:
            assert writer.write(shard, rows(shard), lease)
    writer.seal()
    return writer
