"""The process of a command: settings that hold for it alone, so that a user's surroundings do not steer the result.

Nothing here happens on `import bddn`: a caller's process is left as it is.
"""

import os
import sys
from pathlib import Path

from bddn.cli.streams import open_streams
from bddn.errors import BddnError

SETTINGS = {  # of the environment
    "THP_MEM_ALLOC_ENABLE": "1",  # large pages for torch: tokens by the gigabyte are read and gathered faster
    "MPLBACKEND": "agg",  # pictures are drawn into files; the backend of a notebook cannot be loaded here
    "MATPLOTLIBRC": os.devnull,  # the user's style of plots is not ours
}

OTHER_KERNELS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
)
"""Settings of the environment by which torch and numpy compute with other kernels, to other last bits."""


def main() -> None:
    """Run the command line of this process, and end the process with its exit code."""
    output = open_streams()
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
    """Prepare the process and run the command in it. Returns the exit code."""
    try:
        _check_process()
    except BddnError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    os.environ.update(SETTINGS)
    if ignored := [name for name in OTHER_KERNELS if os.environ.pop(name, None) is not None]:
        print(f"note: {', '.join(ignored)} would change last bits of results, and is ignored", file=sys.stderr)  # noqa: T201
    from bddn.cli import app

    try:
        app(prog_name="bddn")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _check_process() -> None:
    """Refuse a process in which commands cannot work.

    Raises
    ------
    BddnError
        Where the working directory is gone, or Python was told to leave out docstrings.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise BddnError(
            "the working directory",
            expected="a folder that exists",
            got="one that was deleted or moved away",
            fix="Go to another folder with 'cd', and run the command there.",
        ) from error
    if sys.flags.optimize > 1:
        raise BddnError(
            "Python",
            expected="docstrings, which transformers reads when it is imported",
            got="Python without them, by PYTHONOPTIMIZE=2 or -OO",
            fix="Unset PYTHONOPTIMIZE, or set it to 1.",
        )
