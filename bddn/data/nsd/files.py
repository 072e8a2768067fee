"""Where the files of the Natural Scenes Dataset lie, and how a missing one is reported.

Paths are those of the official bucket, relative to the folder of the download (NSD data manual,
cvnlab.slite.page/p/M3ZvPmfgU3).
"""

from pathlib import Path

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.data.buckets import copy_command
from bddn.errors import DataError
from bddn.files.filekind import MISSING, explain

BUCKET = "s3://natural-scenes-dataset"
TERMS_PAGE = "naturalscenesdataset.org"
N_SESSIONS = (40, 40, 32, 30, 40, 32, 40, 30)
"""Number of sessions of subjects 1 to 8."""
VERSIONS = {"b2": "betas_fithrf", "b3": "betas_fithrf_GLMdenoise_RR"}
"""Folders of the versions of betas."""
UNIT = 300
"""Betas that are integers are percent signal change times this; floats are percent signal change."""
DESIGN = Path("nsddata/experiments/nsd/nsd_expdesign.mat")
STIMULI = Path("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")
GROUP_LABELS = Path("nsddata/freesurfer/fsaverage/label")
SYNTHETIC_DESIGN = Path("nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat")
SYNTHETIC_STIMULI = Path("nsddata_stimuli/stimuli/nsdsynthetic")


def betas_folder(subject: int, version: str, space: str = "fsaverage") -> Path:
    """Return the folder of the betas of a subject; `version` is a key of `VERSIONS`."""
    return Path(f"nsddata_betas/ppdata/subj{subject:02d}/{space}/{VERSIONS[version]}")


def betas_files(subject: int, version: str, session: int) -> dict[str, Path]:
    """Return the betas of a session, counted from 1, of both hemispheres of fsaverage."""
    folder = betas_folder(subject, version)
    return {hemi: folder / f"{hemi}.betas_session{session:02d}.mgh" for hemi in HEMISPHERES}


def synthetic_betas_files(subject: int, version: str) -> dict[str, Path]:
    """Return the betas of the NSD-synthetic session."""
    folder = betas_folder(subject, version)
    there = folder.with_name(f"nsdsynthetic{folder.name}")
    return {hemi: there / f"{hemi}.betas_nsdsynthetic.mgh" for hemi in HEMISPHERES}


def synthetic_color_stimuli(subject: int) -> Path:
    """Return the coloured images of NSD-synthetic, which differ between subjects."""
    return SYNTHETIC_STIMULI / f"nsdsynthetic_colorstimuli_subj{subject:02d}.hdf5"


def native_labels(subject: int) -> Path:
    """Return the folder of the labels on the subject's own surface."""
    return Path(f"nsddata/freesurfer/subj{subject:02d}/label")


def how_to_get(*files: Path) -> str:
    """Return the next step for missing files: the official command for the first, and the paths of the others."""
    return f"Accept the terms on {TERMS_PAGE}; then {copy_command(BUCKET, *files)}"


def missing(root: Path, file: Path, what: str) -> DataError:
    """Return the error for a file that is not there; `file` is relative to `root`."""
    got, fix = explain(root / file, "no such file", how_to_get(file), MISSING)
    return DataError(root / file, expected=what, got=got, fix=fix)
