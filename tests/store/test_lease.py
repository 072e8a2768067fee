"""Of two jobs only one writes a shard, and a dead one holds up nobody."""

import os
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
from bddn.store.lease import Lease, LeaseMonitor, lease_name, owner
from bddn.store.writer import Writer
from store.stores import Arrays, as_read, files, lease_of, read_store, rows, same, write, writer

ELSEWHERE = {"host": "elsewhere", "boot": "b", "pid": 7, "start_ticks": 1, "nonce": "n", "beat": 0}


@pytest.fixture
def made(tmp_path: Path) -> Writer:
    """A store without any shard."""
    found = writer(tmp_path / "store.zarr")
    found.prepare()
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of watchers, in seconds; it stands still but for the tests that set it."""
    now = [1000.0]
    monkeypatch.setattr("bddn.store.lease.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this machine."""
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield running
    running.kill()
    running.communicate()


def leases(made: Writer) -> list[str]:
    return sorted(name for name in made.files.sizes("manifest") if "lease" in name)


def grow_old(monitor: LeaseMonitor, clock: list[float], shard: int = 0) -> None:
    """Let a lease grow as old as it must be, looked at as often as a waiting job does."""
    end = clock[0] + leasing.STALE_S
    monitor.observe([shard])
    while clock[0] < end:
        clock[0] += 2
        monitor.observe([shard])


def put(made: Writer, generation: int, **about: Any) -> None:
    assert made.files.create(lease_name(0, generation), encode_json({**ELSEWHERE, **about}))


def take(monitor: LeaseMonitor, shard: int = 0) -> Lease:
    found = monitor.take(shard)
    assert isinstance(found, Lease), found
    return found


def test_a_shard_is_held_by_one_and_free_again_after_it(made: Writer) -> None:
    with lease_of(made, 0) as lease:
        assert lease.is_held()
        assert leases(made) == ["manifest/lease-000000.0"]
        other = LeaseMonitor(made.files).take(0)
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
    with take(LeaseMonitor(made.files)) as lease:
        assert lease.name == lease_name(0, 1)
    with take(LeaseMonitor(made.files)) as lease:  # it was released
        assert lease.name == lease_name(0, 2)


def test_a_process_of_this_machine_holds_its_shard_until_it_is_gone(
    made: Writer, process: subprocess.Popen[bytes]
) -> None:
    put(made, 0, **{**owner(), "pid": process.pid, "start_ticks": leasing._start(process.pid)})
    monitor = LeaseMonitor(made.files)
    held = monitor.take(0)
    assert isinstance(held, dict)
    assert held["pid"] == process.pid
    process.kill()
    while leasing._start(process.pid) is not None:
        time.sleep(0.01)
    with take(monitor) as lease:
        assert lease.name == lease_name(0, 1)


def test_another_process_that_was_given_the_number_of_a_dead_one_holds_nothing(
    made: Writer, process: subprocess.Popen[bytes]
) -> None:
    start = leasing._start(process.pid)
    assert start is not None
    put(made, 0, **{**owner(), "pid": process.pid, "start_ticks": start - 1})
    with take(LeaseMonitor(made.files)) as lease:
        assert lease.is_held()


TAKE_AND_DIE = """
import os, sys
from pathlib import Path
from bddn.store.files import LocalFiles
from bddn.store.lease import Lease, LeaseMonitor
assert isinstance(LeaseMonitor(LocalFiles(Path(sys.argv[1]))).take(0), Lease)
os._exit(9)
"""


def test_a_shard_whose_process_died_is_taken_and_written(made: Writer, filled: Arrays) -> None:
    root = made.files.place
    assert subprocess.run([sys.executable, "-c", TAKE_AND_DIE, root], check=False).returncode == 9
    assert leases(made) == [lease_name(0, 0)]
    write(made, filled, made.pending())
    made.seal()
    assert leases(made) == []
    found = read_store(Path(root))
    assert all(same(found[path], expected) for path, expected in as_read(filled).items())


def test_a_lease_of_another_machine_is_taken_when_it_has_not_changed_for_long(made: Writer, clock: list[float]) -> None:
    put(made, 0)
    monitor = LeaseMonitor(made.files)
    assert monitor.take(0) == ELSEWHERE  # at first sight no lease is old
    clock[0] += leasing.MAX_GAP_S
    assert monitor.take(0) == ELSEWHERE
    clock[0] += leasing.MAX_GAP_S - 1
    assert monitor.take(0) == ELSEWHERE
    made.files.replace(lease_name(0, 0), encode_json({**ELSEWHERE, "beat": 1}))
    clock[0] += leasing.MAX_GAP_S
    assert monitor.take(0) == {**ELSEWHERE, "beat": 1}
    grow_old(monitor, clock)
    with take(monitor) as lease:
        assert lease.name == lease_name(0, 1)


def test_a_watcher_that_was_asleep_or_hung_does_not_take_all_that_time_for_the_age_of_a_lease(
    made: Writer, clock: list[float]
) -> None:
    """The owner may have been asleep with it, as two virtual machines on one host are, or both on one share."""
    put(made, 0)
    monitor = LeaseMonitor(made.files)
    assert monitor.take(0) == ELSEWHERE
    clock[0] += 100 * leasing.STALE_S
    assert monitor.take(0) == ELSEWHERE
    clock[0] += leasing.HEARTBEAT_S
    made.files.replace(lease_name(0, 0), encode_json({**ELSEWHERE, "beat": 1}))
    assert monitor.take(0) == {**ELSEWHERE, "beat": 1}


def test_workers_that_meet_a_shard_once_know_what_the_watch_of_their_job_has_seen(
    made: Writer, clock: list[float]
) -> None:
    put(made, 0)
    monitor, n_workers = LeaseMonitor(made.files), 0
    while not isinstance(found := take_on_a_worker(made, monitor), Lease):
        assert found == ELSEWHERE
        monitor.observe([0])
        clock[0] += 2
        n_workers += 1
    assert n_workers == leasing.STALE_S / 2 + 1
    with found:
        assert found.is_held()


def take_on_a_worker(made: Writer, monitor: LeaseMonitor) -> Lease | dict[str, Any]:
    """As a worker does that was never asked for this shard before."""
    its_own = LeaseMonitor(made.files)
    its_own.merge(0, pickle.loads(pickle.dumps(monitor.observation(0))))  # noqa: S301
    return its_own.take(0)


def test_a_worker_believes_its_own_eyes_where_the_lease_has_changed_since_its_job_looked(
    made: Writer, clock: list[float]
) -> None:
    put(made, 0)
    monitor = LeaseMonitor(made.files)
    grow_old(monitor, clock)
    made.files.replace(lease_name(0, 0), encode_json({**ELSEWHERE, "beat": 1}))
    assert take_on_a_worker(made, monitor) == {**ELSEWHERE, "beat": 1}


def test_a_watch_forgets_leases_that_are_gone(made: Writer, clock: list[float]) -> None:
    monitor = LeaseMonitor(made.files)
    for shard in range(1000):
        assert made.files.create(lease_name(shard, 0), encode_json(ELSEWHERE))
    monitor.observe(range(1000))
    assert len(monitor._seen) == 1000
    for shard in range(1000):
        made.files.delete(lease_name(shard, 0))
    monitor.observe(range(999))
    with take(monitor, 999):
        pass
    assert monitor._seen == {}


def test_a_job_of_this_machine_that_was_stopped_and_not_ended_gives_way_like_one_of_another(
    made: Writer, process: subprocess.Popen[bytes], clock: list[float]
) -> None:
    """As by Ctrl-Z: its process is there for ever, its lease no longer changes."""
    put(made, 0, **{**owner(), "pid": process.pid, "start_ticks": leasing._start(process.pid)})
    monitor = LeaseMonitor(made.files)
    assert isinstance(monitor.take(0), dict)
    grow_old(monitor, clock)
    with take(monitor) as lease:
        assert lease.name == lease_name(0, 1)


def test_a_clock_that_is_set_meanwhile_makes_no_living_process_a_dead_one(
    made: Writer, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    content = {**owner(), "pid": process.pid, "start_ticks": leasing._start(process.pid), "nonce": "n"}
    made.files.create(lease_name(0, 0), encode_json(content))
    created = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 3600)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert isinstance(LeaseMonitor(made.files).take(0), dict)


def test_a_process_that_this_user_cannot_see_is_not_taken_for_dead(
    made: Writer, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where /proc is mounted with hidepid: the processes of other users are not in it."""
    put(made, 0, **{**owner(), "pid": process.pid, "start_ticks": leasing._start(process.pid)})

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(leasing, "_start", lambda pid: None if pid == process.pid else 1)
    with monkeypatch.context() as hidden:
        hidden.setattr(os, "kill", refuse)
        assert isinstance(LeaseMonitor(made.files).take(0), dict)


def test_a_process_in_another_container_of_this_machine_grows_old_like_one_of_another(
    made: Writer, clock: list[float]
) -> None:
    """Process numbers of two containers are not comparable: that of the other may be any process here, or none."""
    boot = str(owner()["boot"]).partition("/")[0]
    put(made, 0, **{**owner(), "boot": f"{boot}/1", "pid": 1 << 22})
    monitor = LeaseMonitor(made.files)
    assert isinstance(monitor.take(0), dict)
    grow_old(monitor, clock)
    with take(monitor) as lease:
        assert lease.is_held()


@pytest.mark.parametrize("pid", [1 << 70, -1, 0, "7", None, 7.0])
def test_a_lease_with_a_process_number_that_is_none_does_no_harm(made: Writer, pid: Any) -> None:
    put(made, 0, **{**owner(), "pid": pid})
    found = LeaseMonitor(made.files).take(0)
    if isinstance(found, Lease):
        with found:
            assert found.is_held()


def test_a_lease_from_before_a_restart_of_this_machine_grows_old_like_one_of_another(made: Writer) -> None:
    put(made, 0, **{**owner(), "boot": "an earlier one"})
    assert isinstance(LeaseMonitor(made.files).take(0), dict)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}"], ids=["none", "cut", "list", "latin1", "empty"])
def test_a_damaged_lease_grows_old_like_any_other(made: Writer, content: bytes, clock: list[float]) -> None:
    made.files.replace(lease_name(0, 0), content)
    monitor = LeaseMonitor(made.files)
    assert isinstance(monitor.take(0), dict)
    grow_old(monitor, clock)
    with take(monitor) as lease:
        assert lease.is_held()


def test_what_looks_like_a_lease_and_is_none_does_no_harm(made: Writer) -> None:
    made.files.replace("manifest/lease-000000.0~", b"an editor's copy")
    with lease_of(made, 0) as lease:
        assert lease.name == lease_name(0, 0)


def test_a_lease_shows_that_its_owner_lives(made: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "HEARTBEAT_S", 0.01)
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
    monkeypatch.setattr(leasing, "HEARTBEAT_S", 0.01)
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
    monkeypatch.setattr(leasing, "HEARTBEAT_S", 0.01)
    with lease_of(made, 0) as lease:
        while (content := made.files.read(lease.name)) is None or b'"beat": 0' in content:
            time.sleep(0.01)
        for _ in range(3):  # a beat that is under way may write once more
            made.files.delete(lease.name)
            time.sleep(0.05)
        assert leases(made) == []
        assert not lease.is_held()


def test_a_lease_that_outranks_others_stays_until_the_store_is_sealed_so_that_they_find_it(
    made: Writer, filled: Arrays
) -> None:
    with lease_of(made, 0) as first:
        first._released.set()  # it is asleep: its thread does nothing
        first._thread.join()
        put(made, 1, **owner(), nonce="of an earlier job")
        with take(LeaseMonitor(made.files)) as third:
            assert third.name == lease_name(0, 2)
            assert made.write(0, rows(filled, 0), third)
        assert not first.is_held()
        assert not made.write(0, rows(filled, 0), first)
    assert leases(made) == [lease_name(0, generation) for generation in range(3)]
    write(made, filled, [1, 2])
    made.seal()
    assert leases(made) == []


@pytest.mark.parametrize("left", [[1], [0, 1], [1, 2], *(list(range(n)) for n in range(3, 12)), list(range(1000))])
def test_whatever_generations_a_killed_owner_left_the_shard_can_be_taken(
    made: Writer, filled: Arrays, left: list[int]
) -> None:
    for generation in left:
        put(made, generation, **owner(), nonce="of an earlier job")
    with take(LeaseMonitor(made.files)) as lease:
        assert lease.name == lease_name(0, left[-1] + 1)
        assert made.write(0, rows(filled, 0), lease)
    assert made.is_committed(0)


def test_what_an_earlier_version_left_of_its_leases_holds_up_nobody(made: Writer, filled: Arrays) -> None:
    """It deleted the lower ones first, so that a high one could be left alone, and told a start in seconds."""
    old = {**owner(), "started": 1764000000.5, "nonce": "of an earlier job"}
    old.pop("start_ticks")
    for generation in (3, 4):
        assert made.files.create(lease_name(0, generation), encode_json(old))
    write(made, filled, [0, 1, 2])
    made.seal()
    assert leases(made) == []


def test_of_two_that_take_at_once_one_gets_it(made: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    highest = leasing._highest
    monkeypatch.setattr(leasing, "_highest", lambda files, shard: (-1, None))
    first, second = LeaseMonitor(made.files).take(0), LeaseMonitor(made.files).take(0)
    monkeypatch.setattr(leasing, "_highest", highest)
    assert isinstance(first, Lease)
    assert second == {"host": "another process", "pid": "?"}
    with first:
        assert first.is_held()


def test_a_lease_costs_the_same_in_a_store_of_many_shards(made: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    for shard in range(1, 500):
        made.files.replace(f"manifest/shard-{shard:06d}.json", b"{}")
    asked: list[str] = []
    for name in ("read", "sizes"):
        inner = getattr(LocalFiles, name)

        def noted(self: LocalFiles, *args: Any, name: str = name, inner: Any = inner) -> Any:
            asked.append(name)
            return inner(self, *args)

        monkeypatch.setattr(LocalFiles, name, noted)
    with lease_of(made, 0) as lease:
        assert lease.is_held()
        assert not made.is_committed(0)
    assert "sizes" not in asked
    assert len(asked) <= 10


def test_a_vanished_store_is_not_recreated_by_a_lease(made: Writer) -> None:
    root = Path(made.files.place)
    root.rename(root.with_name("moved"))
    with pytest.raises(StoreError, match="the folder no longer exists"):
        LeaseMonitor(made.files).take(0)
    assert not root.exists()


def test_a_writer_can_be_sent_to_another_process(made: Writer, filled: Arrays) -> None:
    sent = pickle.loads(pickle.dumps(made))  # noqa: S301
    assert sent is not made
    assert (sent.layout, sent.ids, sent.images, sent.header) == (made.layout, made.ids, made.images, made.header)
    assert sent.files.place == made.files.place
    write(sent, filled, [1])
    assert made.pending() == [0, 2]
