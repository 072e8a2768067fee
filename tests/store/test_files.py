"""A folder of files: whole or absent, never a link or a pipe, and no disk's trouble without an error of ours."""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bddn.errors import StoreError
from bddn.store.files import ASIDE, FIRST, LocalFiles
from bddn.store.remote import open_files
from bddn.testing import StoreContract
from store.disk import failing


class TestLocalFiles(StoreContract):
    @pytest.fixture
    def place_files(self, tmp_path: Path) -> LocalFiles:
        return LocalFiles(tmp_path / "store.zarr")


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    """A store's folder that holds a header only."""
    found = LocalFiles(tmp_path / "store.zarr")
    assert found.create(FIRST, b"{}")
    return found


@pytest.mark.parametrize("at_once", [1, 3, 4, 100])
@pytest.mark.parametrize(("start", "sizes"), [(0, (4, 2, 4)), (1, (3, 0, 3)), (5, (4, 4)), (0, ())])
def test_a_read_that_is_cut_short_goes_on(
    files: LocalFiles, monkeypatch: pytest.MonkeyPatch, at_once: int, start: int, sizes: tuple[int, ...]
) -> None:
    files.replace("a", b"0123456789")
    whole = os.preadv

    def some(fd: int, memory: Sequence[memoryview], at: int) -> int:
        first = next((piece for piece in memory if len(piece)), memoryview(bytearray()))
        return whole(fd, [first[:at_once]], at)

    monkeypatch.setattr(os, "preadv", some)
    pieces = [memoryview(bytearray(size)) for size in sizes]
    n, _ = files.read_into("a", start, pieces)
    assert n == min(sum(sizes), 10 - start)
    assert b"".join(pieces)[:n] == b"0123456789"[start : start + n]


def test_a_large_file_comes_in_blocks(files: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bddn.store.files.BLOCK_BYTES", 4)
    files.replace("a", b"0123456789")
    assert list(files.blocks("a")) == [b"0123", b"4567", b"89"]


def _link(path: Path) -> None:
    path.with_name("real").write_bytes(b"secret")
    path.symlink_to(path.with_name("real"))


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        before = Path.cwd()
        os.chdir(path.parent)  # its path has a short limit
        try:
            made.bind(path.name)
        finally:
            os.chdir(before)


@pytest.mark.parametrize("make", [_link, os.mkfifo, Path.mkdir], ids=["link", "pipe", "folder"])
def test_what_is_no_regular_file_is_not_there_and_is_never_waited_for(
    files: LocalFiles, make: Callable[[Path], object]
) -> None:
    make(files.root / "odd")
    opened = len(list(Path("/dev/fd").iterdir()))
    assert files.read("odd") is None
    assert files.read_into("odd", 0, [memoryview(bytearray(4))]) == (0, ())
    assert list(files.blocks("odd")) == []
    assert "odd" not in files.sizes()
    assert len(list(Path("/dev/fd").iterdir())) == opened


def test_a_socket_is_an_error(files: LocalFiles) -> None:
    _socket(files.root / "odd")
    assert "odd" not in files.sizes()
    with pytest.raises(StoreError, match="odd"):
        files.read("odd")


def test_nothing_is_left_aside_when_a_file_is_replaced(files: LocalFiles) -> None:
    files.replace("a", b"old")
    files.replace("a", b"new and longer")
    assert list((files.root / ASIDE).iterdir()) == []


def test_a_link_in_a_files_place_is_replaced_and_not_followed(files: LocalFiles) -> None:
    _link(files.root / "a")
    files.replace("a", b"mine")
    assert files.read("a") == b"mine"
    assert files.read("real") == b"secret"


def test_a_store_goes_where_a_link_leads_though_nothing_is_there_yet(tmp_path: Path) -> None:
    """As to a scratch disk."""
    link, target = tmp_path / "clip.zarr", tmp_path / "scratch/me/clip.zarr"
    link.symlink_to(target)
    files = LocalFiles(link)
    assert files.create(FIRST, b"first")
    files.replace("zarr.json", b"{}")
    assert link.is_symlink()
    assert (target / FIRST).read_bytes() == b"first"
    assert files.read("zarr.json") == b"{}"


def test_below_a_file_there_are_none(files: LocalFiles) -> None:
    files.replace("a/d", b"")
    assert files.sizes("a/d") == {}


def test_a_folder_that_cannot_be_listed_does_not_look_empty(files: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: object) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(StoreError, match="Permission denied"):
        files.sizes()


def test_sweeping_deletes_what_lies_aside(files: LocalFiles) -> None:
    (files.root / ASIDE / ".half-x1").write_bytes(b"ha")
    files.sweep()
    files.sweep()
    assert files.sizes() == {FIRST: 2}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_with_the_bytes_needed_and_free(files: LocalFiles, code: int) -> None:
    with failing(0) as disk:
        files.replace("a", b"")
        disk.code, disk.at = code, disk.n + 2
        with pytest.raises(StoreError, match=r"with 2\.0 MiB to write and [0-9.]+ MiB free") as caught:
            files.replace("local/b", bytes(2 << 20))
    assert str(files.root / "local/b") in str(caught.value)
    assert os.strerror(code) in str(caught.value)
    assert "what was committed is kept" in str(caught.value)


@pytest.mark.parametrize("write", [LocalFiles.replace, LocalFiles.create])
@pytest.mark.parametrize("left", ["nothing", "an empty folder", "a manifest without header"])
def test_a_store_that_went_away_does_not_come_back_by_a_write(
    files: LocalFiles, write: Callable[[LocalFiles, str, bytes], object], left: str
) -> None:
    moved = files.root.rename(files.root.with_name("moved"))
    if left != "nothing":
        files.root.mkdir()
    if left == "a manifest without header":
        (files.root / "manifest").mkdir()
    before = sorted(files.root.parent.rglob("*"))
    with pytest.raises(StoreError, match="the folder no longer exists"):
        write(files, "manifest/lease-000000.0", b"1")
    assert sorted(files.root.parent.rglob("*")) == before
    moved.rename(files.root.with_name("moved again"))


def test_free_bytes_are_those_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    free = LocalFiles(tmp_path / "not/there/yet").free_bytes()
    assert free is not None
    assert free > 0


def test_a_local_place_is_named_as_the_user_did(tmp_path: Path) -> None:
    assert isinstance(open_files(tmp_path), LocalFiles)
    assert open_files(tmp_path).place == open_files(f"file://{tmp_path}").place == str(tmp_path)
