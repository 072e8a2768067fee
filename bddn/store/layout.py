"""How a feature cache lies on disk: names, shapes, chunks and shards. See README.md beside this file."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from bddn.errors import SpecError

FORMAT = 1
KINDS = ("local", "global")
IDS = "stimulus"
MANIFEST = "manifest"
LAYER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")


@dataclass(frozen=True)
class Layer:
    """A stored layer: its name and the channels of its tokens."""

    name: str
    channels: int


@dataclass(frozen=True)
class Layout:
    """Shapes of every array of a store."""

    n_images: int
    layers: tuple[Layer, ...]
    grid: tuple[int, int]
    precision: str
    chunk_images: int
    shard_images: int

    def __post_init__(self) -> None:
        for layer in self.layers:
            if not LAYER_NAME.fullmatch(layer.name):
                raise SpecError(
                    f"layer '{layer.name}'",
                    expected="letters, digits and . _ @ - only",
                    got=repr(layer.name),
                    fix="Rename the layer.",
                )

    @property
    def shards(self) -> list[tuple[int, int]]:
        """Row ranges of the shards; all arrays are cut at the same rows."""
        starts = range(0, self.n_images, self.shard_images)
        return [(a, min(a + self.shard_images, self.n_images)) for a in starts]

    def arrays(self) -> dict[str, tuple[int, ...]]:
        """Every array of tokens by its path, with the shape of one image in it."""
        return {
            f"{kind}/{layer.name}": (*self.grid, layer.channels) if kind == "local" else (layer.channels,)
            for kind in KINDS
            for layer in self.layers
        }

    def shard_file(self, array: str, shard: int) -> str:
        """Path of one shard of an array, relative to the store."""
        return "/".join([array, "c", str(shard), *("0" for _ in self.arrays()[array])])


def create_arrays(root: Path, layout: Layout, ids: list[str], attributes: dict[str, Any]) -> None:
    """Write the metadata of an empty store, and its stimulus ids.

    Every chunk will carry a checksum.
    """
    group = zarr.create_group(root, attributes=attributes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        stimulus = group.create_array(IDS, shape=(layout.n_images,), dtype=str, dimension_names=("stimulus",))
    stimulus[:] = np.array(ids, dtype=object)
    for kind in KINDS:
        group.create_group(kind)
    for path, shape in layout.arrays().items():
        channels = f"channel_{shape[-1]}"  # one name, one size: layers may differ in width
        group.create_array(
            path,
            shape=(layout.n_images, *shape),
            dtype=layout.precision,
            chunks=(layout.chunk_images, *shape),
            shards=(layout.shard_images, *shape),
            compressors=[Crc32cCodec()],
            fill_value=float("nan"),
            dimension_names=("stimulus", *(("row", "column") if len(shape) == 3 else ()), channels),
        )
