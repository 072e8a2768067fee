"""Fit all runs of a plan, in this process or on a cluster, and update the table after each run."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd

from bddn.errors import BddnError
from bddn.files import atomic
from bddn.files.output import check_folder
from bddn.machine.parallel import choose_device
from bddn.many.plan import Task, finished, make_plan
from bddn.many.run_table import Row, add_agreement, row_of, table_of, write
from bddn.many.runner import Runner
from bddn.spec import FitSpec

Outcome = tuple[Task, Row | BddnError]
Work = Callable[[Sequence[Task]], Iterator[Outcome]]
"""A function that fits tasks and yields for each, in any order, its table row or its error."""


@dataclass(frozen=True)
class Many:
    """The result of `fit_many`.

    Attributes
    ----------
    table : DataFrame
        One row per run in the folder, as in results.parquet.
    failed : dict of BddnError
        The errors of failed runs, by run folder.
    n_runs, n_kept : int
        Number of requested runs, and how many of them were finished before.
    left_out : tuple of str
        Pairs of cache and dataset that do not belong together.
    folders : tuple of Path
        The folders of the requested runs, in the order of the plan.
    """

    table: pd.DataFrame
    failed: dict[str, BddnError]
    n_runs: int
    n_kept: int
    left_out: tuple[str, ...]
    folders: tuple[Path, ...]


def fit_many(
    caches: Sequence[str | Path],
    datasets: Sequence[str],
    out: Path,
    spec: FitSpec,
    *,
    seeds: Sequence[int] = (0,),
    bootstraps: Sequence[int | None] = (None,),
    paired: bool = False,
    halves: bool = False,
    device: str = "cpu",
    memory_gib: float | None = None,
    work: Work | None = None,
) -> Many:
    """Fit every cache × subject × seed × bootstrap into its own run folder, e.g. OUT/CACHE/SUBJECT/seed0-boot3.

    The same call resumes: finished runs are kept, and interrupted runs resume from their checkpoints. After each run,
    results.parquet and results.csv in `out` are replaced; they have one row per run of this call and earlier calls. At
    the end, each row also has the agreement of the selected layers with the other runs of its cache and subject.

    Parameters
    ----------
    caches : sequence of str or Path
        Folders or URLs of sealed stores.
    datasets : sequence of str
        Dataset names KIND:PATH. Each is fitted on the caches that contain all its images.
    out : Path
        The folder of all runs. They share one spec, except for seed and bootstrap.
    spec : FitSpec
        The spec of every run, without bootstrap and half; its seed is replaced.
    seeds, bootstraps : sequences
        Numbers from 0. A bootstrap of None uses each training image once.
    paired : bool
        Whether fit k has the k-th seed and the k-th bootstrap, instead of every bootstrap of every seed.
    halves : bool
        Whether there are two more fits for each seed, each of one half of the training images, e.g. seed0-half1.
    device : {'cpu', 'cuda', 'auto'}
        With `work` on a cluster, the device of its workers.
    memory_gib : float, optional
        Memory that a process may use, by default the free memory.
    work : Work, optional
        Where runs are fitted, for example on a cluster; by default one after the other in this process.

    Raises
    ------
    BddnError
        If a cache, a dataset or a run in `out` is invalid; before any fit starts. An error of one run does not stop the
        others; it is returned in `failed`.
    """
    check_folder(out)
    device = choose_device(device) if work is None else device
    fits = list(zip(seeds, bootstraps, strict=True) if paired else product(seeds, bootstraps))
    plan = make_plan(caches, datasets, out, spec, fits, device=device, memory_gib=memory_gib, halves=halves)
    rows = {folder: row_of(folder, run) for folder, run in finished(out, plan.tasks)}
    atomic.make_folder(out)
    n_kept = sum(task.folder in rows for task in plan.tasks)
    failed: dict[str, BddnError] = {}
    write(table_of(rows.values()), out)
    for task, result in (work or one_by_one)(plan.tasks):
        if isinstance(result, BddnError):
            failed[task.folder] = result
            rows.pop(task.folder, None)
        else:
            rows[task.folder] = result
        write(table_of(rows.values()), out)
    new = finished(out, plan.tasks, exclude=rows | failed)  # from calls with other seeds that ran at the same time
    rows |= {folder: row_of(folder, run) for folder, run in new}
    add_agreement(rows.values(), out)
    table = table_of(rows.values())
    write(table, out)
    ordered = {task.folder: failed[task.folder] for task in plan.tasks if task.folder in failed}
    folders = tuple(out / task.folder for task in plan.tasks)
    return Many(table, ordered, len(plan.tasks), n_kept, plan.left_out, folders)


def one_by_one(tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Fit tasks one after the other in this process, and yield each with its table row or its error."""
    runner = Runner()
    for i, task in enumerate(tasks, 1):
        print(f"run {i}/{len(tasks)}: {task.folder}", file=sys.stderr, flush=True)  # noqa: T201
        yield task, runner.run(task)
