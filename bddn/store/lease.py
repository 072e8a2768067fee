"""Leases: if several jobs write one store, only one of them works on a shard at a time.

A lease is a file, `manifest/lease-000003.0`, that can be created only once. A process that finds the owner dead creates
the next generation, `lease-000003.1`, which again only one process can create. The highest generation holds the shard.
An owner that was wrongly taken for dead finds a higher generation, and drops its work.

Leases are read by their exact names and never listed, so that their cost does not grow with the number of shards. The
highest generation is found by counting up, so there must be no gap: generation 0 is deleted when it is released; a
later generation is only marked as released, and stays until the store is sealed. So a returning owner of generation 0
always finds the generation that replaced it.

An owner is dead if its process no longer exists on this machine, or if its lease has not changed for `STALE_S` seconds
by the observer's clock. Clocks of different machines are never compared, and file times are not used, because some
network file systems take them from the clock of the writing machine.
"""

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from bddn.errors import BddnError
from bddn.store.canonical import encode_json
from bddn.store.files import Files
from bddn.store.manifest import FOLDER

HEARTBEAT_S = 10.0  # interval at which a living owner changes its lease
STALE_S = 60.0
MAX_GAP_S = 30.0  # most that counts between two observations: the observer or the file system may have hung meanwhile

Observation = tuple[bytes, float]
"""The content of a lease, and the seconds for which it has not changed."""

UNKNOWN_OWNER: dict[str, Any] = {"host": "another process", "pid": "?"}
_RELEASED = "released"

_live: set[str] = set()  # unreleased leases of this process


class Lease:
    """The right to write one shard. A thread keeps it alive; leaving the `with` block releases it."""

    def __init__(self, files: Files, shard: int, generation: int) -> None:
        self._files, self._shard, self._generation = files, shard, generation
        self.name = lease_name(shard, generation)
        self._nonce = secrets.token_hex(8)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def take(self) -> bool:
        """Create the lease. Return False if another process has created it first."""
        if not self._files.create(self.name, self._content(0)):
            return False
        _live.add(self._nonce)
        self._thread.start()
        return True

    def is_held(self) -> bool:
        """Return whether this lease still exists, and no other process has taken over its shard."""
        content = self._files.read(self.name)
        if content is None or _owner_of(content).get("nonce") != self._nonce:
            return False  # another process may have taken generation 0 after its release
        return self._files.read(lease_name(self._shard, self._generation + 1), 0, 1) is None

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._thread.join()
        _live.discard(self._nonce)
        if not self.is_held():
            return
        if self._generation == 0:
            self._files.delete(self.name)
        else:
            self._files.replace(self.name, encode_json({_RELEASED: True}))

    def _content(self, beat: int) -> bytes:
        return encode_json({**owner(), "nonce": self._nonce, "beat": beat})

    def _beat(self) -> None:
        beat = 0
        while not self._released.wait(HEARTBEAT_S):
            beat += 1
            try:
                if self.is_held():
                    self._files.replace(self.name, self._content(beat))
            except BddnError:
                continue  # the next write of tokens will meet the same error and report it


class LeaseMonitor:
    """An observer that takes leases and measures how long the leases of other jobs have not changed. A job has one.

    A worker of a job may see a shard only once. So the job itself observes the leases of other jobs, and sends its
    observation to the worker with each task.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._seen: dict[int, tuple[bytes, float, float]] = {}  # content, its age, time of observation

    def take(self, shard: int) -> Lease | dict[str, Any]:
        """Take the lease of a shard and return it, or return its current owner ('host', 'pid')."""
        generation, content = _highest(self._files, shard)
        if content is not None and not self._is_free(shard, content):
            return _owner_of(content)
        lease = Lease(self._files, shard, generation + 1)
        if not lease.take():
            return UNKNOWN_OWNER
        self._seen.pop(shard, None)
        return lease

    def observe(self, shards: Iterable[int]) -> None:
        """Record whether the leases of other jobs have changed, without taking them."""
        for shard in shards:
            content = _highest(self._files, shard)[1]
            if content is None or _owner_of(content).get(_RELEASED):
                self._seen.pop(shard, None)
            else:
                self._age(shard, content)

    def observation(self, shard: int) -> Observation | None:
        """Return the last observation of another job's lease, to be sent to a worker."""
        found = self._seen.get(shard)
        return None if found is None else found[:2]

    def merge(self, shard: int, observed: Observation | None) -> None:
        """Adopt the job's observation of a lease, unless this monitor has seen the same content for longer."""
        content, age = self.observation(shard) or (None, 0.0)
        if observed is not None and (content != observed[0] or age < observed[1]):
            self._seen[shard] = *observed, time.monotonic()

    def _is_free(self, shard: int, content: bytes) -> bool:
        found = _owner_of(content)
        return bool(found.get(_RELEASED)) or _is_gone(found) or self._age(shard, content) >= STALE_S

    def _age(self, shard: int, content: bytes) -> float:
        """Return for how many seconds this monitor has seen a lease unchanged."""
        now = time.monotonic()
        before, age, at = self._seen.get(shard, (None, 0.0, now))
        age = age + min(now - at, MAX_GAP_S) if before == content else 0.0
        self._seen[shard] = content, age, now
        return age


def lease_name(shard: int, generation: int) -> str:
    """Return the name of the file of a lease."""
    return f"{FOLDER}/lease-{shard:06d}.{generation}"


def _highest(files: Files, shard: int) -> tuple[int, bytes | None]:
    """Return the highest generation of a shard's lease and its content, or (-1, None) if there is no lease.

    Generation 0 may be missing while generation 1 exists, if it was released at the moment of the takeover. A job that
    is killed repeatedly leaves many generations, so the highest is found by doubling and then bisection.
    """

    def read(generation: int) -> bytes | None:
        return files.read(lease_name(shard, generation))

    content = read(1)
    if content is None:
        content = read(0)
        return (-1, None) if content is None else (0, content)
    there, absent = 1, 2
    while (found := read(absent)) is not None:
        there, content, absent = absent, found, 2 * absent
    while absent - there > 1:
        middle = (there + absent) // 2
        if (found := read(middle)) is None:
            absent = middle
        else:
            there, content = middle, found
    return there, content


def owner() -> dict[str, Any]:
    """Return a description of this process by which other processes can recognise it."""
    return {"host": platform.node(), "boot": _boot(), "pid": os.getpid(), "start_ticks": _start(os.getpid())}


def _owner_of(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@cache
def _boot() -> str | None:
    """Return an id of this boot of the machine and of its container's process numbers, or None if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _is_gone(found: dict[str, Any]) -> bool:
    """Return whether an owner is known to be dead, because it is a process of this machine that has ended."""
    mine, pid, start = owner(), found.get("pid"), found.get("start_ticks")
    if mine["boot"] is None or any(found.get(key) != mine[key] for key in ("host", "boot")):
        return False
    if type(pid) is not int or type(start) is not int:
        return False
    if pid == os.getpid():
        return found.get("nonce") not in _live
    now = _start(pid)
    return now != start if now is not None else not _is_hidden(pid)


def _start(pid: int) -> int | None:
    """Return when a process of this machine started, in ticks since boot (which setting the clock does not change), or
    None if it has ended or is not visible."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in {b"Z", b"X"} else int(numbers[18])


def _is_hidden(pid: int) -> bool:
    """Return whether a process exists that /proc does not show, as it hides other users' processes on some machines."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False
