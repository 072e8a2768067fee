"""On dask workers: the same bytes as in one process, whoever dies on the way; and clear words where it cannot go on."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from bddn.data.planted import Planted
from bddn.errors import BackboneError, ClusterError
from bddn.extract import extract
from bddn.extract.cluster import Cluster, joined_cluster, local_cluster
from bddn.spec import CacheSpec
from bddn.store.reader import Cache
from bench.report import keep

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of dask's processes


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with local_cluster(2, "cpu") as opened:
        yield opened


def leases(out: Path) -> list[bytes]:
    found = []
    for path in out.glob("manifest/lease-*"):
        with suppress(FileNotFoundError):
            found.append(path.read_bytes())
    return found


def test_two_workers_write_the_bytes_of_one_process(
    cluster: Cluster, spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    done = extract(spec, planted, tmp_path / "new.zarr", device="cpu", work=cluster)
    assert (done.n_computed, done.reused) == (3, False)
    assert files(tmp_path / "new.zarr") == files(sealed)


def test_workers_that_are_killed_cost_time_only(
    cluster: Cluster, spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, long: bool
) -> None:
    """A worker is killed while shards are being written, at a random moment; another takes its place."""
    rng, wanted = random.Random(0), 60 if long else 1  # noqa: S311
    one_by_one = spec.model_copy(update={"batch_size": 1})
    killed: list[int] = []
    n_stores = 0
    while len(killed) < wanted:
        out, done = tmp_path / f"killed-{n_stores}.zarr", threading.Event()

        def kill(out: Path = out, done: threading.Event = done) -> None:
            for _ in range(3):
                while not list(out.glob("manifest/lease-*")):
                    if done.wait(0.002):
                        return
                done.wait(rng.uniform(0, 0.2))
                at_work = [json.loads(lease)["pid"] for lease in leases(out)]
                for pid in [pid for pid in at_work if pid not in killed][:1]:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        killer = threading.Thread(target=kill)
        killer.start()
        extract(one_by_one, planted, out, device="cpu", work=cluster)
        done.set()
        killer.join()
        n_stores += 1
        assert files(out) == files(sealed)
        cluster.client.wait_for_workers(2, timeout=120)
    if long:
        keep("kills_dask", {"workers killed": len(killed), "stores sealed with the same bytes": n_stores})


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
