"""Measured and predicted responses to the test images of a run, for all statistics that need single images.

The folder `score/` of a run keeps them in `responses.npy`, float32 (2, M, N): measured and predicted; a row per test
image, in the order of the run's `split.json`; a column per voxel, in the order of `voxels.parquet`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bddn.data import Dataset
from bddn.encoder import checkpoint
from bddn.encoder.fit import PREDICT_IMAGES
from bddn.errors import RunError
from bddn.evaluation.matching import cache_of_run, check_responses_of, dataset_of_run, parts_of_run
from bddn.files import atomic
from bddn.files.checksum import file_sha256
from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.progress import progress
from bddn.run.folder import ENCODER, Run, read_split
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed, batches
from bddn.stream.order import pools_in_order

FOLDER, RESPONSES, ABOUT = "score", "responses.npy", "responses.json"


@dataclass(frozen=True)
class HeldOut:
    """Responses to the M test images of a run.

    Attributes
    ----------
    ids : tuple of str, (M,)
        Stimulus ids, in the order of the run's split.
    measured, predicted : array of float32, (M, N)
        In the unit of the data. They may be memory-mapped.
    """

    ids: tuple[str, ...]
    measured: npt.NDArray[np.float32]
    predicted: npt.NDArray[np.float32]


@own_settings()
def predict_held_out(run: Run, caches: Sequence[Cache], datasets: Sequence[Dataset]) -> HeldOut:
    """Predict the responses to the test images of a run, and keep them with the measured ones in its folder `score/`.

    Reads the test images of the cache once, and all responses once, to check that they are the run's.

    Parameters
    ----------
    run : Run
    caches, datasets : sequence
        Those of the run are chosen from them.

    Raises
    ------
    MismatchError
        If the cache or the data of the run is not among them.
    RunError
        If the encoder or the split of the run is missing or damaged.
    """
    cache, dataset = cache_of_run(run, caches), dataset_of_run(run, datasets)
    rows, ids = parts_of_run(run, dataset).test, dataset.stimuli.ids
    model, source = checkpoint.load(run.folder / ENCODER), Streamed(cache, cache.select_layers(run.layers), ids)
    check_responses_of(run, dataset)
    folder, shape = run.folder / FOLDER, (2, len(rows), len(run.voxels))
    row_of = np.full(len(ids), -1)
    row_of[rows] = np.arange(len(rows))

    def write(path: Path) -> None:
        found = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        reading = model.read(PREDICT_IMAGES)
        with torch.no_grad(), single_threaded_kernels(), progress("score", len(rows), "images") as advance:
            for some, features in batches(source, pools_in_order(rows, source.chunk_of), PREDICT_IMAGES):
                at = row_of[some.numpy()]
                found[0, at] = dataset.responses(some.numpy())
                found[1, at] = model.predict(features, reading).numpy()
                advance(len(some))
        found.flush()

    atomic.make_folder(folder)
    (folder / ABOUT).unlink(missing_ok=True)  # without it, the responses are not used
    atomic.replace_file(folder / RESPONSES, write)
    atomic.write_json(folder / ABOUT, _about(run))
    return read_held_out(run)


def read_held_out(run: Run) -> HeldOut:
    """Open the responses that `predict_held_out` kept.

    Raises
    ------
    RunError
        If they are missing, damaged, or belong to another run.
    """
    folder, ids = run.folder / FOLDER, read_split(run)["test"]
    shape = (2, len(ids), len(run.voxels))
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        found = np.load(folder / RESPONSES, mmap_mode="r")
        if about != _about(run):
            raise ValueError("responses of another run")
        if found.shape != shape or found.dtype != np.float32:
            raise ValueError(f"{found.dtype} of shape {found.shape}")
    except (OSError, ValueError) as error:
        raise RunError(
            folder,
            expected=f"{RESPONSES} of this run, float32 of shape {shape}",
            got="a run that was not scored" if isinstance(error, FileNotFoundError) else str(error),
            fix=f"Run 'bddn score {run.folder} --cache CACHE --data DATA'.",
        ) from error
    return HeldOut(tuple(ids), found[0], found[1])


def _about(run: Run) -> dict[str, str]:
    """Return what distinguishes the responses of a run from all others: the digest of its encoder."""
    return {"encoder_sha256": file_sha256(run.folder / ENCODER)}
