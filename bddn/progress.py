"""Progress with rate and remaining time: a bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

LINE_EVERY_S = 10.0


class Advance(Protocol):
    """Callback that reports `n` more finished items, with an optional short note to show beside the count.

    Set `earlier` for items that an earlier or another process finished: they are counted, but not in the rate.
    """

    def __call__(self, n: int = 1, note: str = "", earlier: bool = False) -> None: ...


class Rate:
    """Rate of this process over `total` items, and the remaining time."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._here, self._start = 0, time.monotonic()

    def add(self, n: int, earlier: bool) -> None:
        """Count `n` finished items; those marked `earlier` do not enter the rate."""
        self.done += n
        self._here += 0 if earlier else n

    @property
    def per_s(self) -> float:
        """Items per second that this process itself has finished."""
        return self._here / max(time.monotonic() - self._start, 1e-9)

    def left(self) -> str:
        """Return the remaining time as text, such as '12 min left'; '' until it is known."""
        if self.done >= self.total:
            return "done"
        return f"{_duration((self.total - self.done) / self.per_s)} left" if self._here else ""


def say(line: str) -> None:
    """Print a line on standard error, before the work that it announces."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Advance]:
    """Show the progress over `total` items, named `unit`, on standard error. The callback is thread-safe."""
    if sys.stderr.isatty():
        with _bar(label, total, unit) as advance:
            yield advance
    else:
        with _lines(label, total, unit) as advance:
            yield advance


@contextmanager
def _bar(label: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn(f"{{task.fields[{name}]}}") for name in ("rate", "left", "note")]
    rate, lock = Rate(total), threading.Lock()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, rate="", left="", note="")

        def advance(n: int = 1, note: str = "", earlier: bool = False) -> None:
            with lock:
                rate.add(n, earlier)
                shown = note or bar.tasks[task].fields["note"]
                bar.update(task, advance=n, rate=f"{rate.per_s:.1f} {unit}/s", left=rate.left(), note=shown)

        yield advance


@contextmanager
def _lines(label: str, total: int, unit: str) -> Iterator[Advance]:
    rate, lock, last, last_note = Rate(total), threading.Lock(), time.monotonic(), ""

    def show(note: str) -> None:
        words = (f"{rate.done}/{total} {unit}", f"{rate.per_s:.1f}/s", rate.left(), note)
        say(f"{label}: {', '.join(filter(None, words))}")

    def advance(n: int = 1, note: str = "", earlier: bool = False) -> None:
        nonlocal last, last_note
        with lock:
            rate.add(n, earlier)
            now = time.monotonic()
            if rate.done >= total:  # shown once, at the end, because a note may follow
                last_note = note or last_note
            elif now - last >= LINE_EVERY_S:
                last = now
                show(note)

    yield advance
    if rate.done >= total:
        show(last_note)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
