"""The same work on many files at once, with progress."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from bddn.machine.parallel import ahead
from bddn.progress import progress
from bddn.store.files import Files

Item = TypeVar("Item")
Result = TypeVar("Result")

WAITING = 4  # items of each thread that are begun or done before their turn


def at_once(
    files: Files, work: Callable[[Item], Result], items: Sequence[Item], label: str, unit: str
) -> Iterator[Result]:
    """Results of `work` on every item, in their order; as many at once as these files are best asked for."""
    n = files.at_once
    with (
        ThreadPoolExecutor(n) as pool,
        progress(label, len(items), unit) as advance,
        closing(ahead(work, items, WAITING * n, pool)) as results,
    ):
        for result in results:
            advance()
            yield result
