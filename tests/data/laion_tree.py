"""Write LAION-fMRI as it lies on disk after the official download: true names and dtypes, in a small volume."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import nibabel
import nibabel.freesurfer
import numpy as np

from bddn.cortex.fsaverage import HEMISPHERES, sphere
from bddn.planted.subject import Planted
from data.own_trees import write_gifti

FREESURFER: Any = nibabel.freesurfer
AFFINE = np.array([[1.778, 0, 0, -20], [0, 1.778, 0, -12], [0, 0, 1.778, -6], [0, 0, 0, 1]])


def folder(root: Path, sub: str) -> Path:
    return root / "derivatives/glmsingle-tedana" / sub


def betas_path(root: Path, sub: str, session: int) -> Path:
    ses = f"ses-{session:02d}"
    name = f"{sub}_{ses}_task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
    return folder(root, sub) / ses / "func" / name


def trials_path(root: Path, sub: str, session: int) -> Path:
    ses = f"ses-{session:02d}"
    return folder(root, sub) / ses / "func" / f"{sub}_{ses}_task-images_desc-SingletrialBetas_trials.tsv"


def map_path(root: Path, sub: str, what: str) -> Path:
    return folder(root, sub) / f"{sub}_task-images_space-T1w_{what}.nii.gz"


def roi_path(root: Path, sub: str, group: str, label: str, hemi: str = "") -> Path:
    side = f"hemi-{hemi}_" if hemi else ""
    return root / "derivatives/rois" / sub / group / f"{sub}_{side}space-T1w_res-1pt8_label-{label}_mask.nii.gz"


def surface_roi_path(root: Path, sub: str, group: str, label: str, hemi: str) -> Path:
    there = root / "derivatives/rois" / sub / group
    return there / f"{sub}_hemi-{hemi}_space-fsnative_label-{label}_mask.func.gii"


def write_volume(path: Path, values: np.ndarray, slope: float | None = None, affine: np.ndarray = AFFINE) -> None:
    """Write a volume; with a slope, values are stored as they are and mean slope times that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    nibabel.save(image, path)


def write_trials(path: Path, session: int, labels: Sequence[str], first: int = 0) -> None:
    """Write trials.tsv; rows are not in the order of the volumes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(session).permutation(len(labels))
    lines = [f"ses-{session:02d}\t{1 + k // 4}\t{first + k}\t{labels[k]}" for k in order]
    path.write_text("\n".join(["session\trun\tbeta_index\tlabel", *lines]) + "\n")


def write_images(root: Path, images: Mapping[str, bytes]) -> None:
    """Write images, and others of other subjects before them, with the table of both."""
    path = root / "stimuli/task-images_stimuli.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["unique_LAION_cluster_0_i0_p09.jpg", *images]
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("images", (len(names),), h5py.vlen_dtype(np.uint8))
        for k, name in enumerate(names):
            stored[k] = np.frombuffer(images.get(name, b"other"), np.uint8)
    with path.with_name("task-images_metadata.csv").open("w", newline="") as table:
        rows = [(name, "LAION-natural", "shared", "shared", "12rep") for name in names]
        csv.writer(table).writerows([("image_name", "dataset", "participant", "unique_or_shared", "n_reps"), *rows])


def write_surfaces(
    root: Path, sub: str, middle: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray], faces: np.ndarray
) -> None:
    """Write the FreeSurfer folder: the middle of the cortex in scanner coordinates, whose volume is not centred."""
    there = root / "derivatives/freesurfer" / sub / "surf"
    there.mkdir(parents=True, exist_ok=True)
    offset = np.array([3.0, -5.0, 4.0])
    about = {
        "head": np.array([2, 0, 20], np.int32),
        "valid": "1  # volume info valid",
        "filename": "../mri/filled.mgz",
        "volume": np.array([256, 256, 256]),
        "voxelsize": np.ones(3),
        "xras": np.array([-1.0, 0, 0]),
        "yras": np.array([0, 0, -1.0]),
        "zras": np.array([0, 1.0, 0]),
        "cras": offset,
    }
    for hemi, points in middle.items():
        for name, shift in (("white", -0.4), ("pial", 0.4)):
            FREESURFER.write_geometry(there / f"{hemi}.{name}", points - offset + shift, faces, volume_info=about)
        FREESURFER.write_geometry(there / f"{hemi}.sphere.reg", at[hemi], faces, volume_info=about)


def write_surface_roi(path: Path, inside: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gifti(path, [inside.astype(np.float32)], "lh" if "hemi-L" in path.name else "rh")


def write_split(path: Path, train: Sequence[str], test: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    variant = {"variant_id": 0, "train_ids": [*train], "test_ids": [*test]}
    path.write_text(json.dumps({"name": path.stem, "splitter": "any", "variants": [variant]}))


def planted(brain: Planted, folder: Path) -> str:
    """Write a planted brain as sub-01, whose sessions 1 and 3 show each image once, in other orders and units.

    Each voxel lies at a vertex of the subject's surface, whose place on fsaverage is that of the planted vertex.
    """
    table, responses = brain.voxels(), brain.responses()
    n, ids = len(table), list(brain.stimuli.ids)
    shape = (2 * 11, 11, 1 + n // 50)
    left = (table["hemi"] == "lh").to_numpy()
    grid = np.argwhere(np.ones((10, *shape[1:])))
    ijk = np.zeros((n, 3), int)
    for mask, start in ((left, 0), (~left, 12)):
        ijk[mask] = grid[: mask.sum()] + np.array([start, 0, 0])
    at = tuple(ijk.T)
    for session, gain in ((1, 1.0), (3, 4.0)):
        order = np.random.default_rng(session).permutation(len(ids))
        values = np.full((*shape, len(ids)), 7, np.float32)
        values[at] = gain * responses[order].T + session
        write_volume(betas_path(folder, "sub-01", session), values)
        write_trials(trials_path(folder, "sub-01", session), session, [ids[k] for k in order])
    middle, places = {}, {}
    inside = np.arange(n) % 2 == 0
    mask = np.zeros(shape, np.uint8)
    mask[at] = 1
    write_volume(roi_path(folder, "sub-01", "laion", "laiongeneral"), mask)
    mask[at] = inside
    write_volume(roi_path(folder, "sub-01", "retinotopy", "V1v"), mask)
    for hemi, side in zip(HEMISPHERES, "LR", strict=True):
        mine = (table["hemi"] == hemi).to_numpy()
        middle[hemi] = ijk[mine] @ AFFINE[:3, :3].T + AFFINE[:3, 3]
        places[hemi] = sphere()[0][table.loc[mine, "vertex"]]
        write_surface_roi(surface_roi_path(folder, "sub-01", "retinotopy", "V1v", side), inside[mine])
        faces = np.repeat(np.arange(mine.sum(), dtype=np.int32)[:, None], 3, 1)  # no vertex has a neighbour
        write_surfaces(folder, "sub-01", {hemi: middle[hemi]}, {hemi: places[hemi]}, faces)
    write_images(folder, {name: path.read_bytes() for name, path in zip(ids, brain.stimuli.paths, strict=True)})
    return f"laion:{folder},subject=01,place=fsaverage"
