"""Progress counts for the rate what this process does; work in threads ends, also within other work."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from io import StringIO

import pytest

from bddn import progress as shown
from bddn.machine.parallel import ahead, each, n_threads
from bddn.progress import progress


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_rate_after_a_resume_is_that_of_this_process(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("fit", 1000, "steps") as advance:
        advance(900, earlier=True)
        clock.now_s += 20
        advance(10)
        clock.now_s += 20
        advance(10)
    assert _lines(capsys) == [
        "fit: 910/1000 steps, 0.5/s, 3 min left",
        "fit: 920/1000 steps, 0.5/s, 3 min left",
    ]


def test_nothing_is_said_of_the_time_left_before_anything_was_done(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("fit", 10, "steps") as advance:
        clock.now_s += 20
        advance(0, "waiting for node1")
        clock.now_s += 20
        advance(5, earlier=True)
    assert _lines(capsys) == ["fit: 0/10 steps, 0.0/s, waiting for node1", "fit: 5/10 steps, 0.0/s"]


@pytest.mark.parametrize(
    ("n", "left"), [(99, "99 s"), (150, "2 min"), (5000, "83 min"), (7260, "2 h 1 min"), (0, "done")]
)
def test_long_times_are_told_in_hours(clock: Clock, capsys: pytest.CaptureFixture[str], n: int, left: str) -> None:
    with progress("extract", 20 + n, "images") as advance:
        clock.now_s += 20
        advance(20)
    assert left in _lines(capsys)[0]


def test_nothing_to_do_is_no_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress("extract", 0, "images") as advance:
        advance(0)
    assert _lines(capsys) == ["extract: 0/0 images, 0.0/s, done"]
    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("extract", 0, "images") as advance:
        advance(0, "none")
    assert "extract" in terminal.getvalue()


def test_the_last_line_is_shown_once_with_the_note_that_follows(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("fit", 2, "steps") as advance:
        advance()
        advance(0, "validation R² 0.1")
        advance()
        advance(0, "validation R² 0.2")
    (line,) = _lines(capsys)
    assert line.startswith("fit: 2/2 steps, ")
    assert line.endswith("done, validation R² 0.2")


def test_a_bar_shows_the_rate_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(shown.Rate, "per_s", 2.0)
    with progress("fit", 1000, "steps") as advance:
        advance(900, earlier=True)
        advance(10, "validation R² 0.1")
    text = terminal.getvalue()
    assert "910/1000" in text
    assert "2.0 steps/s" in text
    assert "45 s left" in text
    assert "validation R² 0.1" in text


def test_threads_report_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("check", 4000, "images") as advance:
        threads = [threading.Thread(target=lambda: deque(map(advance, [1] * 500))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert _lines(capsys)[-1].startswith("check: 4000/4000 images")


def _within(seconds: float, work: Callable[[], object]) -> object:
    """What `work` gives, if it ends in time."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits for ever"
    return found[0]


def test_work_within_work_ends() -> None:
    """As many pieces as threads, each of which waits for pieces of its own."""
    n = 2 * n_threads() + 1

    def outer(i: int) -> int:
        return sum(each(lambda j: i * j, range(n)))

    def outer_ahead(i: int) -> int:
        return sum(ahead(lambda j: i * j, range(n), 3))

    wanted = [i * n * (n - 1) // 2 for i in range(n)]
    assert _within(20, lambda: each(outer, range(n))) == wanted
    assert _within(20, lambda: each(outer_ahead, range(n))) == wanted
    assert _within(20, lambda: list(ahead(outer, range(n), 4))) == wanted
    assert _within(20, lambda: each(lambda i: each(outer, [i])[0], range(n))) == wanted


def test_an_error_in_a_thread_is_raised_and_the_pool_goes_on() -> None:
    def fail(i: int) -> int:
        return 1 // (i - 3)

    with pytest.raises(ZeroDivisionError):
        each(fail, range(8))
    with pytest.raises(ZeroDivisionError):
        list(ahead(fail, range(8), 2))
    with pytest.raises(ZeroDivisionError):
        each(lambda _: each(fail, range(8)), range(4))
    assert each(lambda i: i, range(4)) == [0, 1, 2, 3]


def test_an_error_of_the_items_ends_what_was_begun() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    with pytest.raises(KeyError):
        list(ahead(lambda i: i, items(), 4))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks with threads, which is what is tried
def test_a_forked_process_has_threads_of_its_own() -> None:
    assert each(lambda i: i, range(3)) == [0, 1, 2]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if each(lambda i: i, range(3)) == [0, 1, 2] else 1)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.05)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    pytest.fail("it waits for ever")
