"""Stage one: run a backbone once over a dataset's images and seal its tokens in a store."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bddn.backbones.base import Backbone
from bddn.backbones.registry import open_backbone
from bddn.data import Dataset, Stimuli
from bddn.errors import DataError, SpecError
from bddn.progress import progress
from bddn.spec import CacheSpec, digest
from bddn.store.layout import Layer, Layout
from bddn.store.manifest import is_sealed
from bddn.store.precision import to_stored
from bddn.store.writer import Writer
from bddn.tokens import Tokens

DECODERS = 2  # threads that decode and prepare images ahead of the backbone


@dataclass(frozen=True)
class Extraction:
    """What `extract` did: the digest of the sealed store, how many of its shards had to be computed, and whether it had
    been sealed before."""

    digest: str
    n_images: int
    n_shards: int
    n_computed: int
    reused: bool


def extract(spec: CacheSpec, dataset: Dataset, out: Path) -> Extraction:
    """Write the tokens of all images of a dataset into a store and seal it; go on with one that was interrupted.

    A sealed store of the same content is left as it is.

    Raises
    ------
    BddnError
        Where the spec, images, weights or an existing store do not fit.
    """
    stimuli = dataset.stimuli
    images = _check_images(stimuli, decode=not is_sealed(out))
    backbone = open_backbone(spec)
    names = _layer_names(spec, backbone)
    sample = backbone(backbone.preprocess(stimuli.image(0))[None])
    layout = Layout(
        n_images=len(stimuli),
        layers=tuple(Layer(name, sample[name].local_.shape[1]) for name in names),
        grid=spec.grid,
        precision=spec.precision,
        chunk_images=spec.chunk_images,
        shard_images=spec.shard_images,
    )
    identity: dict[str, Any] = {
        "n_images": len(stimuli),
        "images_sha256": digest(images),
        "layers": [{"name": layer.name, "channels": layer.channels} for layer in layout.layers],
        "spec": spec.identity(),
        "backbone": backbone.identity,
    }
    writer = Writer(out, layout, list(stimuli.ids), identity)
    reused, pending = writer.sealed, writer.pending()
    n_pending = sum(stop - start for start, stop in (layout.shards[k] for k in pending))
    with progress("extract", n_pending, "images") as advance:
        for shard in pending:
            start, stop = layout.shards[shard]
            arrays = {path: np.empty((stop - start, *shape), spec.precision) for path, shape in layout.arrays().items()}
            for at, ids, tokens in _run(backbone, stimuli, start, stop, spec.batch_size):
                _fill(arrays, at, ids, tokens, layout)
                advance(len(ids))
            writer.write(shard, arrays)
    store_digest = writer.digest() if reused else writer.seal()
    return Extraction(store_digest, len(stimuli), len(layout.shards), len(pending), reused)


def _check_images(stimuli: Stimuli, decode: bool) -> list[str]:
    """Hash all images and, where they will be needed, decode them, so that a bad one is found before the long work."""
    bad: list[DataError] = []

    def check(i: int) -> str:
        try:
            if decode:
                stimuli.image(i)
            return stimuli.sha256(i)
        except DataError as error:
            bad.append(error)
            return ""

    with ThreadPoolExecutor(DECODERS) as pool, progress("check", len(stimuli), "images") as advance:
        hashes = []
        for sha256 in pool.map(check, range(len(stimuli))):
            hashes.append(sha256)
            advance()
    if len(bad) == 1:
        raise bad[0]
    if bad:
        shown = "; ".join(sorted(error.place for error in bad)[:8])
        raise DataError(
            f"{len(bad)} images",
            expected=bad[0].expected,
            got=f"damaged files: {shown}{' …' if len(bad) > 8 else ''}",
            fix="Restore these files from the original download.",
        )
    return hashes


def _layer_names(spec: CacheSpec, backbone: Backbone) -> tuple[str, ...]:
    unknown = [name for name in spec.layers or () if name not in backbone.layers]
    if unknown:
        raise SpecError(
            "layers",
            expected=f"names among {backbone.layers[0]} … {backbone.layers[-1]}",
            got=f"'{unknown[0]}'",
            fix="Correct 'layers' in the spec.",
        )
    return spec.layers or backbone.layers


def _run(
    backbone: Backbone, stimuli: Stimuli, start: int, stop: int, batch_size: int
) -> Iterator[tuple[int, tuple[str, ...], Tokens]]:
    """Tokens of the images `start` to `stop`, batch by batch, with the row within the shard and the ids."""

    def prepare(first: int) -> Tensor:
        return torch.stack([backbone.preprocess(stimuli.image(i)) for i in range(first, min(first + batch_size, stop))])

    firsts = list(range(start, stop, batch_size))
    with ThreadPoolExecutor(DECODERS) as pool:
        ahead = [pool.submit(prepare, first) for first in firsts[:DECODERS]]
        for n, first in enumerate(firsts):
            pixels = ahead.pop(0).result()
            if n + DECODERS < len(firsts):
                ahead.append(pool.submit(prepare, firsts[n + DECODERS]))
            yield first - start, stimuli.ids[first : first + len(pixels)], backbone(pixels)


def _fill(arrays: dict[str, np.ndarray], at: int, ids: tuple[str, ...], tokens: Tokens, layout: Layout) -> None:
    rows = slice(at, at + len(ids))
    for layer in layout.layers:
        found = tokens[layer.name].resized(layout.grid)
        assert found.global_ is not None, f"{layer.name} has no global token"
        for path, values in (
            (f"local/{layer.name}", found.local_.permute(0, 2, 3, 1)),
            (f"global/{layer.name}", found.global_),
        ):
            arrays[path][rows] = to_stored(values.numpy(), layout.precision, path, ids)
