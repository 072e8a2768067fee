"""The responses to the test images of a run that `bddn score` keeps: measured and predicted ones, and their folder.

Reading them must not load torch.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.errors import RunError
from bddn.files.checksum import file_sha256
from bddn.run.folder import ENCODER, VOXELS, Run, read_split
from bddn.stats.scores import means_of_images
from bddn.text import word

FOLDER, RESPONSES, ABOUT = "score", "responses.npy", "responses.json"
ROWS, IMAGE, COVARIATE = "rows.parquet", "image", "covariate_"


@dataclass(frozen=True)
class HeldOut:
    """Responses to the M test images of a run, R rows.

    Attributes
    ----------
    ids : tuple of str, (M,)
        Stimulus ids, in the order of the run's split.
    measured, predicted : array of float32, (R, N)
        In the unit of the data. They may be memory-mapped.
    image_of : array of int, (R,), optional
        If images have several responses: the place of each row's image in `ids`, in increasing order.
    covariates : array of float64, (R, K), optional
        The covariates whose part is out of these responses.
    """

    ids: tuple[str, ...]
    measured: npt.NDArray[np.float32]
    predicted: npt.NDArray[np.float32]
    image_of: npt.NDArray[np.intp] | None = None
    covariates: npt.NDArray[np.float64] | None = None

    def of_images(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the mean over the responses to each image, (M, n), of some columns of all rows, (R, n).

        Models are compared, and images are listed, by these means: rows of one image are not independent.
        """
        if self.image_of is None:
            return rows
        return means_of_images(rows, np.bincount(self.image_of))


def is_scored(run: Run) -> bool:
    """Return whether `bddn score` has kept responses in the folder of a run."""
    return (run.folder / FOLDER / ABOUT).is_file()


def read_held_out(run: Run) -> HeldOut:
    """Open the responses that `predict_held_out` kept.

    Raises
    ------
    RunError
        If they are missing, damaged, or belong to another run.
    """
    folder, ids = run.folder / FOLDER, read_split(run)["test"]
    image_of = covariates = None
    names = [COVARIATE + name for name in run.about["fit"].get("covariates") or ()]
    try:
        if names or run.about["data"].get("n_responses", 0) > run.about["data"].get("n_images", 0):
            table = pd.read_parquet(folder / ROWS)
            image_of, covariates = table[IMAGE].to_numpy(np.intp), table[names].to_numpy(np.float64)
        shape = (2, len(ids) if image_of is None else len(image_of), len(run.voxels))
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        found = np.load(folder / RESPONSES, mmap_mode="r")
        if about != about_responses(run.folder):
            raise ValueError("responses of another run")
        if found.shape != shape or found.dtype != np.float32:
            raise ValueError(f"{found.dtype} of shape {found.shape}")
        if image_of is not None and not np.array_equal(np.unique(image_of), np.arange(len(ids))):
            raise ValueError(f"{ROWS} of other images")
    except (EOFError, OSError, ValueError, KeyError) as error:
        raise RunError(
            folder,
            expected=f"{RESPONSES} of this run, float32, with {len(ids)} images and {len(run.voxels)} voxels",
            got="a run that was not scored" if isinstance(error, FileNotFoundError) else str(error),
            fix=f"Run 'bddn score {word(run.folder)} --cache CACHE --data DATA'.",
        ) from error
    return HeldOut(tuple(ids), found[0], found[1], image_of, covariates if names else None)


def about_responses(folder: Path) -> dict[str, str]:
    """Return what distinguishes the responses of a run from all others: the digest of its encoder; for an ensemble,
    which has several, that of the table with the scores of its prediction."""
    name, file = ("encoder", ENCODER) if (folder / ENCODER).exists() else ("voxels", VOXELS)
    return {f"{name}_sha256": file_sha256(folder / file)}


def about_scored(folder: Path) -> dict[str, str]:
    """Return `about_responses` of a run folder, and the hash of the responses that are kept there."""
    return {**about_responses(folder), "responses_sha256": file_sha256(folder / FOLDER / RESPONSES)}
