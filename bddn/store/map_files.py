"""Run the same work on many files in parallel, with progress."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from bddn.machine.parallel import ahead
from bddn.progress import progress
from bddn.store.files import Files

Item = TypeVar("Item")
Result = TypeVar("Result")

QUEUED_PER_THREAD = 4  # items per thread that run or wait to be yielded


def map_files(
    files: Files, work: Callable[[Item], Result], items: Sequence[Item], label: str, unit: str
) -> Iterator[Result]:
    """Yield the results of `work` on every item, in order, with as many threads as suit these files."""
    n = files.at_once
    with (
        ThreadPoolExecutor(n) as pool,
        progress(label, len(items), unit) as advance,
        closing(ahead(work, items, QUEUED_PER_THREAD * n, pool)) as results,
    ):
        for result in results:
            advance()
            yield result
