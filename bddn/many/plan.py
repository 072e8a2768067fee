"""Which runs there are, and in which folders: everything that can be wrong is found here, before any fit begins."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from os.path import abspath
from pathlib import Path
from typing import Any

import numpy as np

from bddn.data import Dataset, open_dataset
from bddn.data.splits import split_by_id
from bddn.errors import MismatchError, RunError, SpecError
from bddn.files.paths import expand_home
from bddn.identity import Identity, digest
from bddn.run import Run, read_run
from bddn.spec import FitSpec
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed

MOST = 100_000  # numbers of one option
MOST_DIGITS = 19  # of a number
OWN = ("seed", "bootstrap")  # fields of the spec in which the runs of one folder differ


@dataclass(frozen=True)
class Group:
    """What runs share that read the same tokens: a cache, a dataset, and what was found in them when they were opened.

    Attributes
    ----------
    cache, data : str
        A cache by folder or URL, a dataset by KIND:PATH.
    cache_digest, ids_digest : str
    layers : tuple of str
        Early to late.
    """

    cache: str
    data: str
    cache_digest: str
    ids_digest: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One run that is to be: what is fitted, and where it goes.

    Attributes
    ----------
    group : Group
    out : Path
        The folder of all runs.
    folder : str
        That of this run below it, e.g. clip/subj01/seed0-boot3.
    spec : FitSpec
    device : str
    memory_gib : float, optional
        That it may take; None means what is free.
    """

    group: Group
    out: Path
    folder: str
    spec: FitSpec
    device: str
    memory_gib: float | None


@dataclass(frozen=True)
class Plan:
    """The runs, those of one cache and subject one after the other; and pairs that do not belong together, in words."""

    tasks: tuple[Task, ...]
    left_out: tuple[str, ...]


def numbers(text: str, option: str) -> tuple[int, ...]:
    """The numbers that '3', '0-4' or '0,2,7-9' stand for, as written.

    Parameters
    ----------
    text : str
    option : str
        Where it was given, for the message.

    Raises
    ------
    SpecError
        Where it is something else, a range goes down, or a number is there twice.
    """
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = (side.strip() for side in part.partition("-"))
        high = high if dash else low
        digits = low.isdecimal() and high.isdecimal() and max(len(low), len(high)) < MOST_DIGITS
        if not digits or not 0 <= int(high) - int(low) < MOST or len(found) > MOST:
            found = []
            break
        found += range(int(low), int(high) + 1)
    if not found or len(set(found)) < len(found):
        raise SpecError(
            option,
            expected="numbers, or ranges from low to high, each number once, e.g. 0-4 or 0,2,7",
            got=repr(text),
            fix="Correct it.",
        )
    return tuple(found)


def make_plan(
    caches: Sequence[str | Path],
    datasets: Sequence[str],
    out: Path,
    spec: FitSpec,
    seeds: Sequence[int],
    bootstraps: Sequence[int | None],
    *,
    device: str,
    memory_gib: float | None,
) -> Plan:
    """Open all caches and datasets, and give every pair that belongs together its runs.

    A subject belongs to the caches that have all its images; images differ between subjects, so a cache is mostly of
    one subject, and pairs without its images are left out. One that belongs to none at all is an error.

    Raises
    ------
    BddnError
        Where a cache, a dataset or what is in `out` does not fit.
    """
    if not (caches and datasets and seeds and bootstraps):
        raise SpecError(
            "fit-many",
            expected="at least one cache, dataset, seed and bootstrap",
            got=f"{len(caches)}, {len(datasets)}, {len(seeds)} and {len(bootstraps)}",
            fix="Add what is missing.",
        )
    stores = [(str(place), Cache(place)) for place in caches]
    subjects = [(name, _checked(open_dataset(name), spec, seeds[0])) for name in datasets]
    groups, left_out = _pairs(stores, subjects, spec)
    tasks = tuple(
        Task(
            group,
            out,
            f"{parent}/seed{seed}" + ("" if bootstrap is None else f"-boot{bootstrap}"),
            FitSpec.parse(spec.to_dict() | {"seed": seed, "bootstrap": bootstrap}, "fit-many"),
            device,
            memory_gib,
        )
        for parent, group in groups.items()
        for seed, bootstrap in product(seeds, bootstraps)
    )
    return Plan(tasks, tuple(left_out))


def finished(out: Path, tasks: Iterable[Task], besides: Container[str] = ()) -> Iterator[tuple[str, Run]]:
    """Folders and runs that are in `out`, also of other seeds or caches than are planned now, but those `besides`.

    Raises
    ------
    RunError
        Where one is damaged, or was fitted with other settings, on another cache or for other stimuli than planned
        now. Responses and images are compared when runs of the same cache and subject are fitted.
    """
    tasks = list(tasks)
    groups = {task.folder.rpartition("/")[0]: task.group for task in tasks}
    wanted = {"fit": _shared(tasks[0].spec.to_dict())}
    for path in sorted(out.glob("*/*/*/run.json")):
        folder = path.parent.relative_to(out).as_posix()
        if folder in besides:
            continue
        try:
            run = read_run(path.parent)
            about = run.about
            stored: dict[str, Any] = {"fit": _shared(about["fit"]), "cache": {"digest": about["cache"]["digest"]}}
            stored["data"] = {"stimuli_sha256": about["data"].get("stimuli_sha256")}
        except (RunError, KeyError, ValueError, AttributeError) as error:
            got = error.got if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
            fix = "Delete this folder, and run the same command again."
            raise RunError(path.parent, expected="a whole run", got=got, fix=fix) from error
        group = groups.get(folder.rpartition("/")[0])
        of_group = (
            {}
            if group is None
            else {"cache": {"digest": group.cache_digest}, "data": {"stimuli_sha256": group.ids_digest}}
        )
        differ = Identity(stored).only("fit", *of_group).differences(Identity(wanted | of_group))
        if differ:
            raise RunError(
                path.parent,
                expected=f"runs of the same settings and caches everywhere in '{out}'",
                got=f"one that differs in: {'; '.join(differ)}",
                fix="Give another --out; nothing was written.",
            )
        yield folder, run


def _shared(fit: dict[str, object]) -> dict[str, object]:
    return {field: value for field, value in fit.items() if field not in OWN}


def _checked(dataset: Dataset, spec: FitSpec, seed: int) -> Dataset:
    """The dataset, of which everything but most of the responses has been read once."""
    split_by_id(dataset.stimuli.ids, spec.split, seed)
    dataset.voxels()
    dataset.responses(np.arange(1))
    return dataset


def _pairs(
    stores: Sequence[tuple[str, Cache]], subjects: Sequence[tuple[str, Dataset]], spec: FitSpec
) -> tuple[dict[str, Group], list[str]]:
    """Caches and datasets that belong together, by the folder of their runs; and in words those that do not."""
    groups: dict[str, Group] = {}
    lacking: dict[tuple[str, str], MismatchError] = {}
    for (place, store), (data, dataset) in product(stores, subjects):
        layers, ids = store.select_layers(spec.layers), dataset.stimuli.ids
        try:
            Streamed(store, layers, ids)
        except MismatchError as error:
            lacking[place, data] = error
            continue
        group = Group(place, data, store.digest, digest(list(ids)), tuple(layer.name for layer in layers))
        folder = f"{store.name}/{_subject(data)}"
        if folder in groups:
            other = groups[folder]
            raise SpecError(
                "fit-many",
                expected="caches and subjects that can be told apart by their names, each once",
                got=f"'{other.cache}' with '{other.data}' and '{place}' with '{data}', both for the folder {folder}/",
                fix="Name each once, rename one of them, or give each its own --out.",
            )
        groups[folder] = group
    for where, names in enumerate(([place for place, _ in stores], [data for data, _ in subjects])):
        for name in names:
            alone = [error for pair, error in lacking.items() if pair[where] == name]
            if len(alone) == len((subjects, stores)[where]):
                raise alone[0]
    return groups, [f"{place} × {data}" for place, data in lacking]


def _subject(data: str) -> str:
    """The last part of a dataset's path, also of '.' or 'a/..'; links keep their own names."""
    return Path(abspath(expand_home(data.partition(":")[2]))).name  # noqa: PTH100 - Path.resolve would follow links
