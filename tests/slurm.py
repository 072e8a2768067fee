"""A SLURM of one node on this machine, for as long as a test needs it."""

import getpass
import os
import platform
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "sinfo", "squeue")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # daemons are not in everyone's path
START_S = 60.0
CONFIG = """
ClusterName=bddn
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Programs of SLURM that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


class Slurm:
    """A running SLURM: submit scripts, and look at what becomes of them."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, dict(environment)

    def run(self, *command: object, **environment: str) -> str:
        """What a command prints, that must succeed."""
        done = subprocess.run(
            list(map(str, command)),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *arguments: object, **environment: str) -> str:
        """Submit a script with its arguments, behind options of sbatch. Returns the number of the job."""
        return self.run("sbatch", "--parsable", "--chdir", self.folder, *arguments, **environment).strip()

    def shown(self, job: str) -> list[dict[str, str]]:
        """What SLURM knows of a job: fields by name, of each task of an array."""
        lines = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(field.partition("=")[::2] for field in line.split()) for line in lines if "JobId=" in line]

    def states(self, job: str) -> set[str]:
        """States of a job's tasks."""
        return {task["JobState"] for task in self.shown(job)}

    def output(self, job: str) -> str:
        """All that a job and its tasks printed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob(f"slurm-{job}*.out")))


@contextmanager
def started(**environment: str) -> Iterator[Slurm]:
    """Start munge, the controller and one node, each in the foreground and below one temporary folder."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))  # short: it names a socket
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        controller, daemon = _free_ports(2)
        host, user = platform.node().partition(".")[0], getpass.getuser()
        config = folder / "slurm.conf"
        config.write_text(CONFIG.format(folder=folder, host=host, user=user, controller=controller, daemon=daemon))
        slurm = Slurm(folder, {**os.environ, "PATH": PATH, **environment, "SLURM_CONF": str(config)})
        munge = ["key-file", "socket", "pid-file", "log-file", "seed-file"]
        options = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in munge]
        for command in (
            ["munged", "--foreground", "--force", *options],
            ["slurmctld", "-D", "-f", str(config)],
            ["slurmd", "-D", "-f", str(config)],
        ):
            stack.enter_context(_running(command, folder, slurm.environment))
        _until_idle(slurm)
        try:
            yield slurm
        finally:
            subprocess.run(["scancel", "--user", user], env=slurm.environment, check=False)
            deadline = time.monotonic() + START_S
            while slurm.run("squeue", "--noheader").strip() and time.monotonic() < deadline:
                time.sleep(0.2)


@contextmanager
def _running(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, env=dict(environment), stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_idle(slurm: Slurm) -> None:
    deadline = time.monotonic() + START_S
    while True:
        found = subprocess.run(["sinfo", "-h", "-o", "%T"], env=slurm.environment, capture_output=True, check=False)
        if found.stdout.strip() == b"idle":
            return
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in slurm.folder.glob("*.log"))
        assert time.monotonic() < deadline, f"SLURM did not start: {logs}"
        time.sleep(0.2)


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
