"""Stage one on a dask cluster: one task computes one shard, and every worker keeps its backbone loaded.

If a worker dies, only its current shard is lost. Another worker computes it, after the lease has shown the death.
"""

import logging
import os
import pydoc
import secrets
import signal
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing.resource_tracker import ensure_running
from typing import Any

import dask
import torch
from distributed import Client, KilledWorker, Nanny, Scheduler, SpecCluster, wait
from distributed.utils import LoopRunner, silence_logging_cmgr
from tornado.ioloop import IOLoop

from bddn import __version__
from bddn.errors import BddnError, ClusterError
from bddn.extraction.job import Compute, Job, Owner, Owners
from bddn.extraction.on_worker import SharedJob, compute, hold
from bddn.extraction.scheduler import ANSWER_S, OPTION, find_scheduler
from bddn.machine.parallel import choose_device, error_text, n_threads
from bddn.progress import Advance

DEVICE = "GPU"  # the dask resource of workers that have a device
VISIBLE = "CUDA_VISIBLE_DEVICES"  # environment variable
START_S = 60.0
LOOK_S = 2.0
DEATHS = 10  # workers that may die on one shard before it fails
RETRIES = 2
OF_GROUP = (signal.SIGINT, signal.SIGUSR1)  # signals that terminals and SLURM send to all processes of a command


class Cluster:
    """The workers of a dask cluster as a place to compute shards; implements `bddn.extraction.job.Work`.

    Parameters
    ----------
    client : Client
    device : {'auto', 'cpu', 'cuda'}
        With 'cuda' a task needs a worker with the resource GPU; 'auto' means cuda if any worker has this resource.
    threads : int
        Number of batches that a task computes in parallel on a CPU.

    Attributes
    ----------
    device : str
        'cpu' or 'cuda'.

    Raises
    ------
    ClusterError
        If `device` is 'cuda' and no worker has a GPU.
    """

    def __init__(self, client: Client, device: str, threads: int) -> None:
        self.client, self._threads = client, threads
        workers = _workers(client)
        offering = [address for address, about in workers.items() if _has_device(about)]
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
        """Set up a job on all workers, including workers that join later; see `bddn.extraction.job.Work`."""
        name = f"bddn-{secrets.token_hex(8)}"  # unique, since other jobs may use the same workers
        shared = self.client.submit(hold, SharedJob(job, self._threads), key=name, pure=False)
        left = [stop - start for start, stop in job.writer.layout.shards]
        try:
            yield partial(self._compute, job, shared, left)
        finally:
            shared.release()

    def workers(self) -> list[str]:
        """Return the addresses of the workers that can run tasks now."""
        return [at for at, about in _workers(self.client).items() if self.device == "cpu" or _has_device(about)]

    def _compute(self, job: Job, shared: Any, left: list[int], shards: list[int], advance: Advance) -> Owners:
        client, topic = self.client, self.client.id  # dask deletes a client's events some time after the client
        name = f"{shared.key}-{secrets.token_hex(4)}"  # unique, since a used key would return its old result

        def report(shard: int, n: int) -> None:
            n = min(n, left[shard])  # a retried task counts only once
            left[shard] -= n
            if n:
                advance(n, note=self._note)

        def on_event(event: tuple[float, Any]) -> None:
            if isinstance(event[1], dict) and event[1].get("job") == name:
                report(event[1]["shard"], event[1]["n"])

        client.subscribe_topic(topic, on_event)
        options: dict[str, Any] = {"resources": {DEVICE: 1} if self.device == "cuda" else None, "pure": False}
        tasks = {
            client.submit(
                compute,
                shared,
                shard,
                job.monitor.observation(shard),
                topic,
                name,
                key=f"{name}-{shard}",
                retries=RETRIES,
                **options,
            ): shard
            for shard in shards
        }
        others: Owners = {}
        try:
            for task in self._ended(list(tasks)):
                shard, owner = tasks[task], _result(task, tasks[task])
                if owner is None:
                    report(shard, left[shard])
                else:
                    others[shard] = owner
        finally:
            with suppress(Exception):  # of a scheduler that has ended: what happened before says more
                client.cancel(list(tasks), force=True)
                client.unsubscribe_topic(topic)
        return others

    def _ended(self, tasks: list[Any]) -> Iterator[Any]:
        """Yield tasks as they end. Raise `ClusterError` if no worker can run them for `START_S` seconds."""
        seen = time.monotonic()
        while tasks:
            with suppress(TimeoutError, CancelledError), self.client.as_current():  # `_result` tells what was cancelled
                wait(tasks, timeout=LOOK_S, return_when="FIRST_COMPLETED")
            ended = [task for task in tasks if task.done()]
            tasks = [task for task in tasks if not task.done()]
            yield from ended
            if ended or self.workers():
                seen = time.monotonic()
            elif time.monotonic() - seen > START_S:
                raise no_workers(self.device)


@contextmanager
def local_cluster(n_workers: int, device: str) -> Iterator[Cluster]:
    """Start a cluster of processes on this machine, each with its own device or its share of the cores.

    Raises
    ------
    ClusterError
        If there are fewer devices than workers, or a process cannot be started.
    """
    on_device = choose_device(device) == "cuda"
    if on_device and n_workers > torch.cuda.device_count():
        raise ClusterError(
            f"--workers {n_workers}",
            expected="one CUDA device for each worker",
            got=f"{torch.cuda.device_count()} CUDA devices",
            fix=f"Use --workers {torch.cuda.device_count()}.",
        )
    options = {
        "nthreads": 1,
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,  # what fails is told by this process, without tracebacks of dask
        "resources": {DEVICE: 1} if on_device else {},
    }
    one_each = [{VISIBLE: name} for name in device_names()] if on_device else [{}] * n_workers
    workers = {i: {"cls": Nanny, "options": {**options, "env": one_each[i]}} for i in range(n_workers)}
    scheduler = {"cls": Scheduler, "options": {"port": 0, "dashboard_address": ":0"}}
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        loop = stack.enter_context(_loop())
        try:
            cluster = stack.enter_context(
                SpecCluster(workers=workers, scheduler=scheduler, loop=loop, silence_logs="CRITICAL")
            )
            client = stack.enter_context(Client(cluster, set_as_default=False))
        except (OSError, RuntimeError, TimeoutError) as error:
            cause: BaseException | None = error  # which only says what did not start
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__cause__ or cause.__context__
            raise ClusterError(
                f"--workers {n_workers}",
                expected="processes that can be started",
                got=error_text(cause or error),
                fix="Give fewer --workers, or raise the limits of files, processes and memory (ulimit -n, -u, -v).",
            ) from error
        yield Cluster(client, "cuda" if on_device else "cpu", max(1, n_threads() // n_workers))


@contextmanager
def _loop() -> Iterator[IOLoop]:
    """Run dask's event loop in a thread that blocks `OF_GROUP`, as all processes do that it starts.

    A terminal sends Ctrl-C to all of them. Only this process acts on it, and ends the others.
    """
    runner, before = LoopRunner(), signal.pthread_sigmask(signal.SIG_BLOCK, OF_GROUP)
    try:
        ensure_running()  # the process that tracks semaphores
        signal.pthread_sigmask(signal.SIG_BLOCK, OF_GROUP)  # again, since starting it unblocks SIGINT
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield runner.loop
    finally:
        runner.stop()


def device_names() -> list[str]:
    """Return the CUDA devices that this process may use, as `CUDA_VISIBLE_DEVICES` names them.

    A job that was given the devices 2 and 3 of a machine counts them as 0 and 1, which are those of others.
    """
    given, n = os.environ.get(VISIBLE), torch.cuda.device_count()
    return given.split(",")[:n] if given else [str(i) for i in range(n)]


@contextmanager
def joined_cluster(scheduler: str, device: str) -> Iterator[Cluster]:
    """Yield a running cluster, given by the address of its scheduler or by the scheduler file.

    With `device` auto, its GPUs are used if it has any.

    Raises
    ------
    ClusterError
        If the scheduler does not answer or has no workers, or a worker does not have this version of bddn.
    """
    address = find_scheduler(scheduler)
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            client = stack.enter_context(Client(address, timeout=ANSWER_S, set_as_default=False))
            client.wait_for_workers(1, timeout=ANSWER_S)
        except TimeoutError as error:
            raise ClusterError(
                f"{OPTION} {scheduler}",
                expected="workers",
                got=f"none within {ANSWER_S:.0f} s",
                fix=f"Start workers with 'dask worker {address}', and run the same command again.",
            ) from error
        except (OSError, ImportError, ValueError) as error:
            raise ClusterError(
                f"{OPTION} {scheduler}",
                expected="a dask scheduler with the same versions of Python and dask",
                got=f"{type(error).__name__}: {error}",
                fix="Use the same environment for the scheduler, the workers and this command.",
            ) from error
        _check_workers(client)
        yield Cluster(client, device, threads=1)  # dask runs as many tasks on a worker as it has threads


def _check_workers(client: Client) -> None:
    """Check that every worker has the same version of bddn, by running a function of the standard library there."""
    found = client.run(pydoc.locate, "bddn.__version__", on_error="return")
    others = {address: "none" if version is None else version for address, version in found.items()}
    others = {address: version for address, version in others.items() if version != __version__}
    if others:
        address, version = next(iter(others.items()))
        more = f", and {len(others) - 1} more" if len(others) > 1 else ""
        raise ClusterError(
            f"worker {address}{more}",
            expected=f"bddn {__version__}, as here",
            got=str(version),
            fix="Start all workers in an environment with this version of bddn.",
        )


def _workers(client: Client) -> dict[str, Any]:
    return dict(client.scheduler_info(n_workers=-1).get("workers", {}))  # nothing while the scheduler is lost


def _has_device(about: dict[str, Any]) -> bool:
    return bool(about.get("resources", {}).get(DEVICE))


def no_workers(device: str) -> ClusterError:
    """Return the error for a cluster without a suitable worker for `START_S` seconds."""
    return ClusterError(
        "cluster",
        expected="workers" if device == "cpu" else f"workers with the resource {DEVICE}",
        got=f"none for {START_S:.0f} s",
        fix="Start workers, and run the same command: it resumes.",
    )


def scheduler_lost(place: str) -> ClusterError:
    """Return the error for a scheduler that has ended, or has cancelled the tasks."""
    return ClusterError(
        place,
        expected="the scheduler to keep running",
        got="it has ended or restarted",
        fix="Start it again, and run the same command: it resumes.",
    )


def _result(task: Any, shard: int) -> Owner | None:
    try:
        found: Owner | BddnError | None = task.result()
    except KilledWorker as error:
        raise ClusterError(
            f"shard {shard}",
            expected="workers that survive it",
            got=f"the death of {error.allowed_failures + 1} workers, one after the other",
            fix="The usual cause is too little memory: see 'bddn plan', set a smaller shard_images or batch_size, "
            "and run the same command: it resumes.",
        ) from error
    except CancelledError as error:
        raise scheduler_lost(f"shard {shard}") from error
    except Exception as error:  # an error of dask itself, or of a worker that cannot unpickle its task
        raise environment_error(f"shard {shard}", error) from error
    if isinstance(found, BddnError):
        raise found
    return found


def environment_error(place: str, error: Exception) -> ClusterError:
    """Return the error for a worker that could not start its task."""
    return ClusterError(
        f"{place} on a worker",
        expected="the environment of the process that started the work",
        got=f"{type(error).__name__}: {error}",
        fix="Give all workers the same Python, dask and bddn, and run the same command: it resumes.",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Set dask for an extraction: few logs, and tolerance for workers that die and restart."""
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS,
        # Otherwise a local cluster removes a worker that is absent some time after a death, even if it restarts twice.
        "distributed.deploy.lost-worker-timeout": "100000 hours",
        "distributed.admin.large-graph-warning-threshold": "10 GB",  # ids and paths of all images go with a job
        "logging.distributed": "error",
        "temporary-directory": None,  # the system's default; tasks write nothing there
    }
    with dask.config.set(settings), silence_logging_cmgr(logging.CRITICAL):
        yield
