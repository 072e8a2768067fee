"""A file is the old one or the new one, never a half, and nothing is left beside it."""

import json
import os
from pathlib import Path

import pytest

from bddn import atomic


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
    before = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "shared.txt", "")
    finally:
        os.umask(before)
    assert (tmp_path / "shared.txt").stat().st_mode & 0o777 == 0o640


def test_json_reads_back_equal(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, True], "a": {"text": "µ\n"}}
    atomic.write_json(tmp_path / "value.json", value)
    assert json.loads((tmp_path / "value.json").read_bytes()) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_has_not_are_refused_and_write_nothing(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "value.json", {"score": value})
    assert listing(tmp_path) == []


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    with atomic.new_folder(tmp_path / "deep/run") as aside:
        (aside / "table.csv").write_text("a")
        assert not (tmp_path / "deep/run").exists()
    assert [p.name for p in (tmp_path / "deep").rglob("*")] == ["run", "table.csv"]


def test_a_new_folder_that_failed_does_not_appear(tmp_path: Path) -> None:
    def fill_half() -> None:
        with atomic.new_folder(tmp_path / "run") as aside:
            (aside / "table.csv").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill_half()
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_never_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("mine")
    with pytest.raises(OSError, match="not empty"), atomic.new_folder(tmp_path / "run") as aside:
        (aside / "table.csv").write_text("a")
    assert [p.name for p in tmp_path.rglob("*")] == ["run", "mine.txt"]
