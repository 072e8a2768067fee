"""Commands that start quickly: processes of their own, forked from one that has imported what they need.

A start of Python with torch and transformers costs five seconds and more; here it is paid once. What the environment
changes at an import, e.g. the number of threads of OpenMP, needs a process of its own from the beginning, as in
test_surroundings.py.
"""

import atexit
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path

from quick_workers import PRELOADED

LIMIT_S = 300.0
COMMAND = "bddn"
NUMBERS = count()


class QuickCommand:
    """A process that runs: `bddn` and its words, or as words of Python a script, or `-c` and code."""

    def __init__(self, words: Sequence[object], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.words = [str(word) for word in words]
        number = next(NUMBERS)
        self._said = [Path(_folder()) / f"{number}.{stream}" for stream in ("out", "err")]
        own = (self.words, str(cwd or Path.cwd()), dict(os.environ if env is None else env), *map(str, self._said))
        forked = multiprocessing.get_context("forkserver")
        forked.set_forkserver_preload(PRELOADED)
        self._process = forked.Process(target=_run, args=own)
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.exitcode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def ended(self) -> "subprocess.CompletedProcess[str]":
        """Wait for its end."""
        self._process.join(LIMIT_S)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self.words, LIMIT_S)
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in self._said)
        return subprocess.CompletedProcess(self.words, code, out, err)


def run(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return QuickCommand(words, cwd, env).ended()


@cache
def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="said-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _run(words: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        with Path(path).open("wb") as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    is_script = words[0] not in (COMMAND, "-c")
    sys.path.insert(0, str(Path(words[0]).parent) if is_script else "")
    sys.argv = words
    if is_script:
        runpy.run_path(words[0], run_name="__main__")
    elif words[0] == COMMAND:
        from bddn.cli.process import main

        main()
    else:
        sys.argv = [words[0], *words[2:]]
        exec(words[1], {"__name__": "__main__"})  # noqa: S102 # as Python does
