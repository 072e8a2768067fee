"""Memory and cores are those of the job or container, which cgroups of version 1, 2 or both limit."""

import resource
from pathlib import Path

import psutil
import pytest

from bddn.machine import parallel
from bddn.machine.memory import free_bytes

GIB = 2**30
HUGE = 9223372036854771712  # version 1's word for no limit


class Machine:
    """A fake /proc/self and fake cgroup file systems."""

    def __init__(self, folder: Path) -> None:
        self.proc, self._folder = folder / "proc", folder
        self.proc.mkdir()
        self._mounts = list[str]()

    def mount(self, kind: str, name: str, root: str = "/", options: str = "rw") -> Path:
        where = self._folder / name
        where.mkdir(parents=True)
        shown = str(where).replace(" ", "\\040")
        self._mounts.append(f"31 23 0:28 {root} {shown} rw,relatime shared:4 - {kind} {kind} {options}")
        return where

    def process(self, *cgroups: str) -> Path:
        other = "22 1 8:1 / / rw - ext4 /dev/sda1 rw"
        (self.proc / "mountinfo").write_text("\n".join([other, *self._mounts]) + "\n")
        (self.proc / "cgroup").write_text("\n".join(cgroups) + "\n")
        return self.proc


def group(folder: Path, **numbers: object) -> None:
    """Files of a cgroup; `_` in their names stands for a dot in front, as in memory_max."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in numbers.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{value}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(autouse=True)
def a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 GiB are free on the machine, and there are 64 cores."""
    monkeypatch.setattr(psutil, "virtual_memory", type("Memory", (), {"available": 64 * GIB}))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))


def test_without_cgroups_it_is_the_machine(machine: Machine, tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "nowhere") == 64 * GIB
    assert free_bytes(machine.process("0::/")) == 64 * GIB


@pytest.mark.parametrize("limit", ["memory_max", "memory_high"])
def test_version_2_in_a_namespace(machine: Machine, limit: str) -> None:
    root = machine.mount("cgroup2", "unified")
    group(root, **{"memory_max": "max", "memory_high": "max", limit: 2 * GIB}, memory_current=GIB)
    assert free_bytes(machine.process("0::/")) == GIB


def test_pages_of_files_that_can_be_taken_back_count_as_free(machine: Machine) -> None:
    root = machine.mount("cgroup2", "unified")
    stat = f"anon {GIB}\nfile {GIB}\ninactive_file {GIB // 2}\nactive_file {GIB // 2}"
    group(root, memory_max=4 * GIB, memory_current=2 * GIB, memory_stat=stat)
    assert free_bytes(machine.process("0::/")) == 2.5 * GIB


def test_the_limit_of_a_group_above(machine: Machine) -> None:
    root = machine.mount("cgroup2", "with a space")
    group(root / "slurm/job_7", memory_max=3 * GIB, memory_current=GIB)
    group(root / "slurm/job_7/step_0", memory_max="max", memory_current=GIB // 2)
    assert free_bytes(machine.process("0::/slurm/job_7/step_0")) == 2 * GIB


def test_more_than_the_limit_in_use_is_nothing_free(machine: Machine) -> None:
    group(machine.mount("cgroup2", "unified"), memory_max=GIB, memory_current=2 * GIB)
    assert free_bytes(machine.process("0::/")) == 0


def test_version_1_of_slurm(machine: Machine) -> None:
    root = machine.mount("cgroup", "memory", options="rw,memory")
    machine.mount("cgroup", "cpu", options="rw,cpu,cpuacct")
    group(root, memory_limit_in_bytes=HUGE, memory_usage_in_bytes=9 * GIB)
    group(root / "slurm/uid_1/job_7", memory_limit_in_bytes=8 * GIB, memory_usage_in_bytes=3 * GIB)
    stat = f"inactive_file 5\ntotal_inactive_file {GIB}"
    group(root / "slurm/uid_1/job_7/step_0", memory_limit_in_bytes=8 * GIB, memory_usage_in_bytes=2 * GIB)
    group(root / "slurm/uid_1/job_7", memory_stat=stat)
    step = "/slurm/uid_1/job_7/step_0"
    assert free_bytes(machine.process(f"4:memory:{step}", "3:cpu,cpuacct:/elsewhere", "0::/")) == 6 * GIB


def test_version_1_in_a_container_that_is_told_its_path_outside(machine: Machine) -> None:
    root = machine.mount("cgroup", "memory", root="/docker/abc", options="rw,memory")
    group(root, memory_limit_in_bytes=2 * GIB, memory_usage_in_bytes=GIB)
    assert free_bytes(machine.process("7:memory:/docker/abc")) == GIB
    assert free_bytes(machine.process("7:memory:/docker/abc/../def")) == GIB
    assert free_bytes(machine.process("7:memory:/kubepods/pod1/abc")) == GIB


def test_both_versions_at_once(machine: Machine) -> None:
    group(machine.mount("cgroup", "memory", options="rw,memory") / "a", memory_limit_in_bytes=HUGE)
    group(machine.mount("cgroup2", "unified") / "b", memory_max=5 * GIB, memory_current=GIB)
    assert free_bytes(machine.process("4:memory:/a", "0::/b")) == 4 * GIB


def test_the_limit_of_ulimit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda what: (taken + GIB, taken + GIB))
    assert abs(free_bytes(machine.process("0::/")) - GIB) < 0.1 * GIB


def test_here_it_is_a_number() -> None:
    assert 0 < free_bytes() <= 64 * GIB


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 64), ("200000 100000", 2), ("50000 100000", 1)])
def test_cores_of_a_container(machine: Machine, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    group(machine.mount("cgroup2", "unified"), cpu_max=quota)
    monkeypatch.setattr(parallel, "PROC", machine.process("0::/"))
    monkeypatch.delenv(parallel.THREADS, raising=False)
    assert parallel.n_threads() == cores


def test_cores_of_version_1(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine.mount("cgroup", "cpu", options="rw,cpu,cpuacct")
    group(root, cpu_cfs_quota_us=-1, cpu_cfs_period_us=100000)
    group(root / "job", cpu_cfs_quota_us=400000, cpu_cfs_period_us=100000)
    monkeypatch.setattr(parallel, "PROC", machine.process("2:cpu,cpuacct:/job"))
    monkeypatch.delenv(parallel.THREADS, raising=False)
    assert parallel.n_threads() == 4
    monkeypatch.setenv(parallel.THREADS, "7")
    assert parallel.n_threads() == 7
