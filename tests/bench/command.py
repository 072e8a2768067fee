"""Commands of bddn and scripts in processes of their own: seconds, CPU seconds, and peak memory."""

import os
import subprocess
import sys
import time

import quick_commands

FRESH = False  # started anew, not forked: only then all of its memory is that of the command

# It tells its peak itself: what `wait4` tells of a process has the memory of its parent in it.
MEASURED = """
import time
from bddn.cli.process import main
try:
    main()
finally:
    print(open("/proc/self/status").read(), f"CPU: {time.process_time()}", sep="\\n")
"""


def measured(*arguments: object, accept: tuple[int, ...] = (0,)) -> dict[str, float]:
    """Run a command of bddn, which must end with one of the accepted exit codes."""
    start = time.perf_counter()
    done = in_a_process("-c", MEASURED, *arguments)
    assert done.returncode in accept, done.returncode
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines() if line.startswith(("VmHWM:", "CPU:")))
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": float(lines["CPU"]),
        "peak_gib": int(lines["VmHWM"].split()[0]) / 2**20,
    }


def in_a_process(*words: object) -> "subprocess.CompletedProcess[str]":
    """Run a script, or `-c` and code, with words of its own."""
    if not FRESH:
        return quick_commands.run(*words)
    command = [sys.executable, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
