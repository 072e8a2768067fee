"""Find the cache and the data of a run among those that the user gave, and check that they are the run's."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.data import Dataset
from bddn.data.splits import Split
from bddn.data.trials import response_ids
from bddn.encoder.parts import Parts
from bddn.errors import MismatchError
from bddn.identity import digest
from bddn.run.folder import Run, read_split
from bddn.run.inputs import hash_responses, trial_parts
from bddn.run.together import check_split
from bddn.store.reader import Cache

Visit = Callable[[npt.NDArray[np.float32]], object]


def cache_of_run(run: Run, caches: Sequence[Cache]) -> Cache:
    """Return the cache that a run was fitted to.

    Raises
    ------
    MismatchError
        If it is not among them.
    """
    fitted = run.about["cache"]["digest"]
    for cache in caches:
        if cache.digest == fitted:
            return cache
    raise MismatchError(
        ", ".join(f"cache '{cache.files.place}'" for cache in caches) or "--cache",
        expected=f"the cache of run '{run.folder}', with digest {fitted[:16]}",
        got=f"another cache, with digest {caches[0].digest[:16]}" if len(caches) == 1 else f"{len(caches)} others",
        fix="Give the --cache that the run was fitted to.",
    )


def dataset_of_run(run: Run, datasets: Sequence[Dataset]) -> Dataset:
    """Return the dataset with the stimuli and the number of voxels of a run. Its responses are compared when they are
    read; see `check_responses_of`.

    Raises
    ------
    MismatchError
        If it is not among them.
    """
    for dataset in datasets[:-1]:
        if not _differing(run, _quick(dataset)):
            return dataset
    _refuse(run, datasets[-1], _quick(datasets[-1]))
    return datasets[-1]


def check_responses_of(run: Run, dataset: Dataset, visit: Visit = lambda rows: None) -> None:
    """Read all responses, and check that they are those of the run; call `visit` with each block of rows (n, N).

    Raises
    ------
    MismatchError
    """
    _refuse(run, dataset, {"responses_sha256": hash_responses(dataset, visit)})


def parts_of_run(run: Run, dataset: Dataset) -> Parts:
    """Return the response rows of the training, validation and test images of a run.

    Raises
    ------
    RunError
        If the run's `split.json` is missing, damaged or another run's.
    """
    split = Split.of(read_split(run))
    check_split(run.folder, run.about, split)
    return Parts.of(split, response_ids(dataset))


def _quick(dataset: Dataset) -> dict[str, Any]:
    """Return the parts of the identity that need no responses."""
    trials = {"response_ids_sha256": None, "covariates_sha256": None} | trial_parts(dataset)
    return {"stimuli_sha256": digest(list(dataset.stimuli.ids)), "n_voxels": len(dataset.voxels()), **trials}


def _differing(run: Run, found: dict[str, Any]) -> list[str]:
    fitted = run.about["data"]
    return [name.removesuffix("_sha256") for name, value in found.items() if fitted.get(name) != value]


def _refuse(run: Run, dataset: Dataset, found: dict[str, Any]) -> None:
    if different := _differing(run, found):
        raise MismatchError(
            dataset.name,
            expected=f"the data of run '{run.folder}'",
            got=f"data with other {' and '.join(different)}".replace("n_voxels", "numbers of voxels").replace(
                "response_ids", "images of the responses"
            ),
            fix="Give the --data that the run was fitted to.",
        )
