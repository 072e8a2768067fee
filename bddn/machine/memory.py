"""The free memory of this process, as limited by the machine and by its job or container."""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from bddn.machine.cgroups import PROC, groups, lines, number


@dataclass(frozen=True)
class _Names:
    """Files of a group in one of the two cgroup versions."""

    limits: tuple[str, ...]
    used: str
    reclaimable: tuple[str, ...]
    """Keys of memory.stat for file pages that the kernel can reclaim; the first existing key is used."""


_FILES = {
    "cgroup2": _Names(("memory.max", "memory.high"), "memory.current", ("inactive_file",)),
    "cgroup": _Names(("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "inactive_file")),
}


def free_bytes(proc: Path = PROC) -> int:
    """Return the bytes that this process can still allocate: the minimum over machine, cgroups and process limits.

    Parameters
    ----------
    proc : Path
        The folder of the process in /proc.
    """
    in_groups = [free for version, folder in groups("memory", proc) for free in _in_group(folder, _FILES[version])]
    of_machine = int(psutil.virtual_memory().available)
    return min([of_machine, *in_groups, *_of_address_space()])


def free_device_bytes() -> int:
    """Return the bytes of the GPU that this process can still allocate, with what torch keeps for its next tensors."""
    return int(torch.cuda.mem_get_info()[0]) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def _in_group(folder: Path, names: _Names) -> list[int]:
    """Return the free bytes under the limit of a group, as a list of one number, or [] without a limit."""
    limits = [limit for name in names.limits if (limit := number(folder / name)) is not None]
    used = number(folder / names.used)
    if not limits or used is None:
        return []
    stat = dict(line.split(maxsplit=1) for line in lines(folder / "memory.stat") if " " in line)
    reclaimable = next((int(stat[key]) for key in names.reclaimable if stat.get(key, "").isdecimal()), 0)
    return [max(min(limits) - used + min(reclaimable, used), 0)]


def _of_address_space() -> list[int]:
    """Return the free bytes under `ulimit -v`, or [] if it is not set. Reserved memory counts as used."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [max(limit - psutil.Process(os.getpid()).memory_info().vms, 0)]
