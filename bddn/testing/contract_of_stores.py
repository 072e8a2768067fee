"""What the files of every store keep, wherever they are; see `bddn.store.files.Files`."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from bddn.store.files import FIRST, Files

DATA = b"0123456789"
MISSING = ("gone", "gone/too", f"{FIRST}/below")


class StoreContract:
    """Give the fixture `place_files`: the files of a place where there is nothing yet."""

    @pytest.fixture
    def place_files(self) -> Files:
        raise NotImplementedError("expected a fixture 'place_files' in the class that inherits from StoreContract")

    @pytest.fixture
    def files(self, place_files: Files) -> Files:
        """Return the files of a store that has only a header."""
        assert place_files.sizes() == {}
        assert place_files.create(FIRST, b"{}")
        return place_files

    def test_any_part_of_a_file_reads_back(self, files: Files) -> None:
        files.replace("a/b", DATA)
        assert files.read("a/b") == DATA
        for start, stop in ((0, 10), (3, 10), (3, 5), (8, 20), (5, 5), (0, 0)):
            assert files.read("a/b", start, stop) == DATA[start:stop]
        assert files.read("a/b", 3) == DATA[3:]
        assert b"".join(files.blocks("a/b")) == DATA

    def test_bytes_are_read_into_pieces_of_memory(self, files: Files) -> None:
        files.replace("a", DATA)
        for start, sizes in ((0, (10,)), (0, (4, 2, 4)), (1, (3, 0, 3)), (5, (4, 4)), (8, (12,)), (0, ())):
            pieces = [memoryview(bytearray(size)) for size in sizes]
            n, stamp = files.read_into("a", start, pieces)
            assert n == min(sum(sizes), len(DATA) - start)
            assert b"".join(pieces)[:n] == DATA[start : start + n]
            assert stamp == files.stamp("a")

    def test_a_file_that_is_not_there_is_none_and_not_an_empty_one(self, files: Files) -> None:
        files.replace("empty", b"")
        assert files.read("empty") == files.read("empty", 0, 10) == b""
        for name in MISSING:
            assert files.read(name) is None
            assert files.read(name, 0, 10) is None
            assert list(files.blocks(name)) == []
            assert files.read_into(name, 0, [memoryview(bytearray(4))]) == (0, files.stamp(name))

    def test_a_file_is_replaced_whole_and_nothing_is_left_aside(self, files: Files) -> None:
        files.replace("a", b"old")
        assert files.read("a") == b"old"  # which must not be remembered
        files.replace("a", b"new and longer")
        assert files.read("a") == b"new and longer"
        assert files.sizes() == {"a": 14, FIRST: 2}

    def test_a_file_is_created_once(self, files: Files) -> None:
        assert files.create("manifest/lease-000000.0", b"mine")
        assert not files.create("manifest/lease-000000.0", b"yours")
        assert files.read("manifest/lease-000000.0") == b"mine"
        files.delete("manifest/lease-000000.0")
        assert files.create("manifest/lease-000000.0", b"yours")
        assert files.read("manifest/lease-000000.0") == b"yours"

    def test_of_eight_threads_one_creates_a_file(self, files: Files) -> None:
        with ThreadPoolExecutor(8) as pool:
            for n in range(5):
                made = list(pool.map(lambda k, n=n: files.create(f"manifest/{n}", b"%d" % k), range(8)))
                assert made.count(True) == 1
                assert files.read(f"manifest/{n}") == b"%d" % made.index(True)

    def test_deleted_files_are_gone_and_deleting_none_is_no_error(self, files: Files) -> None:
        for name in ("a", "b/c", "b/d"):
            files.replace(name, b"1")
        files.delete("a")
        files.delete("a")
        assert files.sizes() == {"b/c": 1, "b/d": 1, FIRST: 2}
        files.delete_all(["b/c", "b/d"])
        assert files.sizes() == {FIRST: 2}

    def test_sizes_are_those_below_a_folder(self, files: Files) -> None:
        files.replace("a/b/c", b"123")
        files.replace("a/d", b"")
        files.replace("ab", b"1")
        assert files.sizes("a") == {"a/b/c": 3, "a/d": 0}
        assert files.sizes("gone") == {}

    def test_sweeping_keeps_the_files(self, files: Files) -> None:
        files.replace("a", b"1")
        files.sweep()
        assert files.sizes() == {"a": 1, FIRST: 2}

    def test_many_threads_read_at_once(self, files: Files) -> None:
        files.replace("a", DATA)
        assert files.at_once >= 1
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda k: files.read("a", k % 6), range(32))) == {DATA[k:] for k in range(6)}
