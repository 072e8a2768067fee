"""The tasks on a dask worker: open the backbone of a job once, and compute shards.

The job is a value that its tasks share. dask deletes this value from all workers when the client releases it, ends or
dies, so that a job leaves nothing on a shared scheduler. Only the last used backbone of each process stays in memory,
because the next job may need it.
"""

import gc
import threading
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from distributed import get_worker

from bddn.backbones.backbone import Backbone
from bddn.backbones.registry import open_backbone
from bddn.errors import BddnError, ClusterError, MismatchError
from bddn.extraction.job import Job, Owner
from bddn.extraction.source import TokenSource, network_identity
from bddn.identity import Identity
from bddn.machine.settings import own_settings
from bddn.store.files import LocalFiles
from bddn.store.lease import LeaseMonitor, Observation
from bddn.store.manifest import HEADER

NETWORK = ("spec", "decoding", "backbone", "made_with")  # parts of a cache header that identify the network
NOT_SEEN = "nothing under this path"
SHARE_DISK = "Put cache, data, weights and results on a disk that all workers see under the same path."
Value = TypeVar("Value")

_open: WeakValueDictionary[str, Backbone] = WeakValueDictionary()  # of this process, by the digest of their identity
_latest: list[Backbone] = []  # the last used one, kept alive while no job uses it
_opening = threading.Lock()


class SharedJob:
    """The part of a job that is sent to workers. Each worker opens the backbone itself.

    Parameters
    ----------
    job : Job
    threads : int
        Number of batches that a task computes in parallel on a CPU.
    """

    def __init__(self, job: Job, threads: int) -> None:
        source = job.source
        weights, files, header = source.spec.weights, job.writer.files, job.writer.header
        if weights is not None:  # use absolute paths, since workers may have another working directory
            local = {name: path for name in ("folder", "file") if (path := getattr(weights, name)) is not None}
            weights = weights.model_copy(update={name: str(Path(path).absolute()) for name, path in local.items()})
        if isinstance(files, LocalFiles):
            files = LocalFiles(files.root.absolute())
        self.spec = source.spec.model_copy(update={"weights": weights})
        self.stimuli = source.stimuli.absolute()
        self.writer = replace(job.writer, files=files)
        self.device, self.threads = source.device, threads
        self.identity = Identity(header).only(*NETWORK)
        self.digest = Identity(header).only("layers", *NETWORK).digest()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "backbone"}  # never sent

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone on this worker, checked against the cache. It stays open at least as long as the job.

        Raises
        ------
        MismatchError
            If this worker opens another network, has other libraries, or does not see the cache.
        """
        with _opening:
            if (found := _open.get(self.digest)) is None:
                self._check_cache()
                _latest.clear()
                gc.collect()  # needed since a network and its hooks form a reference cycle
                found = _open[self.digest] = self._opened()
            _latest[:] = [found]
            return found

    def _opened(self) -> Backbone:
        backbone = open_backbone(self.spec, self.device)
        differ = self.identity.differences(network_identity(self.spec, backbone, self.device))
        if differ:
            raise MismatchError(
                "the network",
                expected="the same network, device and libraries as in the process that started the extraction",
                got=f"a network that differs in: {'; '.join(differ)}",
                fix="Give all workers the same environment and weights, and start them again.",
            )
        return backbone

    def _check_cache(self) -> None:
        """Refuse a worker that does not see the cache; it would write shards that no other process can read."""
        files = self.writer.files
        if files.read(HEADER) is None:
            raise MismatchError(
                files.place,
                expected="the cache that the extraction created",
                got=NOT_SEEN,
                fix=SHARE_DISK,
            )


@own_settings()
def compute(job: SharedJob, shard: int, seen: Observation | None, topic: str, name: str) -> Owner | BddnError | None:
    """Run one task: compute, write and commit a shard, and report the number of finished images.

    Parameters
    ----------
    job : SharedJob
    shard : int
    seen : Observation, optional
        The client's observation of the shard's lease, since a worker may see a shard only once.
    topic, name : str
        Topic of the progress events, and the name of the job in them.

    Returns
    -------
    dict, None or BddnError
        The owner if another job holds the shard. An error of the user is returned, because dask would retry the task
        if it were raised.
    """
    worker: Any = get_worker()

    def advance(n: int) -> None:
        worker.log_event(topic, {"job": name, "shard": shard, "n": n})

    try:
        source = TokenSource(
            job.spec, job.backbone, job.stimuli, job.writer.images, job.writer.layout, job.device, job.threads
        )
        monitor = LeaseMonitor(job.writer.files)
        monitor.merge(shard, seen)
        return Job(source, job.writer, monitor).compute(shard, advance)
    except BddnError as error:
        return error_on_worker(error)
    except FileNotFoundError as error:
        return error_on_worker(
            ClusterError(
                error.filename or "a file",
                expected="the file that the process that started the extraction sees",
                got=NOT_SEEN,
                fix=SHARE_DISK,
            )
        )


def error_on_worker(error: BddnError) -> BddnError:
    """Return the error with the address of this worker, which may see other files than the user's machine."""
    path, place = Path(error.place), f"{error.place} on worker {get_worker().address}"
    fix = SHARE_DISK if path.is_absolute() and not path.exists() else error.fix
    return type(error)(place, expected=error.expected, got=error.got, fix=fix)


def hold(value: Value) -> Value:
    """Return `value`. As a task it holds a value for other tasks; dask sends it again if its worker dies."""
    return value
