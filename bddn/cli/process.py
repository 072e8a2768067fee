"""The process of a command: settings that hold for it alone, so that a user's surroundings do not steer the result.

Nothing here happens on `import bddn`: a caller's process is left as it is.
"""

import os
import sys
from pathlib import Path

from bddn.cli.streams import open_streams
from bddn.errors import BddnError

SETTINGS = {
    "THP_MEM_ALLOC_ENABLE": "1",  # large pages for torch: tokens by the gigabyte are read and gathered faster
    "MPLBACKEND": "agg",  # pictures are drawn into files; the backend of a notebook cannot be loaded here
    "MATPLOTLIBRC": os.devnull,  # the user's style of plots is not ours
}


def main() -> None:
    """Run the command line of this process, and end the process with its exit code."""
    output = open_streams()
    os.environ.update(SETTINGS)
    code = _run()
    sys.stdout.flush()
    if output.failed is not None:
        failed = BddnError(
            "standard output",
            expected="to take what this command prints",
            got=output.failed.strerror or str(output.failed),
            fix="The work itself is done. Send the output to another place, or print it again.",
        )
        print(f"error: {failed}", file=sys.stderr)  # noqa: T201
        code = code or 2
    sys.exit(code)


def _run() -> int:
    from bddn.cli import app

    try:
        Path.cwd()
    except FileNotFoundError:
        failed = BddnError(
            "the working directory",
            expected="a folder that exists",
            got="one that was deleted or moved away",
            fix="Go to another folder with 'cd', and run the command there.",
        )
        print(f"error: {failed}", file=sys.stderr)  # noqa: T201
        return 2
    try:
        app(prog_name="bddn")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
