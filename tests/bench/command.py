"""Commands of bddn in processes of their own: seconds, and peak memory."""

import subprocess
import sys
import time

# It tells its peak itself: what `wait4` tells of a process has the memory of its parent in it.
MEASURED = """
import sys
from bddn.cli import app
try:
    app(sys.argv[1:])
finally:
    print(open("/proc/self/status").read())
"""


def measured(*arguments: object) -> dict[str, float]:
    """Run a command of bddn."""
    start = time.perf_counter()
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    (line,) = (line for line in said.splitlines() if line.startswith("VmHWM:"))
    return {"seconds": time.perf_counter() - start, "peak_gib": int(line.split()[1]) / 2**20}
