"""Work shared by threads in fixed parts, so that the number of threads changes the time and never the result.

Each part runs with single-threaded kernels. OpenMP would share every small kernel between cores instead, and wait for
the slowest at each one, which on a busy machine costs more than it saves; and its sums depend on the thread count.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

from bddn.errors import BddnError, SpecError
from bddn.machine.cgroups import PROC, groups, number

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = "BDDN_THREADS"  # of the environment
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""What torch says where memory ran out: on a GPU, on this machine, and in libraries of CUDA."""


def n_threads() -> int:
    """Threads that this process may use: BDDN_THREADS, where processes share a machine, else a thread for each core.

    Of the cores count those that the process may run on, and as many as its container or job has the time of.

    Raises
    ------
    SpecError
        Where BDDN_THREADS is no number of threads.
    """
    if given := os.environ.get(THREADS):
        if not given.isdecimal() or int(given) < 1:
            raise SpecError(
                THREADS, expected="a number of threads, from 1", got=repr(given), fix="Correct or unset it."
            )
        return int(given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *_quotas()])


def _quotas() -> list[int]:
    """Cores whose time the cgroups of this process allow, in whole cores, where there is a limit."""
    found = []
    for version, folder in groups("cpu", PROC):
        if version == "cgroup2":
            quota, period = number(folder / "cpu.max"), number(folder / "cpu.max", 1)
        else:
            quota, period = number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
        if quota and period:
            found.append(max(1, round(quota / period)))
    return found


_this_thread = threading.local()


def _begin_thread() -> None:
    torch.set_num_threads(1)
    _this_thread.is_of_pool = True


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads(), thread_name_prefix="bddn", initializer=_begin_thread)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork has the pool without its threads


def _is_nested() -> bool:
    """Whether this is a thread of the pool: one that waited for others of the pool could wait for ever."""
    return getattr(_this_thread, "is_of_pool", False)


@contextmanager
def single_threaded_kernels() -> Iterator[None]:
    """Let torch use one thread per kernel; the threads of `each` are the parallel ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def words_of(error: BaseException) -> str:
    """What an error of a library says, in one line; the name of its class where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy, torch or CUDA says that memory ran out, of this machine or of a GPU."""
    if isinstance(error, BddnError):
        return False
    told = isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    return told or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def choose_device(device: str) -> str:
    """'cpu' or 'cuda'; 'auto' is cuda where there is one.

    Raises
    ------
    SpecError
        Where the device is not there, or there is no device of this name.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise SpecError(
            "--device",
            expected="auto, cpu or cuda",
            got=repr(device),
            fix="Correct it; CUDA_VISIBLE_DEVICES chooses among several GPUs.",
        )
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise SpecError("--device", expected="a CUDA device", got="none that torch can use", fix="Use --device cpu.")
    return ("cuda" if there else "cpu") if device == "auto" else device


def each(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of `work` on every item, in the order of the items. Within the work of another `each`, one after the
    other in the thread that is there."""
    return list(map(work, items) if _is_nested() else _pool().map(work, items))


def each_on(device: torch.device, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """As `each`; where the work is for a GPU, one after the other, since it is only begun here."""
    return each(work, items) if device.type == "cpu" else [work(item) for item in items]


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], n: int, threads: Executor | None = None
) -> Generator[Result, None, None]:
    """Results of `work` on every item, in the order of the items, at most `n` of them at once or before their turn.

    So the memory of items and results is bounded, whatever their number. Where it ends early, what has not begun is
    dropped.

    Parameters
    ----------
    threads : Executor, optional
        By default those of `each`, as there.
    """
    if threads is None and _is_nested():
        yield from map(work, items)
        return
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append((threads or _pool()).submit(work, item))
            if len(begun) == n:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
