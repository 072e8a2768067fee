"""The identity of a fit: all inputs that determine its result. A dataset is read and hashed for it."""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from bddn import __version__
from bddn.data import Dataset
from bddn.data.covariates import covariate_table
from bddn.data.dataset_check import responses_of
from bddn.data.splits import Split
from bddn.data.trials import has_trials, response_ids
from bddn.errors import MismatchError
from bddn.identity import Identity, digest
from bddn.machine.parallel import n_threads
from bddn.progress import progress
from bddn.run.folder import FORMAT
from bddn.spec import FitSpec
from bddn.store.layout import Layer
from bddn.store.reader import Cache
from bddn.stream.loader import rows_of

HASHED_ROWS = 128  # response rows read together; a row may be of hundreds of thousands of voxels


@dataclass(frozen=True)
class Subject:
    """A dataset that was read and hashed once.

    Attributes
    ----------
    dataset : Dataset
    parts : mapping
        Parts of the identity: hashes of stimulus ids, responses, voxels and positions, and of single trials.
    images : tuple of (str or None)
        SHA-256 of the image file of each row; None if the file is not on this machine.
    pixels : dict of int to str
        `bddn.data.dataset.pixels_sha256` of the rows for which it was needed.
    """

    dataset: Dataset
    parts: Mapping[str, Any]
    images: tuple[str | None, ...]
    pixels: dict[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, dataset: Dataset) -> "Subject":
        """Read every response and every image file of a dataset.

        Raises
        ------
        DataError
            If one of them cannot be read.
        """
        stimuli = dataset.stimuli

        def image(row: int) -> str | None:
            return stimuli.sha256(row) if stimuli.paths[row].exists() else None

        images, n = list[str | None](), len(stimuli)
        with ThreadPoolExecutor(n_threads()) as threads, progress("check", n, "images") as advance:
            for sha256 in threads.map(image, range(n)):
                images.append(sha256)
                advance()
        return cls(dataset, _parts(dataset), tuple(images))

    def of_same_stimuli(self, dataset: Dataset) -> "Subject":
        """Return another dataset of the same stimuli, whose image files are not read again."""
        assert dataset.stimuli == self.dataset.stimuli
        return Subject(dataset, _parts(dataset), self.images, self.pixels)

    def identity(self, store: Cache) -> Identity:
        """Return the parts together with the hashes of the images, which must be the same as in the cache.

        A cache of several datasets has hashes of pixels; they are compared where the file of an image has another hash.
        If an image file is not on this machine, only its stimulus id is compared.

        Raises
        ------
        MismatchError
            If the cache lacks a stimulus id, or has another image with this id.
        """
        stimuli = self.dataset.stimuli
        ids = stimuli.ids
        cached = [store.images[row] for row in rows_of(store, ids)]
        different = [row for row, (a, b) in enumerate(zip(self.images, cached, strict=True)) if a not in (b, None)]
        if different := self._other_pixels(different, cached):
            raise MismatchError(
                stimuli.place(different[0]),
                expected=f"the image of stimulus '{ids[different[0]]}' in cache '{store.files.place}'",
                got=f"another image; {len(different)} of {len(ids)} images differ",
                fix="Check the ids of the images. If they are correct, run 'bddn extract' into a new cache; if files "
                "differ but not their pixels, give it both datasets: --data A --data B.",
            )
        return Identity({**self.parts, "images_sha256": digest(cached)})

    def _other_pixels(self, rows: list[int], cached: Sequence[str]) -> list[int]:
        """Return those of these rows whose pixels are not those in a cache; all of them if those of the first are not,
        because then the cache has no hashes of pixels."""
        stimuli = self.dataset.stimuli
        if not rows or stimuli.pixels_sha256(rows[0]) != cached[rows[0]]:
            return rows
        new = [row for row in rows if row not in self.pixels]
        with ThreadPoolExecutor(n_threads()) as threads, progress("compare", len(new), "images") as advance:
            for row, sha256 in zip(new, threads.map(stimuli.pixels_sha256, new), strict=True):
                self.pixels[row] = sha256
                advance()
        return [row for row in rows if self.pixels[row] != cached[row]]


def _parts(dataset: Dataset) -> dict[str, Any]:
    """Return the parts of the identity of a dataset but its images; every response is read."""
    voxels, truth = dataset.voxels(), dataset.truth()
    return {
        "n_images": len(dataset.stimuli),
        "n_voxels": len(voxels),
        "stimuli_sha256": digest(list(dataset.stimuli.ids)),
        "responses_sha256": hash_responses(dataset),
        "voxels_sha256": _table_sha256(voxels),
        "positions_sha256": hashlib.sha256(np.ascontiguousarray(dataset.coords_mm()).data).hexdigest(),
        "truth_sha256": None if truth is None else _table_sha256(truth),
        **trial_parts(dataset),
    }


def trial_parts(dataset: Dataset) -> dict[str, Any]:
    """Return the parts of the identity that only datasets of single trials, or with covariates, have."""
    found: dict[str, Any] = {}
    if has_trials(dataset):
        ids = response_ids(dataset)
        found |= {"n_responses": len(ids), "response_ids_sha256": digest(list(ids))}
    if (covariates := covariate_table(dataset)) is not None:
        found["covariates_sha256"] = _table_sha256(covariates)
    return found


def hash_responses(dataset: Dataset, visit: Callable[[npt.NDArray[np.float32]], object] = lambda rows: None) -> str:
    """Return the SHA-256 of all responses; call `visit` with each block of rows (n, N) that was read for it."""
    found, n = hashlib.sha256(), len(response_ids(dataset))
    for i in range(0, n, HASHED_ROWS):
        rows = responses_of(dataset, np.arange(i, min(i + HASHED_ROWS, n)))
        found.update(rows.data)
        visit(rows)
    return found.hexdigest()


def fit_identity(
    store: Cache, layers: tuple[Layer, ...], data: Identity, spec: FitSpec, split: Split, device: str
) -> Identity:
    """Return the identity of a fit. Two fits with the same identity give the same run.

    Parameters
    ----------
    store : Cache
    layers : tuple of Layer
        From early to late.
    data : Identity
        The result of `Subject.identity`.
    spec : FitSpec
    split : Split
        It is a part of the identity if a table or tokens group the images; otherwise, settings and ids determine it.
    device : {'cpu', 'cuda'}
    """
    return Identity(
        {
            "format": FORMAT,
            "layers": [layer.name for layer in layers],
            "fit": spec.to_dict(),
            "cache": {"digest": store.digest, **{key: store.header[key] for key in ("spec", "backbone", "made_with")}},
            "data": dict(data.parts),
            **({} if spec.split_by is None else {"split_sha256": digest(split.to_dict())}),
            "environment": environment(device),
        }
    )


def environment(device: str) -> dict[str, Any]:
    """Return versions of the libraries and the machine, which may change the last bits of a fit."""
    return {
        "bddn": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def _table_sha256(table: pd.DataFrame) -> str:
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()
