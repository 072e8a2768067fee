"""The layout of a feature cache on disk: names, shapes, chunks, shards and codecs. See README.md in this folder."""

import json
import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numcodecs
import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from bddn.errors import SpecError
from bddn.spec import CacheSpec
from bddn.store.hashes import Hashes
from bddn.store.precision import ZSTD_LEVEL, Precision, TokenRows, precision
from bddn.store.sharding import checksum, encode_shard

FORMAT = 2
KINDS = ("local", "global")
REGISTER = "register"  # a third kind, if the spec asks for it
IDS = "stimulus"
IMAGES = "image_sha256"
ALIASES = "aliases"  # key of the header: other ids of images
SCALE = "scale"
CHUNK_BYTES = 20  # for each chunk besides its tokens: checksum and index entry
RECORD_BYTES = 150  # for each file in the seal
CHECKSUM_BYTES = 14  # for each chunk in the seal
METADATA_BYTES = 3000  # for each array: Zarr's metadata, twice, and its record
IMAGE_BYTES = 32 + 8  # for each image: hash and id
MAX_FILES = 1 << 22  # the most that a manifest can list
MAX_CHUNKS = 1 << 26
LAYER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]*")


@dataclass(frozen=True)
class Layer:
    """A stored layer: its name, the number of channels of its tokens, and the number of its stored registers."""

    name: str
    channels: int
    n_registers: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as JSON types, for the header of a store."""
        registers = {"registers": self.n_registers} if self.n_registers else {}
        return {"name": self.name, "channels": self.channels, **registers}


@dataclass(frozen=True)
class Layout:
    """The shapes of all arrays of a store. All arrays of tokens are divided into shards at the same rows."""

    n_images: int
    layers: tuple[Layer, ...]
    grid: tuple[int, int]
    precision: Precision
    chunk_images: int
    shard_images: int

    def __post_init__(self) -> None:
        for layer in self.layers:
            if not LAYER_NAME.fullmatch(layer.name) or layer.name == "zarr.json":  # the metadata of its folder
                raise SpecError(
                    f"layer '{layer.name}'",
                    expected="a name of letters, digits and . _ @ - only",
                    got=repr(layer.name),
                    fix="Rename the layer.",
                )

    @classmethod
    def of_spec(
        cls,
        spec: CacheSpec,
        channels: Mapping[str, int],
        n_images: int,
        registers: Mapping[str, int] | None = None,
    ) -> "Layout":
        """Return the layout that a spec asks for.

        Parameters
        ----------
        spec : CacheSpec
        channels : mapping of str to int
            Number of channels of each stored layer, early to late.
        n_images : int
        registers : mapping of str to int, optional
            Number of stored registers of the layers that have any.
        """
        return cls(
            n_images=n_images,
            layers=tuple(Layer(name, n, (registers or {}).get(name, 0)) for name, n in channels.items()),
            grid=spec.grid,
            precision=precision(spec.precision),
            chunk_images=spec.chunk_images,
            shard_images=spec.shard_images,
        )

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> "Layout":
        """Return the layout that a header describes.

        Raises
        ------
        KeyError, TypeError, ValueError, SpecError
            If the header does not describe a valid layout.
        """
        spec = header["spec"]
        layout = cls(
            n_images=header["n_images"],
            layers=tuple(Layer(one["name"], one["channels"], one.get("registers", 0)) for one in header["layers"]),
            grid=tuple(spec["grid"]),
            precision=precision(spec["precision"]),
            chunk_images=spec["chunk_images"],
            shard_images=spec["shard_images"],
        )
        rows, columns = layout.grid
        channels = [layer.channels for layer in layout.layers]
        for number in (layout.n_images, rows, columns, layout.chunk_images, layout.shard_images, *channels):
            if type(number) is not int or number < 1:
                raise ValueError(f"{number!r} is not a positive whole number")
        for layer in layout.layers:
            if type(layer.n_registers) is not int or layer.n_registers < 0:
                raise ValueError(f"{layer.n_registers!r} is not a number of registers")
        if layout.shard_images % layout.chunk_images:
            raise ValueError(f"shards of {layout.shard_images} images in chunks of {layout.chunk_images}")
        if layout.n_shards * len(channels) > MAX_FILES or layout.n_chunks * len(channels) > MAX_CHUNKS:
            raise ValueError(f"more than {MAX_FILES} files or {MAX_CHUNKS} chunks")
        return layout

    @property
    def n_shards(self) -> int:
        """Number of shards of an array."""
        return -(-self.n_images // self.shard_images)

    @property
    def shards(self) -> Sequence[tuple[int, int]]:
        """The row range (start, stop) of every shard."""
        return _Ranges(self.n_images, self.shard_images)

    def arrays(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of one image in every array of tokens, by the path of the array."""
        return self._arrays

    @cached_property
    def _arrays(self) -> Mapping[str, tuple[int, ...]]:
        shapes = {
            f"{kind}/{layer.name}": (*self.grid, layer.channels) if kind == "local" else (layer.channels,)
            for kind in KINDS
            for layer in self.layers
        }
        with_registers = [layer for layer in self.layers if layer.n_registers]
        return shapes | {f"{REGISTER}/{one.name}": (one.n_registers, one.channels) for one in with_registers}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of stored tokens, each a folder of arrays."""
        return (*KINDS, REGISTER) if any(layer.n_registers for layer in self.layers) else KINDS

    @property
    def n_chunks(self) -> int:
        """Number of chunks of an array."""
        return -(-self.n_images // self.chunk_images)

    def shard_chunks(self, shard: int) -> int:
        """Return the number of chunks in a shard of an array."""
        start, stop = self.shards[shard]
        return -(-(stop - start) // self.chunk_images)

    def token_files(self, shard: int) -> dict[str, str]:
        """Return the file that holds the rows of a shard, by array."""
        return {array: self.token_file(array, shard) for array in self.arrays()}

    def token_file(self, array: str, shard: int) -> str:
        """Return the name of the file that holds the rows of a shard of an array."""
        return _chunk_file(array, shard, 1 + len(self._arrays[array]))

    def shard_files(self, shard: int) -> list[str]:
        """Return the names of all files of a shard, including its scales."""
        scales = [_chunk_file(f"{SCALE}/{array}", shard, 2) for array in self.arrays() if self.precision.scaled]
        return [*self.token_files(shard).values(), *scales]

    def image_bytes(self) -> int:
        """Return the size in bytes of the tokens of one image, before compression."""
        size = np.dtype(self.precision.stored).itemsize
        return size * sum(int(np.prod(shape)) for shape in self.arrays().values())

    def token_bytes(self) -> int:
        """Return the size in bytes of all token files; an estimate if the precision is compressed."""
        chunks = self.n_chunks * len(self.arrays()) * CHUNK_BYTES
        return round(self.n_images * self.image_bytes() * self.precision.ratio) + chunks

    def disk_bytes(self) -> int:
        """Return the estimated size in bytes of the whole store, including its manifest."""
        n_arrays = len(self.arrays())
        seal = self.n_shards * len(self.shard_files(0)) * RECORD_BYTES + self.n_chunks * n_arrays * CHECKSUM_BYTES
        return self.token_bytes() + seal + n_arrays * METADATA_BYTES + self.n_images * IMAGE_BYTES


class _Ranges(Sequence[tuple[int, int]]):
    """Consecutive row ranges of equal size (the last may be smaller), computed on demand."""

    def __init__(self, n: int, size: int) -> None:
        self._starts, self._n, self._size = range(0, n, size), n, size

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, at: int) -> tuple[int, int]: ...

    @overload
    def __getitem__(self, at: slice) -> list[tuple[int, int]]: ...

    def __getitem__(self, at: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        if isinstance(at, slice):
            return [self._range(start) for start in self._starts[at]]
        return self._range(self._starts[at])

    def _range(self, start: int) -> tuple[int, int]:
        return start, min(start + self._size, self._n)


def empty_files(layout: Layout, ids: Sequence[str], images: Sequence[str], header: dict[str, Any]) -> dict[str, bytes]:
    """Return the files of a store without tokens: Zarr's metadata, the stimulus ids and the hashes of the images.

    Parameters
    ----------
    ids : sequence of str
        Stimulus ids, in the order of the rows.
    images : sequence of str
        SHA-256 of every image file, hexadecimal.
    header : dict
        Also stored as the attribute `bddn` of the group.
    """
    files, stimulus, hashes = _empty_group(layout, header)
    stimulus[:] = np.array(ids, dtype=object)
    hashes[:] = Hashes.of(images).rows
    return _as_bytes(files)


def metadata_files(layout: Layout, header: dict[str, Any]) -> dict[str, bytes]:
    """Return the Zarr metadata files of a store, by name."""
    return _as_bytes(_empty_group(layout, header)[0])


def _empty_group(
    layout: Layout, header: dict[str, Any]
) -> tuple[dict[str, Buffer], "zarr.Array[Any]", "zarr.Array[Any]"]:
    """Return the in-memory files of a group with all arrays of a store, empty, and its arrays of ids and hashes."""
    files: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(files), attributes={"bddn": header})
    n, dimensions = layout.n_images, ("stimulus",)
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        stimulus = group.create_array(
            IDS,
            shape=(n,),
            dtype=str,
            chunks=(n,),
            dimension_names=dimensions,
            chunk_key_encoding=_KEYS,
            config=_WRITE_ALL,
        )
    hashes = group.create_array(
        IMAGES,
        shape=(n, 32),
        dtype="uint8",
        chunks=(n, 32),
        compressors=[Crc32cCodec()],
        dimension_names=(*dimensions, "byte"),
        chunk_key_encoding=_KEYS,
        config=_WRITE_ALL,
    )
    kinds = layout.kinds
    for kind in (*kinds, *([SCALE, *(f"{SCALE}/{kind}" for kind in kinds)] if layout.precision.scaled else [])):
        group.create_group(kind)
    for path, shape in layout.arrays().items():
        _create(group, layout, path, shape)
    return files, stimulus, hashes


def _as_bytes(files: Mapping[str, Buffer]) -> dict[str, bytes]:
    """Return the content of the files, with consolidated metadata in that of the group.

    With it zarr lists no folder, and never meets `manifest`, which is no array. It is written as zarr writes it, whose
    own function warns, and fails in an optimized Python (-O).
    """
    content = {name: bytes(buffer.to_bytes()) for name, buffer in files.items()}
    members = {}
    for name in sorted((n for n in content if n.endswith("/" + _METADATA)), key=lambda n: (n.count("/"), n)):
        member = json.loads(content[name])
        is_group = member["node_type"] == "group"
        members[name.removesuffix("/" + _METADATA)] = _consolidated(member, {}) if is_group else member
    group = _consolidated(json.loads(content[_METADATA]), members)
    return content | {_METADATA: json.dumps(group, indent=2).encode()}


def _consolidated(group: dict[str, Any], members: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a group, with those of its members."""
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    node_type = group.pop("node_type")
    return {**group, "consolidated_metadata": consolidated, "node_type": node_type}


def shard_bytes(layout: Layout, shard: int, filled: Mapping[str, TokenRows]) -> dict[str, bytes]:
    """Encode the rows of one shard, and return the content of its files, by name.

    Parameters
    ----------
    shard : int
    filled : mapping
        By path ('local/LAYER', 'global/LAYER', …), all rows of the shard, as `Precision.fill` returns them.
    """
    start, stop = layout.shards[shard]
    shapes, kept = layout.arrays(), layout.precision
    files: dict[str, bytes] = {}
    for path, rows in filled.items():
        assert rows.shape == (stop - start, *shapes[path]), f"{path}: {rows.shape}"
        assert rows.dtype == kept.filled, f"{path}: {rows.dtype}"
        stored, scale = kept.finish(rows)
        files[layout.token_file(path, shard)] = encode_shard(
            stored,
            layout.chunk_images,
            layout.shard_images,
            kept.fill_value,
            numcodecs.Zstd(ZSTD_LEVEL).encode if kept.compressed else None,
        )
        if scale is not None:
            files[_chunk_file(f"{SCALE}/{path}", shard, 2)] = scale.tobytes() + checksum(scale)
    return files


def _create(group: zarr.Group, layout: Layout, path: str, shape: tuple[int, ...]) -> None:
    channels = f"channel_{shape[-1]}"  # layers may differ in width, and one name must mean one size
    between = {1: (), 2: (f"register_{shape[0]}",), 3: ("row", "column")}[len(shape)]
    kept = layout.precision
    group.create_array(
        path,
        shape=(layout.n_images, *shape),
        dtype=kept.stored,
        chunks=(layout.chunk_images, *shape),
        shards=(layout.shard_images, *shape),
        compressors=[*([ZstdCodec(level=ZSTD_LEVEL)] if kept.compressed else []), Crc32cCodec()],
        fill_value=kept.fill_value,
        dimension_names=("stimulus", *between, channels),
        chunk_key_encoding=_KEYS,
        attributes={"precision": kept.name},
        config=_WRITE_ALL,
    )
    if kept.scaled:
        group.create_array(
            f"{SCALE}/{path}",
            shape=(layout.n_shards, shape[-1]),
            dtype="float32",
            chunks=(1, shape[-1]),
            compressors=[Crc32cCodec()],
            fill_value=float("nan"),
            dimension_names=("shard", channels),
            chunk_key_encoding=_KEYS,
            config=_WRITE_ALL,
        )


def _chunk_file(array: str, first: int, n_dimensions: int) -> str:
    return f"{array}/" + ".".join(["c", str(first), *("0" for _ in range(n_dimensions - 1))])


_METADATA = "zarr.json"
_FILTERS = threading.Lock()  # warning filters belong to the process: a thread would restore those of another one
_KEYS: Any = {"name": "default", "separator": "."}  # so that a shard is one file, not a file in three folders
_WRITE_ALL: Any = {"write_empty_chunks": True}  # so that a missing chunk is never taken for an empty one
