"""The responses to the test images of a run that `bddn score` keeps: measured and predicted ones, and their folder.

Reading them must not load torch.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.errors import RunError
from bddn.files.checksum import file_sha256
from bddn.run.folder import ENCODER, VOXELS, Run, read_split

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
    shape = (2, len(ids), len(run.voxels))
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        found = np.load(folder / RESPONSES, mmap_mode="r")
        if about != about_responses(run.folder):
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


def about_responses(folder: Path) -> dict[str, str]:
    """Return what distinguishes the responses of a run from all others: the digest of its encoder; for an ensemble,
    which has several, that of the table with the scores of its prediction."""
    name, file = ("encoder", ENCODER) if (folder / ENCODER).exists() else ("voxels", VOXELS)
    return {f"{name}_sha256": file_sha256(folder / file)}
