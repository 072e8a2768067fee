"""Run work in threads, in fixed parts: the number of threads changes the time but never the result.

Each part runs with single-threaded kernels. OpenMP would instead split every small kernel over the cores and wait for
the slowest core each time. On a busy machine this costs more than it saves, and its sums depend on the thread count.
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
from bddn.machine.shared_setting import SharedSetting

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = "BDDN_THREADS"  # environment variable
PIECES = 8  # of tensors, each of which a thread works on
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""What torch reports when memory runs out: on a GPU, on this machine, and in CUDA libraries."""


def n_threads() -> int:
    """Return the number of threads to use: BDDN_THREADS if it is set, else the number of available cores.

    The CPU affinity of the process, and the CPU quota of its container or job, limit the available cores.

    Raises
    ------
    SpecError
        If BDDN_THREADS is not a positive whole number.
    """
    if given := os.environ.get(THREADS):
        if not given.isdecimal() or int(given) < 1:
            raise SpecError(
                THREADS, expected="a number of threads, at least 1", got=repr(given), fix="Correct or unset it."
            )
        return int(given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *_quotas()])


def _quotas() -> list[int]:
    """Return the CPU quota of each cgroup of this process that has one, rounded to whole cores."""
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


def use_one_thread() -> None:
    """Let torch use one thread per kernel in the thread that calls this, for good: the initializer of a thread pool.

    At its first parallel kernel, a thread takes the number of threads that was last set anywhere in the process. To ask
    for the number is such a first use, so that afterwards only this thread can change it.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)


def _begin_thread() -> None:
    use_one_thread()
    _this_thread.is_of_pool = True


@cache
def n_pool_threads() -> int:
    """Return the number of threads of `each`: `n_threads` when it was first asked for."""
    return n_threads()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_pool_threads(), thread_name_prefix="bddn", initializer=_begin_thread)


if hasattr(os, "register_at_fork"):  # a forked process inherits the pool but not its threads
    for _cached in (n_pool_threads, _pool):
        os.register_at_fork(after_in_child=_cached.cache_clear)


def _is_nested() -> bool:
    """Return whether this thread belongs to the pool, where waiting for other pool threads can cause a deadlock."""
    return getattr(_this_thread, "is_of_pool", False)


@contextmanager
def restored_threads() -> Iterator[None]:
    """Restore torch's numbers of threads: that of this thread, and that of its BLAS, which all threads share.

    The latter is restored when the last thread has left the context.
    """
    before = torch.get_num_threads()
    try:
        with _restored_blas():
            yield
    finally:
        if torch.get_num_threads() != before:  # torch itself would set it together with that of BLAS
            from threadpoolctl import threadpool_limits

            threadpool_limits(before, user_api="openmp")


@SharedSetting
@contextmanager
def _restored_blas() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def single_threaded_kernels() -> Iterator[None]:
    """Let torch use one thread per kernel; parallelism comes from the threads of `each`."""
    with restored_threads():
        torch.set_num_threads(1)
        yield


def error_text(error: BaseException) -> str:
    """Return the first line of a library's error message, or the name of its class if the message is empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python, numpy, torch or CUDA means that this machine or a GPU is out of memory."""
    if isinstance(error, BddnError):
        return False
    told = isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    return told or isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def choose_device(device: str) -> str:
    """Return 'cpu' or 'cuda'; 'auto' means cuda if it is available.

    Raises
    ------
    SpecError
        If the name is unknown or the device is not available.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise SpecError(
            "--device",
            expected="auto, cpu or cuda",
            got=repr(device),
            fix="Correct it; to choose one of several GPUs, set CUDA_VISIBLE_DEVICES.",
        )
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise SpecError("--device", expected="a CUDA device", got="none that torch can use", fix="Use --device cpu.")
    return ("cuda" if there else "cpu") if device == "auto" else device


def each(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Run `work` on every item in parallel threads, and return the results in order. A nested call runs serially."""
    return list(map(work, items) if _is_nested() else _pool().map(work, items))


def each_on(device: torch.device, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do the same as `each`, but serially for a GPU, where a call only queues the work."""
    return each(work, items) if device.type == "cpu" else [work(item) for item in items]


def each_of(work: Callable[..., object], *tensors: torch.Tensor) -> None:
    """Do the same as `each_on` with pieces of tensors that have the same rows."""
    pieces = zip(*(tensor.tensor_split(PIECES) for tensor in tensors), strict=True)
    each_on(tensors[0].device, lambda piece: work(*piece), pieces)


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], n: int, threads: Executor | None = None
) -> Generator[Result, None, None]:
    """Yield the results of `work` on every item, in order, with at most `n` items running or waiting to be yielded.

    So memory is bounded for any number of items. If the generator is closed early, queued items are cancelled.

    Parameters
    ----------
    threads : Executor, optional
        By default the threads of `each`; a nested call then runs serially.
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
