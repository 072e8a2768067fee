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
from distributed import Client, KilledWorker, WorkerPlugin, get_worker, wait

from bddn.errors import BddnError, ClusterError
from bddn.extract import cluster as dask_cluster
from bddn.extract.cluster import DEATHS, DEVICE, LOOK_S
from bddn.many.campaign import Done
from bddn.many.holder import GIB, Holder
from bddn.many.plan import Group, Task
from bddn.many.table import Row
from bddn.memory import free_bytes
from bddn.parallel import THREADS, n_threads
from bddn.paths import expand_home
from bddn.progress import progress
from bddn.store.files import LocalFiles
from bddn.store.remote import open_files

AGAIN = "the same command goes on where it stopped."


class Workers:
    """Does tasks on the workers of a dask cluster; see `bddn.many.campaign.Work`.

    Parameters
    ----------
    client : Client
    device : {'cpu', 'cuda'}
        With 'cuda', workers with the resource GPU do runs, each one at a time.
    memory_gib : float, optional
        For each worker, where a task does not say; None means what is free on its machine.
    """

    def __init__(self, client: Client, device: str, memory_gib: float | None = None) -> None:
        self.client, self.device, self._memory_gib = client, device, memory_gib

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Done]:
        name = f"bddn-many-{secrets.token_hex(8)}"
        self.client.register_plugin(_Holding(), name=name)
        try:
            with progress("fit-many", len(tasks), "runs") as advance:
                for task, found in self._done(tasks, name):
                    advance(note=f"{len(self._addresses())} workers")
                    yield task, found
        finally:
            with suppress(OSError, TimeoutError, CancelledError):
                self.client.unregister_worker_plugin(name)  # and with it the tokens in the workers' memory

    def _done(self, tasks: Sequence[Task], name: str) -> Iterator[Done]:
        waiting: dict[Group, deque[Task]] = defaultdict(deque)
        for task in tasks:
            waiting[task.group].append(task)
        running: dict[str, tuple[Any, Task]] = {}  # by worker: what dask will know, and what it does
        at: dict[str, Group] = {}  # by worker: what it holds
        deaths: Counter[str] = Counter()
        seen = time.monotonic()
        try:
            while running or any(waiting.values()):
                addresses = self._addresses()
                seen = time.monotonic() if addresses else seen
                for address in [address for address in addresses if address not in running]:
                    elsewhere = [held for other, held in at.items() if other in addresses]
                    group = next_group(at.get(address), waiting, elsewhere)
                    if group is None:
                        break
                    task, at[address] = waiting[group].popleft(), group
                    running[address] = self._submit(task, name, address), task
                _wait(self.client, [future for future, _ in running.values()])
                there = self._addresses()
                for address, (future, task) in list(running.items()):
                    if not future.done() and address in there:
                        continue
                    del running[address]
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
                    raise ClusterError(
                        "cluster",
                        expected="workers",
                        got=f"none any more, for {dask_cluster.START_S:.0f} s",
                        fix=f"Start workers; {AGAIN}",
                    )
        finally:
            self.client.cancel([future for future, _ in running.values()], force=True)

    def _addresses(self) -> list[str]:
        """Of the workers that can do runs."""
        workers: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return [at for at, about in workers.items() if self.device == "cpu" or about.get("resources", {}).get(DEVICE)]

    def _submit(self, task: Task, name: str, address: str) -> Any:
        return self.client.submit(
            _do,
            _shareable(task, self._memory_gib),
            name,
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
        yield Workers(cluster.client, cluster.device, share_gib)


@contextmanager
def joined_workers(address: str, device: str) -> Iterator[Workers]:
    """The workers of a cluster that runs already, by the address of its scheduler.

    Each may use all cores that its process is bound to, or BDDN_THREADS of its environment. Those that join later are
    given runs too.

    Raises
    ------
    ClusterError
        Where the scheduler does not answer, or has no workers, or none with a GPU where one is asked for.
    """
    with dask_cluster.joined_cluster(address, device) as cluster:
        yield Workers(cluster.client, cluster.device)


class _Holding(WorkerPlugin):
    """What a worker keeps from one run to the next."""

    def setup(self, worker: Any) -> None:
        self.holder = Holder(quiet=True)  # bars of several workers would mix on one terminal

    def teardown(self, worker: Any) -> None:
        del self.holder


def _do(task: Task, name: str) -> Row | BddnError:
    holding: Any = get_worker().plugins[name]
    found: Row | BddnError = holding.holder.do(task)
    return found


def _result(future: Any, task: Task) -> Row | BddnError | None:
    """What came of a task that has ended; None where it went with its worker."""
    try:
        found: Row | BddnError = future.result(timeout=dask_cluster.START_S)
    except (KilledWorker, TimeoutError):
        return None
    except CancelledError as error:
        raise ClusterError(
            f"run {task.folder}",
            expected="the scheduler to stay",
            got="it went away",
            fix=f"Start it again; {AGAIN}",
        ) from error
    return found


def _deadly(task: Task) -> ClusterError:
    return ClusterError(
        f"run {task.folder}",
        expected="workers that live through it",
        got=f"the death of {DEATHS + 1} workers, one after the other",
        fix=f"Most often it is memory: give --memory, or fewer workers; {AGAIN}",
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
