"""Write THINGS-fMRI in table format as it lies on disk after the official download, with a few voxels."""

import csv
from collections.abc import Sequence
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd

AFFINE = np.array([[2.0, 0, 0, -40], [0, 2, 0, -60], [0, 0, 2, -20], [0, 0, 0, 1]])


def path(root: Path, what: str, sub: str = "sub-01") -> Path:
    return root / "betas_csv" / f"{sub}_{what}"


def write_responses(file: Path, values: np.ndarray, voxel_id: np.ndarray) -> None:
    """Write responses (voxels, trials) as pandas stores a table whose first column is voxel_id."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # it may be open
    with h5py.File(file, "w") as stored:
        group = stored.create_group("ResponseData")
        group["axis1"] = np.arange(len(values))
        group["block0_values"] = values.astype(np.float64)
        group["block1_items"] = np.array([b"voxel_id"])
        group["block1_values"] = voxel_id[:, None].astype(np.int64)
        labels = group.create_dataset("axis0", (1,), h5py.vlen_dtype(np.uint8))
        labels[0] = np.frombuffer(b"a pickle, never to be opened", np.uint8)


def write_trials(file: Path, rows: Sequence[tuple[str, int, str]]) -> None:
    """Write trial_type, session and stimulus of each trial."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header = ("trial_type", "session", "run", "subject_id", "trial_id", "stimulus", "concept")
    found = [(kind, ses, 1, 1, k, name, name.rsplit("_", 1)[0]) for k, (kind, ses, name) in enumerate(rows)]
    with file.open("w", newline="") as table:
        csv.writer(table).writerows([header, *found])


def write_voxels(file: Path, ijk: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    table = pd.DataFrame({"voxel_id": np.arange(len(ijk)), "subject_id": 1})
    for axis, values in zip("xyz", ijk.T, strict=True):
        table[f"voxel_{axis}"] = values
    table.assign(**columns).to_csv(file, index=False)


def write_mask(root: Path, shape: tuple[int, ...], sub: str = "sub-01") -> None:
    (root / "brainmasks").mkdir()
    image = nibabel.Nifti1Image(np.ones(shape, np.uint8), AFFINE)
    nibabel.save(image, root / "brainmasks" / f"{sub}_space-T1w_brainmask.nii.gz")
