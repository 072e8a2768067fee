"""Shared parts of commands: options, error messages, a clean stop on signals, and tables."""

import math
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from bddn.errors import BddnError, LowMemoryError, SpecError
from bddn.files.paths import expanded
from bddn.text import both_ends

if TYPE_CHECKING:
    from bddn.spec import CacheSpec


def finite(value: float | None) -> float | None:
    """Return the value of an option, or raise an error for 'nan' and infinity, which a range does not exclude."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a number; got {value}.")
    return value


SPEC = typer.Argument(help="Name of a spec in cache_specs/, a .yaml file, or a folder of 'bddn finetune'.")
FIT_SPEC = typer.Option("--spec", help="Recipe of the fit: fast, paper, or a YAML file of settings.")
SPLIT_SEED = typer.Option(help="Seed of the split alone, so that fits of many seeds have the same test images.")
CACHE = typer.Argument(help="A sealed feature cache: a folder or a URL.")
NETWORK = typer.Option(
    help="Spec of the cache, by name or as a .yaml file; by default it is searched in cache_specs/.",
    show_default=False,
)
WEIGHTS = typer.Option(
    help="Weights instead of the spec's: a local folder, a checkpoint of another library (FILE in the spec's format, "
    "or FORMAT:FILE), or random, random:SEED.",
    show_default=False,
)
DEVICE = typer.Option(help="Device; auto is cuda if there is one.")
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
AGAIN_S = 0.1
SCHEDULER = typer.Option(
    help="A running dask cluster: tcp://HOST:PORT of its scheduler, or the scheduler's file.", show_default=False
)
_MAX_ROI_CHARS = 40  # of a name in a table
NO_THREAD = "can't start new thread"  # Python's words for it
Device = Literal["auto", "cpu", "cuda"]
WORKERS = typer.Option(min=0, max=512, help="Processes on this machine, one per device; 0: only this process.")
MEMORY = typer.Option(
    min=0.5, max=2**20, callback=finite, help="Memory limit of a process in GiB; by default the free part."
)
DATASET = typer.Option("--data", help="KIND:PATH, e.g. algonauts:PATH/subj01; see 'bddn datasets'.", show_default=False)
DATASETS = typer.Option(
    "--data",
    help="KIND:PATH, e.g. algonauts:PATH/subj01; see 'bddn datasets'. Repeat the option for several subjects, whose "
    "images then share one cache, each once.",
    show_default=False,
)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, without those that are None."""
    return {name: value for name, value in options.items() if value is not None}


def example(command: str) -> str:
    """Return the last line of a command's help."""
    return f"Example: {command}"


def filled(command: object) -> str:
    """Return the docstring of a command without breaks inside paragraphs, which a terminal of 80 columns would keep."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.__doc__ or "").split("\n\n"))


def clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Print a `BddnError` as one message without a traceback, and exit with code 2. Paths may start with `~`."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            return command(*args, **{name: _with_home(value) for name, value in kwargs.items()})
        except BddnError as error:
            message = str(error)
        except OSError as error:
            failed = BddnError(
                " → ".join(str(name) for name in (error.filename, error.filename2) if name is not None) or "files",
                expected="a file that can be read and written",
                got=error.strerror or str(error),
                fix="Check the path, its permissions and the free space; completed work is kept.",
            )
            message = str(failed)
        except (MemoryError, RuntimeError) as error:
            from bddn.machine.parallel import error_text, is_out_of_memory

            name = command.__name__.replace("_", "-")
            if str(error) == NO_THREAD:
                limited = BddnError(
                    name,
                    expected="threads that can be started",
                    got="a limit on threads, processes or memory that is reached",
                    fix="Set BDDN_THREADS=1, or raise the limit of the shell (ulimit -u, ulimit -v), job or container; "
                    "completed work is kept.",
                )
            elif is_out_of_memory(error):
                limited = LowMemoryError(
                    name,
                    expected="enough memory",
                    got=f"no memory left ({error_text(error)})",
                    fix="Close other programs, use a machine or a GPU with more memory, or reduce the amount of work; "
                    "completed work is kept.",
                )
            else:
                raise
            message = str(limited)
        typer.echo(f"error: {message}", err=True)
        raise typer.Exit(2)

    return run


def _with_home(value: Any) -> Any:
    """Return the value of an option, with `~` expanded in paths."""
    if isinstance(value, list):
        return [_with_home(each) for each in value]
    return expanded(value) if isinstance(value, Path) else value


def on_cluster(workers: int, scheduler: str | None, shard: str | None = None) -> bool:
    """Return whether --workers or --scheduler requests a cluster. Only one of the three options may be given.

    Raises
    ------
    SpecError
    """
    if scheduler is not None and not scheduler.strip():
        raise SpecError(
            "--scheduler",
            expected="an address, e.g. tcp://node1:8786",
            got="an empty text",
            fix="Give the address that 'dask scheduler' printed, or remove the option.",
        )
    given = {"--workers": workers, "--scheduler": scheduler, "--shard": shard}
    names = [f"{name} {value}" for name, value in given.items() if value]
    if len(names) > 1:
        raise SpecError(
            " and ".join(names),
            expected="one of these options, because each says where the work is done",
            got=f"{len(names)}",
            fix="--workers starts processes on this machine, --scheduler uses a running cluster, and --shard computes "
            "a part of the work in this process. Remove all but one.",
        )
    return bool(workers) or scheduler is not None


@contextmanager
def stops_cleanly() -> Iterator[None]:
    """Stop cleanly on SIGTERM, SIGUSR1 and SIGINT: drop and release the current shard, and print how to resume.

    A second signal ends the process at once; the same command can resume even then. Ignored signals stay ignored,
    because a shell ignores SIGINT for a command in the background. Only the main thread can handle signals.
    """
    signals = tuple(each for each in STOPPING if signal.getsignal(each) != signal.SIG_IGN)
    if threading.current_thread() is not threading.main_thread():
        signals = ()

    def stop(number: int, frame: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    def on_unraisable(dropped: Any) -> None:
        if not isinstance(dropped.exc_value, Stopped):
            unraisable(dropped)
            return
        for each in signals:
            signal.signal(each, stop)
        send_again(dropped.exc_value.number)

    before = {each: signal.signal(each, stop) for each in signals}
    unraisable, sys.unraisablehook = sys.unraisablehook, on_unraisable
    try:
        yield
    except Stopped as stopped:
        words = shlex.join(["bddn", *sys.argv[1:]])
        typer.echo(f"stopped by {stopped.name}; completed work is kept. Resume with: {words}", err=True)
        raise typer.Exit(128 + stopped.number) from None
    finally:
        sys.unraisablehook = unraisable
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)  # None: not set by Python


def send_again(number: int) -> None:
    """Send a signal to this process once more, shortly after Python has dropped the exception of its handler.

    It drops all exceptions that are raised while it collects garbage.
    """
    threading.Timer(AGAIN_S, os.kill, (os.getpid(), number)).start()


class Stopped(BaseException):
    """A signal requests the end of the process."""

    def __init__(self, number: int) -> None:
        self.number, self.name = number, signal.Signals(number).name


def ready_spec(name: str, weights: str | None = None) -> "CacheSpec":
    """Return the spec of a name or file, with the weights of the option --weights, which must be on this machine.

    Raises
    ------
    BddnError
        If the spec does not exist, or its weights are not completely on this machine.
    """
    from bddn.backbones.registry import load_spec
    from bddn.backbones.weights.fetch import is_available, is_remote
    from bddn.backbones.weights.local import not_downloaded
    from bddn.cli.weights import with_weights

    spec = load_spec(name)
    if weights is not None:
        spec = with_weights(spec, weights)
    if spec.weights is not None and is_remote(spec) and not is_available(spec):
        raise not_downloaded(spec.weights, name)
    return spec


def as_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as aligned columns under their names. Of a long name of an ROI, both ends are shown."""
    rows = [{**row, "ROI": both_ends(row["ROI"], _MAX_ROI_CHARS)} if "ROI" in row else row for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [{name: name for name in rows[0]}, *rows]
    return "\n".join("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in lines)
