"""Fit one run after the other in a process, and keep the tokens of one cache and subject in memory between runs.

Only the tokens of one group are kept, so that a process needs the memory of one fit and one group.
"""

import copy
import sys
import threading
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from bddn.data import open_dataset
from bddn.data.covariates import covariate_values
from bddn.data.trials import response_ids
from bddn.errors import BddnError, MismatchError, RunError
from bddn.identity import Identity
from bddn.machine.memory import free_bytes, free_device_bytes
from bddn.many.plan import Group, Task
from bddn.many.run_table import Row, row_of
from bddn.run import Run, Subject, fit_run, read_run
from bddn.store.reader import Cache
from bddn.stream.loader import Resident, Streamed

GIB = 2**30
TOKEN_SHARE = 0.5  # of the memory; the rest is for the fit
ONE_AT_A_TIME = threading.Lock()  # because fits of one process share its threads, memory and standard error


@dataclass
class _SharedInputs:
    """The inputs that the runs of a group share."""

    group: Group
    store: Cache
    subject: Subject
    tokens: Resident | None = None


class Runner:
    """A runner that fits one task at a time, and keeps the inputs of a group for its next task.

    Parameters
    ----------
    quiet : bool
        Whether to hide the progress of fits.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._held: _SharedInputs | None = None

    def __reduce__(self) -> tuple[type["Runner"], tuple[bool]]:
        return type(self), (self._quiet,)  # without the tokens, because dask may move it to another worker or a disk

    def run(self, task: Task) -> Row | BddnError:
        """Fit a run, or read it if it exists; return its table row, or the error."""
        with ONE_AT_A_TIME, redirect_stderr(StringIO() if self._quiet else sys.stderr):
            try:
                return row_of(task.folder, self._fit(task))
            except BddnError as error:
                return copy.copy(error)  # without the stack frames, which keep tokens and model in memory
            except OSError as error:
                return RunError(
                    error.filename or task.folder,
                    expected="read and write access",
                    got=error.strerror or str(error),
                    fix="Check the path, its permissions and the free space. Then run the same command again.",
                )

    def _fit(self, task: Task) -> Run:
        folder = task.out / task.folder
        held = self._open(task.group)
        _check_siblings(folder, held)
        memory_gib, tokens = task.memory_gib, None
        covariate_values(held.subject.dataset, task.spec.covariates or ())  # before tokens are read
        if not (folder / "run.json").exists():  # an existing run is only compared with the task, without tokens
            held.tokens = tokens = held.tokens or _load(held, task)
        if tokens is not None and memory_gib is not None:
            memory_gib -= _n_bytes(held, task) / GIB

        return fit_run(
            held.store,
            held.subject.dataset,
            folder,
            task.spec,
            device=task.device,
            memory_gib=memory_gib,
            resident=tokens,
            subject=held.subject,
        )[0]

    def _open(self, group: Group) -> _SharedInputs:
        if self._held is None or self._held.group != group:
            self._held = None  # first, so that the tokens of two groups are never in memory together
            store = Cache(group.cache)
            if store.digest != group.cache_digest:
                raise MismatchError(
                    f"cache '{store.files.place}'",
                    expected=f"digest {group.cache_digest[:16]}, as when the runs were planned",
                    got=store.digest[:16],
                    fix="Make sure that all workers see the same files. Then run the same command again.",
                )
            self._held = _SharedInputs(group, store, Subject.read(open_dataset(group.data)))
        return self._held


def _check_siblings(folder: Path, held: _SharedInputs) -> None:
    """Check that the existing runs of this cache and subject were fitted on the same tokens and data.

    Raises
    ------
    RunError
        If one of them was fitted on other tokens or data.
    """
    for path in sorted(folder.parent.glob("*/run.json")):
        about = read_run(path.parent).about
        stored = {"data": about["data"], "cache": {"digest": about["cache"]["digest"]}}
        wanted = {"data": dict(held.subject.identity(held.store).parts), "cache": {"digest": held.store.digest}}
        differences = Identity(stored).differences(Identity(wanted))
        if differences:
            raise RunError(
                path.parent,
                expected=f"all runs in '{folder.parent}' on the same cache and data",
                got=f"a run that differs in: {'; '.join(differences)}",
                fix="Nothing was written. Give another --out.",
            )
        break  # one is enough, because the others were compared with it when they were fitted


def _load(held: _SharedInputs, task: Task) -> Resident | None:
    """Read the tokens, or return None if they are too large for the memory."""
    if _n_bytes(held, task) > TOKEN_SHARE * _free_bytes(task):
        return None
    return _streamed(held, task).load()


def _free_bytes(task: Task) -> float:
    free = free_bytes() if task.memory_gib is None else task.memory_gib * GIB
    return min(free, free_device_bytes()) if task.device == "cuda" else free


def _n_bytes(held: _SharedInputs, task: Task) -> int:
    return _streamed(held, task).n_bytes


def _streamed(held: _SharedInputs, task: Task) -> Streamed:
    layers = held.store.select_layers(task.group.layers)
    return Streamed(held.store, layers, response_ids(held.subject.dataset), device=task.device)
