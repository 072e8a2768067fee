"""An extraction of tiny tokens from simulated images, so that what is measured is the work of the store alone.

python tests/bench/simulation.py PLACE N_IMAGES    prints the figures of a whole extraction as JSON

The images and the network are simulated; all else is the product's: `extract()`, its leases, writer, records and seal.
"""

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bddn.data import Stimuli
from bddn.data.dataset import Inspected
from bddn.extraction import Extraction, extract
from bddn.spec import CacheSpec
from bddn.store.check import verify
from bddn.store.files import LocalFiles
from bddn.store.reader import Cache
from bddn.store.remote import open_files
from bddn.store.writer import Writer
from bddn.tokens import LayerTokens, Tokens

CHANNELS = 2
PICTURE = Image.new("RGB", (2, 2), (10, 20, 30))
METHODS = ("read", "read_into", "blocks", "stamp", "replace", "create", "delete", "sizes")


@dataclass(frozen=True)
class SimulatedStimuli(Stimuli):
    """Images that are all alike and are never read from a disk, each with a hash of its own."""

    def read(self, i: int) -> tuple[Image.Image, str]:
        return PICTURE, self.sha256(i)

    def inspect(self, i: int) -> Inspected:
        return Inspected(self.sha256(i), PICTURE.size, frozenset())

    def sha256(self, i: int) -> str:
        return f"{i:064x}"


class Simulated:
    """A dataset of so many simulated images; without voxels, which stage one does not ask for."""

    def __init__(self, n_images: int) -> None:
        ids = tuple(f"sim-{i:07d}" for i in range(n_images))
        self.name = f"simulated:{n_images}"
        self.stimuli = SimulatedStimuli(ids, (Path("simulated.png"),) * n_images)

    def voxels(self) -> Any:
        raise NotImplementedError

    coords_mm = truth = voxels

    def responses(self, rows: Any = None) -> Any:
        raise NotImplementedError


class TinyBackbone:
    """A network of one layer whose tokens are a few constants."""

    layers = ("layer",)

    @property
    def identity(self) -> dict[str, Any]:
        return {"class": "TinyBackbone", "made_with": {}}

    def preprocess(self, image: Image.Image) -> Tensor:
        return torch.full((3, 1, 1), 0.5)

    def __call__(self, pixels: Tensor) -> Tokens:
        values = pixels.new_ones(len(pixels), CHANNELS)
        return Tokens({"layer": LayerTokens(values[:, :, None, None], values)})


def spec(**changes: Any) -> CacheSpec:
    """A cache of these tokens: 2 files in a shard."""
    return CacheSpec(
        title="simulated", grid=(1, 1), image_size=1, **{"chunk_images": 16, "shard_images": 256, **changes}
    )


class Counted:
    """What the files of a store were asked, and how many names were listed; per shard and in all.

    Parameters
    ----------
    n : Counter, optional
        Where a server counts its own requests; by default the calls of `Files` are counted.
    """

    def __init__(self, n: Counter[str] | None = None) -> None:
        self._calls = n is None
        self.n = Counter[str]() if n is None else n
        self.shards: list[tuple[float, float, Counter[str]]] = []

    @contextmanager
    def installed(self) -> Iterator["Counted"]:
        with pytest.MonkeyPatch.context() as patch:
            for name in METHODS if self._calls else ():
                patch.setattr(LocalFiles, name, self._counted(name, getattr(LocalFiles, name)))
            write = Writer.write

            def noted(*args: Any, **kwargs: Any) -> bool:
                done = write(*args, **kwargs)
                self.shards.append((time.perf_counter(), time.process_time(), Counter(self.n)))
                return done

            patch.setattr(Writer, "write", noted)
            yield self

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.n[name] += 1
            found = method(*args, **kwargs)
            if name == "sizes":
                self.n["names listed"] += len(found)
            return found

        return call

    def of(self, shards: slice) -> dict[str, Any]:
        """Of some shards, the medians of time and of this process's computing, and the mean numbers of one."""
        part = self.shards[shards]
        times, computing = (np.diff([one[at] for one in part]) for at in (0, 1))
        asked = part[-1][2] - part[0][2]
        return {
            "median_ms": 1e3 * float(np.median(times)),
            "computing_ms": 1e3 * float(np.median(computing)),
            "asked": {name: count / len(times) for name, count in sorted(asked.items())},
        }


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def measure(place: str, n_images: int, requests: Counter[str] | None = None, **changes: Any) -> dict[str, Any]:
    """Extract, restart, seal, open and verify: seconds, what was asked of the store, and peaks of memory in MiB.

    Parameters
    ----------
    requests : Counter, optional
        See `Counted`.
    changes : Any
        Fields of the spec.
    """
    dataset, backbone, made = Simulated(n_images), TinyBackbone(), spec(**changes)
    hashes = n_images * (8 + sys.getsizeof("0" * 64))
    ids = sum(map(sys.getsizeof, dataset.stimuli.ids)) + n_images * 8
    found: dict[str, Any] = {"n_images": n_images, "ids_and_hashes_mib": (ids + hashes) / 2**20}
    seconds, asked, peaks = (found.setdefault(name, {}) for name in ("seconds", "asked", "peak_mib"))

    def run() -> Extraction:
        return extract(made, dataset, place, device="cpu", backbone=backbone)

    def interrupted() -> None:
        """All of it but the sealing."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Writer, "seal", lambda self: "")
            run()

    steps: dict[str, Callable[[], Any]] = {
        "extract": interrupted,
        "restart": interrupted,
        "seal": run,
        "use again": run,
        "open": lambda: Cache(place),
        "verify": lambda: verify(place),
    }
    with Counted(requests).installed() as counted:
        for name, step in steps.items():
            before, start = Counter(counted.n), time.perf_counter()
            done = step()
            seconds[name], asked[name] = time.perf_counter() - start, dict(counted.n - before)
            peaks[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            assert name != "verify" or not done.bad
        seconds["seal"] -= seconds["restart"]  # which comes before it
        found["bytes"] = sum(open_files(place).sizes().values())
        n, tenth = len(counted.shards), max(2, len(counted.shards) // 10)
        return found | {
            "n_shards": n,
            "first_shards": counted.of(slice(0, tenth)),
            "last_shards": counted.of(slice(n - tenth, n)),
        }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2])), indent=1))
