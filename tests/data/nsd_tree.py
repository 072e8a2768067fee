"""Write the Natural Scenes Dataset as it lies on disk after the official download: true names, shapes and dtypes.

Files of betas have all 163,842 vertices, but only the given ones take space on disk.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader, MGHImage
from scipy.io import savemat

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES

SESSIONS, IMAGES, SHARED = 40, 10_000, 1000
B3 = "betas_fithrf_GLMdenoise_RR"


def write_mgh(path: Path, vertices: np.ndarray, values: np.ndarray, dtype: str = ">f4", n: int = N_VERTICES) -> None:
    """Write values (frames, vertices) at some of `n` vertices; the others are 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = MGHHeader()
    header.set_data_shape((n, 1, 1, len(values)))
    header.set_data_dtype(np.dtype(dtype))
    start = header.get_data_offset()
    with path.open("wb") as file:
        file.write(header.binaryblock[:start])
        file.truncate(start + len(values) * n * np.dtype(dtype).itemsize)
    stored = np.memmap(path, dtype, "r+", start, (len(values), n))
    for row, frame in enumerate(values):
        stored[row, vertices] = frame
    stored.flush()


def write_labels(path: Path, labels: Mapping[int, float], n: int = N_VERTICES) -> None:
    """Write labels of vertices as a .mgz; the others are 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((n, 1, 1), np.float32)
    values[list(labels), 0, 0] = list(labels.values())
    nibabel.save(MGHImage(values, np.eye(4)), path)


def subject_images(seed: int = 0) -> np.ndarray:
    """The numbers from 1 of the images of eight subjects, (8, 10000): 1,000 that all share, and 9,000 of their own."""
    numbers = np.random.default_rng(seed).permutation(73_000) + 1
    shared, own = np.sort(numbers[:SHARED]), numbers[SHARED:].reshape(8, IMAGES - SHARED)
    return np.concatenate([np.tile(shared, (8, 1)), own], axis=1)


def write_design(root: Path, order: np.ndarray, images: np.ndarray) -> None:
    """Write the design; `order` counts from 1, 40 sessions of equal length."""
    path = root / "nsddata/experiments/nsd/nsd_expdesign.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        "masterordering": order[None].astype(np.uint16),
        "subjectim": images.astype(np.float64),
        "sharedix": images[:1, :SHARED].astype(np.float64),
        "basiccnt": np.zeros((3, SESSIONS)),
    }
    savemat(path, arrays)


def write_images(path: Path, n: int, images: Mapping[int, np.ndarray]) -> None:
    """Write some of `n` images (H, W, 3), by their numbers from 0; the others take no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = next(iter(images.values())).shape
    with h5py.File(path, "w") as file:
        brick = file.create_dataset("imgBrick", (n, *shape), np.uint8, chunks=(1, *shape))
        for number, image in images.items():
            brick[number] = image


def betas_path(root: Path, hemi: str, session: int, subject: int = 1, version: str = B3) -> Path:
    return root / f"nsddata_betas/ppdata/subj{subject:02d}/fsaverage/{version}/{hemi}.betas_session{session:02d}.mgh"


def label_path(root: Path, hemi: str, atlas: str) -> Path:
    return root / f"nsddata/freesurfer/fsaverage/label/{hemi}.{atlas}.mgz"


def stimuli_path(root: Path) -> Path:
    return root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


def write_mask(root: Path, vertices: Mapping[str, np.ndarray]) -> None:
    for hemi in HEMISPHERES:
        write_labels(label_path(root, hemi, "nsdgeneral"), dict.fromkeys(vertices[hemi].tolist(), 1))


def write_session(
    root: Path, session: int, vertices: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray], **options: Any
) -> None:
    """Write the betas of a session: values (trials, vertices) of each hemisphere."""
    for hemi in HEMISPHERES:
        write_mgh(betas_path(root, hemi, session), vertices[hemi], values[hemi], **options)


def write_ncsnr(root: Path, subject: int, values: Sequence[np.ndarray]) -> None:
    """Write the ncsnr (163842,) of both hemispheres."""
    for hemi, of_hemi in zip(HEMISPHERES, values, strict=True):
        path = betas_path(root, hemi, 1, subject).with_name(f"{hemi}.ncsnr.mgh")
        write_mgh(path, np.arange(len(of_hemi)), of_hemi[None], n=len(of_hemi))
