"""The manifest is the only truth: a change to it is found, and how far an unfinished store is can be read from it."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bddn.errors import BddnError, CorruptStoreError, IncompleteStoreError, StoreError
from bddn.store import manifest
from bddn.store.canonical import encode_json
from bddn.store.files import LocalFiles
from bddn.store.reader import Cache
from store.stores import PRECISIONS, Arrays, as_read, edit, flip, layout_of, read_store, same, seal_again, writer
from store.stores import refused_at_open as refused


def _means(data: bytes, whole: str) -> bool:
    """Whether JSON has kept its value, as by white space or the last digit of a long number."""
    try:
        return bool(json.loads(data) == json.loads(whole))
    except ValueError:
        return False


@pytest.mark.parametrize("name", ["header.json", "seal.json"])
def test_a_flipped_bit_anywhere_in_the_manifest_is_found(store: Path, name: str) -> None:
    path = store / "manifest" / name
    whole = path.read_text()
    for offset in range(0, len(whole), 5):
        flip(path, offset, 0x02)
        if not _means(path.read_bytes(), whole):
            refused(store, "manifest" if name == "seal.json" else "", StoreError)
        flip(path, offset, 0x02)
    Cache(store)


@pytest.mark.parametrize("name", ["header.json", "seal.json"])
@pytest.mark.parametrize("kept_share", [0, 0.5, 0.99])
def test_a_manifest_cut_short_is_found(store: Path, name: str, kept_share: float) -> None:
    path = store / "manifest" / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept_share)])
    refused(store, name)


@pytest.mark.parametrize("name", ["header.json", "seal.json"])
@pytest.mark.parametrize(
    "text", ["[]", "7", "null", "\xff", "[" * 100_000], ids=["list", "number", "null", "latin1", "deep"]
)
def test_a_manifest_that_is_no_object_is_found(store: Path, name: str, text: str) -> None:
    (store / "manifest" / name).write_bytes(text.encode("latin1"))
    refused(store, name)


def test_a_manifest_of_boundless_size_is_not_read_into_memory(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_JSON_BYTES", 1 << 20)
    with (store / "manifest/seal.json").open("ab") as file:
        file.write(b" " * (2 << 20))
    refused(store, "more than 1 MiB")


def test_a_format_of_another_version_is_refused_by_its_number(store: Path) -> None:
    edit(store / "manifest/header.json", lambda h: h.update(format=1))
    refused(store, "format 1", StoreError)


HEADER_EDITS: dict[str, Callable[[Any], object]] = {
    "images": lambda h: h.update(images_sha256="3" * 64),
    "ids": lambda h: h.update(stimuli_sha256="3" * 64),
    "n": lambda h: h.update(n_images=9),
    "grid": lambda h: h["spec"].update(grid=[3, 2]),
    "precision": lambda h: h["spec"].update(precision="bfloat16"),
    "order": lambda h: h["layers"].reverse(),
    "name": lambda h: h["layers"][0].update(name="../early"),
    "no shards": lambda h: h["spec"].update(shard_images=0),
    "no chunks": lambda h: h["spec"].update(chunk_images=0),
    "shards of half chunks": lambda h: h["spec"].update(shard_images=3),
    "no images": lambda h: h.update(n_images=-1),
    "countless images": lambda h: h.update(n_images=10**18),
    "half an image": lambda h: h.update(n_images=9.5),
    "no number": lambda h: h.update(n_images="10"),
    "no channels": lambda h: h["layers"][0].update(channels=0),
    "flat grid": lambda h: h["spec"].update(grid=[6]),
    "unknown precision": lambda h: h["spec"].update(precision="float8"),
    "bitround": lambda h: h["spec"].update(precision="bitround:x"),
    "added": lambda h: h.update(note="mine"),
    "nan": lambda h: h.update(note=float("nan")),
    "cut": lambda h: h.pop("backbone"),
    "no spec": lambda h: h.pop("spec"),
    "no layers": lambda h: h.pop("layers"),
    "null": lambda h: h.update(spec=None),
}


@pytest.mark.parametrize("change", HEADER_EDITS.values(), ids=HEADER_EDITS)
def test_an_edited_header_is_found(store: Path, change: Callable[[Any], object]) -> None:
    edit(store / "manifest/header.json", change)
    refused(store, "manifest")


@pytest.mark.parametrize("change", HEADER_EDITS.values(), ids=HEADER_EDITS)
def test_a_header_that_was_edited_and_sealed_again_is_an_error_of_ours_or_changes_no_number(
    store: Path, filled: Arrays, change: Callable[[Any], object]
) -> None:
    edit(store / "manifest/header.json", change)
    try:
        seal_again(store)
    except ValueError:
        return  # a NaN cannot even be sealed
    with suppress(BddnError):
        found = read_store(store)
        assert all(same(found[path], expected) for path, expected in as_read(filled).items())


SEAL_EDITS: dict[str, Callable[[Any], object]] = {
    "file removed": lambda s: s["files"].pop("local/early/c.0.0.0.0"),
    "file added": lambda s: s["files"].update({"more": s["files"]["zarr.json"]}),
    "size": lambda s: s["files"]["local/early/c.0.0.0.0"].update(bytes=1),
    "size as text": lambda s: s["files"]["local/early/c.0.0.0.0"].update(bytes="1"),
    "no size": lambda s: s["files"]["local/early/c.0.0.0.0"].pop("bytes"),
    "no record": lambda s: s["files"].update({"local/early/c.0.0.0.0": None}),
    "files a list": lambda s: s.update(files=[]),
    "no contents": lambda s: s.pop("layers"),
    "contents of nothing": lambda s: s.update(layers={}),
    "other contents": lambda s: s["layers"].update({"local/early": {"n": 1}}),
    "contents as text": lambda s: s["layers"].update({"local/early": "1"}),
}


@pytest.mark.parametrize("change", SEAL_EDITS.values(), ids=SEAL_EDITS)
@pytest.mark.parametrize("again", [False, True], ids=["edited", "sealed again"])
def test_an_edited_seal_is_found(store: Path, change: Callable[[Any], object], again: bool) -> None:
    if again:
        seal_again(store, change)
    else:
        edit(store / "manifest/seal.json", change)
    refused(store, str(store))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(digest="4" * 64),
        lambda s: s.pop("digest"),
        lambda s: s.pop("files"),
        lambda s: s["layers"]["local/early"].update(min=float("-inf")),
        lambda s: s.clear(),
    ],
    ids=["other digest", "no digest", "no files", "infinity", "empty"],
)
def test_a_seal_without_its_digest_is_found(store: Path, change: Callable[[Any], object]) -> None:
    edit(store / "manifest/seal.json", change)
    refused(store, "manifest")


@pytest.mark.parametrize("name", PRECISIONS)
def test_expected_files_are_those_that_a_writer_makes(name: str, tmp_path: Path) -> None:
    layout = layout_of(name)
    writer(tmp_path / "store.zarr", layout).prepare()
    made = LocalFiles(tmp_path / "store.zarr").sizes()
    shards = {file for shard in range(3) for file in layout.shard_files(shard)}
    assert set(manifest.expected_files(layout)) == {f for f in made if not f.startswith("manifest/")} | shards


def test_an_unsealed_store_is_refused_with_how_far_it_is(unsealed: Path) -> None:
    refused(unsealed, "2 of 3 shards are written; rows 8 to 9 are missing first", IncompleteStoreError)


def test_a_store_that_only_lacks_its_seal_is_refused(store: Path) -> None:
    (store / "manifest/seal.json").unlink()
    refused(store, "unfinished", IncompleteStoreError)


def test_a_store_that_has_just_been_made_is_refused(tmp_path: Path) -> None:
    writer(tmp_path / "new.zarr").prepare()
    refused(tmp_path / "new.zarr", "0 of 3 shards", IncompleteStoreError)


def test_a_record_that_was_changed_is_refused_by_its_name(unsealed: Path) -> None:
    files, path = LocalFiles(unsealed), unsealed / "manifest/shard-000001.json"
    assert manifest.read_record(files, 1) is not None
    assert manifest.read_record(files, 2) is None
    edit(path, lambda r: r["contents"]["local/early"].update(max=7))
    with pytest.raises(CorruptStoreError, match=r"shard-000001\.json"):
        manifest.read_record(files, 1)


def test_json_of_a_manifest_has_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_json({"min": float("nan")})
    assert json.loads(encode_json({"b": 1, "a": "é"})) == {"b": 1, "a": "é"}
