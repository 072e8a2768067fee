"""What a job that died, on this machine or elsewhere, left of its leases holds up no extraction."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bddn.extraction import extract, extraction
from bddn.extraction.job import Compute, Job
from bddn.planted.subject import Planted
from bddn.progress import Advance
from bddn.spec import CacheSpec
from bddn.store import lease as leasing
from bddn.store.canonical import encode_json
from bddn.store.files import LocalFiles
from bddn.store.lease import LeaseMonitor, lease_name

ELSEWHERE = {"host": "elsewhere", "boot": "b", "pid": 7, "start_ticks": 1, "nonce": "n", "beat": 0}
DONE_S = 600.0  # within which any such extraction must have gone on


class Clock:
    """The time of this process: it goes on by what is slept. `during` is called whenever someone sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.during: Callable[[], object] = lambda: None
        monkeypatch.setattr("bddn.store.lease.time.monotonic", lambda: self.now)
        monkeypatch.setattr("bddn.extraction.extraction.time.sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.during()
        assert self.now < 1000 + DONE_S, "it waits for ever"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def begun(spec: CacheSpec, planted: Planted, out: Path) -> LocalFiles:
    """A store whose second shard is held by a job on another machine."""
    extraction.prepare(spec, planted, out, "cpu")
    made = LocalFiles(out)
    assert made.create(lease_name(1, 0), encode_json(ELSEWHERE))
    return made


def on_many_workers(job: Job) -> AbstractContextManager[Compute]:
    """Each task goes to a worker that has never met its shard before."""

    def compute(shards: list[int], advance: Advance) -> dict[int, dict[str, Any]]:
        others: dict[int, dict[str, Any]] = {}
        for shard in shards:
            monitor = LeaseMonitor(job.writer.files)
            monitor.merge(shard, job.monitor.observation(shard))
            owner = Job(job.source, job.writer, monitor).compute(shard, advance)
            others |= {} if owner is None else {shard: owner}
        return others

    @contextmanager
    def opened() -> Iterator[Compute]:
        yield compute

    return opened()


@pytest.mark.parametrize("work", [None, on_many_workers], ids=["here", "on workers"])
def test_a_lease_of_a_machine_that_died_is_taken_over_in_time(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, clock: Clock, work: Any
) -> None:
    begun(spec, planted, tmp_path / "new.zarr")
    done = extract(spec, planted, tmp_path / "new.zarr", device="cpu", work=work)
    assert (done.n_computed, done.reused) == (3, False)
    assert clock.now - 1000 <= leasing.STALE_S + 2 * extraction.POLL_S
    assert files(tmp_path / "new.zarr") == files(sealed)


def test_a_machine_that_lives_is_waited_for_however_long_it_takes(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, clock: Clock
) -> None:
    """Its lease changes all the time; at last it releases it and leaves the shard to others."""
    made = begun(spec, planted, tmp_path / "new.zarr")

    def live() -> None:
        if clock.now < 1000 + 5 * leasing.STALE_S:
            made.replace(lease_name(1, 0), encode_json({**ELSEWHERE, "beat": int(clock.now / leasing.HEARTBEAT_S)}))
        else:
            made.delete(lease_name(1, 0))

    clock.during = live
    assert extract(spec, planted, tmp_path / "new.zarr", device="cpu").n_computed == 3
    assert clock.now - 1000 >= 5 * leasing.STALE_S
    assert files(tmp_path / "new.zarr") == files(sealed)
