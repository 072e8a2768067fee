"""One run after the other, and between them the tokens of a cache and subject: read once, as long as they are wanted.

One group's tokens at most are held, so a process needs the memory of one fit and of one group.
"""

import copy
import sys
import threading
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import torch

from bddn.data import open_dataset
from bddn.errors import BddnError, MismatchError, RunError
from bddn.identity import Identity
from bddn.machine.memory import free_bytes
from bddn.many.plan import Group, Task
from bddn.many.run_table import Row, row_of
from bddn.run import Run, Subject, fit_run, read_run
from bddn.store.reader import Cache
from bddn.stream.loader import Resident, Streamed

GIB = 2**30
SHARE = 0.5  # of the memory, which tokens may take to be held; the rest is for the fit
ONE_AT_A_TIME = threading.Lock()  # fits of one process would share its threads, its memory and its standard error


@dataclass
class _Held:
    """What the runs of a group share."""

    group: Group
    store: Cache
    subject: Subject
    tokens: Resident | None = None


class Holder:
    """Does tasks, one at a time in a process, and holds what the next one of the same group can use again.

    Parameters
    ----------
    quiet : bool
        Whether a fit shows no progress.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._held: _Held | None = None

    def __reduce__(self) -> tuple[type["Holder"], tuple[bool]]:
        return type(self), (self._quiet,)  # dask may move one to another worker or to a disk: without the tokens

    def do(self, task: Task) -> Row | BddnError:
        """The row of the run, fitted now or before; or why there is none."""
        with ONE_AT_A_TIME, redirect_stderr(StringIO() if self._quiet else sys.stderr):
            try:
                return row_of(task.folder, self._fit(task))
            except BddnError as error:
                return copy.copy(error)  # without the frames that hold tokens and model
            except OSError as error:
                return RunError(
                    error.filename or task.folder,
                    expected="to be able to read and write",
                    got=error.strerror or str(error),
                    fix="Check the path, its permissions and the free space, and run the same command again.",
                )

    def _fit(self, task: Task) -> Run:
        folder = task.out / task.folder
        held = self._open(task.group)
        _check_siblings(folder, held)
        memory_gib, tokens = task.memory_gib, None
        if not _is_there(folder):  # what is there is only compared with the task, and needs no tokens
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

    def _open(self, group: Group) -> _Held:
        if self._held is None or self._held.group != group:
            self._held = None  # first, so that the tokens of two groups are never held at once
            store = Cache(group.cache)
            if store.digest != group.cache_digest:
                raise MismatchError(
                    f"cache '{store.files.place}'",
                    expected=f"digest {group.cache_digest[:16]}, as when the runs were planned",
                    got=store.digest[:16],
                    fix="Let all workers see the same files, and run the same command again.",
                )
            self._held = _Held(group, store, Subject.read(open_dataset(group.data)))
        return self._held


def _check_siblings(folder: Path, held: _Held) -> None:
    """Runs of one cache and subject are rows of one table, so they must be fitted on the same tokens and data.

    Raises
    ------
    RunError
        Where a run of this cache and subject, of another seed perhaps, was fitted on other data.
    """
    for path in sorted(folder.parent.glob("*/run.json")):
        about = read_run(path.parent).about
        stored = {"data": about["data"], "cache": {"digest": about["cache"]["digest"]}}
        wanted = {"data": dict(held.subject.identity(held.store).parts), "cache": {"digest": held.store.digest}}
        differ = Identity(stored).differences(Identity(wanted))
        if differ:
            raise RunError(
                path.parent,
                expected=f"runs on the same cache and data everywhere in '{folder.parent}'",
                got=f"one that differs in: {'; '.join(differ)}",
                fix="Give another --out; nothing was written.",
            )
        break  # the others were compared with it when they were fitted


def _is_there(folder: Path) -> bool:
    return (folder / "run.json").exists()


def _load(held: _Held, task: Task) -> Resident | None:
    """The tokens, where there is room for them."""
    if _n_bytes(held, task) > SHARE * _free_bytes(task):
        return None
    return _streamed(held, task).load()


def _free_bytes(task: Task) -> float:
    free = free_bytes() if task.memory_gib is None else task.memory_gib * GIB
    return min(free, torch.cuda.mem_get_info()[0]) if task.device == "cuda" else free


def _n_bytes(held: _Held, task: Task) -> int:
    return _streamed(held, task).n_bytes


def _streamed(held: _Held, task: Task) -> Streamed:
    layers = held.store.select_layers(task.group.layers)
    return Streamed(held.store, layers, held.subject.dataset.stimuli.ids, device=task.device)
