"""Leases: of two jobs that work on one store, only one works on a shard.

A lease is a file of the manifest, `lease-000003.0`, that can be created only once. Whoever finds the lease of a dead
owner creates the next generation, `lease-000003.1`, which again only one can do; the highest generation holds the
shard. An owner that comes back after it was taken for dead finds a higher one, and drops its work.

An owner on this machine is dead when its process is gone; one elsewhere, when its lease has not changed for a while by
the watcher's own clock. So clocks of different machines are never compared.
"""

import json
import os
import platform
import secrets
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from bddn.errors import BddnError
from bddn.store.files import Files
from bddn.store.manifest import FOLDER, encode_json

BEAT_S = 10.0
STALE_S = 60.0
START_S = 5.0  # a process's start is told this exactly, since the machine's clock may be set meanwhile

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
        if max(_generations(self._files, self._shard), default=-1) != self._generation:
            return False
        content = self._files.read(self.name)  # generations begin again once a lease has been released
        return content is not None and _owner_of(content).get("nonce") == self._nonce

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._thread.join()
        _live.discard(self._nonce)
        if self.is_held():
            for generation in sorted(_generations(self._files, self._shard)):  # never leave an older one the highest
                self._files.delete(lease_name(self._shard, generation))

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
    """Takes leases, and watches those of others grow old."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._seen: dict[str, tuple[bytes, float]] = {}

    def take(self, shard: int) -> Lease | dict[str, Any]:
        """The lease of a shard, or its present owner ('host', 'pid')."""
        generations = _generations(self._files, shard)
        if generations:
            name = lease_name(shard, max(generations))
            content = self._files.read(name)
            if content is not None and not self._is_dead(name, content):
                return _owner_of(content)
        lease = Lease(self._files, shard, 1 + max(generations, default=-1))
        return lease if lease.take() else {"host": "another process", "pid": "?"}

    def _is_dead(self, name: str, content: bytes) -> bool:
        found, mine = _owner_of(content), owner()
        if found.get("host") == mine["host"] and found.get("boot") == mine["boot"]:
            return not _is_running(found)
        before, since = self._seen.get(name, (None, 0.0))
        now = time.monotonic()
        if before != content:
            self._seen[name] = content, now
            return False
        return now - since >= STALE_S


def lease_name(shard: int, generation: int) -> str:
    """The file of a lease."""
    return f"{FOLDER}/lease-{shard:06d}.{generation}"


def _generations(files: Files, shard: int) -> list[int]:
    prefix = lease_name(shard, 0)[:-1]
    numbers = [name[len(prefix) :] for name in files.sizes(FOLDER) if name.startswith(prefix)]
    return [int(number) for number in numbers if number.isdecimal()]


def owner() -> dict[str, Any]:
    """This process, as others can recognise it."""
    return {"host": platform.node(), "boot": _boot(), "pid": os.getpid(), "started": _started(os.getpid())}


def _owner_of(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@cache
def _boot() -> str:
    """What tells apart boots of a machine, and containers with process numbers of their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return "unknown"


def _is_running(found: dict[str, Any]) -> bool:
    if found.get("pid") == os.getpid():
        return found.get("nonce") in _live
    started, then = _started(found.get("pid")), found.get("started")
    return started is not None and isinstance(then, float) and abs(started - then) < START_S


def _started(pid: Any) -> float | None:
    """When a process of this machine started; None where it is gone."""
    import psutil

    try:
        process = psutil.Process(int(pid))
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except (psutil.Error, TypeError, ValueError):
        return None
