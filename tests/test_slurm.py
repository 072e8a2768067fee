"""The recipes for SLURM, on a SLURM: interrupted in every way, they seal the bytes of one process."""

import importlib.util
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec, ModuleSpec
from bddn.store.reader import Cache
from slow_nets import HOLD
from slurm import PATH, Slurm, missing_programs, started

ROOT = Path(__file__).parent.parent
ARRAY, JOBQUEUE = ROOT / "pipelines/extract_array.slurm", ROOT / "pipelines/extract_jobqueue.py"
SMALL = ["--mem=1G", "--cpus-per-task=1"]
PATIENCE_S = 180.0

JOBQUEUE_IS_HERE = importlib.util.find_spec("dask_jobqueue") is not None
needs_jobqueue = pytest.mark.skipif(not JOBQUEUE_IS_HERE, reason="not installed: dask-jobqueue")
needs_slurm = pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}")


class Campaign:
    """One cache that a test lets jobs make: where it goes, and the file that holds the jobs up."""

    def __init__(self, folder: Path, slurm: Slurm, arguments: list[object]) -> None:
        self.slurm, self._arguments = slurm, arguments
        self.out, self.hold = folder / "new.zarr", folder / "hold"
        self.job, self.n_tasks = "", 0

    def array(self, *options: object) -> str:
        """Submit the array recipe."""
        self.hold.touch()
        self.job = self.slurm.submit(*SMALL, *options, ARRAY, *self._arguments, self.out, **{HOLD: str(self.hold)})
        self.n_tasks = 2 if "--array" in str(options) else 1
        return self.job

    def leases(self) -> list[str]:
        return [path.name for path in self.out.glob("manifest/lease-*")]

    def goes_on(self) -> None:
        """Wait until all tasks were started again, and let go."""
        until(lambda: self.restarts() >= self.n_tasks, lambda: str(self.slurm.shown(self.job)))
        self.hold.unlink()

    def ended(self) -> None:
        """Wait until all tasks have ended well."""
        until(lambda: self.slurm.states(self.job) == {"COMPLETED"}, lambda: self.slurm.output(self.job))

    def restarts(self) -> int:
        return sum(int(task.get("Restarts", 0)) for task in self.slurm.shown(self.job))


def until(ready: Callable[[], object], said: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert time.monotonic() < deadline, said()
        time.sleep(0.2)


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    with started(PATH=f"{Path(sys.executable).parent}:{PATH}", PYTHONPATH=":".join(filter(None, paths))) as opened:
        yield opened


@pytest.fixture(scope="module")
def slow(spec: CacheSpec) -> CacheSpec:
    """Three shards, one image after the other, by a network that can be held up."""
    changes = {"backbone": ModuleSpec(module="slow_nets:build", layers=("cut", "blocks.*")), "weights": None}
    return spec.model_copy(update={**changes, "batch_size": 1, "global_token": "mean"})


@pytest.fixture(scope="module")
def alone(slow: CacheSpec, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that one process makes; read only."""
    out = tmp_path_factory.mktemp("alone") / "new.zarr"
    extract(slow, Planted(brain), out, device="cpu")
    return out


@pytest.fixture(scope="module")
def arguments(slow: CacheSpec, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    path = tmp_path_factory.mktemp("spec") / "slow.yaml"
    path.write_text(slow.model_dump_json())
    return [path, f"planted:{brain}"]


@pytest.fixture(scope="module")
def interrupted(
    slurm: Slurm, arguments: list[object], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Campaign]:
    """Jobs of the array recipe that are interrupted, all at the same time, since most of it is waiting."""
    options: dict[str, list[object]] = {
        "limited": ["--array=0-1", "--time=1", "--signal=B:USR1@50"],
        "array": ["--array=1-2"],
        "alone": ["--time=5"],
    }
    if JOBQUEUE_IS_HERE:
        request.getfixturevalue("workers")  # begins at the same time
    found = {name: Campaign(tmp_path_factory.mktemp(name), slurm, arguments) for name in options}
    for name, campaign in found.items():
        campaign.array(*options[name])
    array, alone = found["array"], found["alone"]
    until(lambda: len(array.leases()) == 2 and alone.leases(), lambda: str(slurm.shown("")))
    slurm.run("scontrol", "requeue", f"{array.job}_1")
    slurm.run("scancel", "--batch", "--signal=USR1", f"{array.job}_2", alone.job)
    for campaign in found.values():
        campaign.goes_on()
    return found


@needs_slurm
@pytest.mark.parametrize(
    ("name", "n_signalled"),
    [("array", 1), ("alone", 1), ("limited", 2)],
    ids=["a task is requeued and one is signalled", "a job without an array", "the time limit comes"],
)
def test_who_is_interrupted_goes_on_and_the_bytes_are_those_of_one_process(
    interrupted: dict[str, Campaign], name: str, n_signalled: int, alone: Path
) -> None:
    campaign = interrupted[name]
    campaign.ended()
    said = campaign.slurm.output(campaign.job)
    assert said.count("stopped by SIGUSR1; completed work is kept") >= n_signalled
    assert campaign.restarts() == campaign.n_tasks or name == "limited", "what has ended is not started again"
    assert files(campaign.out) == files(alone)
    assert f"digest {Cache(alone).digest[:16]}" in said


@needs_slurm
def test_an_error_ends_the_job(slurm: Slurm, arguments: list[object], tmp_path: Path) -> None:
    job = slurm.submit(*SMALL, ARRAY, "no_such_spec", arguments[1], tmp_path / "new.zarr", "--device", "cpu")
    until(lambda: slurm.states(job) == {"FAILED"}, lambda: str(slurm.shown(job)))
    assert "error: spec 'no_such_spec': expected" in slurm.output(job)
    assert slurm.shown(job)[0]["ExitCode"] == "2:0"


@pytest.fixture(scope="module")
def workers(
    slurm: Slurm, arguments: list[object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Campaign, subprocess.Popen[str]]]:
    """The recipe with dask, whose workers are jobs with a time limit of a minute."""
    campaign = Campaign(tmp_path_factory.mktemp("workers"), slurm, arguments)
    campaign.hold.touch()
    options = ["--workers", 2, "--gpus", 0, "--cores", 1, "--memory", "1GB", "--minutes", 1, "--interface", "lo"]
    command = [sys.executable, JOBQUEUE, *arguments, campaign.out, *options, "--directive", "--job-name=workers"]
    with subprocess.Popen(
        list(map(str, command)),
        cwd=slurm.folder,  # where jobs write what they print
        env={**slurm.environment, HOLD: str(campaign.hold)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as client:
        yield campaign, client
        client.terminate()


@needs_slurm
@needs_jobqueue
def test_workers_that_are_jobs_end_and_others_take_their_place(
    workers: tuple[Campaign, "subprocess.Popen[str]"], alone: Path
) -> None:
    """One is cancelled, the other ends at its time limit, in the middle of a shard."""
    campaign, client = workers

    def running() -> list[str]:
        return campaign.slurm.run("squeue", "-h", "-n", "workers", "-o", "%i", "-t", "running").split()

    def alive() -> bool:
        assert client.poll() is None, client.communicate()[0]
        return True

    until(lambda: alive() and len(campaign.leases()) == 2, lambda: str(campaign.slurm.shown("")))
    first = running()
    campaign.slurm.run("scancel", first[0])
    until(lambda: len(running()) == 2 and not set(running()) & set(first))
    campaign.hold.unlink()
    said, _ = client.communicate(timeout=PATIENCE_S)
    assert client.returncode == 0, said
    assert f"digest {Cache(alone).digest}" in said
    assert "Traceback" not in said
    assert files(campaign.out) == files(alone)
    until(lambda: not running())


@needs_jobqueue
def test_the_job_script_asks_for_what_the_options_say(
    arguments: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = runpy.run_path(str(JOBQUEUE))["extract_jobqueue"]
    recipe(*arguments, "new.zarr", interface="lo", show=True)
    usual = capsys.readouterr().out
    for line in ("--cpus-per-task=4", "--mem=30G", "-t 240", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in usual
    assert "--resources GPU=1" in usual
    own = {"gpus": 0, "cores": 2, "memory": "4GiB", "minutes": 30, "directive": ["--qos=long"]}
    recipe(*arguments, "new.zarr", interface="lo", show=True, **own)
    said = capsys.readouterr().out
    for line in ("--cpus-per-task=2", "--mem=4G", "-t 30", "--qos=long"):
        assert f"#SBATCH {line}\n" in said
    assert "gpu" not in said.lower()
