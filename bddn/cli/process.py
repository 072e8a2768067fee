"""The process of a command: settings that make results independent of the user's environment.

`import bddn` does not do this: it leaves the caller's process unchanged.
"""

import os
import signal
import sys
from pathlib import Path

from bddn.cli.shared import send_again
from bddn.cli.streams import open_streams
from bddn.errors import BddnError

SETTINGS = {  # environment variables
    "THP_MEM_ALLOC_ENABLE": "1",  # large pages for torch: faster with gigabytes of tokens
    "MPLBACKEND": "agg",  # figures are drawn into files, and the backend of a notebook cannot be loaded here
    "MATPLOTLIBRC": os.devnull,  # the user's plot style must not change figures
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
"""Environment variables that make torch and numpy use other kernels, which changes the last bits of results."""


def main() -> None:
    """Run the command line in this process, and exit with its code."""
    output = open_streams()
    code = _run()
    sys.stdout.flush()
    if output.failed is not None:
        failed = BddnError(
            "standard output",
            expected="a stream that can be written",
            got=output.failed.strerror or str(output.failed),
            fix="The work itself is done. Redirect the output to another place, and run the command again to print it.",
        )
        print(f"error: {failed}", file=sys.stderr)  # noqa: T201
        code = code or 2
    sys.exit(code)


def _run() -> int:
    """Prepare the process, run the command, and return the exit code."""
    try:
        _check_process()
    except BddnError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    os.environ.update(SETTINGS)
    if ignored := [name for name in OTHER_KERNELS if os.environ.pop(name, None) is not None]:
        print(f"note: {', '.join(ignored)} would change last bits of results, so it is ignored", file=sys.stderr)  # noqa: T201
    for each in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) == signal.SIG_DFL:  # not where it is ignored, as by nohup
            signal.signal(each, _leave)
    sys.unraisablehook = _on_unraisable
    from bddn.cli import app

    try:
        app(prog_name="bddn")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _leave(number: int, frame: object) -> None:
    """End the process on a signal that would end it at once, so that unfinished files are removed first."""
    raise Left(number)


class Left(SystemExit):
    """The exit of a process that a signal ends."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def _on_unraisable(dropped: "sys.UnraisableHookArgs") -> None:
    if isinstance(dropped.exc_value, Left):
        send_again(dropped.exc_value.number)
    else:
        sys.__unraisablehook__(dropped)


def _check_process() -> None:
    """Raise an error if commands cannot work in this process.

    Raises
    ------
    BddnError
        If the working directory does not exist, or Python runs without docstrings.
    """
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise BddnError(
            "the working directory",
            expected="a folder that exists",
            got="a folder that was deleted or moved",
            fix="Change to another folder with 'cd', and run the command there.",
        ) from error
    if sys.flags.optimize > 1:
        raise BddnError(
            "Python",
            expected="docstrings, because transformers reads them when it is imported",
            got="no docstrings, because of PYTHONOPTIMIZE=2 or -OO",
            fix="Unset PYTHONOPTIMIZE, or set it to 1.",
        )
