"""On dask workers: the same bytes as in one process, whoever dies on the way; and clear words where it cannot go on."""

import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster

from bddn.errors import BackboneError, ClusterError
from bddn.extraction import extract
from bddn.extraction.cluster import Cluster, device_names, joined_cluster, local_cluster, scheduler_lost
from bddn.extraction.extraction import prepare
from bddn.many import fit_many
from bddn.many.workers import Workers
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec, FamilySpec, FitSpec, ModuleSpec
from bddn.store.files import LocalFiles
from bddn.store.reader import Cache
from bench.report import keep
from quick_commands import QuickCommand
from quick_workers import STALE_S, QuickLeases, quick_workers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of dask's processes


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with quick_workers(), local_cluster(2, "cpu") as opened:
        yield opened


def leases(out: Path) -> dict[str, bytes]:
    """Files of leases with their contents, but those that are marked as released."""
    found = {}
    for path in out.glob("manifest/lease-*"):
        with suppress(FileNotFoundError):
            found[f"manifest/{path.name}"] = path.read_bytes()
    return {name: content for name, content in found.items() if b'"pid"' in content}


def test_two_workers_write_the_bytes_of_one_process(
    cluster: Cluster, spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    done = extract(spec, planted, tmp_path / "new.zarr", device="cpu", work=cluster)
    assert (done.n_computed, done.reused) == (3, False)
    assert files(tmp_path / "new.zarr") == files(sealed)


def test_workers_are_killed_and_machines_lost_while_two_jobs_share_a_scheduler(
    cluster: Cluster,
    spec: CacheSpec,
    planted: Planted,
    sealed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    long: bool,
) -> None:
    """A worker is killed while shards are being written, at a random moment. In a fifth of the kills its whole machine
    is lost: all that others see is its lease, which nobody renews."""
    monkeypatch.setattr("bddn.extraction.extraction.POLL_S", 0.2)
    cluster.client.register_plugin(QuickLeases(), name="quick-leases")
    one_by_one = spec.model_copy(update={"batch_size": 1})
    specs = {"a": one_by_one, "b": one_by_one.model_copy(update={"precision": "float32"})}
    extract(specs["b"], planted, tmp_path / "other.zarr", device="cpu")
    expected = {"a": files(sealed), "b": files(tmp_path / "other.zarr")}
    killer = Killer(random.Random(0), 200 if long else 5)  # noqa: S311
    n_stores, n_bad = 0, 0
    while killer.n_killed < killer.n_wanted:
        outs = {name: tmp_path / f"{name}-{n_stores}.zarr" for name in specs}
        with killer.at_work(list(outs.values())), ThreadPoolExecutor(2) as threads:
            jobs = [
                threads.submit(extract, specs[name], planted, out, device="cpu", work=cluster)
                for name, out in outs.items()
            ]
            assert all(0 <= job.result().n_computed <= 3 for job in jobs)
        n_bad += sum(files(out) != expected[name] for name, out in outs.items())
        n_stores += len(outs)
        for out in outs.values():
            shutil.rmtree(out)
    cluster.client.unregister_worker_plugin("quick-leases")
    assert n_bad == 0
    assert killer.n_lost >= killer.n_killed // 5
    if long:
        figures = {
            "workers killed": killer.n_killed,
            "of these with their machine": killer.n_lost,
            "stores of two jobs at once": n_stores,
            "stores lost": 0,
            "stores with other bytes": n_bad,
        }
        keep("kills_dask", figures)


class Killer:
    """Kills workers that hold a lease."""

    def __init__(self, rng: random.Random, n_wanted: int) -> None:
        self._rng, self.n_wanted = rng, n_wanted
        self.n_killed = self.n_lost = 0
        self._dead: set[int] = set()

    @contextmanager
    def at_work(self, outs: list[Path]) -> Iterator[None]:
        """Kill up to four workers of those that write these stores."""
        done = threading.Event()
        thread = threading.Thread(target=self._kill, args=(outs, done))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _kill(self, outs: list[Path], done: threading.Event) -> None:
        for _ in range(4):
            while not any(leases(out) for out in outs):
                if done.wait(0.002):
                    return
            if done.wait(self._rng.uniform(0, 0.2)):
                return
            held = [(out, name, content) for out in outs for name, content in leases(out).items()]
            self._rng.shuffle(held)
            for out, name, content in held:
                lease = json.loads(content)
                if lease.get("host") == platform.node() and lease["pid"] not in self._dead:
                    self._kill_one(out, name, lease)
                    break

    def _kill_one(self, out: Path, name: str, lease: dict[str, Any]) -> None:
        lost = (self.n_killed + 1) % 5 == 0
        os.kill(lease["pid"], signal.SIGSTOP)
        if lost and (out / name).exists():
            LocalFiles(out).replace(name, json.dumps(lease | {"host": "lost", "boot": "lost"}).encode())
            self.n_lost += 1
        os.kill(lease["pid"], signal.SIGKILL)
        self._dead.add(lease["pid"])
        self.n_killed += 1


def test_weights_that_are_exchanged_while_a_worker_lives_are_the_ones_that_are_used(
    cluster: Cluster, spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    """The spec is the same each time: it names a folder."""
    weights = tmp_path / "weights"
    assert spec.weights is not None
    own = spec.model_copy(update={"weights": spec.weights.model_copy(update={"folder": str(weights)})})
    first = Path(str(spec.weights.folder))
    for i, factor in enumerate([None, 1.5, None]):
        shutil.rmtree(weights, ignore_errors=True)
        _enlarged(first, weights, factor) if factor else shutil.copytree(first, weights)
        extract(own, planted, tmp_path / f"here-{i}.zarr", device="cpu")
        extract(own, planted, tmp_path / f"workers-{i}.zarr", device="cpu", work=cluster)
        assert files(tmp_path / f"workers-{i}.zarr") == files(tmp_path / f"here-{i}.zarr")
    assert Cache(tmp_path / "workers-2.zarr").digest == Cache(sealed).digest
    assert Cache(tmp_path / "workers-1.zarr").digest != Cache(sealed).digest


def test_other_layers_of_the_network_that_a_worker_has(
    cluster: Cluster, spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    for layers in (("block_0",), None, ("block_2", "block_1")):
        own = spec.model_copy(update={"backbone": FamilySpec(family="clip", layers=layers)})
        out, alone = tmp_path / f"{layers}.zarr", tmp_path / f"{layers}-alone.zarr"
        extract(own, planted, out, device="cpu", work=cluster)
        extract(own, planted, alone, device="cpu")
        assert files(out) == files(alone)


NET = """
import torch
from torch import nn

class Net(nn.Conv2d):
    def forward(self, pixels):
        return super().forward(pixels) * {factor}

def build():
    torch.manual_seed(0)
    whole = nn.Sequential()
    whole.add_module("net", Net(3, 8, 4, stride=4))
    return whole
"""


def test_edited_code_is_not_run_by_workers_that_have_the_old_one(
    cluster: Cluster, spec: CacheSpec, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"net_{tmp_path.name}"
    monkeypatch.syspath_prepend(str(tmp_path))

    def find_here() -> None:
        sys.path.append(str(tmp_path))

    cluster.client.run(find_here)
    changes = {"backbone": ModuleSpec(module=f"{name}:build", layers=("net",)), "weights": None, "global_token": "mean"}
    own = spec.model_copy(update=changes)
    (tmp_path / f"{name}.py").write_text(NET.format(factor=1))
    extract(own, planted, tmp_path / "first.zarr", device="cpu", work=cluster)
    (tmp_path / f"{name}.py").write_text(NET.format(factor=1.001))
    with pytest.raises(BackboneError, match=r"which was edited after the import. Restart this process"):
        extract(own, planted, tmp_path / "second.zarr", device="cpu")
    monkeypatch.delitem(sys.modules, name)  # as in a new process
    with pytest.raises(BackboneError, match=rf"module '{name}' on worker tcp://.*edited after.*all dask workers"):
        extract(own, planted, tmp_path / "second.zarr", device="cpu", work=cluster)
    assert not list((tmp_path / "second.zarr").glob("manifest/shard-*"))


def test_jobs_on_one_scheduler_do_each_their_own(
    cluster: Cluster, spec: CacheSpec, planted: Planted, brain: Path, sealed: Path, tmp_path: Path
) -> None:
    """Two extractions of the same spec, one of another spec, and many fits."""
    other = spec.model_copy(update={"grid": (2, 2)})
    extract(other, planted, tmp_path / "alone.zarr", device="cpu")
    specs = {"a": spec, "b": spec, "c": other}
    fit = FitSpec(channels=8, selector_width=16, epochs=1)
    with ThreadPoolExecutor(4) as threads:
        jobs = {
            name: threads.submit(extract, one, planted, tmp_path / f"{name}.zarr", device="cpu", work=cluster)
            for name, one in specs.items()
        }
        fits = threads.submit(
            fit_many, [sealed], [f"planted:{brain}"], tmp_path / "many", fit, seeds=(0, 1), work=Workers(cluster)
        )
    for name, job in jobs.items():
        assert job.result().n_computed == 3
        assert files(tmp_path / f"{name}.zarr") == files(tmp_path / "alone.zarr" if name == "c" else sealed)
    assert len(fits.result().table) == 2
    assert not fits.result().failed


def test_two_jobs_on_one_scheduler_share_one_cache(
    cluster: Cluster, spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(extract, spec, planted, tmp_path / "new.zarr", device="cpu", work=cluster) for _ in "ab"]
    assert sum(job.result().n_computed for job in jobs) == 3, "each tells only the shards that it wrote"
    assert files(tmp_path / "new.zarr") == files(sealed)


def test_a_client_that_dies_leaves_nothing_behind(
    cluster: Cluster, spec: CacheSpec, planted: Planted, brain: Path, sealed: Path, tmp_path: Path
) -> None:
    scheduler: Any = cluster.client.cluster and cluster.client.cluster.scheduler

    def left() -> list[Any]:
        return [sorted(scheduler.worker_plugins), len(scheduler.tasks), len(scheduler.clients)]

    plugins, _, n_clients = left()
    before = [plugins, 0, n_clients]  # a task of an earlier job may still be on its way out
    assert not [name for name in plugins if name.startswith("bddn")], "nor does one that ended well"
    (tmp_path / "spec.yaml").write_text(spec.model_copy(update={"batch_size": 1}).model_dump_json())
    arguments = ["extract", tmp_path / "spec.yaml", "--data", f"planted:{brain}", "--out", tmp_path / "new.zarr"]
    options = ["--scheduler", str(scheduler.address), "--device", "cpu"]
    client = QuickCommand(["bddn", *arguments, *options])
    while not leases(tmp_path / "new.zarr"):
        assert client.poll() is None
        time.sleep(0.01)
    client.kill()
    assert client.ended().returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while left() != before or leases(tmp_path / "new.zarr"):
        assert time.monotonic() < deadline, (left(), before)
        time.sleep(0.1)
    extract(spec.model_copy(update={"batch_size": 1}), planted, tmp_path / "new.zarr", device="cpu", work=cluster)
    assert files(tmp_path / "new.zarr") == files(sealed)


def test_shards_of_a_machine_that_is_lost_are_taken_over(
    cluster: Cluster, spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a poll of the job nor another worker begins to count again."""
    monkeypatch.setattr("bddn.extraction.extraction.POLL_S", 0.2)
    cluster.client.register_plugin(QuickLeases(), name="quick-leases")
    out = tmp_path / "new.zarr"
    prepare(spec, planted, out, "cpu")
    lost = {"host": "lost", "boot": "lost", "pid": 1, "started": 0.0, "nonce": "lost", "beat": 7}
    for shard in (0, 1, 2):
        assert LocalFiles(out).create(f"manifest/lease-{shard:06d}.0", json.dumps(lost).encode())
    started = time.monotonic()
    done = extract(spec, planted, out, device="cpu", work=cluster)
    cluster.client.unregister_worker_plugin("quick-leases")
    assert time.monotonic() - started > STALE_S
    assert done.n_computed == 3
    assert files(out) == files(sealed)


def test_an_error_on_a_worker_is_the_users_error(
    cluster: Cluster, spec: CacheSpec, planted: Planted, tmp_path: Path
) -> None:
    too_small = spec.model_copy(update={"precision": "float16", "batch_size": 6})
    weights = tmp_path / "weights"
    assert spec.weights is not None
    _enlarged(Path(str(spec.weights.folder)), weights)
    too_small = too_small.model_copy(update={"weights": spec.weights.model_copy(update={"folder": str(weights)})})
    with pytest.raises(BackboneError, match=r"finite numbers in float16.*precision: bfloat16"):
        extract(too_small, planted, tmp_path / "new.zarr", device="cpu", work=cluster)


def test_a_cluster_without_gpus_is_refused_where_one_is_wanted(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"resource GPU.*2 workers without it.*--resources GPU=1"):
        Cluster(cluster.client, "cuda", 1)


def test_a_running_cluster_is_joined_by_its_address(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as running,
        joined_cluster(running.scheduler_address, "auto") as joined,
    ):
        assert joined.device == "cpu"
        extract(spec, planted, tmp_path / "new.zarr", device=joined.device, work=joined)
    assert Cache(tmp_path / "new.zarr").digest == Cache(sealed).digest


def test_waiting_ends_where_all_workers_are_gone_for_good(
    spec: CacheSpec, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bddn.extraction.cluster.START_S", 1.0)
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as running,
        Client(running, set_as_default=False) as client,
    ):
        left = Cluster(client, "cpu", 1)
        running.scale(0)
        with pytest.raises(ClusterError, match="got none for"):
            extract(spec, planted, tmp_path / "new.zarr", device="cpu", work=left)


def test_a_scheduler_that_is_killed_is_told_in_words(spec: CacheSpec, brain: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "scheduler.json", tmp_path / "new.zarr"
    (tmp_path / "spec.yaml").write_text(spec.model_dump_json())
    dask = [sys.executable, "-m", "dask"]
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    extraction = [
        sys.executable,
        "-m",
        "bddn",
        "extract",
        str(tmp_path / "spec.yaml"),
        "--data",
        f"planted:{brain}",
    ]
    extraction += ["--out", str(out), "--scheduler", str(file)]
    quiet = subprocess.DEVNULL
    with (
        subprocess.Popen([*dask, "scheduler", "--port", "0", *options], stderr=quiet) as scheduler,
        subprocess.Popen([*dask, "worker", *options, "--nthreads", "1"], stderr=quiet) as worker,
    ):
        try:
            while not file.exists():
                time.sleep(0.05)
            with subprocess.Popen(extraction, stderr=subprocess.PIPE, text=True) as process:
                while not list(out.glob("manifest/*")) and process.poll() is None:
                    time.sleep(0.01)
                scheduler.kill()
                _, told = process.communicate(timeout=120)
        finally:
            scheduler.kill()
            worker.terminate()
    assert process.returncode == 2, told
    assert "expected the scheduler to keep running" in told
    assert "Traceback" not in told


def test_a_client_that_can_no_longer_cancel_does_not_hide_what_happened(
    cluster: Cluster, spec: CacheSpec, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> None:
        raise RuntimeError("Client is closed. Can't send cancel-keys message.")

    def lost(task: object, shard: int) -> None:
        raise scheduler_lost(f"shard {shard}") from None

    monkeypatch.setattr("bddn.extraction.cluster._result", lost)
    monkeypatch.setattr(cluster.client, "cancel", closed)
    with pytest.raises(ClusterError, match="expected the scheduler to keep running"):
        extract(spec, planted, tmp_path / "new.zarr", device="cpu", work=cluster)


def test_more_workers_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ClusterError, match="one CUDA device for each worker; got 1"), local_cluster(4, "cuda"):
        pass


def test_signals_that_reach_all_processes_of_a_command_do_not_reach_its_workers() -> None:
    """As by Ctrl-C in a terminal: a worker would end with a traceback, and begin anew."""
    blocked = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGUSR1))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    # started anew as a command starts it: the server that forks the workers of the other tests is older than the mask
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}), local_cluster(1, "cpu") as opened:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
        (status,) = opened.client.run(Path("/proc/self/status").read_text).values()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")]
    assert int(mask, 16) & blocked == blocked


def test_workers_that_cannot_be_started_are_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", start)
    with pytest.raises(ClusterError, match=r"--workers 1: .* Too many open files.*ulimit -n"), local_cluster(1, "cpu"):
        pass


def test_devices_are_those_that_the_job_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for given, names in (("", ["0", "1"]), ("2,3", ["2", "3"]), ("GPU-8c1f,GPU-a02e,-1,0", ["GPU-8c1f", "GPU-a02e"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert device_names() == names


def _enlarged(folder: Path, out: Path, factor: float = 1e6) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, out)
    state = load_file(out / "model.safetensors")
    for name in [n for n in state if "layers.1.mlp.fc2.weight" in n]:
        state[name] *= factor
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
