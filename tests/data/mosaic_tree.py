"""Write a file of MOSAIC as it lies on disk after the official download, with a few grayordinates."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
from nibabel.gifti import gifti

from bddn.cortex.fsaverage import HEMISPHERES, sphere
from bddn.planted.subject import Planted
from data.own_trees import STRUCTURES

AXES: Any = nibabel.cifti2
Trial = tuple[str, str, int, np.ndarray]
"""Name of the file of the image, phase, repetition, and betas (grayordinates,)."""


def models(vertex: Mapping[str, np.ndarray], n_mesh: int, below: bool = True) -> Any:
    """The brain models of vertices of each hemisphere, with two voxels below the cortex between them, or without."""
    left, right = (
        AXES.BrainModelAxis.from_surface(vertex[hemi], n_mesh, name=structure)
        for hemi, structure in zip(HEMISPHERES, STRUCTURES, strict=True)
    )
    voxel = np.array([[1, 1, 1], [1, 1, 2]])
    name = "CIFTI_STRUCTURE_THALAMUS_LEFT"
    inside = AXES.BrainModelAxis(name, voxel=voxel, affine=np.eye(4), volume_shape=(4, 4, 4))
    return left + inside + right if below else left + right


def write_cifti(path: Path, of: Any) -> None:
    values = np.zeros((1, len(of)), np.float32)
    nibabel.save(AXES.Cifti2Image(values, (AXES.ScalarAxis(["any"]), of)), path)


def sphere_path(folder: Path, hemi: str) -> Path:
    side = {"lh": "L", "rh": "R"}[hemi]
    return folder / f"fs_LR-deformed_to-fsaverage.{side}.sphere.32k_fs_LR.surf.gii"


def write_trials(
    path: Path, dataset: str, trials: Sequence[Trial], filled: Mapping[int, Sequence[int]], without: str = ""
) -> None:
    """Write single trials, of which some have filled grayordinates; one may lack the name of its image."""
    path.unlink(missing_ok=True)  # it may be open
    with h5py.File(path, "w") as file:
        file.attrs["dataset_name"], file.attrs["subjectID"] = dataset, "sub-01"
        for k, (image, phase, rep, values) in enumerate(trials):
            name = f"betas/sub-01_NSD_stimulus-{Path(image).stem}_phase-{phase}_rep-{rep}"
            found = file.create_dataset(name, data=values, track_order=True)
            about = {"phase": phase, "repetition": rep, "nan_indices": np.array(filled.get(k, []), int)}
            shown = {} if without and without in name else {"presented_stimulus_filename": image}
            found.attrs.update({**about, **shown})


def write_ceilings(path: Path, per_cent: np.ndarray) -> None:
    """Write noise ceilings; those of single trials of the test set are the given ones."""
    with h5py.File(path, "r+") as file:
        for n, values in (("avg", np.full(len(per_cent), 90.0)), ("1", per_cent)):
            for phase, factor in (("train", 0.5), ("test", 1)):
                file[f"noiseceilings/sub-01_NSD_phase-{phase}_n-{n}_noiseceiling"] = factor * values


def planted(brain: Planted, folder: Path) -> str:
    """Write a planted brain; vertex k of each hemisphere lies where its k-th planted vertex is on fsaverage."""
    table, responses = brain.voxels(), brain.responses()
    mine = {hemi: np.flatnonzero(table["hemi"] == hemi) for hemi in HEMISPHERES}
    n = max(map(len, mine.values()))
    (folder / "spheres").mkdir(parents=True)
    for hemi, rows in mine.items():
        spare = sphere()[0][-n:]  # for vertices that are no voxels
        points = np.concatenate([sphere()[0][table["vertex"].to_numpy()[rows]], spare[: n - len(rows)]])
        arrays = [
            gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
            gifti.GiftiDataArray(np.array([[0, 1, 2]], np.int32), intent="NIFTI_INTENT_TRIANGLE"),
        ]
        nibabel.save(gifti.GiftiImage(darrays=arrays), sphere_path(folder / "spheres", hemi))
    write_cifti(folder / "any.dscalar.nii", models({hemi: np.arange(len(rows)) for hemi, rows in mine.items()}, n))
    (folder / "stimuli").mkdir()
    trials: list[Trial] = []
    for k, (name, path) in enumerate(zip(brain.stimuli.ids, brain.stimuli.paths, strict=True)):
        shutil.copy(path, folder / "stimuli" / name)
        for rep, sign in enumerate((1, -1)):
            values = responses[k] + 0.01 * sign
            trials.append((name, "train", rep, np.concatenate([values[mine["lh"]], [9, 9], values[mine["rh"]]])))
    write_trials(folder / "sub-01_NSD.hdf5", "NaturalScenesDataset", trials, {})
    files = f"cifti={folder / 'any.dscalar.nii'},spheres={folder / 'spheres'}"
    return f"mosaic:{folder / 'sub-01_NSD.hdf5'},{files}"
