"""A file is the old one or the new one, never a half, and nothing is left beside it."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bddn.files import atomic


class StopError(Exception):
    """What interrupts a writer in these tests."""


def listing(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def write_half(path: Path) -> None:
    path.write_text("ha")
    raise StopError


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_text("old")
    with pytest.raises(StopError):
        atomic.replace_file(path, write_half)
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["kept.json"]


def test_an_interrupted_first_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(StopError):
        atomic.replace_file(tmp_path / "new.json", write_half)
    assert listing(tmp_path) == []


def test_the_old_file_is_in_place_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")
    seen = []

    def write(aside: Path) -> None:
        aside.write_text("new")
        seen.append(path.read_text())

    atomic.replace_file(path, write)
    assert (seen, path.read_text()) == (["old"], "new")


def test_bytes_reach_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.txt"
    calls: list[tuple[bool, bool]] = []
    monkeypatch.setattr(atomic, "fsync_path", lambda at: calls.append((at == tmp_path, path.exists())))
    atomic.write_text(path, "new")
    assert calls == [(False, False), (True, True)]  # the file before the rename, its folder after


def test_the_temporary_file_keeps_the_suffix_by_which_writers_choose_a_format(tmp_path: Path) -> None:
    suffixes = []

    def write(aside: Path) -> None:
        suffixes.append(aside.suffix)
        aside.touch()

    atomic.replace_file(tmp_path / "table.parquet", write)
    assert suffixes == [".parquet"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "a" / "b" / "c.txt", "µ")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "µ".encode()


def test_a_new_file_has_the_permissions_that_the_user_set(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bddn.files import atomic; atomic.write_text(Path(sys.argv[1]), '')"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "shared.txt"], umask=0o027, check=True)
    assert (tmp_path / "shared.txt").stat().st_mode & 0o777 == 0o640


def test_the_umask_of_other_threads_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "like.txt").touch()
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("it belongs to all threads"))
    atomic.write_text(tmp_path / "shared.txt", "")
    assert (tmp_path / "shared.txt").stat().st_mode == (tmp_path / "like.txt").stat().st_mode


def test_the_umask_of_now_counts_not_that_of_the_import(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from bddn.files import atomic; os.umask(0o077)\n"
        "atomic.write_text(Path(sys.argv[1]), '')"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "mine.txt"], umask=0o002, check=True)
    assert (tmp_path / "mine.txt").stat().st_mode & 0o777 == 0o600


def test_a_temporary_file_can_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    seen = []

    def write(path: Path) -> None:
        path.write_text("new")
        seen.append(path.parent)

    atomic.replace_file(tmp_path / "a/kept.txt", write, tmp_path / "aside")
    assert seen == [tmp_path / "aside"]
    assert listing(tmp_path / "aside") == []
    assert (tmp_path / "a/kept.txt").read_text() == "new"


def test_a_folder_is_made_with_its_parents_and_the_entry_of_each_reaches_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(atomic, "fsync_path", flushed.append)
    atomic.make_folder(tmp_path / "a/b")
    atomic.make_folder(tmp_path / "a/b")
    assert flushed == [tmp_path, tmp_path / "a"]


def refuse(code: int) -> Callable[[object, object], None]:
    def operation(source: object, target: object) -> None:
        raise OSError(code, os.strerror(code))

    return operation


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
def test_a_file_is_created_once_and_what_is_there_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    path = tmp_path / "lease"
    assert atomic.create_file(path, b"mine", tmp_path / "aside")
    assert not atomic.create_file(path, b"yours", tmp_path / "aside")
    assert path.read_bytes() == b"mine"
    assert listing(tmp_path / "aside") == []


def test_of_many_that_create_at_once_one_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda i: (atomic.create_file(path, bytes([i]) * 100), i), range(40)))
    (winner,) = [i for created, i in told if created]
    assert path.read_bytes() == bytes([winner]) * 100
    assert listing(tmp_path) == ["lease"]


def test_a_file_that_lies_where_a_folder_should_be_is_an_error_and_not_one_created_before(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    with pytest.raises(FileExistsError):
        atomic.create_file(tmp_path / "store/lease", b"")
    assert (tmp_path / "store").read_text() == "mine"


def test_a_creation_that_failed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EIO))
    monkeypatch.setattr(os, "replace", refuse(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        atomic.create_file(tmp_path / "lease", b"mine")
    assert listing(tmp_path) == []


def test_json_reads_back_equal(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, True], "a": {"text": "µ\n"}}
    atomic.write_json(tmp_path / "value.json", value)
    assert json.loads((tmp_path / "value.json").read_bytes()) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_refused_and_write_nothing(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "value.json", {"score": value})
    assert listing(tmp_path) == []


def test_a_file_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    for name in ("n" * 250 + ".json", "ü" * 125 + ".txt", "." + "n" * 254):
        atomic.write_text(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES, errno.ENOTSUP])
@pytest.mark.parametrize("operation", ["open", "fsync", "chmod"])
def test_a_share_that_refuses_to_flush_folders_or_to_set_permissions_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, code: int
) -> None:
    real: Callable[..., object] = getattr(os, operation)

    def refuses(target: object, *args: object, **keywords: object) -> object:
        path = Path(f"/proc/self/fd/{target}").readlink() if operation == "fsync" else str(target)
        if operation == "chmod" or Path(path).is_dir():
            raise OSError(code, os.strerror(code), path)
        return real(target, *args, **keywords)

    monkeypatch.setattr(os, operation, refuses)
    atomic.write_text(tmp_path / "a/b.txt", "x")
    assert atomic.create_file(tmp_path / "a/c.txt", b"x")
    monkeypatch.undo()
    assert sorted(listing(tmp_path / "a")) == ["b.txt", "c.txt"]


def test_a_disk_that_cannot_flush_a_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: refuse(errno.EIO)(fd, fd))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        atomic.write_text(tmp_path / "b.txt", "x")
    assert listing(tmp_path) == []


def test_a_folder_is_made_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "many").symlink_to("scratch/me/many")
    (tmp_path / "loop").symlink_to("loop")
    atomic.make_folder(tmp_path / "many/seed0")
    assert (tmp_path / "scratch/me/many/seed0").is_dir()
    with pytest.raises(OSError, match="loop"):
        atomic.make_folder(tmp_path / "loop")
