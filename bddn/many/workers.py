"""Many fits on a dask cluster. One dask task is one run, and a worker prefers runs whose tokens it has in memory.

Each run is sent to one chosen worker, so that this process knows which worker has which tokens. If a worker dies,
another worker resumes its run from the last checkpoint.
"""

import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
from distributed import Client, KilledWorker, wait

from bddn.errors import BddnError, ClusterError, MismatchError
from bddn.extraction import cluster as dask_cluster
from bddn.extraction.cluster import DEATHS, DEVICE, LOOK_S, Cluster, environment_error, no_workers, scheduler_lost
from bddn.extraction.on_worker import NOT_SEEN, SHARE_DISK, error_on_worker
from bddn.files.paths import expand_home
from bddn.machine.memory import free_bytes
from bddn.machine.parallel import THREADS, n_threads
from bddn.many.campaign import Outcome
from bddn.many.plan import Group, Task
from bddn.many.run_table import Row
from bddn.many.runner import GIB, Runner
from bddn.progress import progress
from bddn.store.files import LocalFiles
from bddn.store.remote import open_files


class Workers:
    """A `bddn.many.campaign.Work` that fits tasks on the workers of a dask cluster.

    Parameters
    ----------
    cluster : Cluster
        On device 'cuda', only workers with the resource GPU are used. Each worker fits one run at a time.
    memory_gib : float, optional
        Memory for each worker, for tasks that do not set it; None means the free memory of its machine.
    """

    def __init__(self, cluster: Cluster, memory_gib: float | None = None) -> None:
        self._cluster, self._memory_gib = cluster, memory_gib
        self.client, self.device = cluster.client, cluster.device

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        with progress("fit-many", len(tasks), "runs") as advance:
            for task, result in self._run_all(tasks, f"bddn-many-{secrets.token_hex(8)}"):
                advance(note=f"{len(self._cluster.workers())} workers")
                yield task, result

    def _run_all(self, tasks: Sequence[Task], name: str) -> Iterator[Outcome]:
        waiting: dict[Group, deque[Task]] = defaultdict(deque)
        for task in tasks:
            waiting[task.group].append(task)
        running: dict[str, tuple[Any, Task]] = {}  # by worker: the future and its task
        runners: dict[str, Any] = {}  # by worker: the future of its Runner, kept until this call ends
        group_at: dict[str, Group] = {}  # by worker: the group whose tokens it has in memory
        deaths: Counter[str] = Counter()
        seen = time.monotonic()
        try:
            while running or any(waiting.values()):
                addresses = self._cluster.workers()
                seen = time.monotonic() if addresses else seen
                for address in [address for address in addresses if address not in running]:
                    elsewhere = [held for other, held in group_at.items() if other in addresses]
                    group = next_group(group_at.get(address), waiting, elsewhere)
                    if group is None:
                        break
                    task, group_at[address] = waiting[group].popleft(), group
                    if address not in runners:
                        key = f"{name}-{secrets.token_hex(4)}"
                        runners[address] = self.client.submit(Runner, True, workers=[address], key=key, pure=False)
                    running[address] = self._submit(task, runners[address], name, address), task
                _wait(self.client, [future for future, _ in running.values()])
                alive = self._cluster.workers()
                for address, (future, task) in list(running.items()):
                    if not future.done() and address in alive:
                        continue
                    del running[address]
                    if address not in alive:
                        runners.pop(address).release()
                    result = _result(future, task) if future.done() else None
                    if result is None:
                        self.client.cancel([future], force=True)
                        deaths[task.folder] += 1
                        if deaths[task.folder] <= DEATHS:
                            waiting[task.group].appendleft(task)
                            continue
                        result = _too_many_deaths(task)
                    yield task, result
                if time.monotonic() - seen > dask_cluster.START_S:
                    raise no_workers(self.device)
        finally:
            self.client.cancel([*(future for future, _ in running.values()), *runners.values()], force=True)

    def _submit(self, task: Task, runner: Any, name: str, address: str) -> Any:
        return self.client.submit(
            _run,
            runner,
            _shareable(task, self._memory_gib),
            key=f"{name}-{task.folder}-{secrets.token_hex(4)}",  # unique, because dask returns the old result of a key
            workers=[address],
            resources={DEVICE: 1} if self.device == "cuda" else None,
            pure=False,
        )


def next_group(held: Group | None, waiting: Mapping[Group, Sized], elsewhere: Collection[Group]) -> Group | None:
    """Return the group of a worker's next run: the group whose tokens it holds, else a group that no worker holds, else
    the group with the most waiting runs, or None."""
    left = [group for group, tasks in waiting.items() if len(tasks)]
    if held in left:
        return held
    fresh = [group for group in left if group not in elsewhere]
    return fresh[0] if fresh else max(left, key=lambda group: len(waiting[group]), default=None)


@contextmanager
def local_workers(n_workers: int, device: str) -> Iterator[Workers]:
    """Start worker processes on this machine, each with its own device and an equal part of cores and memory.

    Raises
    ------
    ClusterError
        If there are fewer devices than workers.
    """
    share_gib = free_bytes() / GIB / n_workers
    threads = {THREADS: str(max(1, n_threads() // n_workers))}
    with (
        dask.config.set({"distributed.nanny.environ": {**dask.config.get("distributed.nanny.environ"), **threads}}),
        dask_cluster.local_cluster(n_workers, device) as cluster,
    ):
        yield Workers(cluster, share_gib)


@contextmanager
def joined_workers(scheduler: str, device: str) -> Iterator[Workers]:
    """Connect to a running cluster, by the address of its scheduler or by its scheduler file.

    Each worker uses all cores that its process may use, or the number in its environment variable BDDN_THREADS. Workers
    that join later are used too.

    Raises
    ------
    ClusterError
        If the scheduler does not answer, or has no workers, or none with a GPU although `device` is 'cuda'.
    """
    with dask_cluster.joined_cluster(scheduler, device) as cluster:
        yield Workers(cluster)


def _run(runner: Runner, task: Task) -> Row | BddnError:
    if not task.out.is_dir():
        result: Row | BddnError = MismatchError(
            task.out, expected="the folder of all runs", got=NOT_SEEN, fix=SHARE_DISK
        )
    else:
        result = runner.run(task)
    return error_on_worker(result) if isinstance(result, BddnError) else result


def _result(future: Any, task: Task) -> Row | BddnError | None:
    """Return the result of a finished task, or None if it was lost with its worker."""
    try:
        result: Row | BddnError = future.result(timeout=dask_cluster.START_S)
    except (KilledWorker, TimeoutError):
        return None
    except CancelledError as error:
        raise scheduler_lost(f"run {task.folder}") from error
    except Exception as error:  # noqa: BLE001 - from dask itself, or from a worker that cannot unpickle its task
        return environment_error(f"run {task.folder}", error)
    return result


def _too_many_deaths(task: Task) -> ClusterError:
    return ClusterError(
        f"run {task.folder}",
        expected="a worker that finishes the run",
        got=f"the death of {DEATHS + 1} workers, one after the other",
        fix="The most frequent cause is low memory: give --memory, or fewer workers. The same command resumes.",
    )


def _wait(client: Client, futures: list[Any]) -> None:
    """Wait until a future has finished, or until it is time to check the workers."""
    with suppress(TimeoutError, CancelledError), client.as_current():
        if futures:
            wait(futures, timeout=LOOK_S, return_when="FIRST_COMPLETED")
        else:
            time.sleep(LOOK_S)


def _shareable(task: Task, memory_gib: float | None) -> Task:
    """Return the task with absolute paths, because workers may have another working directory."""
    group = task.group
    files = open_files(group.cache)
    kind, _, data = group.data.partition(":")
    cache = str(files.root.absolute()) if isinstance(files, LocalFiles) else group.cache
    return replace(
        task,
        group=replace(group, cache=cache, data=f"{kind}:{Path(expand_home(data)).absolute()}"),
        out=task.out.absolute(),
        memory_gib=memory_gib if task.memory_gib is None else task.memory_gib,
    )
