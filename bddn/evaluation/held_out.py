"""Measured and predicted responses to the test images of a run, for all statistics that need single images.

The folder `score/` of a run keeps them in `responses.npy`, float32 (2, R, N): measured and predicted; a row per test
image, in the order of the run's `split.json`; a column per voxel, in the order of `voxels.parquet`. If images have
several responses, each has its row, image by image, and `rows.parquet` says which image it is of. If the fit took the
part of covariates out of the responses, it is out of these too, and `rows.parquet` has the covariates.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from bddn.data import Dataset
from bddn.data.covariates import WithoutCovariates
from bddn.data.trials import response_ids
from bddn.encoder.brain_score import PREDICT_IMAGES
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.parts import Parts
from bddn.evaluation.kept_responses import (
    ABOUT,
    COVARIATE,
    FOLDER,
    IMAGE,
    RESPONSES,
    ROWS,
    HeldOut,
    about_responses,
    read_held_out,
)
from bddn.evaluation.matching import cache_of_run, check_responses_of, dataset_of_run, parts_of_run
from bddn.files import atomic
from bddn.files.mapped import new_array
from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.progress import progress
from bddn.run.covariate_file import without_covariates
from bddn.run.encoders import load_encoders
from bddn.run.folder import Run
from bddn.store.reader import Cache
from bddn.stream.loader import Source, Streamed, batches
from bddn.stream.order import pools_in_order


@own_settings()
def predict_held_out(run: Run, caches: Sequence[Cache], datasets: Sequence[Dataset]) -> HeldOut:
    """Predict the responses to the test images of a run, and keep them with the measured ones in its folder `score/`.

    Reads the test images of the cache once, and all responses once, to check that they are the run's. The prediction of
    an ensemble is the mean over its fits.

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
        If an encoder or the split of the run is missing or damaged.
    """
    cache, dataset = cache_of_run(run, caches), dataset_of_run(run, datasets)
    parts, folder = parts_of_run(run, dataset), run.folder / FOLDER
    check_responses_of(run, dataset)
    dataset = without_covariates(run, dataset)
    encoders, layers = load_encoders(run), cache.select_layers(run.layers)
    source = Streamed(cache, layers, response_ids(dataset))
    atomic.make_folder(folder)
    (folder / ABOUT).unlink(missing_ok=True)  # without it, the responses are not used
    write_responses(folder, encoders, source, dataset, parts)
    atomic.write_json(folder / ABOUT, about_responses(run.folder))
    return read_held_out(run)


def write_responses(
    folder: Path, encoders: Sequence[FactorTopy], source: Source, dataset: Dataset, parts: Parts
) -> npt.NDArray[np.float32]:
    """Write measured responses to the test images, and the mean of the predictions of some encoders.

    All encoders predict a batch before the next one is read, so the tokens are read once.

    Returns
    -------
    array of float32, (2, R, N)
        Measured and predicted responses, memory-mapped.
    """
    rows = parts.test
    row_of = np.full(len(source.chunk_of), -1)
    row_of[rows] = np.arange(len(rows))

    def write(path: Path) -> None:
        shape = (2, len(rows), len(encoders[0].bias))
        found = new_array(path, shape)
        readings = [encoder.read(PREDICT_IMAGES) for encoder in encoders]
        with torch.no_grad(), single_threaded_kernels(), progress("score", len(rows), "images") as advance:
            for some, features in batches(source, pools_in_order(rows, source.chunk_of), PREDICT_IMAGES):
                at, total = row_of[some.numpy()], torch.zeros(len(some), shape[2], dtype=torch.float64)
                for encoder, reading in zip(encoders, readings, strict=True):
                    total += encoder.predict(features, reading)
                found[0, at] = dataset.responses(some.numpy())
                found[1, at] = (total / len(encoders)).numpy()
                advance(len(some))
        found.flush()

    atomic.replace_file(folder / RESPONSES, write)
    table = pd.DataFrame({IMAGE: parts.images(rows)})
    if isinstance(dataset, WithoutCovariates):
        names = [COVARIATE + name for name in dataset.effects.names]
        table = table.join(pd.DataFrame(dataset.values[rows], columns=names))
    if parts.image_of is not None or isinstance(dataset, WithoutCovariates):
        atomic.write_table(folder / ROWS, table)
    return np.asarray(np.load(folder / RESPONSES, mmap_mode="r"))
