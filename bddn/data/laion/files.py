"""Where the files of LAION-fMRI lie, and how a missing one is reported.

Paths are those of the official bucket and of the package `laion_fmri` (github.com/ViCCo-Group/LAION-fMRI), relative to
the folder of the download.
"""

from pathlib import Path

from bddn.data.buckets import copy_command

BUCKET = "s3://laion-fmri"
REQUEST_PAGE = "laion-fmri.hebartlab.com/request"
SUBJECTS = (1, 3, 5, 6, 7)
N_SESSIONS = 30
"""Sessions of images that are released; later ones of a subject are not."""
LAST_SESSION = 34
IMAGES = Path("stimuli/task-images_stimuli.h5")
METADATA = Path("stimuli/task-images_metadata.csv")
MASK = "desc-meanR2gt15mask_mask"
R2_MEAN = "stat-rsquare_desc-R2mean_statmap"


def subject_name(subject: int) -> str:
    """Return the name of a subject, e.g. 'sub-01'."""
    return f"sub-{subject:02d}"


def betas_folder(subject: int) -> Path:
    """Return the folder of the betas of a subject."""
    return Path("derivatives/glmsingle-tedana") / subject_name(subject)


def betas_file(subject: int, session: int) -> Path:
    """Return the betas of a session, counted from 1."""
    return _session_file(subject, session, "space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz")


def trials_file(subject: int, session: int) -> Path:
    """Return the table of the trials of a session."""
    return _session_file(subject, session, "desc-SingletrialBetas_trials.tsv")


def _session_file(subject: int, session: int, what: str) -> Path:
    folder = betas_folder(subject) / f"ses-{session:02d}" / "func"
    return folder / f"{subject_name(subject)}_ses-{session:02d}_task-images_{what}"


def map_file(subject: int, what: str) -> Path:
    """Return a map of all sessions of a subject, such as `MASK`."""
    return betas_folder(subject) / f"{subject_name(subject)}_task-images_space-T1w_{what}.nii.gz"


def ceiling_file(subject: int, repeats: str) -> Path:
    """Return the noise ceilings for means over '12' or '4' trials."""
    return map_file(subject, f"desc-Noiseceiling{repeats}rep_statmap")


def rois_folder(subject: int) -> Path:
    """Return the folder of the ROIs of a subject, with a folder for each set of ROIs."""
    return Path("derivatives/rois") / subject_name(subject)


def surfaces_folder(subject: int) -> Path:
    """Return the FreeSurfer folder of a subject."""
    return Path("derivatives/freesurfer") / subject_name(subject)


def how_to_get(*files: Path) -> str:
    """Return the next step for missing files: an official command for the first, and the paths of the others."""
    words = copy_command(BUCKET, *files)
    return words[0].upper() + words[1:]


def how_to_get_folder(folder: Path) -> str:
    """Return the next step for a missing folder."""
    there = folder.as_posix()
    return f"Run, in the folder of the data, 'aws s3 sync --no-sign-request {BUCKET}/{there} {there}'."


HOW_TO_GET_IMAGES = (
    f"The images are gated: fill in the form on {REQUEST_PAGE}, then run 'laion-fmri download-stimuli' of the official "
    f"package, and put {IMAGES.name} and {METADATA.name} into the folder {IMAGES.parent}."
)
