"""A store is written shard by shard, can stop anywhere and go on, and ends as the same bytes."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bddn.errors import CorruptStoreError, IncompleteStoreError, MismatchError, SpecError, StoreError
from bddn.store import manifest
from bddn.store.files import LocalFiles
from bddn.store.layout import MAX_FILES
from bddn.store.reader import Cache, read_images
from bddn.store.writer import Writer, new_header
from store.stores import (
    DAMAGE,
    IDENTITY,
    IDS,
    IMAGES,
    LAYOUT,
    PRECISIONS,
    SHARDS,
    Arrays,
    as_read,
    edit,
    files,
    filled_with,
    finish,
    flip,
    layout_of,
    lease_of,
    read_store,
    rows,
    same,
    tokens,
    write,
    writer,
)

SHARD = "local/early/c.1.0.0.0"


# --- the same content, the same bytes


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_same_content_gives_the_same_bytes_and_digest_in_any_order(
    kept: Path, filled: Arrays, tmp_path: Path, order: tuple[int, ...]
) -> None:
    again = writer(tmp_path / "again.zarr")
    again.prepare()
    for shard in order:
        assert again.pending() == sorted(set(SHARDS) - set(order[: order.index(shard)]))
        write(again, filled, [shard])
        assert again.is_committed(shard)
    assert not again.is_sealed
    assert again.seal() == again.digest() == Cache(kept).digest
    assert again.is_sealed
    assert files(tmp_path / "again.zarr") == files(kept)


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_precision_gives_the_same_bytes_again_and_reads_back_what_it_stored(name: str, tmp_path: Path) -> None:
    layout = layout_of(name)
    filled = filled_with(tokens(layout), layout)
    one, other = writer(tmp_path / "one.zarr", layout), writer(tmp_path / "other.zarr", layout)
    assert finish(one, filled) == finish(other, filled)
    assert files(tmp_path / "one.zarr") == files(tmp_path / "other.zarr")
    found = read_store(tmp_path / "one.zarr")
    assert all(same(found[path], expected) for path, expected in as_read(filled, layout).items())


def test_other_content_gives_another_digest(kept: Path, filled: Arrays, tmp_path: Path) -> None:
    changed = {path: array.copy() for path, array in filled.items()}
    changed["global/early"][9, 2] += np.float16(1)
    assert finish(writer(tmp_path / "other.zarr"), changed) != Cache(kept).digest


def test_a_shard_of_zeros_is_kept_like_any_other(filled: Arrays, tmp_path: Path) -> None:
    made = writer(tmp_path / "zeros.zarr")
    made.prepare()
    zeros = {path: array.copy() for path, array in filled.items()}
    for array in zeros.values():
        array[4:8] = 0
    write(made, zeros, SHARDS)
    assert made.pending() == []
    made.seal()
    found = read_store(tmp_path / "zeros.zarr")
    assert all(same(found[path], expected) for path, expected in as_read(zeros).items())


def test_rows_of_another_shape_are_never_committed(filled: Arrays, tmp_path: Path) -> None:
    made = writer(tmp_path / "store.zarr")
    made.prepare()
    with lease_of(made, 0) as lease, pytest.raises(AssertionError, match="local/early"):
        made.write(0, {path: array[:1] for path, array in filled.items()}, lease)
    assert made.pending() == [0, 1, 2]


# --- going on


def test_writing_goes_on_where_it_stopped(unsealed: Path, kept: Path, filled: Arrays) -> None:
    again = writer(unsealed)
    assert again.prepare() == []
    assert again.pending() == [2]
    assert again.pending([0, 1]) == []
    write(again, filled, [2])
    again.seal()
    assert files(unsealed) == files(kept)


def test_a_shard_without_its_record_is_written_again(unsealed: Path, kept: Path, filled: Arrays) -> None:
    (unsealed / "manifest/shard-000001.json").unlink()
    flip(unsealed / SHARD, 0)  # as a kill before the commit may leave it
    assert writer(unsealed).pending() == [1, 2]
    finish(writer(unsealed), filled)
    assert files(unsealed) == files(kept)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", [SHARD, "global/step@20.block_1/c.1.0"])
def test_a_recorded_shard_that_was_damaged_since_is_written_again(
    unsealed: Path, kept: Path, filled: Arrays, damage: Callable[[Path], object], name: str
) -> None:
    damage(unsealed / name)
    again = writer(unsealed)
    assert again.pending() == [1, 2]
    assert not again.is_committed(1)
    finish(again, filled)
    assert files(unsealed) == files(kept)


RECORD_DAMAGE: dict[str, Callable[[Path], object]] = {
    **DAMAGE,
    "cut": lambda p: p.write_bytes(p.read_bytes()[:20]),
    "no object": lambda p: p.write_text("[]"),
    "empty object": lambda p: p.write_text("{}"),
    "of another shard": lambda p: p.write_bytes(p.with_name("shard-000000.json").read_bytes()),
    "other contents": lambda p: edit(p, lambda r: r["contents"]["local/early"].update(max=7.0)),
    "other sha256": lambda p: edit(p, lambda r: r["files"][SHARD].update(sha256="0" * 64)),
}


@pytest.mark.parametrize("damage", RECORD_DAMAGE.values(), ids=RECORD_DAMAGE)
def test_a_damaged_record_is_none(unsealed: Path, kept: Path, filled: Arrays, damage: Callable[[Path], object]) -> None:
    damage(unsealed / "manifest/shard-000001.json")
    assert writer(unsealed).pending() == [1, 2]
    finish(writer(unsealed), filled)
    assert files(unsealed) == files(kept)


def test_a_record_that_was_damaged_after_it_was_checked_is_never_sealed(unsealed: Path, filled: Arrays) -> None:
    again = writer(unsealed)
    write(again, filled, again.pending())
    edit(unsealed / "manifest/shard-000001.json", lambda r: r["contents"]["local/early"].update(max=7.0))
    with pytest.raises(CorruptStoreError, match=r"shard-000001\.json"):
        again.seal()
    assert not again.is_sealed


@pytest.mark.parametrize("damage", ["deleted", "longer"])
def test_a_file_that_is_not_as_long_as_recorded_is_never_sealed(unsealed: Path, filled: Arrays, damage: str) -> None:
    again = writer(unsealed)
    write(again, filled, again.pending())
    DAMAGE[damage](unsealed / SHARD)
    with pytest.raises(CorruptStoreError, match=r"c\.1\.0\.0\.0"):
        again.seal()
    assert not again.is_sealed


def test_a_store_without_all_shards_is_never_sealed(unsealed: Path) -> None:
    with pytest.raises(IncompleteStoreError, match="2 of 3 shards"):
        writer(unsealed).seal()


def test_metadata_that_is_missing_is_written_again(unsealed: Path, kept: Path, filled: Arrays) -> None:
    (unsealed / "local/early/zarr.json").unlink()
    finish(writer(unsealed), filled)
    assert files(unsealed) == files(kept)


@pytest.mark.parametrize("name", ["local/early/zarr.json", "zarr.json", "stimulus/c.0", "image_sha256/c.0.0"])
def test_metadata_that_was_edited_before_sealing_is_never_sealed(unsealed: Path, filled: Arrays, name: str) -> None:
    flip(unsealed / name, -2)
    with pytest.raises(CorruptStoreError, match=name):
        finish(writer(unsealed), filled)
    (unsealed / name).unlink()  # as the error says
    finish(writer(unsealed), filled)


def test_leftovers_of_a_killed_writer_do_no_harm_and_are_swept(unsealed: Path, kept: Path, filled: Arrays) -> None:
    (unsealed / "local/early/c.2.0.0.0").write_bytes(b"half")
    (unsealed / "manifest/aside").mkdir(exist_ok=True)
    (unsealed / "manifest/aside/.shard-000002-x1.json").write_text("{")
    (unsealed / "manifest/lease-000002.0").write_text("{")
    (unsealed / "manifest/shard-000007.json").write_text("{")
    again = writer(unsealed)
    again.files.delete("manifest/lease-000002.0")
    finish(again, filled)
    assert files(unsealed) == files(kept)


def test_written_shards_are_checked_many_at_once_and_a_restart_shows_how_far_it_is(
    unsealed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalFiles, "at_once", 2)
    both, blocks = threading.Barrier(2, timeout=60), LocalFiles.blocks

    def wait(self: LocalFiles, name: str) -> Iterator[bytes]:
        if name in ("local/early/c.0.0.0.0", SHARD):
            both.wait()
        return blocks(self, name)

    monkeypatch.setattr(LocalFiles, "blocks", wait)
    assert writer(unsealed).pending() == [2]
    assert "check: 2/2 written shards" in capsys.readouterr().err


def test_a_store_that_no_reader_would_open_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    layout = replace(LAYOUT, n_images=MAX_FILES + 1, shard_images=1, chunk_images=1)
    spec = {**IDENTITY["spec"], "precision": "float16", "shard_images": 1, "chunk_images": 1}
    header = new_header(layout, IDS, IMAGES, {**IDENTITY, "spec": spec})
    with pytest.raises(SpecError, match=r"that can be opened; got .*files.*larger shard_images"):
        Writer(LocalFiles(tmp_path / "store.zarr"), layout, IDS, IMAGES, header).prepare()
    assert not (tmp_path / "store.zarr").exists()


def test_a_seal_may_be_as_long_as_its_chunks_ask_for(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million images of a large network, it is longer than any other JSON may be."""
    monkeypatch.setattr(manifest, "MAX_JSON_BYTES", 1000)
    assert (store / manifest.SEAL).stat().st_size > 1000 > (store / manifest.HEADER).stat().st_size
    Cache(store)
    assert writer(store).digest() == Cache(store).digest


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("n_images", [1, 10, 5000])
def test_no_seal_is_longer_than_a_reader_takes(name: str, n_images: int) -> None:
    layout = replace(layout_of(name), n_images=n_images)
    records: dict[str, Any] = {file: {"bytes": 10**12, "sha256": "0" * 64} for file in manifest.expected_files(layout)}
    for shard in range(layout.n_shards):
        for file in layout.token_files(shard).values():
            records[file]["chunks"] = [2**32 - 1] * (1 + layout.shard_chunks(shard))
    held = dict.fromkeys(("n", "sum", "sum_squares", "min", "max", "non_finite"), -1.2345678901234568e-300)
    seal = manifest.seal_bytes({}, records, dict.fromkeys(layout.arrays(), held))
    assert len(seal) <= manifest.largest_seal(layout)
    counted = manifest.largest_seal(layout) - (1 << 20)
    assert n_images < 5000 or 0.3 * counted < len(seal) < counted


def test_ranges_of_rows_are_made_when_they_are_asked_for() -> None:
    shards = replace(LAYOUT, n_images=10**12 + 1).shards
    assert len(shards) == 25 * 10**10 + 1
    assert shards[1] == (4, 8)
    assert shards[-1] == (10**12, 10**12 + 1)
    assert shards[:2] == [(0, 4), (4, 8)]
    assert list(LAYOUT.shards) == [(0, 4), (4, 8), (8, 10)]
    with pytest.raises(IndexError):
        shards[len(shards)]


# --- a sealed store


def test_a_sealed_store_has_nothing_to_do_and_is_not_touched(store: Path, kept: Path) -> None:
    again = writer(store)
    assert again.prepare() == []
    assert again.is_sealed
    assert again.pending() == []
    assert all(again.is_committed(shard) for shard in SHARDS)
    assert again.seal() == again.digest() == Cache(kept).digest
    assert files(store) == files(kept)


def test_a_store_that_another_job_makes_between_two_looks_is_no_folder_of_other_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = LocalFiles.sizes

    def made_meanwhile(self: LocalFiles, folder: str = "") -> dict[str, int]:
        monkeypatch.setattr(LocalFiles, "sizes", sizes)
        writer(tmp_path / "store.zarr").prepare()
        return sizes(self, folder)

    monkeypatch.setattr(LocalFiles, "sizes", made_meanwhile)
    assert writer(tmp_path / "store.zarr").prepare() == []


def test_two_jobs_may_seal_at_once(unsealed: Path, kept: Path, filled: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = writer(unsealed), writer(unsealed)
    write(quick, filled, quick.pending())
    replace = LocalFiles.replace

    def after_the_other(self: LocalFiles, name: str, data: bytes) -> None:
        if self is slow.files:
            quick.seal()
            raise StoreError(name, expected="its temporary file", got="none: it was swept", fix="")
        replace(self, name, data)

    monkeypatch.setattr(LocalFiles, "replace", after_the_other)
    assert slow.seal() == Cache(kept).digest
    assert files(unsealed) == files(kept)


def test_other_versions_are_told_of_a_sealed_store_and_refused_for_an_unfinished_one(
    store: Path, unsealed: Path
) -> None:
    words = writer(store, made_with={"torch": "2.11"}).prepare()
    assert words == ["made_with.torch 2.10 → 2.11"]
    with pytest.raises(MismatchError, match=r"made_with\.torch 2\.10 → 2\.11"):
        writer(unsealed, made_with={"torch": "2.11"}).prepare()


# --- what is not ours


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"backbone": {"weights_sha256": "5" * 64}}, r"backbone\.weights_sha256"),
        (
            {"spec": {**IDENTITY["spec"], "precision": "float16", "global_token": "mean"}},
            r"spec\.global_token cls → mean",
        ),
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
        writer(root, **changes).prepare()
    assert files(root) == before


@pytest.mark.parametrize("made", ["store", "unsealed"])
def test_writing_other_images_into_a_store_is_refused_by_the_first_that_differs(
    made: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(made)
    other = [*IMAGES[:6], "e" * 64, *IMAGES[7:]]
    with pytest.raises(MismatchError, match=r"images_sha256.*row 6: 'nsd-00042' there and 'nsd-00042' here"):
        writer(root, images=other).prepare()
    with pytest.raises(MismatchError, match=r"stimuli_sha256.*row 0: 'nsd-00000' there and 'nsd-00063' here"):
        writer(root, ids=IDS[::-1]).prepare()


@pytest.mark.parametrize("lost", ["stimulus/c.0", "stimulus/zarr.json", "image_sha256/c.0.0", "zarr.json"])
def test_the_first_other_image_is_not_told_where_the_ids_are_damaged_or_missing(unsealed: Path, lost: str) -> None:
    assert read_images(LocalFiles(unsealed)) == list(zip(IDS, IMAGES, strict=True))
    (unsealed / lost).unlink()
    assert read_images(LocalFiles(unsealed)) == []
    with pytest.raises(MismatchError, match="stimuli_sha256"):
        writer(unsealed, ids=IDS[::-1]).prepare()


def test_a_folder_with_other_things_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("mine")
    with pytest.raises(StoreError, match="other files"):
        writer(tmp_path / "thesis").prepare()
    zarr.create_group(tmp_path / "theirs.zarr")
    with pytest.raises(StoreError, match="other files"):
        writer(tmp_path / "theirs.zarr").prepare()
    assert sorted(files(tmp_path)) == ["theirs.zarr/zarr.json", "thesis/chapter.tex"]


def test_a_file_in_the_stores_place_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "store.zarr").write_text("mine")
    with pytest.raises(StoreError, match="File exists"):
        writer(tmp_path / "store.zarr").prepare()
    assert files(tmp_path) == {"store.zarr": b"mine"}


def test_a_damaged_header_is_refused_by_its_name(unsealed: Path) -> None:
    (unsealed / manifest.HEADER).write_bytes(b"{")
    with pytest.raises(CorruptStoreError, match=r"header\.json"):
        writer(unsealed).prepare()


@pytest.mark.parametrize("left", ["an empty folder", "an unfinished header", "a system's file"])
def test_a_folder_that_holds_nothing_of_others_becomes_the_store(tmp_path: Path, left: str) -> None:
    (tmp_path / "store.zarr/manifest/aside").mkdir(parents=True)
    if left == "an unfinished header":
        (tmp_path / "store.zarr/manifest/aside/.header-x1.json").write_text("{")
    if left == "a system's file":
        (tmp_path / "store.zarr/.DS_Store").write_text("x")
    made = writer(tmp_path / "store.zarr")
    made.prepare()
    assert made.pending() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["store.zarr"]


def test_a_vanished_store_is_not_recreated_by_a_write(unsealed: Path, filled: Arrays) -> None:
    made = writer(unsealed)
    with lease_of(made, 2) as lease:
        unsealed.rename(unsealed.with_name("moved"))
        assert not made.write(2, rows(filled, 2), lease)
        with pytest.raises(StoreError, match="the folder no longer exists"):
            made.files.replace(SHARD, b"1")
    assert not unsealed.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match=os.strerror(errno.EACCES)):
        writer(tmp_path / "store.zarr").prepare()
