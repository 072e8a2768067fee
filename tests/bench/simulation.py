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
import torch
from PIL import Image
from torch import Tensor

from bddn.data import Stimuli
from bddn.extract import extract
from bddn.spec import CacheSpec
from bddn.store.check import verify
from bddn.store.files import LocalFiles
from bddn.store.reader import Cache
from bddn.store.remote import RemoteFiles
from bddn.store.writer import Writer
from bddn.tokens import LayerTokens, Tokens

CHANNELS = 2
PICTURE = Image.new("RGB", (2, 2), (10, 20, 30))
METHODS = ("read", "read_into", "blocks", "stamp", "replace", "create", "delete", "sizes", "sweep")


@dataclass(frozen=True)
class SimulatedStimuli(Stimuli):
    """Images that are all alike and are never read from a disk, each with a hash of its own."""

    def read(self, i: int) -> tuple[Image.Image, str]:
        return PICTURE, self.sha256(i)

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

    coords_mm = responses = truth = voxels


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
    """What the files of a store were asked, and how many names were listed; per shard and in all."""

    def __init__(self) -> None:
        self.n: Counter[str] = Counter()
        self.shards: list[tuple[float, Counter[str]]] = []

    @contextmanager
    def installed(self) -> Iterator["Counted"]:
        inner: dict[tuple[Any, str], Any] = {}
        for kind in (LocalFiles, RemoteFiles):
            for name in METHODS:
                inner[kind, name] = getattr(kind, name)
                setattr(kind, name, self._counted(name, inner[kind, name]))
        write = Writer.write

        def noted(*args: Any, **kwargs: Any) -> bool:
            done = write(*args, **kwargs)
            self.shards.append((time.perf_counter(), Counter(self.n)))
            return done

        Writer.write = noted  # type: ignore[method-assign]
        try:
            yield self
        finally:
            Writer.write = write  # type: ignore[method-assign]
            for (kind, name), method in inner.items():
                setattr(kind, name, method)

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.n[name] += 1
            found = method(*args, **kwargs)
            if name == "sizes":
                self.n["names listed"] += len(found)
            return found

        return call

    def of(self, shards: slice) -> dict[str, float]:
        """Of some shards, the median time and the mean numbers of one."""
        part = self.shards[shards]
        n = len(part) - 1
        times = np.diff([at for at, _ in part])
        asked = part[-1][1] - part[0][1]
        return {"median_ms": 1e3 * float(np.median(times)), "mean_ms": 1e3 * float(times.mean())} | {
            name: count / n for name, count in sorted(asked.items())
        }


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def measure(place: str, n_images: int, **changes: Any) -> dict[str, Any]:
    """Extract, restart, seal, open and verify; times in seconds, numbers of what was asked, peaks of memory."""
    found: dict[str, Any] = {"n_images": n_images, "start_mib": peak_mib()}
    dataset = Simulated(n_images)
    found["ids_mib"] = (
        sum(map(sys.getsizeof, dataset.stimuli.ids)) + n_images * (8 + sys.getsizeof("0" * 64) + 8)
    ) / 2**20
    backbone: Any = TinyBackbone()
    seal = Writer.seal

    def stop(self: Writer) -> str:
        raise InterruptedError

    def run() -> Any:
        return extract(spec(**changes), dataset, place, device="cpu", backbone=backbone)  # type: ignore[arg-type]

    def interrupted() -> None:
        Writer.seal = stop  # type: ignore[method-assign]
        try:
            run()
        except InterruptedError:
            pass
        finally:
            Writer.seal = seal  # type: ignore[method-assign]

    with Counted().installed() as counted:
        found["extract_s"], _ = timed(interrupted)
        n = len(counted.shards)
        tenth = max(2, n // 10)
        found |= {"n_shards": n, "first": counted.of(slice(0, tenth)), "last": counted.of(slice(n - tenth, n))}
        found["whole"] = dict(counted.n)
        found["extract_mib"] = peak_mib()
        before = Counter(counted.n)
        found["restart_s"], _ = timed(interrupted)
        found["restart"] = dict(counted.n - before)
        found["restart_mib"] = peak_mib()
        before = Counter(counted.n)
        found["seal_s"], done = timed(run)
        found["seal_s"] -= found["restart_s"]
        found["seal"] = dict(counted.n - before)
        found["seal_mib"] = peak_mib()
        assert done.digest
        found["digest"] = done.digest
        before = Counter(counted.n)
        found["reused_s"], _ = timed(run)
        found["open_s"], _ = timed(lambda: Cache(place))
        found["open_mib"] = peak_mib()
        found["verify_s"], checked = timed(lambda: verify(place))
        assert not checked.bad
        found["verify_mib"] = peak_mib()
    return found


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2])), indent=1))
