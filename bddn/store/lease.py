"""Leases: of two jobs that work on one store, only one works on a shard.

A lease is a file, `manifest/lease-000003.0`, that can be created only once. Whoever finds that its owner is dead
creates the next generation, `lease-000003.1`, which again only one can do. The highest generation holds the shard. An
owner that comes back after it was taken for dead finds a higher generation, and drops its work.

Leases are read by their exact names and never listed, so that their cost does not grow with the number of shards. To
find the highest generation by counting up, there must be no gap: generation 0 is deleted when it is released, a later
one stays until the store is sealed and is only marked as released. So an owner of generation 0 that comes back always
finds the one that replaced it.

An owner is dead when its process is gone from this machine, or when its lease has not changed for `STALE_S` seconds by
the clock of the watcher. Clocks of different machines are never compared, and file times are not used: some network
file systems take them from the clock of the machine that writes.
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

BEAT_S = 10.0  # a living owner changes its lease this often
STALE_S = 60.0
LOOK_S = 30.0  # counted at most between two looks: the watcher or the file system may have hung itself meanwhile

Seen = tuple[bytes, float]
"""The content of a lease, and for how many seconds it has not changed."""

ANOTHER: dict[str, Any] = {"host": "another process", "pid": "?"}
_RELEASED = "released"

_live: set[str] = set()  # leases of this process that have not been released


class Lease:
    """The right to write one shard, kept alive by a thread until it is released. Leave its `with` to release it."""

    def __init__(self, files: Files, shard: int, generation: int) -> None:
        self._files, self._shard, self._generation = files, shard, generation
        self.name = lease_name(shard, generation)
        self._nonce = secrets.token_hex(8)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def take(self) -> bool:
        """Create the lease; False where another was quicker."""
        if not self._files.create(self.name, self._content(0)):
            return False
        _live.add(self._nonce)
        self._thread.start()
        return True

    def is_held(self) -> bool:
        """Whether this lease is still there, and no other process has taken its shard over."""
        content = self._files.read(self.name)
        if content is None or _owner_of(content).get("nonce") != self._nonce:
            return False  # generation 0 may have been released and taken again
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
        while not self._released.wait(BEAT_S):
            beat += 1
            try:
                if self.is_held():
                    self._files.replace(self.name, self._content(beat))
            except BddnError:
                continue  # the next write of tokens will meet the same trouble, and report it


class Watch:
    """Takes leases, and remembers for how long it has seen those of others unchanged. A job has one, for as long as it
    lives.

    Where a job has workers, each of which may meet a shard only once, the job itself looks at the leases of others, and
    tells a worker with its task what it has seen.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._seen: dict[int, tuple[bytes, float, float]] = {}  # content, its age, and when it was looked at

    def take(self, shard: int) -> Lease | dict[str, Any]:
        """The lease of a shard, or its present owner ('host', 'pid')."""
        generation, content = _highest(self._files, shard)
        if content is not None and not self._is_free(shard, content):
            return _owner_of(content)
        lease = Lease(self._files, shard, generation + 1)
        if not lease.take():
            return ANOTHER
        self._seen.pop(shard, None)
        return lease

    def look(self, shards: Iterable[int]) -> None:
        """See whether the leases of others have changed, without taking them."""
        for shard in shards:
            content = _highest(self._files, shard)[1]
            if content is None or _owner_of(content).get(_RELEASED):
                self._seen.pop(shard, None)
            else:
                self._age(shard, content)

    def seen(self, shard: int) -> Seen | None:
        """What this watch knows of the lease of another, for a worker."""
        found = self._seen.get(shard)
        return None if found is None else found[:2]

    def learn(self, shard: int, seen: Seen | None) -> None:
        """Take over what the watch of the job knows of a lease, unless this one has seen the same for longer."""
        content, age = self.seen(shard) or (None, 0.0)
        if seen is not None and (content != seen[0] or age < seen[1]):
            self._seen[shard] = *seen, time.monotonic()

    def _is_free(self, shard: int, content: bytes) -> bool:
        found = _owner_of(content)
        return bool(found.get(_RELEASED)) or _is_gone(found) or self._age(shard, content) >= STALE_S

    def _age(self, shard: int, content: bytes) -> float:
        """For how many seconds a lease has not changed, as far as this watch has seen."""
        now = time.monotonic()
        before, age, at = self._seen.get(shard, (None, 0.0, now))
        age = age + min(now - at, LOOK_S) if before == content else 0.0
        self._seen[shard] = content, age, now
        return age


def lease_name(shard: int, generation: int) -> str:
    """The file of a lease."""
    return f"{FOLDER}/lease-{shard:06d}.{generation}"


def _highest(files: Files, shard: int) -> tuple[int, bytes | None]:
    """The highest generation of a shard's lease and its content; -1 and None where there is none.

    Generation 0 may be missing below generation 1, where it was released at the moment in which it was taken over. Of
    many, as a job leaves that is killed again and again, the highest is found by doubling and halving.
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
    """This process, as others can recognise it."""
    return {"host": platform.node(), "boot": _boot(), "pid": os.getpid(), "start_ticks": _start(os.getpid())}


def _owner_of(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@cache
def _boot() -> str | None:
    """What tells apart boots of a machine, and containers with process numbers of their own; None where the system does
    not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _is_gone(found: dict[str, Any]) -> bool:
    """Whether an owner is known to be gone: a process of this machine that has ended."""
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
    """When a process of this machine started, in ticks since the boot, which do not change when the clock is set; None
    where it is gone or cannot be seen."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in {b"Z", b"X"} else int(numbers[18])


def _is_hidden(pid: int) -> bool:
    """Whether a process is there though /proc does not show it, as that of another user on some machines."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False
