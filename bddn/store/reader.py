"""Open a sealed feature cache and read tokens. Every byte is checked against the manifest."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from torch import Tensor

from bddn.errors import CorruptStoreError, MismatchError, StoreError
from bddn.store import manifest
from bddn.store.canonical import digest_of_texts
from bddn.store.contents import Contents
from bddn.store.files import Files
from bddn.store.hashes import Hashes
from bddn.store.layout import ALIASES, IDS, IMAGES, SCALE, Layer, Layout, metadata_files
from bddn.store.precision import Scale, TokenRows
from bddn.store.remote import open_files
from bddn.store.shards import Shards
from bddn.store.verified import VerifiedStore
from bddn.text import shorten


class Cache:
    """A sealed store. Opening it checks the manifest and the sizes of all files; reading checks the bytes.

    Parameters
    ----------
    place : str or Path
        A folder, or a URL that fsspec can open.

    Attributes
    ----------
    name : str
        The last part of the path, without '.zarr'.
    ids : tuple of str
        Stimulus ids, in the order of the rows.
    images : Hashes
        SHA-256 of the image files, or of their pixels if several datasets were extracted together; a sequence of str.
    row_of : dict of str to int
        The row of every id. An image may have several; `ids` has the first.
    layers : tuple of Layer
        The stored layers, early to late.
    grid : (int, int)
        Rows and columns of the local tokens.
    digest : str
        SHA-256 that identifies the content: header and every file.
    header : dict
        The settings and inputs that determined the content.
    contents : dict of Contents
        Statistics of every array of tokens, by path.

    Raises
    ------
    IncompleteStoreError
        If the store is not sealed.
    CorruptStoreError
        If the manifest or metadata differ from the seal, or a file is missing or has another size.
    StoreError
        If there is no store at `place`.
    """

    def __init__(self, place: str | Path) -> None:
        self.files: Files = open_files(place)
        self.header: dict[str, Any] = manifest.read_header(self.files)
        seal = manifest.read_seal(self.files, self.header)
        bad = manifest.wrong_sizes(self.files, seal["files"])
        if bad:
            raise manifest.corrupt(self.files, bad)
        self.records: dict[str, manifest.Record] = seal["files"]
        self.layout: Layout = manifest.read_layout(self.files, self.header)
        self.digest: str = seal["digest"]
        try:
            self.contents = {path: Contents(**found) for path, found in seal["layers"].items()}
        except TypeError as error:
            raise manifest.corrupt(self.files, [f"{manifest.SEAL}: {error}"]) from error
        self.name = self.files.place.rstrip("/").rpartition("/")[2].removesuffix(".zarr")
        self.layers, self.grid = self.layout.layers, self.layout.grid
        self._shards, self._scales = Shards(self.files, self.layout, self.records), dict[str, Scale]()
        _check_metadata(self)
        try:
            self._group = zarr.open_group(VerifiedStore(self.files, self.records), mode="r", use_consolidated=False)
            ids, images = _rows(self._group)
        except StoreError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # errors of zarr
            raise manifest.corrupt(self.files, [f"{IDS} or {IMAGES}: {error}"]) from error
        claimed = [self.header.get(key) for key in ("stimuli_sha256", "images_sha256")]
        if [digest_of_texts(ids), digest_of_texts(images)] != claimed:
            raise CorruptStoreError(
                f"{self.files.place}/{IDS}", expected="the sealed stimulus ids", got="other ids", fix=manifest.RESTORE
            )
        self.ids, self.images = tuple(ids), images
        self.row_of = {stimulus: row for row, stimulus in enumerate(self.ids)}
        self.row_of |= {alias: self.row_of[own] for alias, own in self.header.get(ALIASES, {}).items()}

    def select_layers(self, names: tuple[str, ...] | None) -> tuple[Layer, ...]:
        """Return the stored layers with these names, in this order; None means all layers.

        Raises
        ------
        MismatchError
            If a layer is not stored.
        """
        by_name = {layer.name: layer for layer in self.layers}
        missing = [name for name in names or () if name not in by_name]
        if names is not None and (not names or len(set(names)) < len(names)):
            raise MismatchError(
                f"cache '{self.files.place}'",
                expected="at least one layer, and each once",
                got=f"{list(names)}",
                fix="Give each layer once.",
            )
        if missing:
            raise MismatchError(
                f"cache '{self.files.place}'",
                expected=f"layers among {self.layers[0].name} … {self.layers[-1].name}",
                got=f"'{missing[0]}', which is not stored",
                fix="Choose stored layers, or add it to the cache spec and run 'bddn extract' again.",
            )
        return self.layers if names is None else tuple(by_name[name] for name in names)

    def read(self, kind: str, layer: str, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop` of a layer: 'local' (n, H, W, C), 'global' (n, C), or, where they are stored,
        'register' (n, R, C).

        The data type follows the stored precision: float16 (also for bitround), bfloat16, or float32 (also for int8).

        Raises
        ------
        MismatchError
            If there are no such tokens or rows.
        CorruptStoreError
            If any byte that was read differs from the seal.
        """
        path, n = f"{kind}/{layer}", len(self.ids)
        whole = isinstance(start, int | np.integer) and isinstance(stop, int | np.integer)
        arrays = self.layout.arrays()
        if path not in arrays or not whole or not 0 <= start <= stop <= n:
            raise MismatchError(
                f"cache '{self.files.place}'",
                expected=f"one of {shorten([*arrays])}, and rows from 0 to {n}",
                got=f"'{path}', rows {start!r} to {stop!r}",
                fix="Give kind, name of the layer, and first and last row + 1.",
            )
        return self.layout.precision.decode(self._shards.read(path, start, stop), self._scale(path, start, stop))

    def read_chunks(self, kind: str, layer: str, first: int, into: TokenRows) -> None:
        """Read consecutive chunks of one shard, from chunk number `first`, into the contiguous array `into`, whose
        length is a multiple of chunk_images.

        The values are those of `read`; bfloat16 is given as its bits in uint16. Rows past the last image are undefined.
        It raises the errors of `read`.
        """
        path = f"{kind}/{layer}"
        row = first * self.layout.chunk_images
        scale = self._scale(path, row, row + 1)
        stored = into if scale is None else np.empty(into.shape, self.layout.precision.stored)
        self._shards.read_chunks(path, first, stored)
        if scale is not None:
            np.multiply(stored, scale.reshape(-1), out=into)

    def _scale(self, path: str, start: int, stop: int) -> Scale | None:
        """Return the scale (n, C) of every row, or None if the precision has no scale."""
        if not self.layout.precision.scaled:
            return None
        if path not in self._scales:
            try:
                scales: Any = self._group[f"{SCALE}/{path}"]
                self._scales[path] = scales[:]
            except StoreError:
                raise
            except (ValueError, RuntimeError) as error:  # errors of zarr
                raise manifest.corrupt(self.files, [f"{SCALE}/{path}: {error}"]) from error
        found: Scale = self._scales[path][np.arange(start, stop) // self.layout.shard_images]
        return found


def read_images(files: Files) -> list[tuple[str, str]]:
    """Return the stimulus id and SHA-256 of every image of a store, sealed or not; [] if it has none."""
    names = [f"{IDS}/zarr.json", f"{IDS}/c.0", f"{IMAGES}/zarr.json", f"{IMAGES}/c.0.0", "zarr.json"]
    found = {name: data for name in names if (data := files.read(name)) is not None}
    records = {name: manifest.file_record(data) for name, data in found.items()}
    try:
        group = zarr.open_group(VerifiedStore(files, records), mode="r", use_consolidated=False)
        return list(zip(*_rows(group), strict=True))
    except (CorruptStoreError, KeyError, ValueError, RuntimeError):
        return []  # an unfinished store may not have them yet


def first_difference(a: Sequence[object], b: Sequence[object]) -> int | None:
    """Return the first row in which two lists differ, up to the shorter length, or None."""
    return next((row for row, (left, right) in enumerate(zip(a, b, strict=False)) if left != right), None)


def _rows(group: zarr.Group) -> tuple[list[str], Hashes]:
    stimulus: Any = group[IDS]
    image: Any = group[IMAGES]
    return [str(i) for i in stimulus[:]], Hashes(image[:])


def _check_metadata(cache: Cache) -> None:
    """Check that Zarr's metadata agree with the header, have checksums, and name no codec that could run code."""
    for name, data in metadata_files(cache.layout, cache.header).items():
        found = cache.files.read(name) or b""
        try:
            expected = _signature(json.loads(data))
            alike = expected, expected | {"consolidated": {}}  # earlier versions did not consolidate the group's
            same = manifest.is_recorded(found, cache.records[name]) and _signature(json.loads(found)) in alike
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            same = False
        if not same:
            raise CorruptStoreError(
                f"{cache.files.place}/{name}",
                expected="the array that the header describes, every chunk with a checksum",
                got="different metadata",
                fix=manifest.RESTORE,
            )


def _signature(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata that determine how bytes are decoded, without what differs between versions of zarr."""
    keys = ("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value")
    known = {*keys, "dimension_names", "storage_transformers", "codecs", "attributes", "consolidated_metadata"}
    consolidated = (metadata.get("consolidated_metadata") or {}).get("metadata", {})
    return {
        **{key: metadata.get(key) for key in (*keys, "dimension_names")},
        "extensions": sorted(metadata.keys() - known),
        "storage_transformers": metadata.get("storage_transformers") or [],
        "codecs": [_codec(codec) for codec in metadata.get("codecs", [])],
        "consolidated": {path: _signature(member) for path, member in consolidated.items()},
    }


def _codec(codec: dict[str, Any]) -> Any:
    inner = codec.get("configuration", {})
    if codec["name"] != "sharding_indexed":
        return codec["name"], inner.get("endian")
    chains = [[_codec(c) for c in inner[chain]] for chain in ("codecs", "index_codecs")]
    return codec["name"], inner["chunk_shape"], inner.get("index_location"), chains
