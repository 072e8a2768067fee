"""What decides the result of a fit: the parts of its identity, and the reading of a dataset that they need."""

import hashlib
import platform
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch

from bddn import __version__
from bddn.data import Dataset
from bddn.errors import MismatchError
from bddn.identity import Identity, digest
from bddn.machine.parallel import n_threads
from bddn.progress import progress
from bddn.run.folder import FORMAT
from bddn.spec import FitSpec
from bddn.store.layout import Layer
from bddn.store.reader import Cache
from bddn.stream.loader import rows_of

HASHED_ROWS = 1024


@dataclass(frozen=True)
class Subject:
    """What a dataset gives to a fit, read and hashed once.

    Attributes
    ----------
    dataset : Dataset
    parts : mapping
        Parts of the identity: which response belongs to which stimulus, and where the voxels are.
    images : tuple of (str or None)
        By row, the SHA-256 of the image's file; None where the file is not on this machine.
    """

    dataset: Dataset
    parts: Mapping[str, Any]
    images: tuple[str | None, ...]

    @classmethod
    def read(cls, dataset: Dataset) -> "Subject":
        """Read every response and every image file of a dataset.

        Raises
        ------
        DataError
            Where one of them cannot be read.
        """
        stimuli, voxels, truth = dataset.stimuli, dataset.voxels(), dataset.truth()

        def image(row: int) -> str | None:
            return stimuli.sha256(row) if stimuli.paths[row].exists() else None

        images, responses, n = list[str | None](), hashlib.sha256(), len(stimuli)
        with ThreadPoolExecutor(n_threads()) as threads, progress("check", n, "images") as advance:
            for found in threads.map(image, range(n)):
                images.append(found)
                advance()
        for at in range(0, n, HASHED_ROWS):
            responses.update(dataset.responses(np.arange(at, min(at + HASHED_ROWS, n))).data)
        parts = {
            "n_images": n,
            "n_voxels": len(voxels),
            "stimuli_sha256": digest(list(stimuli.ids)),
            "responses_sha256": responses.hexdigest(),
            "voxels_sha256": _table_sha256(voxels),
            "positions_sha256": hashlib.sha256(np.ascontiguousarray(dataset.coords_mm()).data).hexdigest(),
            "truth_sha256": None if truth is None else _table_sha256(truth),
        }
        return cls(dataset, parts, tuple(images))

    def identity(self, store: Cache) -> Identity:
        """The parts with the hashes of the images, which must be those in the cache. Where image files are not on this
        machine, stimulus ids alone are compared.

        Raises
        ------
        MismatchError
            Where the cache has another image under the id of a stimulus, or none.
        """
        ids, paths = self.dataset.stimuli.ids, self.dataset.stimuli.paths
        cached = [store.images[row] for row in rows_of(store, ids)]
        others = [row for row, (a, b) in enumerate(zip(self.images, cached, strict=True)) if a not in (b, None)]
        if others:
            raise MismatchError(
                paths[others[0]],
                expected=f"the image that cache '{store.files.place}' has as stimulus '{ids[others[0]]}'",
                got=f"another image; {len(others)} of {len(ids)} images differ",
                fix="Check which image has which id. If they are right, run 'bddn extract' into a new cache.",
            )
        return Identity({**self.parts, "images_sha256": digest(cached)})


def fit_identity(store: Cache, layers: tuple[Layer, ...], data: Identity, spec: FitSpec, device: str) -> Identity:
    """What decides the result of a fit; two fits with the same identity give the same run.

    Parameters
    ----------
    store : Cache
    layers : tuple of Layer
        Early to late.
    data : Identity
        From `Subject.identity`.
    spec : FitSpec
    device : {'cpu', 'cuda'}
    """
    return Identity(
        {
            "format": FORMAT,
            "layers": [layer.name for layer in layers],
            "fit": spec.to_dict(),
            "cache": {"digest": store.digest, **{key: store.header[key] for key in ("spec", "backbone", "made_with")}},
            "data": dict(data.parts),
            "environment": environment(device),
        }
    )


def environment(device: str) -> dict[str, Any]:
    """Versions and machine, which may change the last bits of a fit."""
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
