"""Work shared by threads in fixed parts, so that the number of threads changes the time and never the result.

Each part runs with single-threaded kernels. OpenMP would share every small kernel between cores instead, and wait for
the slowest at each one, which on a busy machine costs more than it saves; and its sums depend on the thread count.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

from bddn.errors import SpecError

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = "BDDN_THREADS"  # of the environment


def n_threads() -> int:
    """Threads that this process may use: BDDN_THREADS, where processes share a machine, else a thread for each core.

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
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads(), thread_name_prefix="bddn", initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def single_threaded_kernels() -> Iterator[None]:
    """Let torch use one thread per kernel; the threads of `each` are the parallel ones."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(device: str) -> str:
    """'cpu' or 'cuda'; 'auto' is cuda where there is one.

    Raises
    ------
    SpecError
        Where the device is not there.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise SpecError("--device", expected="a CUDA device", got="none that torch can use", fix="Use --device cpu.")
    return ("cuda" if there else "cpu") if device == "auto" else device


def each(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of `work` on every item, in the order of the items."""
    return list(_pool().map(work, items))


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
        By default those of `each`.
    """
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
