"""Stage one on a dask cluster: one task is one whole shard, and every worker keeps the backbone it loaded.

A worker that dies costs the shard it was at, which goes to another; its lease tells that it is dead.
"""

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import torch
from distributed import Client, KilledWorker, Nanny, Scheduler, SpecCluster, WorkerPlugin, get_worker, wait

from bddn.backbones.base import Backbone
from bddn.backbones.registry import open_backbone
from bddn.data import Stimuli
from bddn.errors import BddnError, ClusterError, MismatchError
from bddn.extract.job import Compute, Job, Owners
from bddn.extract.source import TokenSource, network_identity
from bddn.identity import Identity
from bddn.parallel import choose_device, n_threads
from bddn.progress import Advance
from bddn.spec import CacheSpec
from bddn.store.files import LocalFiles
from bddn.store.lease import Seen, Watch
from bddn.store.writer import Writer

NETWORK = ("spec", "decoding", "backbone", "made_with")  # parts of a header that decide which network it is
DEVICE = "GPU"  # the resource by which dask workers say that they have a device
START_S = 60.0
COMES_BACK_S = 300.0
LOOK_S = 2.0
DEATHS = 10  # workers that may die at one shard before it is given up
RETRIES = 2


class Cluster:
    """Computes shards on the workers of a dask cluster; see `bddn.extract.job.Work`.

    Parameters
    ----------
    client : Client
    device : {'auto', 'cpu', 'cuda'}
        With 'cuda' a task needs a worker with the resource GPU; 'auto' is cuda where any worker offers it.
    threads : int
        Batches that a task computes at once, on a CPU.

    Attributes
    ----------
    device : str
        'cpu' or 'cuda'.

    Raises
    ------
    ClusterError
        Where there are no workers, or none with a GPU.
    """

    def __init__(self, client: Client, device: str, threads: int) -> None:
        self.client, self._threads = client, threads
        workers = dict(client.scheduler_info(n_workers=-1)["workers"])
        offering = [address for address, about in workers.items() if about.get("resources", {}).get(DEVICE)]
        if device == "cuda" and not offering:
            raise ClusterError(
                "cluster",
                expected=f"workers with the resource {DEVICE}",
                got=f"{len(workers)} workers without it",
                fix=f"Start them with 'dask worker … --resources {DEVICE}=1 --nthreads 1', or give --device cpu.",
            )
        self.device = ("cuda" if offering else "cpu") if device == "auto" else device
        self._note = f"{len(offering) if self.device == 'cuda' else len(workers)} workers"

    @contextmanager
    def __call__(self, job: Job) -> Iterator[Compute]:
        """Set up a job on all workers, also on those that join later; see `bddn.extract.job.Work`."""
        name = f"bddn-{secrets.token_hex(8)}"  # of this job alone: others may run on the same workers
        self.client.register_plugin(_OnWorker(_SentJob.of(job, self._threads)), name=name)
        try:
            yield partial(self._compute, job, name)
        finally:
            with suppress(OSError, TimeoutError, CancelledError):
                self.client.unregister_worker_plugin(name)

    def _compute(self, job: Job, name: str, shards: list[int], advance: Advance) -> Owners:
        client = self.client
        topic = f"{name}-{secrets.token_hex(4)}"  # a key that was used before would give its old result
        left = {shard: stop - start for shard in shards for start, stop in [job.writer.layout.shards[shard]]}

        def more(shard: int, n: int) -> None:
            n = min(n, left[shard])  # a task that was tried twice counts once
            left[shard] -= n
            if n:
                advance(n, note=self._note)

        client.subscribe_topic(topic, lambda event: more(event[1]["shard"], event[1]["n"]))
        tasks = {
            client.submit(
                _task,
                name,
                shard,
                topic,
                job.watch.seen(shard),
                key=f"{topic}-{shard}",
                resources={DEVICE: 1} if self.device == "cuda" else None,
                retries=RETRIES,
                pure=False,
            ): shard
            for shard in shards
        }
        others: Owners = {}
        try:
            for task in self._ended(list(tasks)):
                shard, owner = tasks[task], _result(task, tasks[task])
                if owner is None:
                    more(shard, left[shard])
                else:
                    others[shard] = owner
        finally:
            client.cancel(list(tasks), force=True)
            client.unsubscribe_topic(topic)
        return others

    def _ended(self, tasks: list[Any]) -> Iterator[Any]:
        """Tasks as they end. Where all workers are gone and none comes, waiting is over."""
        seen = time.monotonic()
        while tasks:
            with suppress(TimeoutError), self.client.as_current():
                wait(tasks, timeout=LOOK_S, return_when="FIRST_COMPLETED")
            ended = [task for task in tasks if task.done()]
            tasks = [task for task in tasks if not task.done()]
            yield from ended
            if ended or self.client.scheduler_info()["workers"]:
                seen = time.monotonic()
            elif time.monotonic() - seen > START_S:
                raise ClusterError(
                    "cluster",
                    expected="workers",
                    got=f"none any more, for {START_S:.0f} s",
                    fix="Start workers, and run the same command: it goes on where it stopped.",
                )


@contextmanager
def local_cluster(n_workers: int, device: str) -> Iterator[Cluster]:
    """Processes on this machine, each with a device of its own or with its share of the cores.

    Raises
    ------
    ClusterError
        Where there are fewer devices than workers.
    """
    on_device = choose_device(device) == "cuda"
    if on_device and n_workers > torch.cuda.device_count():
        raise ClusterError(
            f"--workers {n_workers}",
            expected="one CUDA device for each worker",
            got=f"{torch.cuda.device_count()}",
            fix=f"Use --workers {torch.cuda.device_count()}.",
        )
    options = {
        "nthreads": 1,
        "memory_limit": 0,
        "silence_logs": logging.ERROR,
        "resources": {DEVICE: 1} if on_device else {},
    }
    workers = {
        i: {"cls": Nanny, "options": {**options, "env": {"CUDA_VISIBLE_DEVICES": str(i)} if on_device else {}}}
        for i in range(n_workers)
    }
    scheduler = {"cls": Scheduler, "options": {"port": 0, "dashboard_address": ":0"}}
    with (
        _quiet(),
        SpecCluster(workers=workers, scheduler=scheduler, silence_logs="ERROR") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield Cluster(client, "cuda" if on_device else "cpu", max(1, n_threads() // n_workers))


@contextmanager
def joined_cluster(address: str, device: str) -> Iterator[Cluster]:
    """A cluster that runs already, by the address of its scheduler.

    With `device` auto, its GPUs are used if it has any.

    Raises
    ------
    ClusterError
        Where the scheduler does not answer, or has no workers.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            client = stack.enter_context(Client(address, timeout=START_S, set_as_default=False))
            client.wait_for_workers(1, timeout=START_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                address,
                expected=f"a dask scheduler with workers within {START_S:.0f} s",
                got=f"{type(error).__name__}: {error}",
                fix="Check the address that 'dask scheduler' printed, and start workers with 'dask worker'.",
            ) from error
        yield Cluster(client, device, threads=1)  # dask runs as many tasks on a worker as it has threads


@dataclass(frozen=True)
class _SentJob:
    """What a worker must know to do shards of a job. It opens the backbone by itself."""

    spec: CacheSpec
    stimuli: Stimuli
    writer: Writer
    device: str
    threads: int

    @classmethod
    def of(cls, job: Job, threads: int) -> "_SentJob":
        """With absolute paths, since workers may have another working directory."""
        source, writer = job.source, job.writer
        weights, files = source.spec.weights, writer.files
        if weights is not None:
            local = {name: path for name in ("folder", "file") if (path := getattr(weights, name)) is not None}
            weights = weights.model_copy(update={name: str(Path(path).absolute()) for name, path in local.items()})
        if isinstance(files, LocalFiles):
            files = LocalFiles(files.root.absolute())
        return cls(
            source.spec.model_copy(update={"weights": weights}),
            Stimuli(source.stimuli.ids, tuple(path.absolute() for path in source.stimuli.paths)),
            replace(writer, files=files),
            source.device,
            threads,
        )

    def opened(self) -> Job:
        """The job with its backbone, which must be the one that the store is for.

        Raises
        ------
        MismatchError
        """
        wanted = Identity(self.writer.header).only(*NETWORK)
        kept = _kept.get(self.device)
        if kept is None or kept[0] != wanted.digest():
            _kept.pop(self.device, None)  # first, so that two networks are never in memory at once
            backbone = open_backbone(self.spec, self.device)
            differ = wanted.differences(network_identity(self.spec, backbone, self.device))
            if differ:
                raise MismatchError(
                    f"worker {get_worker().address}",
                    expected="the backbone, device and libraries of the process that started the extraction",
                    got=f"one that differs in: {'; '.join(differ)}",
                    fix="Give all workers the same environment and weights.",
                )
            kept = _kept[self.device] = wanted.digest(), backbone
        writer = self.writer
        source = TokenSource(self.spec, kept[1], self.stimuli, writer.images, writer.layout, self.device, self.threads)
        return Job(source, writer, Watch(writer.files))


_kept: dict[str, tuple[str, Backbone]] = {}
"""Of this process: by device, the last network with the digest of its identity. Later jobs may need it again."""
_opening = threading.Lock()


class _OnWorker(WorkerPlugin):
    """Holds on a worker what all tasks of one job share."""

    def __init__(self, sent: _SentJob) -> None:
        self._sent = sent

    def setup(self, worker: Any) -> None:
        self._job: Job | None = None

    def job(self) -> Job:
        """The job, opened by the first task that needs it."""
        with _opening:
            if self._job is None:
                self._job = self._sent.opened()
            return self._job


def _task(name: str, shard: int, topic: str, seen: Seen | None) -> dict[str, Any] | BddnError | None:
    worker: Any = get_worker()

    def advance(n: int) -> None:
        worker.log_event(topic, {"shard": shard, "n": n})

    try:
        held: _OnWorker = worker.plugins[name]
        held.job().watch.learn(shard, seen)
        return held.job().compute(shard, advance)
    except BddnError as error:
        return error  # raised here, it would be tried again


def _result(task: Any, shard: int) -> dict[str, Any] | None:
    try:
        owner: dict[str, Any] | BddnError | None = task.result()
    except KilledWorker as error:
        raise ClusterError(
            f"shard {shard}",
            expected="workers that live through it",
            got=f"the death of {DEATHS + 1} workers, one after the other",
            fix="Most often it is memory: see 'bddn plan', and set a smaller shard_images or batch_size. "
            "The same command goes on where it stopped.",
        ) from error
    except CancelledError as error:
        raise ClusterError(
            f"shard {shard}",
            expected="the scheduler to stay",
            got="it went away",
            fix="Start it again, and run the same command: it goes on where it stopped.",
        ) from error
    if isinstance(owner, BddnError):
        raise owner
    return owner


@contextmanager
def _quiet() -> Iterator[None]:
    """dask's settings for an extraction: few logs, and patience with workers that die and come back."""
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS,
        # By default a local cluster gives up a worker that is not back within 15 s; starting one takes
        # longer on a busy machine.
        "distributed.deploy.lost-worker-timeout": f"{COMES_BACK_S:.0f} s",
        "logging.distributed": "error",
        "temporary-directory": None,  # the machine's own; tasks put nothing there
    }
    with dask.config.set(settings):
        yield
