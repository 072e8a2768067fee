"""What happens on a dask worker: it opens the network of a job once, and computes shards.

A job comes to a worker as a value that its tasks share. dask drops the value from all workers when the client that sent
it releases it, ends or dies, so no job leaves anything behind on a scheduler that others use, too. The network alone
stays, the latest of each process, since the next job may need it again.
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
from bddn.data import Stimuli
from bddn.errors import BddnError, ClusterError, MismatchError
from bddn.extract.job import Job, Owner
from bddn.extract.source import TokenSource, network_identity
from bddn.identity import Identity
from bddn.store.files import LocalFiles
from bddn.store.lease import Seen, Watch
from bddn.store.manifest import HEADER

NETWORK = ("spec", "decoding", "backbone", "made_with")  # parts of a cache's header that decide which network it is
NOT_SEEN = "nothing under this path"
SHARE_DISK = "Put cache, data, weights and results on a disk that all workers see under the same path."
Value = TypeVar("Value")

_open: WeakValueDictionary[str, Backbone] = WeakValueDictionary()  # of this process, by the digest of their identity
_latest: list[Backbone] = []  # of those, the one that is kept while no job uses it
_opening = threading.Lock()


class SharedJob:
    """What workers must know to compute shards of a job; each opens the network by itself.

    Parameters
    ----------
    job : Job
    threads : int
        Batches that a task computes at once, on a CPU.
    """

    def __init__(self, job: Job, threads: int) -> None:
        source = job.source
        weights, files, header = source.spec.weights, job.writer.files, job.writer.header
        if weights is not None:  # absolute paths, since workers may have another working directory
            local = {name: path for name in ("folder", "file") if (path := getattr(weights, name)) is not None}
            weights = weights.model_copy(update={name: str(Path(path).absolute()) for name, path in local.items()})
        if isinstance(files, LocalFiles):
            files = LocalFiles(files.root.absolute())
        self.spec = source.spec.model_copy(update={"weights": weights})
        self.stimuli = Stimuli(source.stimuli.ids, tuple(path.absolute() for path in source.stimuli.paths))
        self.writer = replace(job.writer, files=files)
        self.device, self.threads = source.device, threads
        self.identity = Identity(header).only(*NETWORK)
        self.digest = Identity(header).only("layers", *NETWORK).digest()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "backbone"}  # it stays where it is

    @cached_property
    def backbone(self) -> Backbone:
        """The network on this worker, which is the one that the cache is for. As long as the job is here it stays.

        Raises
        ------
        MismatchError
            Where this worker finds another network or has other libraries, or sees another cache.
        """
        with _opening:
            if (found := _open.get(self.digest)) is None:
                self._check_cache()
                _latest.clear()
                gc.collect()  # a network and its hooks refer to each other
                found = _open[self.digest] = self._opened()
            _latest[:] = [found]
            return found

    def _opened(self) -> Backbone:
        backbone = open_backbone(self.spec, self.device)
        differ = self.identity.differences(network_identity(self.spec, backbone, self.device))
        if differ:
            raise MismatchError(
                "the network",
                expected="the one, and the device and libraries, of the process that started the extraction",
                got=f"one that differs in: {'; '.join(differ)}",
                fix="Give all workers the same environment and weights, and start them again.",
            )
        return backbone

    def _check_cache(self) -> None:
        """Else a worker on another machine would write shards that nobody sees."""
        files = self.writer.files
        if files.read(HEADER) is None:
            raise MismatchError(
                files.place,
                expected="the cache that the extraction has begun",
                got=NOT_SEEN,
                fix=SHARE_DISK,
            )


def compute(job: SharedJob, shard: int, seen: Seen | None, topic: str, name: str) -> Owner | BddnError | None:
    """A task: compute, write and commit one shard, and report the images that are done.

    Parameters
    ----------
    job : SharedJob
    shard : int
    seen : Seen, optional
        What the client knows of the shard's lease, since a worker may meet a shard only once.
    topic, name : str
        Of the events that report it.

    Returns
    -------
    dict, None or BddnError
        The owner where another job holds the shard, or the user's error: raised here, it would be tried again.
    """
    worker: Any = get_worker()

    def advance(n: int) -> None:
        worker.log_event(topic, {"job": name, "shard": shard, "n": n})

    try:
        source = TokenSource(
            job.spec, job.backbone, job.stimuli, job.writer.images, job.writer.layout, job.device, job.threads
        )
        watch = Watch(job.writer.files)
        watch.learn(shard, seen)
        return Job(source, job.writer, watch).compute(shard, advance)
    except BddnError as error:
        return told_by_worker(error)
    except FileNotFoundError as error:
        return told_by_worker(
            ClusterError(
                error.filename or "a file",
                expected="the file that the process that started the extraction sees",
                got=NOT_SEEN,
                fix=SHARE_DISK,
            )
        )


def told_by_worker(error: BddnError) -> BddnError:
    """The error with the worker that met it, which may see other files than the user."""
    path, place = Path(error.place), f"{error.place} on worker {get_worker().address}"
    fix = SHARE_DISK if path.is_absolute() and not path.exists() else error.fix
    return type(error)(place, expected=error.expected, got=error.got, fix=fix)


def itself(value: Value) -> Value:
    """A task: a value that other tasks share. Where the worker that has it dies, dask sends it again."""
    return value
