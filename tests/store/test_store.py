"""What was written is what is read; anything else is an error that names the file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bddn.errors import BackboneError, CorruptStoreError, IncompleteStoreError, MismatchError, SpecError, StoreError
from bddn.store.layout import Layer, Layout
from bddn.store.precision import to_stored
from bddn.store.reader import Cache
from bddn.store.writer import Writer

Arrays = dict[str, np.ndarray]

LAYOUT = Layout(
    n_images=10,
    layers=(Layer("early", 3), Layer("step@20.block_1", 5)),
    grid=(2, 3),
    precision="float16",
    chunk_images=2,
    shard_images=4,
)
IDS = [f"nsd-{7 * i:05d}" for i in range(10)]
IDENTITY: dict[str, Any] = {
    "n_images": 10,
    "images_sha256": "1" * 64,
    "layers": [{"name": layer.name, "channels": layer.channels} for layer in LAYOUT.layers],
    "spec": {"grid": [2, 3], "precision": "float16", "chunk_images": 2, "shard_images": 4, "global_token": "cls"},
    "backbone": {"weights_sha256": "2" * 64},
}


def writer(root: Path, **changes: Any) -> Writer:
    return Writer(root, LAYOUT, IDS, IDENTITY | changes)


def rows(arrays: Arrays, shard: int) -> Arrays:
    start, stop = LAYOUT.shards[shard]
    return {path: array[start:stop] for path, array in arrays.items()}


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """Tokens of every size that float16 has, signs and zeros included."""
    rng = np.random.default_rng(0)
    made = {}
    for path, shape in LAYOUT.arrays().items():
        values = rng.normal(size=(10, *shape)) * 10.0 ** rng.uniform(-7, 4, (10, *shape))
        made[path] = np.clip(values, -65_504, 65_504).astype(np.float16)
        made[path][0].flat[:3] = [65_504, -0.0, 6e-8]
    return made


@pytest.fixture(scope="module")
def kept(arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed store; read only."""
    root = tmp_path_factory.mktemp("stores") / "kept.zarr"
    made = writer(root)
    for shard in range(3):
        made.write(shard, rows(arrays, shard))
    made.seal()
    return root


@pytest.fixture
def store(kept: Path, tmp_path: Path) -> Path:
    """A sealed store, to be damaged."""
    return Path(shutil.copytree(kept, tmp_path / "store.zarr"))


@pytest.fixture
def unsealed(arrays: Arrays, tmp_path: Path) -> Path:
    """A store with two of its three shards."""
    root = tmp_path / "unsealed.zarr"
    made = writer(root)
    for shard in range(2):
        made.write(shard, rows(arrays, shard))
    return root


def test_every_number_reads_back_as_it_was_written(kept: Path, arrays: Arrays) -> None:
    cache = Cache(kept)
    for path, array in arrays.items():
        kind, layer = path.split("/")
        found = cache.read(kind, layer, 0, 10)
        assert found.dtype == np.float16
        assert np.array_equal(found.view(np.uint16), array.view(np.uint16))


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (3, 5), (2, 9), (9, 10), (4, 4)])
def test_any_range_of_rows_reads_back(kept: Path, arrays: Arrays, start: int, stop: int) -> None:
    found = Cache(kept).read("local", "early", start, stop)
    assert np.array_equal(found, arrays["local/early"][start:stop])


def test_a_cache_knows_its_ids_layers_grid_and_header(kept: Path) -> None:
    cache = Cache(kept)
    assert cache.ids == tuple(IDS)
    assert cache.layers == LAYOUT.layers
    assert cache.grid == (2, 3)
    assert cache.layout == LAYOUT
    assert {key: cache.header[key] for key in IDENTITY} == IDENTITY


def test_layers_are_chosen_by_name_in_the_order_asked_for(kept: Path) -> None:
    cache = Cache(kept)
    assert cache.select_layers(None) == LAYOUT.layers
    assert cache.select_layers(("step@20.block_1", "early")) == LAYOUT.layers[::-1]


def test_a_layer_that_is_not_stored_is_a_mismatch(kept: Path) -> None:
    with pytest.raises(MismatchError, match="'late', which is not stored"):
        Cache(kept).select_layers(("early", "late"))


def test_zarr_alone_reads_arrays_axes_and_ids(kept: Path, arrays: Arrays) -> None:
    group = zarr.open_group(kept, mode="r")
    stimulus: Any = group["stimulus"]
    assert stimulus[:].tolist() == IDS
    for path, values in arrays.items():
        array: Any = group[path]
        assert np.array_equal(array[:], values)
        axes = ("row", "column") if path.startswith("local") else ()
        assert array.metadata.dimension_names == ("stimulus", *axes, f"channel_{values.shape[-1]}")


def test_the_groups_attributes_say_what_the_store_is_of(kept: Path) -> None:
    attributes: Any = zarr.open_group(kept, mode="r").attrs["bddn"]
    assert attributes == json.loads((kept / "manifest/header.json").read_text())


@pytest.mark.parametrize("path", sorted(LAYOUT.arrays()))
def test_every_chunk_carries_a_checksum_and_what_is_absent_reads_as_nan(kept: Path, path: str) -> None:
    metadata = json.loads((kept / path / "zarr.json").read_text())
    (sharding,) = metadata["codecs"]
    assert sharding["configuration"]["codecs"][-1]["name"] == "crc32c"
    assert sharding["configuration"]["index_codecs"][-1]["name"] == "crc32c"
    assert metadata["fill_value"] == "NaN"


def test_a_shard_is_one_file_of_whole_chunks(kept: Path) -> None:
    shards = [path for path in files(kept) if path.startswith("local/early/c/")]
    assert sorted(shards) == [f"local/early/c/{k}/0/0/0" for k in range(3)]
    array: Any = zarr.open_group(kept, mode="r")["local/early"]
    assert (array.chunks, array.shards) == ((2, 2, 3, 3), (4, 2, 3, 3))


def test_the_same_content_gives_the_same_bytes_and_digest(kept: Path, arrays: Arrays, tmp_path: Path) -> None:
    again = writer(tmp_path / "again.zarr")
    for shard in (2, 0, 1):
        again.write(shard, rows(arrays, shard))
    assert again.seal() == again.digest() == Cache(kept).digest
    assert files(tmp_path / "again.zarr") == files(kept)


def test_other_content_gives_another_digest(kept: Path, arrays: Arrays, tmp_path: Path) -> None:
    changed = {path: array.copy() for path, array in arrays.items()}
    changed["global/early"][9, 2] += np.float16(1)
    other = writer(tmp_path / "other.zarr")
    for shard in range(3):
        other.write(shard, rows(changed, shard))
    assert other.seal() != Cache(kept).digest


def test_a_shard_of_zeros_is_kept_like_any_other(arrays: Arrays, tmp_path: Path) -> None:
    zeros = {path: np.zeros_like(array) for path, array in arrays.items()}
    made = writer(tmp_path / "zeros.zarr")
    for shard in range(3):
        made.write(shard, rows(zeros if shard == 1 else arrays, shard))
    assert made.pending() == []
    made.seal()
    cache = Cache(tmp_path / "zeros.zarr")
    assert not cache.read("local", "early", 4, 8).any()
    assert np.array_equal(cache.read("local", "early", 8, 10), arrays["local/early"][8:])


def test_rows_of_another_shape_are_never_stretched_to_fit(arrays: Arrays, tmp_path: Path) -> None:
    made = writer(tmp_path / "store.zarr")
    one = {path: array[:1] for path, array in arrays.items()}
    with pytest.raises(AssertionError, match="local/early"):
        made.write(0, one)
    assert made.pending() == [0, 1, 2]


# --- damage after sealing


def flip(path: Path, offset: int, mask: int = 0x01) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


def swap(a: Path, b: Path) -> None:
    first, second = a.read_bytes(), b.read_bytes()
    assert first != second
    a.write_bytes(second)
    b.write_bytes(first)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


DAMAGE: list[Callable[[Path], object]] = [lambda p: flip(p, 5), lambda p: p.write_bytes(b""), lambda p: p.unlink()]
DAMAGE_IDS = ["flipped", "emptied", "deleted"]


def refused(store: Path, name: str, kind: type[StoreError] = CorruptStoreError) -> None:
    with pytest.raises(kind) as caught:
        Cache(store)
    assert name in str(caught.value)
    assert str(store) in str(caught.value)


@pytest.mark.parametrize("name", ["local/early/c/1/0/0/0", "global/step@20.block_1/c/2/0", "stimulus/c/0"])
def test_a_flipped_bit_anywhere_in_a_file_of_data_is_found(store: Path, name: str) -> None:
    for offset in range((store / name).stat().st_size):
        flip(store / name, offset, 1 << offset % 8)
        refused(store, name)
        flip(store / name, offset, 1 << offset % 8)
    Cache(store)


def test_a_flipped_bit_in_any_file_is_found(store: Path) -> None:
    for name, data in files(store).items():
        for offset in (0, len(data) // 3, len(data) - 2):
            flip(store / name, offset)
            refused(store, name.split("/")[0], StoreError)
            flip(store / name, offset)
    Cache(store)


@pytest.mark.parametrize("name", ["header.json", "seal.json"])
def test_a_flipped_bit_anywhere_in_the_manifest_is_found(store: Path, name: str) -> None:
    path = store / "manifest" / name
    for offset in range(0, path.stat().st_size - 1, 3):  # the last byte is a line's end
        flip(path, offset, 0x02)
        refused(store, "manifest" if name == "seal.json" else "", StoreError)
        flip(path, offset, 0x02)
    Cache(store)


@pytest.mark.parametrize("kept_share", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["local/early/c/0/0/0/0", "global/early/c/2/0", "stimulus/c/0", "local/zarr.json"])
def test_a_file_cut_short_is_found(store: Path, name: str, kept_share: float) -> None:
    data = (store / name).read_bytes()
    (store / name).write_bytes(data[: int(len(data) * kept_share)])
    refused(store, name)


@pytest.mark.parametrize("name", ["header.json", "seal.json"])
@pytest.mark.parametrize("kept_share", [0, 0.5, 0.99])
def test_a_manifest_cut_short_is_found(store: Path, name: str, kept_share: float) -> None:
    path = store / "manifest" / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept_share)])
    refused(store, name)


def test_every_deleted_file_is_found(store: Path) -> None:
    for name, data in files(store).items():
        (store / name).unlink()
        refused(store, "unfinished" if name == "manifest/seal.json" else name, StoreError)
        (store / name).write_bytes(data)
    Cache(store)


def test_bytes_added_to_a_shard_are_found(store: Path) -> None:
    with (store / "local/early/c/0/0/0/0").open("ab") as file:
        file.write(bytes(100))
    refused(store, "local/early/c/0/0/0/0")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("local/early/c/0/0/0/0", "local/early/c/1/0/0/0"),
        ("global/early/c/0/0", "global/early/c/1/0"),
        ("local/early/c/0/0/0/0", "local/step@20.block_1/c/0/0/0/0"),
        ("local/early/zarr.json", "local/step@20.block_1/zarr.json"),
    ],
)
def test_files_that_changed_places_are_found(store: Path, a: str, b: str) -> None:
    swap(store / a, store / b)
    refused(store, a)
    refused(store, b)


def test_a_shard_that_became_a_folder_is_found(store: Path) -> None:
    path = store / "local/early/c/0/0/0/0"
    path.unlink()
    path.mkdir()
    refused(store, "local/early/c/0/0/0/0")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(shape=[8, 2, 3, 3]),
        lambda m: m.update(shape=[12, 2, 3, 3]),
        lambda m: m.update(fill_value=0.0),
        lambda m: m.update(data_type="int16"),
        lambda m: m["codecs"][0]["configuration"]["codecs"].pop(),
        lambda m: m.update(dimension_names=["stimulus", "column", "row", "channel_3"]),
    ],
    ids=["cut", "grown", "fill value", "data type", "no checksum", "axes"],
)
def test_edited_zarr_metadata_is_found(store: Path, change: Callable[[Any], object]) -> None:
    edit(store / "local/early/zarr.json", change)
    refused(store, "local/early/zarr.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.update(images_sha256="3" * 64),
        lambda h: h.update(stimuli_sha256="3" * 64),
        lambda h: h.update(n_images=9),
        lambda h: h["spec"].update(grid=[3, 2]),
        lambda h: h["layers"].reverse(),
        lambda h: h["layers"][0].update(name="../early"),
        lambda h: h["spec"].update(shard_images=0),
        lambda h: h.update(note="mine"),
        lambda h: h.pop("backbone"),
        lambda h: h.pop("spec"),
        lambda h: h.pop("layers"),
        lambda h: h.update(spec=None),
    ],
    ids=["images", "ids", "n", "grid", "order", "name", "shards", "added", "cut", "no spec", "no layers", "null"],
)
def test_an_edited_header_is_found(store: Path, change: Callable[[Any], object]) -> None:
    edit(store / "manifest/header.json", change)
    refused(store, "manifest")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["files"].pop("local/early/c/0/0/0/0"),
        lambda s: s["files"]["local/early/c/0/0/0/0"].update(bytes=1),
        lambda s: s.update(digest="4" * 64),
        lambda s: s.pop("files"),
        lambda s: s.pop("digest"),
        lambda s: s.clear(),
    ],
    ids=["file removed", "size", "digest", "no files", "no digest", "empty"],
)
def test_an_edited_seal_is_found(store: Path, change: Callable[[Any], object]) -> None:
    edit(store / "manifest/seal.json", change)
    refused(store, "manifest")


@pytest.mark.parametrize("name", ["header.json", "seal.json"])
@pytest.mark.parametrize(
    "text", ["[]", "7", "null", "\xff", "[" * 100_000], ids=["list", "number", "null", "latin1", "deep"]
)
def test_a_manifest_that_is_no_object_is_found(store: Path, name: str, text: str) -> None:
    (store / "manifest" / name).write_bytes(text.encode("latin1"))
    refused(store, name)


def test_a_format_of_another_version_is_refused_by_its_number(store: Path) -> None:
    edit(store / "manifest/header.json", lambda h: h.update(format=2))
    refused(store, "format 2", StoreError)


@pytest.mark.parametrize("damage", DAMAGE, ids=DAMAGE_IDS)
def test_damage_after_opening_is_an_error_and_never_a_number(store: Path, damage: Callable[[Path], object]) -> None:
    cache = Cache(store)
    damage(store / "local/early/c/1/0/0/0")
    with pytest.raises(CorruptStoreError, match="local/early"):
        cache.read("local", "early", 4, 8)


# --- stores that are not finished, and folders that are no stores


def test_an_unsealed_store_is_refused_with_how_far_it_is(unsealed: Path) -> None:
    with pytest.raises(IncompleteStoreError, match="2 of 3 shards") as caught:
        Cache(unsealed)
    assert str(unsealed) in str(caught.value)


def test_a_store_that_has_just_been_made_is_refused(tmp_path: Path) -> None:
    writer(tmp_path / "new.zarr")
    with pytest.raises(IncompleteStoreError, match="0 of 3 shards"):
        Cache(tmp_path / "new.zarr")


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such folder", StoreError)
    refused(tmp_path, "no manifest/header.json", StoreError)


def test_a_zarr_store_of_someone_else_is_refused(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "theirs.zarr")
    refused(tmp_path / "theirs.zarr", "no manifest/header.json", StoreError)


def test_writing_goes_on_where_it_stopped(unsealed: Path, kept: Path, arrays: Arrays) -> None:
    again = writer(unsealed)
    assert again.pending() == [2]
    again.write(2, rows(arrays, 2))
    again.seal()
    assert files(unsealed) == files(kept)


def finish(root: Path, arrays: Arrays) -> None:
    again = writer(root)
    for shard in again.pending():
        again.write(shard, rows(arrays, shard))
    again.seal()


def test_a_shard_without_its_record_is_written_again(unsealed: Path, kept: Path, arrays: Arrays) -> None:
    (unsealed / "manifest/shard-000001.json").unlink()
    flip(unsealed / "local/early/c/1/0/0/0", 0)  # as a kill before the commit may leave it
    again = writer(unsealed)
    assert again.pending() == [1, 2]
    for shard in again.pending():
        again.write(shard, rows(arrays, shard))
    again.seal()
    assert files(unsealed) == files(kept)


@pytest.mark.parametrize("damage", DAMAGE, ids=DAMAGE_IDS)
def test_a_recorded_shard_that_was_damaged_since_is_written_again(
    unsealed: Path, damage: Callable[[Path], object]
) -> None:
    damage(unsealed / "local/early/c/1/0/0/0")
    assert writer(unsealed).pending() == [1, 2]


def test_metadata_that_was_edited_before_sealing_is_never_sealed(unsealed: Path, arrays: Arrays) -> None:
    edit(unsealed / "local/early/zarr.json", lambda m: m.update(data_type="int16", fill_value=0))
    with pytest.raises(CorruptStoreError, match="local/early"):
        finish(unsealed, arrays)


def test_a_damaged_record_is_refused_by_its_name(unsealed: Path) -> None:
    path = unsealed / "manifest/shard-000001.json"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CorruptStoreError, match=r"shard-000001\.json"):
        writer(unsealed).pending()


def test_leftovers_of_a_killed_writer_do_no_harm(unsealed: Path, kept: Path, arrays: Arrays) -> None:
    (unsealed / "local/early/c/2/0/0").mkdir(parents=True)
    (unsealed / "local/early/c/2/0/0/0.0123abcd.partial").write_bytes(b"half")
    (unsealed / "manifest/.shard-000002-x1.json").write_text("{")
    finish(unsealed, arrays)
    assert Cache(unsealed).digest == Cache(kept).digest


def test_a_sealed_store_has_nothing_to_do_and_is_not_touched(store: Path, kept: Path) -> None:
    again = writer(store)
    assert again.sealed
    assert again.pending() == []
    assert again.digest() == Cache(kept).digest
    assert files(store) == files(kept)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"images_sha256": "5" * 64}, "images_sha256"),
        ({"backbone": {"weights_sha256": "5" * 64}}, r"backbone\.weights_sha256"),
        ({"spec": IDENTITY["spec"] | {"global_token": "mean"}}, r"spec\.global_token cls → mean"),
        ({"backbone": {}}, r"backbone\.weights_sha256"),
    ],
)
@pytest.mark.parametrize("made", ["store", "unsealed"])
def test_writing_something_else_into_a_store_is_refused_by_the_field_that_differs(
    made: str, changes: dict[str, Any], field: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(made)
    before = files(root)
    with pytest.raises(MismatchError, match=f"differs in: {field}"):
        writer(root, **changes)
    assert files(root) == before


def test_writing_other_stimuli_into_a_store_is_refused(unsealed: Path) -> None:
    with pytest.raises(MismatchError, match="stimuli_sha256"):
        Writer(unsealed, LAYOUT, IDS[::-1], IDENTITY)


def test_a_folder_with_other_things_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("mine")
    with pytest.raises(StoreError, match="other things"):
        writer(tmp_path / "thesis")
    assert files(tmp_path) == {"thesis/chapter.tex": b"mine"}


def test_a_file_in_the_stores_place_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "store.zarr").write_text("mine")
    with pytest.raises(StoreError, match="a file"):
        writer(tmp_path / "store.zarr")
    assert files(tmp_path) == {"store.zarr": b"mine"}


def test_an_empty_folder_becomes_the_store_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "store.zarr").mkdir()
    assert writer(tmp_path / "store.zarr").pending() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["store.zarr"]


def test_a_store_that_could_not_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bddn.store.writer.write_json", full)
    with pytest.raises(OSError, match="No space"):
        writer(tmp_path / "store.zarr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "é"])
def test_a_layer_name_that_is_no_safe_folder_name_is_refused(name: str) -> None:
    with pytest.raises(SpecError):
        Layout(10, (Layer(name, 3),), (2, 3), "float16", 2, 4)


# --- precision


def test_numbers_are_rounded_to_the_nearest_half() -> None:
    values = np.array([[1.0, 1 + 2**-11 + 2**-14, -65_519.0, 1e-9]], np.float32)
    stored = to_stored(values, "float16", "local/early", ["nsd-1"])
    assert stored.dtype == np.float16
    assert stored.tolist() == [[1.0, 1 + 2**-10, -65_504.0, 0.0]]


@pytest.mark.parametrize(("value", "shown"), [(1e5, r"1e\+05"), (-70_000, r"7e\+04"), (np.inf, "inf"), (np.nan, "nan")])
def test_a_number_that_does_not_fit_is_refused_by_layer_image_and_size(value: float, shown: str) -> None:
    values = np.zeros((3, 2, 2), np.float32)
    values[1, 0, 1] = value
    with pytest.raises(BackboneError, match=f"local/early.*1 of 3 images.*'b'.*{shown}"):
        to_stored(values, "float16", "local/early", ["a", "b", "c"])


def test_float32_keeps_what_float16_cannot() -> None:
    values = np.array([[1e5, 1e-9]], np.float32)
    assert np.array_equal(to_stored(values, "float32", "local/early", ["a"]), values)
