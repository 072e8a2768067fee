"""How much memory this process may still take: of the machine, and of the job or container that it runs in."""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil

from bddn.machine.cgroups import PROC, groups, lines, number


@dataclass(frozen=True)
class _Names:
    """Files of a group, in one of the two versions."""

    limits: tuple[str, ...]
    used: str
    reclaimable: tuple[str, ...]
    """Keys of memory.stat, the first that is there: pages of files that the kernel takes back when memory is short."""


_FILES = {
    "cgroup2": _Names(("memory.max", "memory.high"), "memory.current", ("inactive_file",)),
    "cgroup": _Names(("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "inactive_file")),
}


def free_bytes(proc: Path = PROC) -> int:
    """Bytes that this process may still take: the least that the machine, its cgroups and its own limits leave free.

    Parameters
    ----------
    proc : Path
        The folder of the process in /proc.
    """
    in_groups = [free for version, folder in groups("memory", proc) for free in _in_group(folder, _FILES[version])]
    of_machine = int(psutil.virtual_memory().available)
    return min([of_machine, *in_groups, *_of_address_space()])


def _in_group(folder: Path, names: _Names) -> list[int]:
    """What the limit of a group leaves, if it has one."""
    limits = [limit for name in names.limits if (limit := number(folder / name)) is not None]
    used = number(folder / names.used)
    if not limits or used is None:
        return []
    stat = dict(line.split(maxsplit=1) for line in lines(folder / "memory.stat") if " " in line)
    reclaimable = next((int(stat[key]) for key in names.reclaimable if stat.get(key, "").isdecimal()), 0)
    return [max(min(limits) - used + min(reclaimable, used), 0)]


def _of_address_space() -> list[int]:
    """What `ulimit -v` leaves, where it is set; memory that is only reserved counts as taken."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [max(limit - psutil.Process(os.getpid()).memory_info().vms, 0)]
