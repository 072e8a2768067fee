"""The rows of a shard: images are decoded, go through the backbone in batches, and are rounded to what is stored."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bddn.backbones.base import Backbone
from bddn.data import Stimuli
from bddn.errors import BackboneError, BddnError, DataError
from bddn.extract.device import Arrays, OnDevice, on_cpu
from bddn.parallel import ahead, n_threads
from bddn.spec import CacheSpec
from bddn.store.precision import Rows
from bddn.store.writer import Writer

CPU_BATCH = 8  # images at most: more are no faster on one core, and leave more cores idle at the end of a shard
ON_DEVICE = 3  # batches at once: one is waited for, one computed and one rounded
BATCHES_AHEAD = 2  # of images that are decoded before a batch on a device takes them


@dataclass(frozen=True)
class Job:
    """All that a worker must know to compute a shard.

    Attributes
    ----------
    spec : CacheSpec
    stimuli : Stimuli
    writer : Writer
        Of the store.
    device : str
        'cpu' or 'cuda'.
    threads : int
        Batches that are computed at once, on a CPU.
    """

    spec: CacheSpec
    stimuli: Stimuli
    writer: Writer
    device: str
    threads: int

    @property
    def batch(self) -> int:
        """Images of a forward pass. It depends on nothing that differs between machines, as last bits may on it."""
        return min(self.spec.batch_size, CPU_BATCH) if self.device == "cpu" else self.spec.batch_size

    @property
    def at_once(self) -> int:
        """Batches that are worked on at once."""
        return self.threads if self.device == "cpu" else ON_DEVICE


class Images:
    """Prepared images of some rows, in their order, and the threads in which their batches run.

    On a CPU whoever takes an image decodes it. For a device they are decoded ahead, by all cores and past the end of
    a shard, so that it need not wait for the first images of the next one.
    """

    def __init__(
        self, job: Job, backbone: Backbone, rows: Iterable[int], threads: Executor, decoders: Executor | None
    ) -> None:
        self._job, self._backbone, self._rows, self._decoders = job, backbone, iter(rows), decoders
        self.threads = threads
        self._begun: deque[tuple[int, Future[Tensor]]] = deque()

    def take(self, rows: range) -> list[Callable[[], Tensor]]:
        """What waits for these images, each of which comes after all that were taken; what lies between is dropped."""
        if self._decoders is None:
            return [partial(self._prepare, row) for row in rows]
        return [self._next(row).result for row in rows]

    def _next(self, wanted: int) -> Future[Tensor]:
        assert self._decoders is not None
        while True:
            while len(self._begun) <= BATCHES_AHEAD * self._job.batch and (row := next(self._rows, None)) is not None:
                self._begun.append((row, self._decoders.submit(self._prepare, row)))
            row, found = self._begun.popleft()
            if row == wanted:
                return found
            found.cancel()

    def _prepare(self, row: int) -> Tensor:
        image, sha256 = self._job.stimuli.read(row)
        if sha256 != self._job.writer.images[row]:
            raise DataError(
                self._job.stimuli.paths[row],
                expected="the image that was checked at the start",
                got="other bytes",
                fix="Leave the images alone while they are extracted; run the same command again.",
            )
        return self._backbone.preprocess(image)


@contextmanager
def prepared(job: Job, backbone: Backbone, rows: Iterable[int]) -> Iterator[Images]:
    """Images of these rows. Their threads live as long: were there new ones for each shard, the memory that each leaves
    behind would add up."""
    numbers = [job.at_once] if job.device == "cpu" else [job.at_once, n_threads()]
    pools = [ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) for n in numbers]
    try:
        yield Images(job, backbone, rows, pools[0], pools[1] if len(pools) > 1 else None)
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def read_tokens(
    job: Job, backbone: Backbone, start: int, stop: int, images: Images, advance: Callable[[int], object]
) -> dict[str, Rows]:
    """Tokens of the images `start` to `stop`, by array, rounded to the stored precision.

    On a CPU several batches run at once, each with single-threaded kernels, so that the number of threads changes the
    time and never the result. On a device they run one after the other.
    """
    layout, ids = job.writer.layout, job.stimuli.ids
    filled: dict[str, Rows] = {
        path: np.empty((stop - start, *shape), layout.precision.filled) for path, shape in layout.arrays().items()
    }
    run = on_cpu if job.device == "cpu" else OnDevice()
    layers = [layer.name for layer in layout.layers]

    def forward(pixels: Tensor) -> Arrays:
        try:
            return run(backbone, pixels, layers)
        except BddnError:
            raise
        except RuntimeError as error:
            raise _failed(job.device, len(pixels), error) from error

    def batch(taken: tuple[range, list[Callable[[], Tensor]]]) -> int:
        rows, waiting = taken
        found = forward(torch.stack([image() for image in waiting]))
        for path, values in found.items():
            rounded = layout.precision.fill(values, path, ids[rows.start : rows.stop])
            filled[path][rows.start - start : rows.stop - start] = rounded
        return len(rows)

    batches = (range(first, min(first + job.batch, stop)) for first in range(start, stop, job.batch))
    taken = ((rows, images.take(rows)) for rows in batches)
    for n in ahead(batch, taken, 2 * job.at_once, images.threads):
        advance(n)
    return filled


def _failed(device: str, n_images: int, error: RuntimeError) -> BackboneError:
    memory = isinstance(error, torch.OutOfMemoryError)
    return BackboneError(
        f"{device}, a batch of {n_images} images",
        expected="the network to run",
        got="no memory left" if memory else str(error).strip().splitlines()[0],
        fix=f"Set batch_size: {max(1, n_images // 2)} in the spec and run the same command again: it goes on."
        if memory
        else "Run the same command again: it goes on where it stopped.",
    )
