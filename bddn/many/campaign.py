"""All runs of a plan, here or on a cluster, and the table that grows with them."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bddn.errors import BddnError
from bddn.files import atomic
from bddn.files.output import check_folder
from bddn.machine.parallel import choose_device
from bddn.many.holder import Holder
from bddn.many.plan import Task, finished, make_plan
from bddn.many.run_table import Row, row_of, table_of, write
from bddn.spec import FitSpec

Done = tuple[Task, Row | BddnError]
Work = Callable[[Sequence[Task]], Iterator[Done]]
"""Does tasks, and tells of each, in any order, its row or why there is none."""


@dataclass(frozen=True)
class Many:
    """What `fit_many` did.

    Attributes
    ----------
    table : table
        One row per run in the folder, as in results.parquet.
    failed : dict of BddnError
        By folder, why there is no run.
    n_runs, n_kept : int
        How many were asked for, and how many of them had been done before.
    left_out : tuple of str
        Pairs of cache and dataset that do not belong together.
    """

    table: pd.DataFrame
    failed: dict[str, BddnError]
    n_runs: int
    n_kept: int
    left_out: tuple[str, ...]


def fit_many(
    caches: Sequence[str | Path],
    datasets: Sequence[str],
    out: Path,
    spec: FitSpec,
    *,
    seeds: Sequence[int] = (0,),
    bootstraps: Sequence[int | None] = (None,),
    device: str = "cpu",
    memory_gib: float | None = None,
    work: Work | None = None,
) -> Many:
    """Fit every cache × subject × seed × bootstrap into a run folder of its own, OUT/CACHE/SUBJECT/seed0-boot3.

    Runs that are there are kept, and those that were stopped go on, so the same call resumes. results.parquet and
    results.csv in `out`, one row per run of this and earlier calls, are written again after each run.

    Parameters
    ----------
    caches : sequence of str or Path
        Sealed stores, by folder or URL.
    datasets : sequence of str
        KIND:PATH; each is fitted on the caches that have all its images.
    out : Path
        The folder of all runs: one recipe, any number of caches, subjects, seeds and bootstraps.
    spec : FitSpec
        Of every run, but for seed and bootstrap.
    seeds, bootstraps : sequences
        Numbers from 0; a bootstrap of None has each training image once.
    device : {'cpu', 'cuda', 'auto'}
        With `work` on a cluster, that of its workers.
    memory_gib : float, optional
        Memory that a process may take, by default what is free.
    work : Work, optional
        How runs are done, for instance on a cluster; by default one after the other in this process.

    Raises
    ------
    BddnError
        Where a cache, a dataset or what is in `out` does not fit, before any run begins. An error of one run does not
        stop the others; it is in `failed`.
    """
    check_folder(out)
    device = choose_device(device) if work is None else device
    plan = make_plan(caches, datasets, out, spec, seeds, bootstraps, device=device, memory_gib=memory_gib)
    rows = {folder: row_of(folder, run) for folder, run in finished(out, plan.tasks)}
    atomic.make_folder(out)
    n_kept = sum(task.folder in rows for task in plan.tasks)
    failed: dict[str, BddnError] = {}
    write(table_of(rows.values()), out)
    for task, found in (work or one_by_one)(plan.tasks):
        if isinstance(found, BddnError):
            failed[task.folder] = found
            rows.pop(task.folder, None)
        else:
            rows[task.folder] = found
        write(table_of(rows.values()), out)
    others = finished(out, plan.tasks, besides=rows | failed)  # of calls with other seeds, while this one ran
    rows |= {folder: row_of(folder, run) for folder, run in others}
    table = table_of(rows.values())
    write(table, out)
    ordered = {task.folder: failed[task.folder] for task in plan.tasks if task.folder in failed}
    return Many(table, ordered, len(plan.tasks), n_kept, plan.left_out)


def one_by_one(tasks: Sequence[Task]) -> Iterator[Done]:
    """Do tasks in this process."""
    holder = Holder()
    for i, task in enumerate(tasks, 1):
        print(f"run {i}/{len(tasks)}: {task.folder}", file=sys.stderr, flush=True)  # noqa: T201
        yield task, holder.do(task)
