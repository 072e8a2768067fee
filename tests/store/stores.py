"""Small stores, and what can happen to one."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bddn.errors import CorruptStoreError, StoreError
from bddn.identity import digest
from bddn.store import manifest
from bddn.store.canonical import encode_json
from bddn.store.files import LocalFiles
from bddn.store.layout import Layer, Layout
from bddn.store.lease import Lease, LeaseMonitor
from bddn.store.precision import TokenRows, precision
from bddn.store.reader import Cache
from bddn.store.writer import Writer, new_header

Arrays = dict[str, TokenRows]

PRECISIONS = ("float16", "bfloat16", "float32", "bitround:6", "int8")
N = 10
IDS = [f"nsd-{7 * i:05d}" for i in range(N)]
IMAGES = [f"{i + 1:064x}" for i in range(N)]
IDENTITY: dict[str, Any] = {
    "spec": {"grid": [2, 3], "chunk_images": 2, "shard_images": 4, "global_token": "cls"},
    "made_with": {"torch": "2.10"},
    "backbone": {"weights_sha256": "2" * 64},
}
SHARDS = range(3)


def layout_of(name: str = "float16") -> Layout:
    """Three shards, the last not full, of two layers of unlike width."""
    return Layout(N, (Layer("early", 3), Layer("step@20.block_1", 5)), (2, 3), precision(name), 2, 4)


LAYOUT = layout_of()


def writer(
    root: Path, layout: Layout = LAYOUT, ids: list[str] = IDS, images: list[str] = IMAGES, **changes: Any
) -> Writer:
    about = {**IDENTITY, "spec": {**IDENTITY["spec"], "precision": layout.precision.name}, **changes}
    return Writer(LocalFiles(root), layout, ids, images, new_header(layout, ids, images, about))


def tokens(layout: Layout = LAYOUT, seed: int = 0) -> dict[str, np.ndarray]:
    """Tokens of all sizes that float16 has, signs and zeros included."""
    rng = np.random.default_rng(seed)
    made = {}
    for path, shape in layout.arrays().items():
        values = rng.normal(size=(N, *shape)) * 10.0 ** rng.uniform(-7, 4, (N, *shape))
        made[path] = np.clip(values, -65_000, 65_000).astype(np.float32)
        made[path][0].flat[:3] = [65_024, -0.0, 6e-8]
    return made


def filled_with(values: dict[str, np.ndarray], layout: Layout = LAYOUT) -> Arrays:
    return {path: layout.precision.fill(array, path, IDS) for path, array in values.items()}


def as_read(filled: Arrays, layout: Layout = LAYOUT) -> dict[str, Tensor]:
    """What a cache of these rows must answer."""
    return {
        path: torch.cat(
            [layout.precision.decode(*layout.precision.finish(array[start:stop])) for start, stop in layout.shards]
        )
        for path, array in filled.items()
    }


def rows(filled: Arrays, shard: int) -> Arrays:
    start, stop = LAYOUT.shards[shard]
    return {path: array[start:stop] for path, array in filled.items()}


def lease_of(made: Writer, shard: int) -> Lease:
    lease = LeaseMonitor(made.files).take(shard)
    assert isinstance(lease, Lease), lease
    return lease


def write(made: Writer, filled: Arrays, shards: Iterable[int]) -> None:
    for shard in shards:
        with lease_of(made, shard) as lease:
            assert made.write(shard, rows(filled, shard), lease)


def finish(made: Writer, filled: Arrays) -> str:
    """Go on with a store, whatever there is of it, and seal it."""
    made.prepare()
    write(made, filled, made.pending())
    return made.seal()


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same type and the same bits."""
    kind = {2: torch.int16, 4: torch.int32}[b.element_size()]
    return a.dtype == b.dtype and torch.equal(a.view(kind), b.view(kind))


def read(cache: Cache, path: str, start: int = 0, stop: int = N) -> Tensor:
    kind, layer = path.split("/")
    return cache.read(kind, layer, start, stop)


def read_all(cache: Cache) -> dict[str, Tensor]:
    return {path: read(cache, path) for path in cache.layout.arrays()}


def read_store(root: Path) -> dict[str, Tensor]:
    return read_all(Cache(root))


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def flip(path: Path, offset: int, mask: int = 0x01) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


def swap(a: Path, b: Path) -> None:
    aside = a.with_name(".swapped")
    a.rename(aside)
    b.rename(a)
    aside.rename(b)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": lambda p: flip(p, 5),
    "emptied": lambda p: p.write_bytes(b""),
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-1]),
    "longer": lambda p: p.write_bytes(p.read_bytes() + bytes(100)),
    "deleted": Path.unlink,
}


def refused(
    store: Path, name: str, kind: type[StoreError] = CorruptStoreError, by: Callable[[Path], object] = read_store
) -> None:
    """Reading a store is an error of ours that names the store and the file."""
    with pytest.raises(kind) as caught:
        by(store)
    assert name in str(caught.value)
    assert str(store) in str(caught.value)


refused_at_open = partial(refused, by=Cache)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=1) + "\n")  # as bddn writes it


def seal_again(root: Path, change: Callable[[Any], object] = lambda seal: None) -> None:
    """Make the manifest vouch for the files that are there, as someone would who means harm."""
    header = json.loads((root / manifest.HEADER).read_text())
    seal = json.loads((root / manifest.SEAL).read_text())
    for name in seal["files"]:
        seal["files"][name] |= manifest.file_record((root / name).read_bytes())
    change(seal)
    body = {key: seal.get(key) for key in ("files", "layers")}
    (root / manifest.SEAL).write_bytes(encode_json({"digest": digest({"header": header, **body}), **body}))
