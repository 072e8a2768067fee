"""Many fits on a dask cluster: one task is one run, and a worker keeps to the tokens that it has read.

Each worker is given one run at a time, by name, since only so it is known whose memory holds what. A worker that dies
costs the time since its run's state was last kept: another worker goes on with it.
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
from bddn.extract import cluster as dask_cluster
from bddn.extract.cluster import DEATHS, DEVICE, LOOK_S, Cluster, environment_error, no_workers, scheduler_lost
from bddn.extract.on_worker import NOT_SEEN, SHARE_DISK, error_on_worker
from bddn.files.paths import expand_home
from bddn.machine.memory import free_bytes
from bddn.machine.parallel import THREADS, n_threads
from bddn.many.campaign import Done
from bddn.many.holder import GIB, Holder
from bddn.many.plan import Group, Task
from bddn.many.run_table import Row
from bddn.progress import progress
from bddn.store.files import LocalFiles
from bddn.store.remote import open_files


class Workers:
    """Does tasks on the workers of a dask cluster; see `bddn.many.campaign.Work`.

    Parameters
    ----------
    cluster : Cluster
        On device 'cuda', workers with the resource GPU do runs, each one at a time.
    memory_gib : float, optional
        For each worker, where a task does not say; None means what is free on its machine.
    """

    def __init__(self, cluster: Cluster, memory_gib: float | None = None) -> None:
        self._cluster, self._memory_gib = cluster, memory_gib
        self.client, self.device = cluster.client, cluster.device

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Done]:
        with progress("fit-many", len(tasks), "runs") as advance:
            for task, found in self._done(tasks, f"bddn-many-{secrets.token_hex(8)}"):
                advance(note=f"{len(self._cluster.workers())} workers")
                yield task, found

    def _done(self, tasks: Sequence[Task], name: str) -> Iterator[Done]:
        waiting: dict[Group, deque[Task]] = defaultdict(deque)
        for task in tasks:
            waiting[task.group].append(task)
        running: dict[str, tuple[Any, Task]] = {}  # by worker: what dask will know, and what it does
        holders: dict[str, Any] = {}  # by worker: what is there until this call ends or this process dies
        at: dict[str, Group] = {}  # by worker: whose tokens it holds
        deaths: Counter[str] = Counter()
        seen = time.monotonic()
        try:
            while running or any(waiting.values()):
                addresses = self._cluster.workers()
                seen = time.monotonic() if addresses else seen
                for address in [address for address in addresses if address not in running]:
                    elsewhere = [held for other, held in at.items() if other in addresses]
                    group = next_group(at.get(address), waiting, elsewhere)
                    if group is None:
                        break
                    task, at[address] = waiting[group].popleft(), group
                    if address not in holders:
                        key = f"{name}-{secrets.token_hex(4)}"
                        holders[address] = self.client.submit(Holder, True, workers=[address], key=key, pure=False)
                    running[address] = self._submit(task, holders[address], name, address), task
                _wait(self.client, [future for future, _ in running.values()])
                there = self._cluster.workers()
                for address, (future, task) in list(running.items()):
                    if not future.done() and address in there:
                        continue
                    del running[address]
                    if address not in there:
                        holders.pop(address).release()
                    found = _result(future, task) if future.done() else None
                    if found is None:
                        self.client.cancel([future], force=True)
                        deaths[task.folder] += 1
                        if deaths[task.folder] <= DEATHS:
                            waiting[task.group].appendleft(task)
                            continue
                        found = _deadly(task)
                    yield task, found
                if time.monotonic() - seen > dask_cluster.START_S:
                    raise no_workers(self.device)
        finally:
            self.client.cancel([*(future for future, _ in running.values()), *holders.values()], force=True)

    def _submit(self, task: Task, holder: Any, name: str, address: str) -> Any:
        return self.client.submit(
            _do,
            holder,
            _shareable(task, self._memory_gib),
            key=f"{name}-{task.folder}-{secrets.token_hex(4)}",  # a key that was used before would give its old result
            workers=[address],
            resources={DEVICE: 1} if self.device == "cuda" else None,
            pure=False,
        )


def next_group(held: Group | None, waiting: Mapping[Group, Sized], elsewhere: Collection[Group]) -> Group | None:
    """Whose run a worker does next: of the tokens it holds; else of those that no one holds; else where most wait."""
    left = [group for group, tasks in waiting.items() if len(tasks)]
    if held in left:
        return held
    fresh = [group for group in left if group not in elsewhere]
    return fresh[0] if fresh else max(left, key=lambda group: len(waiting[group]), default=None)


@contextmanager
def local_workers(n_workers: int, device: str) -> Iterator[Workers]:
    """Processes on this machine, each with a device of its own, and its share of cores and memory.

    Raises
    ------
    ClusterError
        Where there are fewer devices than workers.
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
    """The workers of a cluster that runs already, by the address of its scheduler or by the scheduler's
    file.

    Each may use all cores that its process is bound to, or BDDN_THREADS of its environment. Those that join later are
    given runs too.

    Raises
    ------
    ClusterError
        Where the scheduler does not answer, or has no workers, or none with a GPU where one is asked for.
    """
    with dask_cluster.joined_cluster(scheduler, device) as cluster:
        yield Workers(cluster)


def _do(holder: Holder, task: Task) -> Row | BddnError:
    if not task.out.is_dir():
        found: Row | BddnError = MismatchError(
            task.out, expected="the folder of all runs", got=NOT_SEEN, fix=SHARE_DISK
        )
    else:
        found = holder.do(task)
    return error_on_worker(found) if isinstance(found, BddnError) else found


def _result(future: Any, task: Task) -> Row | BddnError | None:
    """What came of a task that has ended; None where it went with its worker."""
    try:
        found: Row | BddnError = future.result(timeout=dask_cluster.START_S)
    except (KilledWorker, TimeoutError):
        return None
    except CancelledError as error:
        raise scheduler_lost(f"run {task.folder}") from error
    except Exception as error:  # noqa: BLE001 - of dask itself, or of a worker that cannot even read its task
        return environment_error(f"run {task.folder}", error)
    return found


def _deadly(task: Task) -> ClusterError:
    return ClusterError(
        f"run {task.folder}",
        expected="workers that live through it",
        got=f"the death of {DEATHS + 1} workers, one after the other",
        fix="Most often it is memory: give --memory, or fewer workers; the same command resumes.",
    )


def _wait(client: Client, futures: list[Any]) -> None:
    """Until one has ended, or it is time to look at the workers."""
    with suppress(TimeoutError, CancelledError), client.as_current():
        if futures:
            wait(futures, timeout=LOOK_S, return_when="FIRST_COMPLETED")
        else:
            time.sleep(LOOK_S)


def _shareable(task: Task, memory_gib: float | None) -> Task:
    """The task with absolute paths, since workers may have another working directory."""
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
