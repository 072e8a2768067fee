"""What was written is what is read; anything else is an error that names the file."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from bddn.errors import BddnError, CorruptStoreError, MismatchError, StoreError
from bddn.store.reader import Cache
from store.stores import (
    DAMAGE,
    IDENTITY,
    IDS,
    IMAGES,
    LAYOUT,
    PRECISIONS,
    Arrays,
    N,
    as_read,
    edit,
    files,
    filled_with,
    finish,
    flip,
    layout_of,
    read,
    read_all,
    read_store,
    refused,
    refused_at_open,
    same,
    seal_again,
    swap,
    tokens,
    writer,
)

SHARD = "local/early/c.1.0.0.0"


@pytest.fixture(scope="module", params=PRECISIONS)
def any_precision(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A precision, and a sealed store in it."""
    layout, root = layout_of(request.param), tmp_path_factory.mktemp("precisions") / "store.zarr"
    finish(writer(root, layout), filled_with(tokens(layout), layout))
    return request.param, root


# --- what is there


@pytest.mark.parametrize(("start", "stop"), [(0, N), (0, 1), (3, 5), (2, 9), (9, 10), (4, 4)])
def test_any_range_of_rows_reads_back_in_any_precision(any_precision: tuple[str, Path], start: int, stop: int) -> None:
    name, root = any_precision
    layout, cache = layout_of(name), Cache(root)
    for path, expected in as_read(filled_with(tokens(layout), layout), layout).items():
        assert same(read(cache, path, start, stop), expected[start:stop])


def test_chunks_are_read_into_memory_in_any_precision(any_precision: tuple[str, Path]) -> None:
    name, root = any_precision
    layout, cache = layout_of(name), Cache(root)
    for path, shape in layout.arrays().items():
        kind, layer = path.split("/")
        for chunk, n_chunks in ((0, 1), (0, 2), (1, 1), (2, 2)):  # of two to a shard
            n_rows = n_chunks * layout.chunk_images
            into = torch.empty(n_rows, *shape, dtype=layout.precision.decoded)
            memory = into.view(torch.uint16) if into.dtype == torch.bfloat16 else into
            rows = memory.view(len(memory), -1, memory.shape[-1])  # places in one dimension, as a fit has them
            cache.read_chunks(kind, layer, chunk, rows.numpy())
            first = chunk * layout.chunk_images
            assert same(into, cache.read(kind, layer, first, first + n_rows))


@pytest.mark.parametrize("change", ["flip", "cut", "delete", "swap"])
def test_a_chunk_that_was_damaged_after_it_was_read_is_found(store: Path, change: str) -> None:
    cache, into = Cache(store), np.empty((2, 2, 3, 3), np.float16)
    cache.read_chunks("local", "early", 2, into)
    path = store / SHARD
    if change == "flip":
        flip(path, 5)
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:20])
    elif change == "delete":
        path.unlink()
    else:  # good bytes in another place
        path.write_bytes((store / "local/early/c.0.0.0.0").read_bytes())
    with pytest.raises(CorruptStoreError, match="early"):
        cache.read_chunks("local", "early", 2, into)


def test_a_cache_knows_its_ids_images_layers_grid_and_header(kept: Path) -> None:
    cache = Cache(kept)
    assert cache.ids == tuple(IDS)
    assert cache.images == tuple(IMAGES)
    assert cache.layers == LAYOUT.layers
    assert cache.grid == (2, 3)
    assert cache.layout == LAYOUT
    assert cache.name == "kept"
    assert cache.header["backbone"] == IDENTITY["backbone"]


def test_layers_are_chosen_by_name_in_the_order_asked_for(kept: Path) -> None:
    cache = Cache(kept)
    assert cache.select_layers(None) == LAYOUT.layers
    assert cache.select_layers(("step@20.block_1", "early")) == LAYOUT.layers[::-1]


def test_a_layer_that_is_not_stored_is_a_mismatch(kept: Path) -> None:
    with pytest.raises(MismatchError, match="'late', which is not stored"):
        Cache(kept).select_layers(("early", "late"))


# --- damage


@pytest.mark.parametrize("name", [SHARD, "global/step@20.block_1/c.2.0", "stimulus/c.0", "image_sha256/c.0.0"])
def test_a_flipped_bit_anywhere_in_a_file_of_data_is_found(store: Path, name: str) -> None:
    step = 1 if "stimulus" in name else 11
    for offset in range(0, (store / name).stat().st_size, step):
        flip(store / name, offset, 1 << offset % 8)
        refused(store, name)
        flip(store / name, offset, 1 << offset % 8)
    read_store(store)


def test_a_flipped_bit_in_any_file_is_found(store: Path) -> None:
    for name, data in files(store).items():
        for offset in (0, len(data) // 3, len(data) - 2):
            flip(store / name, offset)
            refused(store, name.split("/")[0], StoreError)
            flip(store / name, offset)
    read_store(store)


@pytest.mark.parametrize("kept_share", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["local/early/c.0.0.0.0", "global/early/c.2.0", "stimulus/c.0", "local/zarr.json"])
def test_a_file_cut_short_is_found_at_once(store: Path, name: str, kept_share: float) -> None:
    data = (store / name).read_bytes()
    (store / name).write_bytes(data[: int(len(data) * kept_share)])
    refused_at_open(store, name)


def test_every_deleted_file_is_found_at_once(store: Path) -> None:
    for name, data in files(store).items():
        (store / name).unlink()
        with pytest.raises(StoreError) as caught:
            Cache(store)
        assert ("unfinished" if name == "manifest/seal.json" else name) in str(caught.value)
        (store / name).write_bytes(data)
    read_store(store)


def test_bytes_added_to_a_shard_are_found_at_once(store: Path) -> None:
    DAMAGE["longer"](store / SHARD)
    refused_at_open(store, SHARD)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("local/early/c.0.0.0.0", "local/early/c.1.0.0.0"),
        ("global/early/c.0.0", "global/early/c.1.0"),
        ("local/early/c.0.0.0.0", "local/step@20.block_1/c.0.0.0.0"),
        ("local/early/zarr.json", "local/step@20.block_1/zarr.json"),
    ],
)
def test_files_that_changed_places_are_found(store: Path, a: str, b: str) -> None:
    swap(store / a, store / b)
    with pytest.raises(CorruptStoreError) as caught:
        read_store(store)
    assert a in str(caught.value) or b in str(caught.value)


def _link(path: Path) -> None:
    aside = path.parent.parent / "aside"
    path.rename(aside)
    path.symlink_to(aside)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


NO_FILES = {"link": _link, "pipe": _pipe, "folder": _folder}


@pytest.mark.parametrize("turn", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("name", [SHARD, "zarr.json", "stimulus/c.0", "manifest/header.json", "manifest/seal.json"])
def test_a_file_that_became_a_link_a_pipe_or_a_folder_is_refused_without_waiting(
    store: Path, turn: Callable[[Path], None], name: str
) -> None:
    turn(store / name)
    with pytest.raises(StoreError) as caught:
        Cache(store)
    assert name in str(caught.value) or "unfinished" in str(caught.value)


@pytest.mark.parametrize("turn", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("read_before", [False, True], ids=["at first reading", "when it had been read"])
def test_a_file_that_became_no_file_after_opening_is_refused_without_waiting(
    store: Path, turn: Callable[[Path], None], read_before: bool
) -> None:
    cache = Cache(store)
    if read_before:
        cache.read("local", "early", 4, 8)
    turn(store / SHARD)
    with pytest.raises(CorruptStoreError, match="local/early"):
        cache.read("local", "early", 4, 8)


@pytest.mark.parametrize("name", [SHARD, "local/early/zarr.json"])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("read_before", [False, True], ids=["at first reading", "when it had been read"])
def test_damage_after_opening_is_an_error_and_never_another_number(
    store: Path, filled: Arrays, damage: str, name: str, read_before: bool
) -> None:
    cache = Cache(store)
    if read_before:
        cache.read("local", "early", 4, 8)
    DAMAGE[damage](store / name)
    if name == SHARD and damage in {"flipped", "emptied", "deleted"}:
        with pytest.raises(CorruptStoreError, match="local/early"):
            cache.read("local", "early", 4, 8)
    else:
        with suppress(CorruptStoreError):
            assert same(cache.read("local", "early", 4, 8), as_read(filled)["local/early"][4:8])


@pytest.mark.parametrize("read_before", [False, True], ids=["at first reading", "when they had been read"])
def test_whole_shards_that_changed_places_after_opening_are_found(
    store: Path, filled: Arrays, read_before: bool
) -> None:
    """Each is good in itself, checksums of chunks included."""
    cache = Cache(store)
    if read_before:
        read_all(cache)
    swap(store / SHARD, store / "local/early/c.0.0.0.0")
    for start in (0, 4):
        with pytest.raises(CorruptStoreError, match=r"local/early/c\."):
            cache.read("local", "early", start, start + 4)
    swap(store / SHARD, store / "local/early/c.0.0.0.0")
    assert same(cache.read("local", "early", 0, N), as_read(filled)["local/early"])


def test_a_shard_that_was_overwritten_and_given_its_old_time_is_found(store: Path) -> None:
    cache, path, other = Cache(store), store / SHARD, store / "local/early/c.0.0.0.0"
    read_all(cache)
    before = path.stat()
    path.write_bytes(other.read_bytes())  # good in itself, and of the same size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CorruptStoreError, match="local/early"):
        cache.read("local", "early", 4, 8)


# --- a manifest that vouches for something else


def _sharding(metadata: Any) -> Any:
    return metadata["codecs"][0]["configuration"]


HOSTILE: dict[str, Callable[[Any], object]] = {
    "cut": lambda m: m.update(shape=[8, 2, 3, 3]),
    "grown": lambda m: m.update(shape=[12, 2, 3, 3]),
    "fill value": lambda m: m.update(fill_value=0.0),
    "data type": lambda m: m.update(data_type="int16"),
    "wide type": lambda m: m.update(data_type="float64"),
    "no checksum": lambda m: _sharding(m)["codecs"].pop(),
    "no checksum of the index": lambda m: _sharding(m)["index_codecs"].pop(),
    "index first": lambda m: _sharding(m).update(index_location="start"),
    "other bytes first": lambda m: _sharding(m)["codecs"][0]["configuration"].update(endian="big"),
    "other chunks": lambda m: _sharding(m).update(chunk_shape=[4, 2, 3, 3]),
    "zstd": lambda m: _sharding(m)["codecs"].insert(1, {"name": "zstd", "configuration": {"level": 1}}),
    "code": lambda m: _sharding(m)["codecs"].insert(0, {"name": "numcodecs.pickle", "configuration": {}}),
    "no shards": lambda m: m.update(codecs=[{"name": "bytes", "configuration": {"endian": "little"}}]),
    "no codecs": lambda m: m.pop("codecs"),
    "codec without a name": lambda m: m.update(codecs=[{}]),
    "codecs of text": lambda m: m.update(codecs=["bytes"]),
    "axes": lambda m: m.update(dimension_names=["stimulus", "column", "row", "channel_3"]),
    "keys": lambda m: m["chunk_key_encoding"]["configuration"].update(separator="/"),
    "transformers": lambda m: m.update(storage_transformers=[{"name": "x", "configuration": {}}]),
    "a group": lambda m: m.update(node_type="group"),
    "empty": lambda m: m.clear(),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("again", [False, True], ids=["edited", "sealed again"])
def test_metadata_that_does_not_describe_what_the_header_does_is_refused_at_once(
    store: Path, change: Callable[[Any], object], again: bool
) -> None:
    edit(store / "local/early/zarr.json", change)
    if again:
        seal_again(store)
    refused_at_open(store, "local/early/zarr.json")


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_consolidated_metadata_that_does_not_describe_what_the_header_does_is_refused_at_once(
    store: Path, change: Callable[[Any], object]
) -> None:
    edit(store / "zarr.json", lambda m: change(m["consolidated_metadata"]["metadata"]["local/early"]))
    seal_again(store)
    refused_at_open(store, "zarr.json")


@pytest.mark.parametrize("text", ["[]", "7", "null", "{", "\xff", "[" * 100_000])
@pytest.mark.parametrize("name", ["zarr.json", "local/zarr.json", "stimulus/zarr.json", "global/early/zarr.json"])
def test_metadata_that_is_no_json_object_is_refused_at_once(store: Path, name: str, text: str) -> None:
    (store / name).write_bytes(text.encode("latin1"))
    seal_again(store)
    refused_at_open(store, name)


@pytest.mark.parametrize("name", ["zarr.json", "local/early/zarr.json", "stimulus/zarr.json"])
def test_metadata_of_a_later_zarr_is_an_error_of_ours(store: Path, name: str) -> None:
    edit(store / name, lambda m: m.update(extension={"must_understand": True}))
    seal_again(store)
    with pytest.raises(BddnError):
        read_store(store)


@pytest.mark.parametrize("name", [SHARD, "stimulus/c.0", "image_sha256/c.0.0", "global/early/c.0.0"])
@pytest.mark.parametrize("damage", ["flipped", "emptied", "cut", "longer"])
def test_a_file_that_is_no_chunk_is_an_error_of_ours_though_it_was_sealed(store: Path, name: str, damage: str) -> None:
    DAMAGE[damage](store / name)
    seal_again(store)
    refused(store, "manifest" if damage == "emptied" else name.rpartition("/")[0])


def test_other_ids_are_refused_though_they_were_sealed(store: Path, tmp_path: Path) -> None:
    writer(tmp_path / "other.zarr", ids=IDS[::-1]).prepare()
    (store / "stimulus/c.0").write_bytes((tmp_path / "other.zarr/stimulus/c.0").read_bytes())
    seal_again(store)
    refused_at_open(store, "stimulus")


# --- folders that are no stores


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "nowhere", "no such folder", StoreError)
    refused(tmp_path, "no manifest/header.json", StoreError)
    refused(tmp_path / "file", "no such folder", StoreError)


def test_a_zarr_store_of_someone_else_is_refused(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "theirs.zarr")
    refused(tmp_path / "theirs.zarr", "no manifest/header.json", StoreError)


def test_a_manifest_without_data_is_refused(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest").mkdir()
    for name in ("header.json", "seal.json"):
        (tmp_path / "manifest" / name).write_bytes((kept / "manifest" / name).read_bytes())
    refused_at_open(tmp_path, "is missing")
    assert json.loads((tmp_path / "manifest/seal.json").read_text())["digest"] == Cache(kept).digest
