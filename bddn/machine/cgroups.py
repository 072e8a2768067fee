"""The control groups (cgroups) of this process: containers and jobs of SLURM have one, with limits of their own.

Limits of all groups above the process's own hold as well. Files as described in the Linux kernel's documentation,
"Control Group v2" and, for version 1, "Control Groups"; both versions may be mounted at once.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

PROC = Path("/proc/self")
Version = Literal["cgroup2", "cgroup"]
"""How the kernel names the file systems of version 2 and of version 1."""

VERSIONS: tuple[Version, ...] = get_args(Version)


def groups(controller: str, proc: Path = PROC) -> Iterator[tuple[Version, Path]]:
    """The folder of each group that a process is in, the innermost first, up to the outermost that can be seen.

    Parameters
    ----------
    controller : str
        What the groups are to limit: 'memory' or 'cpu'.
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
    """A whole number of a file; None where there is no such file, or another word such as `max` or -1."""
    words = " ".join(lines(file)).split()
    return int(words[field]) if field < len(words) and words[field].isdecimal() else None


def lines(file: Path) -> list[str]:
    """The lines of a file; none where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _paths(controller: str, proc: Path) -> dict[str, str]:
    """By version, the path of the process's group below the root of its hierarchy."""
    found = {}
    for line in lines(proc / "cgroup"):  # 0::/job/step, or 4:memory:/job/step
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            found["cgroup2"] = path
        elif controller in controllers.split(","):
            found["cgroup"] = path
    return found


def _mounts(proc: Path) -> Iterator[tuple[Version, Path, str, list[str]]]:
    """Version, mount point, the group that is mounted there, and controllers, of every hierarchy."""
    for line in lines(proc / "mountinfo"):  # … ROOT MOUNTED options … - KIND source options
        before, _, after = line.partition(" - ")
        fields, (kind, *more) = before.split(), after.split() or [""]
        for version in VERSIONS:
            if kind == version:
                yield version, Path(_plain(fields[4])), _plain(fields[3]), more[-1].split(",")


def _folder(mounted: Path, root: str, path: str) -> Path:
    """Where the group `path` lies in a mount that shows the group `root` and what is below it.

    A container may see its group's path as it is outside the container, while its own group is what is mounted.
    """
    try:
        below = PurePosixPath(path).relative_to(root)
    except ValueError:
        below = PurePosixPath(path.lstrip("/"))
    folder = mounted / below
    return folder if ".." not in below.parts and folder.is_dir() else mounted


def _plain(field: str) -> str:
    """A path of mountinfo, in which a space is written \\040."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
