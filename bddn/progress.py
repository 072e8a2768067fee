"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY_S = 10.0


class Advance(Protocol):
    """Report `n` more items done, with an optional short note to show beside them."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


@contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Advance]:
    """Show how `total` items of `unit` advance, on standard error."""
    if sys.stderr.isatty():
        with _bar(label, total, unit) as advance:
            yield advance
    else:
        yield _lines(label, total, unit)


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, rate="", note="")
        done = 0

        def advance(n: int = 1, note: str = "") -> None:
            nonlocal done
            done += n
            shown = note or bar.tasks[task].fields["note"]
            bar.update(task, advance=n, rate=f"{_rate(done, start):.1f} {unit}/s", note=shown)

        yield advance


def _lines(label: str, total: int, unit: str) -> Advance:
    start = last = time.monotonic()
    done = 0

    def advance(n: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if done >= total or now - last >= LINE_EVERY_S:
            last = now
            rate = _rate(done, start)
            left = (total - done) / rate if rate else 0.0
            tail = f", {note}" if note else ""
            print(f"{label}: {done}/{total} {unit}, {rate:.1f}/s, {left:.0f} s left{tail}", file=sys.stderr, flush=True)

    return advance


def _rate(done: int, start: float) -> float:
    return done / max(time.monotonic() - start, 1e-9)
