"""On dask workers: the same bytes as in one process, whoever dies on the way; and clear words where it cannot go on."""

import json
import os
import platform
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from bddn.data.planted import Planted
from bddn.errors import BackboneError, ClusterError
from bddn.extract import extract
from bddn.extract.cluster import Cluster, joined_cluster, local_cluster
from bddn.spec import CacheSpec
from bddn.store.files import LocalFiles
from bddn.store.reader import Cache
from bench.report import keep
from quick_workers import QuickLeases, quick_workers

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
    monkeypatch.setattr("bddn.extract.extraction.POLL_S", 0.2)
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


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bddn.extract.cluster.START_S", 0.5)
    started = time.monotonic()
    with (
        pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9: expected a dask scheduler"),
        joined_cluster("tcp://127.0.0.1:9", "cpu"),
    ):
        pass
    assert time.monotonic() - started < 30


def test_waiting_ends_where_all_workers_are_gone_for_good(
    spec: CacheSpec, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bddn.extract.cluster.START_S", 1.0)
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as running,
        Client(running, set_as_default=False) as client,
    ):
        left = Cluster(client, "cpu", 1)
        running.scale(0)
        with pytest.raises(ClusterError, match="none any more"):
            extract(spec, planted, tmp_path / "new.zarr", device="cpu", work=left)


def test_more_workers_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ClusterError, match="one CUDA device for each worker; got 1"), local_cluster(4, "cuda"):
        pass


def _enlarged(folder: Path, out: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, out)
    state = load_file(out / "model.safetensors")
    for name in [n for n in state if "layers.1.mlp.fc2.weight" in n]:
        state[name] *= 1e6
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
