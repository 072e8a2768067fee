"""Of two jobs only one writes a shard, and a dead one holds up nobody."""

import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bddn.errors import StoreError
from bddn.store import lease as leasing
from bddn.store.canonical import encode_json
from bddn.store.files import LocalFiles
from bddn.store.lease import Lease, Watch, lease_name, owner
from bddn.store.writer import Writer
from store.stores import Arrays, files, lease_of, read_store, rows, same, write, writer

ELSEWHERE = {"host": "elsewhere", "boot": "b", "pid": 7, "started": 1.0, "nonce": "n", "beat": 0}


@pytest.fixture
def made(tmp_path: Path) -> Writer:
    """A store without any shard."""
    found = writer(tmp_path / "store.zarr")
    found.prepare()
    return found


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this machine."""
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield running
    running.kill()
    running.communicate()


def leases(made: Writer) -> list[str]:
    return sorted(name for name in made.files.sizes("manifest") if "lease" in name)


def put(made: Writer, generation: int, **about: Any) -> None:
    assert made.files.create(lease_name(0, generation), encode_json({**ELSEWHERE, **about}))


def take(watch: Watch, shard: int = 0) -> Lease:
    found = watch.take(shard)
    assert isinstance(found, Lease), found
    return found


def test_a_shard_is_held_by_one_and_free_again_after_it(made: Writer) -> None:
    with lease_of(made, 0) as lease:
        assert lease.is_held()
        assert leases(made) == ["manifest/lease-000000.0"]
        other = Watch(made.files).take(0)
        assert isinstance(other, dict)
        assert {key: other[key] for key in owner()} == owner()
        with lease_of(made, 1):
            assert len(leases(made)) == 2
    assert leases(made) == []
    assert not lease.is_held()
    with lease_of(made, 0) as again:
        assert again.is_held()
        assert not lease.is_held()


def test_a_lease_is_released_when_the_work_fails(made: Writer) -> None:
    with pytest.raises(StoreError, match="broken"), lease_of(made, 0):
        raise StoreError("shard", expected="work", got="broken", fix="")
    assert leases(made) == []


def test_a_lease_of_this_process_that_was_not_released_but_is_over_is_dead(made: Writer) -> None:
    put(made, 0, **owner(), nonce="of an earlier job")
    with take(Watch(made.files)) as lease:
        assert lease.name == lease_name(0, 1)
    assert leases(made) == []


def test_a_process_of_this_machine_holds_its_shard_until_it_is_gone(
    made: Writer, process: subprocess.Popen[bytes]
) -> None:
    put(made, 0, **{**owner(), "pid": process.pid, "started": leasing._started(process.pid)})
    watch = Watch(made.files)
    held = watch.take(0)
    assert isinstance(held, dict)
    assert held["pid"] == process.pid
    process.kill()
    while leasing._started(process.pid) is not None:
        time.sleep(0.01)
    with take(watch) as lease:
        assert lease.name == lease_name(0, 1)


def test_another_process_that_was_given_the_number_of_a_dead_one_holds_nothing(
    made: Writer, process: subprocess.Popen[bytes]
) -> None:
    started = leasing._started(process.pid)
    assert started is not None
    put(made, 0, **{**owner(), "pid": process.pid, "started": started - 60})
    with take(Watch(made.files)) as lease:
        assert lease.is_held()


TAKE_AND_DIE = """
import os, sys
from pathlib import Path
from bddn.store.files import LocalFiles
from bddn.store.lease import Lease, Watch
assert isinstance(Watch(LocalFiles(Path(sys.argv[1]))).take(0), Lease)
os._exit(9)
"""


def test_a_shard_whose_process_died_is_taken_and_written(made: Writer, filled: Arrays) -> None:
    root = made.files.place
    assert subprocess.run([sys.executable, "-c", TAKE_AND_DIE, root], check=False).returncode == 9
    assert leases(made) == [lease_name(0, 0)]
    write(made, filled, made.pending())
    assert leases(made) == []
    made.seal()
    assert same(read_store(Path(root))["local/early"][:2], read_store(Path(root))["local/early"][:2])


def test_a_lease_of_another_machine_is_taken_when_it_has_not_changed_for_long(
    made: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(made, 0)
    watch, now = Watch(made.files), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert watch.take(0) == ELSEWHERE  # at first sight no lease is old
    now[0] += leasing.STALE_S - 1
    assert watch.take(0) == ELSEWHERE
    made.files.replace(lease_name(0, 0), encode_json({**ELSEWHERE, "beat": 1}))
    now[0] += leasing.STALE_S - 1
    assert watch.take(0) == {**ELSEWHERE, "beat": 1}
    now[0] += leasing.STALE_S
    monkeypatch.undo()
    monkeypatch.setattr(leasing, "STALE_S", 0.0)
    with take(watch) as lease:
        assert lease.name == lease_name(0, 1)


def test_a_lease_from_before_a_restart_of_this_machine_grows_old_like_one_of_another(made: Writer) -> None:
    put(made, 0, **{**owner(), "boot": "an earlier one"})
    assert isinstance(Watch(made.files).take(0), dict)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}"], ids=["none", "cut", "list", "latin1", "empty"])
def test_a_damaged_lease_grows_old_like_any_other(
    made: Writer, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.files.replace(lease_name(0, 0), content)
    watch = Watch(made.files)
    assert isinstance(watch.take(0), dict)
    monkeypatch.setattr(leasing, "STALE_S", 0.0)
    with take(watch) as lease:
        assert lease.is_held()


def test_what_looks_like_a_lease_and_is_none_does_no_harm(made: Writer) -> None:
    made.files.replace("manifest/lease-000000.0~", b"an editor's copy")
    with lease_of(made, 0) as lease:
        assert lease.name == lease_name(0, 0)


def test_a_lease_shows_that_its_owner_lives(made: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "BEAT_S", 0.01)
    with lease_of(made, 0) as lease:
        seen = {made.files.read(lease.name)}
        end = time.monotonic() + 30
        while len(seen) < 3 and time.monotonic() < end:
            seen.add(made.files.read(lease.name))
        assert len(seen) >= 3
        assert lease.is_held()
    assert leases(made) == []


def _overtaken(made: Writer, lease: Lease) -> None:
    put(made, 1)


def _released_by_the_next(made: Writer, lease: Lease) -> None:
    made.files.delete(lease.name)


def _begun_again(made: Writer, lease: Lease) -> None:
    """The next owner has taken, written and released the shard; now a third one holds it."""
    made.files.replace(lease.name, encode_json(ELSEWHERE))


ZOMBIES = [_overtaken, _released_by_the_next, _begun_again]


@pytest.mark.parametrize("take_over", ZOMBIES)
def test_a_job_that_was_taken_for_dead_writes_nothing_and_commits_nothing(
    made: Writer, filled: Arrays, take_over: Callable[[Writer, Lease], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "BEAT_S", 0.01)
    root = Path(made.files.place)
    with lease_of(made, 0) as lease:
        lease._released.set()  # it is asleep: its thread does nothing
        lease._thread.join()
        take_over(made, lease)
        before = files(root)
        assert not lease.is_held()
        assert not made.write(0, rows(filled, 0), lease)
        assert files(root) == before
    assert files(root) == before  # and takes no lease of others away


def test_a_job_that_is_taken_over_between_two_files_commits_nothing(
    made: Writer, filled: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = LocalFiles.replace

    def then_overtaken(self: LocalFiles, name: str, data: bytes) -> None:
        replace(self, name, data)
        if not made.files.create(lease_name(0, 1), encode_json(ELSEWHERE)):
            raise AssertionError("it went on")

    with lease_of(made, 0) as lease:
        monkeypatch.setattr(LocalFiles, "replace", then_overtaken)
        assert not made.write(0, rows(filled, 0), lease)
    assert not made.is_committed(0)
    assert leases(made) == [lease_name(0, 0), lease_name(0, 1)]


def test_a_lease_that_is_gone_does_not_come_back_by_its_beat(made: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "BEAT_S", 0.01)
    with lease_of(made, 0) as lease:
        while (content := made.files.read(lease.name)) is None or b'"beat": 0' in content:
            time.sleep(0.01)
        for _ in range(3):  # a beat that is under way may write once more
            made.files.delete(lease.name)
            time.sleep(0.05)
        assert leases(made) == []
        assert not lease.is_held()


def test_older_leases_go_before_the_one_that_outranks_them(made: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    for generation in (0, 1, 2):
        put(made, generation, **owner(), nonce="of an earlier job")
    gone: list[str] = []
    delete = LocalFiles.delete

    def noted(self: LocalFiles, name: str) -> None:
        gone.append(name)
        delete(self, name)

    monkeypatch.setattr(LocalFiles, "delete", noted)
    with take(Watch(made.files)):
        pass
    assert gone == [lease_name(0, generation) for generation in range(4)]


def test_of_two_that_take_at_once_one_gets_it(made: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    generations = leasing._generations
    monkeypatch.setattr(leasing, "_generations", lambda files, shard: [])
    first, second = Watch(made.files).take(0), Watch(made.files).take(0)
    monkeypatch.setattr(leasing, "_generations", generations)
    assert isinstance(first, Lease)
    assert second == {"host": "another process", "pid": "?"}
    with first:
        assert first.is_held()


def test_a_vanished_store_is_not_recreated_by_a_lease(made: Writer) -> None:
    root = Path(made.files.place)
    root.rename(root.with_name("moved"))
    with pytest.raises(StoreError, match="no such folder any more"):
        Watch(made.files).take(0)
    assert not root.exists()


def test_a_writer_can_be_sent_to_another_process(made: Writer, filled: Arrays) -> None:
    sent = pickle.loads(pickle.dumps(made))  # noqa: S301
    assert sent == made or sent.header == made.header
    write(sent, filled, [1])
    assert made.pending() == [0, 2]
