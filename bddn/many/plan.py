"""Plan the runs and their folders, and check all caches and datasets before any fit starts."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from os.path import abspath
from pathlib import Path
from typing import Any

import numpy as np

from bddn.data import Dataset, open_dataset
from bddn.errors import MismatchError, RunError, SpecError
from bddn.files.paths import expand_home
from bddn.identity import Identity, digest
from bddn.run import Run, read_run
from bddn.run.splitting import split_of
from bddn.spec import FitSpec
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed

MAX_NUMBERS = 100_000  # of one option
MAX_DIGITS = 19  # of a number
ASKED_FOR = {"bootstrap": "--bootstraps", "half": "--halves"}  # options that replace fields of the spec
VARIED = ("seed", "bootstrap")  # fields of the spec in which the runs of one folder may differ


@dataclass(frozen=True)
class Group:
    """A cache and a dataset, which several runs share.

    Attributes
    ----------
    cache, data : str
        Folder or URL of the cache, and dataset name KIND:PATH.
    cache_digest, ids_digest : str
        Digests of the store and of the stimulus ids at planning time.
    layers : tuple of str
        From early to late.
    """

    cache: str
    data: str
    cache_digest: str
    ids_digest: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One planned run: its inputs and its folder.

    Attributes
    ----------
    group : Group
    out : Path
        The folder of all runs.
    folder : str
        The run folder relative to `out`, e.g. clip/subj01/seed0-boot3.
    spec : FitSpec
    device : str
    memory_gib : float, optional
        Memory that the fit may use; None means the free memory.
    """

    group: Group
    out: Path
    folder: str
    spec: FitSpec
    device: str
    memory_gib: float | None


@dataclass(frozen=True)
class Plan:
    """The runs, sorted by cache and subject, and the names of the pairs that do not belong together."""

    tasks: tuple[Task, ...]
    left_out: tuple[str, ...]


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Parse numbers and ranges such as '3', '0-4' or '0,2,7-9', and return the numbers in the given order.

    Parameters
    ----------
    text : str
    option : str
        Name of the option, for the error message.

    Raises
    ------
    SpecError
        If the text has another form, a range is descending, or a number occurs twice.
    """
    values: list[int] = []
    for part in text.split(","):
        low, dash, high = (side.strip() for side in part.partition("-"))
        high = high if dash else low
        digits = low.isdecimal() and high.isdecimal() and max(len(low), len(high)) < MAX_DIGITS
        if not digits or not 0 <= int(high) - int(low) < MAX_NUMBERS or len(values) > MAX_NUMBERS:
            values = []
            break
        values += range(int(low), int(high) + 1)
    if not values or len(set(values)) < len(values):
        raise SpecError(
            option,
            expected="numbers, or ranges from low to high, each number once, e.g. 0-4 or 0,2,7",
            got=repr(text),
            fix="Correct the option.",
        )
    return tuple(values)


def make_plan(
    caches: Sequence[str | Path],
    datasets: Sequence[str],
    out: Path,
    spec: FitSpec,
    fits: Sequence[tuple[int, int | None]],
    *,
    device: str,
    memory_gib: float | None,
    halves: bool = False,
) -> Plan:
    """Open all caches and datasets, and plan the runs of every pair that belongs together: `fits` are seeds and
    bootstraps; with `halves`, there are also fits of both halves of the training images of every seed.

    A subject belongs to the caches that contain all its images. Other pairs are left out, because subjects usually see
    different images. A cache or a subject without any partner is an error.

    Raises
    ------
    BddnError
        If a cache, a dataset or a run in `out` is invalid.
    """
    if not (caches and datasets and fits):
        raise SpecError(
            "fit-many",
            expected="at least one cache, dataset, seed and bootstrap",
            got=f"{len(caches)} caches, {len(datasets)} datasets, and {len(fits)} pairs of seed and bootstrap",
            fix="Give at least one of each.",
        )
    for field, option in ASKED_FOR.items():
        if (value := getattr(spec, field)) is not None:
            raise SpecError(
                "settings of the fits",
                expected=f"no '{field}', which differs between the fits",
                got=f"{field}: {value}",
                fix=f"Remove it. {option} of 'bddn fit-many' asks for such fits; 'bddn ensemble' always resamples.",
            )
    stores = [(str(place), Cache(place)) for place in caches]
    subjects = [(name, _checked(open_dataset(name))) for name in datasets]
    groups, left_out = _pairs(stores, subjects, spec)
    named: dict[str, dict[str, int | None]] = {}
    for seed, bootstrap in fits:
        name = f"seed{seed}" + ("" if bootstrap is None else f"-boot{bootstrap}")
        named[name] = {"seed": seed, "bootstrap": bootstrap, "half": None}
    for seed, half in product(dict.fromkeys(seed for seed, _ in fits), (0, 1) if halves else ()):
        named[f"seed{seed}-half{half}"] = {"seed": seed, "bootstrap": None, "half": half}
    tasks = tuple(
        Task(
            group,
            out,
            f"{parent}/{name}",
            FitSpec.parse(spec.to_dict() | own, "fit-many"),
            device,
            memory_gib,
        )
        for parent, group in groups.items()
        for name, own in named.items()
    )
    return Plan(tasks, tuple(left_out))


def finished(out: Path, tasks: Iterable[Task], exclude: Container[str] = ()) -> Iterator[tuple[str, Run]]:
    """Yield the folders and runs in `out`, including those of other seeds or caches; skip the folders in `exclude`.

    Raises
    ------
    RunError
        If a run is damaged, or its settings, cache or stimuli differ from the plan. Responses and images are compared
        later, when a run of the same cache and subject is fitted.
    """
    tasks = list(tasks)
    groups = {task.folder.rpartition("/")[0]: task.group for task in tasks}
    wanted = {"fit": _shared(tasks[0].spec.to_dict())}
    for path in sorted(out.glob("*/*/*/run.json")):
        folder = path.parent.relative_to(out).as_posix()
        if folder in exclude:
            continue
        try:
            run = read_run(path.parent)
            about = run.about
            stored: dict[str, Any] = {"fit": _shared(about["fit"]), "cache": {"digest": about["cache"]["digest"]}}
            stored["data"] = {"stimuli_sha256": about["data"].get("stimuli_sha256")}
        except (RunError, KeyError, ValueError, AttributeError) as error:
            got = error.got if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
            fix = "Delete this folder, then run the same command again."
            raise RunError(path.parent, expected="a complete run", got=got, fix=fix) from error
        group = groups.get(folder.rpartition("/")[0])
        of_group = (
            {}
            if group is None
            else {"cache": {"digest": group.cache_digest}, "data": {"stimuli_sha256": group.ids_digest}}
        )
        differences = Identity(stored).only("fit", *of_group).differences(Identity(wanted | of_group))
        if differences:
            raise RunError(
                path.parent,
                expected=f"all runs in '{out}' with the same settings and caches",
                got=f"a run that differs in: {'; '.join(differences)}",
                fix="Nothing was written. Give another --out.",
            )
        yield folder, run


def _shared(fit: dict[str, object]) -> dict[str, object]:
    return {field: value for field, value in fit.items() if field not in (*VARIED, "half")}


def _checked(dataset: Dataset) -> Dataset:
    """Read the voxels and one response of a dataset to check it, and return it."""
    dataset.voxels()
    dataset.responses(np.arange(1))
    return dataset


def _pairs(
    stores: Sequence[tuple[str, Cache]], subjects: Sequence[tuple[str, Dataset]], spec: FitSpec
) -> tuple[dict[str, Group], list[str]]:
    """Return the groups by the folder of their runs, and the names of pairs that do not belong together."""
    groups: dict[str, Group] = {}
    lacking: dict[tuple[str, str], MismatchError] = {}
    for (place, store), (data, dataset) in product(stores, subjects):
        layers, ids = store.select_layers(spec.layers), dataset.stimuli.ids
        try:
            Streamed(store, layers, ids)
        except MismatchError as error:
            lacking[place, data] = error
            continue
        split_of(spec, ids, store)
        group = Group(place, data, store.digest, digest(list(ids)), tuple(layer.name for layer in layers))
        folder = f"{store.name}/{subject_name(data)}"
        if folder in groups:
            other = groups[folder]
            raise SpecError(
                "fit-many",
                expected="caches and subjects with different names, each given once",
                got=f"'{other.cache}' with '{other.data}' and '{place}' with '{data}', both for the folder {folder}/",
                fix="Give each only once, rename one of them, or give each its own --out.",
            )
        groups[folder] = group
    for where, names in enumerate(([place for place, _ in stores], [data for data, _ in subjects])):
        for name in names:
            alone = [error for pair, error in lacking.items() if pair[where] == name]
            if len(alone) == len((subjects, stores)[where]):
                raise alone[0]
    return groups, [f"{place} × {data}" for place, data in lacking]


def subject_name(data: str) -> str:
    """Return the name of the folder of a dataset's runs: the last part of its path, also for '.' or 'a/..'. Files that
    describe data are often called alike, so the name of their folder comes first. Links are not followed."""
    path = Path(abspath(expand_home(data.partition(":")[2])))  # noqa: PTH100 - Path.resolve would follow links
    return f"{path.parent.name}-{path.stem}" if path.suffix in (".yaml", ".yml") else path.name
