"""The control groups (cgroups) of this process, which limit the memory and CPU time of containers and SLURM jobs.

The limits of all parent groups apply too. The files are described in the Linux kernel documentation, "Control Group
v2" and, for version 1, "Control Groups"; both versions may be mounted at the same time.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

PROC = Path("/proc/self")
Version = Literal["cgroup2", "cgroup"]
"""The kernel's names of the file systems of version 2 and version 1."""

VERSIONS: tuple[Version, ...] = get_args(Version)


def groups(controller: str, proc: Path = PROC) -> Iterator[tuple[Version, Path]]:
    """Yield the version and folder of each group that contains a process, from the innermost to the outermost visible.

    Parameters
    ----------
    controller : str
        The limited resource: 'memory' or 'cpu'.
    proc : Path
        The folder of the process in /proc, with its files `cgroup` and `mountinfo`.
    """
    paths = _paths(controller, proc)
    for version, mounted, root, options in _mounts(proc):
        path = paths.get(version)
        if path is not None and (version == "cgroup2" or controller in options):
            folder = _folder(mounted, root, path)
            for each in (folder, *folder.parents):
                yield version, each
                if each == mounted:
                    break


def number(file: Path, field: int = 0) -> int | None:
    """Return the whole number in a field of a file, or None if the file is missing or says `max` or -1."""
    words = " ".join(lines(file)).split()
    return int(words[field]) if field < len(words) and words[field].isdecimal() else None


def lines(file: Path) -> list[str]:
    """Return the lines of a file, or [] if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _paths(controller: str, proc: Path) -> dict[str, str]:
    """Return, by version, the path of the process's group relative to the root of its hierarchy."""
    found = {}
    for line in lines(proc / "cgroup"):  # 0::/job/step, or 4:memory:/job/step
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            found["cgroup2"] = path
        elif controller in controllers.split(","):
            found["cgroup"] = path
    return found


def _mounts(proc: Path) -> Iterator[tuple[Version, Path, str, list[str]]]:
    """Yield the version, mount point, mounted group and controllers of every hierarchy."""
    for line in lines(proc / "mountinfo"):  # … ROOT MOUNTED options … - KIND source options
        before, _, after = line.partition(" - ")
        fields, (kind, *more) = before.split(), after.split() or [""]
        for version in VERSIONS:
            if kind == version:
                yield version, Path(_plain(fields[4])), _plain(fields[3]), more[-1].split(",")


def _folder(mounted: Path, root: str, path: str) -> Path:
    """Return the folder of the group `path` in a mount that shows the group `root` and its children.

    A container may see the path of its group as it is outside, although the mount shows only its own group.
    """
    try:
        below = PurePosixPath(path).relative_to(root)
    except ValueError:
        below = PurePosixPath(path.lstrip("/"))
    folder = mounted / below
    return folder if ".." not in below.parts and folder.is_dir() else mounted


def _plain(field: str) -> str:
    """Return a path of mountinfo with its octal escapes decoded, such as \\040 for a space."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
