"""What is done per shard does not grow with the number of shards: an extraction of simulated images, on a disk and in a
bucket."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bddn.store.layout import Layout
from bddn.store.remote import RemoteFiles
from bddn.store.requests import requests
from bench import simulation
from bench.report import keep
from store.test_remote import BUCKET, Server, point_at

FEW, MANY = 10_000, 1_000_000
PLANNED = 0.25  # by which a plan may be wrong
CONSTANT = 0.2  # by which time and requests of the last shards may differ from those of the first


class Requests(list[tuple[str, str]]):
    """The log of a server, by method only."""

    def __init__(self) -> None:
        super().__init__()
        self.n = Counter[str]()

    def append(self, request: tuple[str, str]) -> None:
        self.n[request[0]] += 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """A bucket on a server of this process that counts its requests."""
    server, log = Server(), Requests()
    point_at(server.url, monkeypatch)
    RemoteFiles(f"s3://{BUCKET}")._open()[0].mkdir(BUCKET)
    server.log = log
    yield log.n
    server.stop()


def in_a_process(place: Path, n_images: int) -> dict[str, Any]:
    """Measure in a process of its own, for the peaks of its memory."""
    command = [sys.executable, simulation.__file__, str(place), str(n_images)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def growth(found: dict[str, Any]) -> dict[str, float]:
    """What the last shards took, as a multiple of what the first ones took.

    `computing` is the time of this process alone; what else the machine does meanwhile is in `time`.
    """
    first, last = found["first_shards"], found["last_shards"]
    ratios = {"time": last["median_ms"] / first["median_ms"], "computing": last["computing_ms"] / first["computing_ms"]}
    return ratios | {name: last["asked"].get(name, 0) / n for name, n in first["asked"].items() if n >= 1}


def check_constant(found: dict[str, Any], times: bool) -> None:
    ratios = growth(found)
    assert not {"sizes", "names listed"} & found["last_shards"]["asked"].keys()  # nothing is listed per shard
    computing, time = ratios.pop("computing"), ratios.pop("time")
    assert all(abs(ratio - 1) <= CONSTANT for ratio in ratios.values()), ratios
    assert not times or min(time, computing) <= 1 + CONSTANT, (time, computing)  # other work raises one or the other


def planned(found: dict[str, Any], **changes: Any) -> dict[str, float]:
    """What a plan tells of it, as a multiple of what was measured."""
    layout = Layout.of_spec(simulation.spec(**changes), {"layer": simulation.CHANNELS}, found["n_images"])
    ratios = {"bytes": layout.disk_bytes() / found["bytes"], "tasks": layout.n_shards / found["n_shards"]}
    asked = found["asked"]
    if "GET" in asked["extract"]:
        extra = Counter(asked["seal"]) - Counter(asked["restart"])  # which comes before it
        ratios["requests"] = requests(layout).total / (sum(asked["extract"].values()) + sum(extra.values()))
    return ratios


def check_planned(ratios: dict[str, float]) -> None:
    assert all(abs(ratio - 1) <= PLANNED for ratio in ratios.values()), ratios


def test_on_a_disk(true_size: bool, tmp_path: Path) -> None:
    if not true_size:
        sizes: dict[str, Any] = {"chunk_images": 4, "shard_images": 8}
        found = simulation.measure(str(tmp_path / "cache.zarr"), 512, **sizes)
        check_constant(found, times=False)
        check_planned(planned(found, **sizes))
        return
    few, many = (in_a_process(tmp_path / f"{n}.zarr", n) for n in (FEW, MANY))
    peaks = [max(found["peak_mib"].values()) for found in (few, many)]
    what = f"{MANY:,} and {FEW:,} simulated images, one layer of {simulation.CHANNELS} channels on 1x1, 256 in a shard"
    keep(
        "scale_cpu",
        {
            "what": what,
            "few": few,
            "many": many,
            "growth": growth(many),
            "planned / measured": planned(many),
            "peak_ratio_beyond_ids": (peaks[1] - many["ids_and_hashes_mib"]) / peaks[0],
        },
    )
    check_constant(many, times=True)
    check_planned(planned(many))
    assert peaks[1] - many["ids_and_hashes_mib"] <= 1.5 * peaks[0]
    assert many["seconds"]["restart"] < 60


def test_in_a_bucket(true_size: bool, asked: Counter[str]) -> None:
    n_images, sizes = (MANY, {"shard_images": 512}) if true_size else (128, {"chunk_images": 4, "shard_images": 4})
    found = simulation.measure(f"s3://{BUCKET}/cache.zarr", n_images, asked, **sizes)
    if true_size:
        what = f"{n_images:,} simulated images, 512 in a shard, S3 server in the same process"
        figures = {"many": found, "growth": growth(found), "planned / measured": planned(found, **sizes)}
        keep("scale_s3_cpu", {"what": what, **figures})
    check_constant(found, times=true_size)
    check_planned(planned(found, **sizes))
