"""Noise ceiling signal-to-noise ratios (ncsnr) of the Natural Scenes Dataset, and their published medians."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES
from bddn.cortex.mgh import read_mgh
from bddn.data.ceiling import ceiling_of_ncsnr
from bddn.data.nsd.files import GROUP_LABELS, N_SESSIONS, betas_folder, how_to_get, missing
from bddn.data.nsd.labels import read_numbers
from bddn.errors import DataError
from bddn.files.filekind import is_listed

MEDIANS = (0.490, 0.510, 0.431, 0.392, 0.542, 0.439, 0.371, 0.323)
"""Median ncsnr of subjects 1 to 8 over the 37,984 vertices of nsdgeneral, betas b3, as Brain-Score published them."""
CEILING = 36.20  # per cent at k = 3: the mean over subjects of the ceilings of these medians
K = 3
TOLERANCE = 0.001


def ncsnr_files(subject: int, version: str) -> list[Path]:
    """Return the files of both hemispheres, relative to the folder of the download."""
    return [betas_folder(subject, version) / f"{hemi}.ncsnr.mgh" for hemi in HEMISPHERES]


def read_ncsnr(root: Path, subject: int, version: str) -> npt.NDArray[np.float32] | None:
    """Return the ncsnr (2, 163842) of the left and the right hemisphere, or None if there are no files.

    Raises
    ------
    DataError
        If a file is damaged, or one hemisphere is missing.
    """
    files = ncsnr_files(subject, version)
    absent = [file for file in files if not is_listed(root / file)]
    if len(absent) == len(files):
        return None
    if absent:
        raise missing(root, absent[0], "ncsnr of both hemispheres")
    found = []
    for file in files:
        values = read_mgh(root / file)
        if values.shape != (N_VERTICES,) or not (np.isnan(values) | (values >= 0)).all():
            raise DataError(
                root / file,
                expected=f"numbers of at least 0 at the {N_VERTICES} vertices of fsaverage",
                got=f"numbers of shape {values.shape}"
                if values.shape != (N_VERTICES,)
                else f"numbers from {np.nanmin(values):.3g}",
                fix=how_to_get(file),
            )
        found.append(values)
    return np.stack(found)


def compared_with_published(root: Path, version: str) -> str:
    """Return a sentence with the median ncsnr over nsdgeneral of each subject that is on this machine, beside the
    published one; with all eight subjects also the mean ceiling at k = 3."""
    inside = [read_numbers(root / GROUP_LABELS / f"{hemi}.nsdgeneral.mgz") > 0 for hemi in HEMISPHERES]
    mask = np.stack(inside)
    medians = {}
    for subject in range(1, len(N_SESSIONS) + 1):
        ncsnr = read_ncsnr(root, subject, version)
        if ncsnr is not None and np.isfinite(ncsnr[mask]).any():
            medians[subject] = float(np.nanmedian(ncsnr[mask]))
    published = dict(enumerate(MEDIANS, 1)) if version == "b3" else {}
    parts = [
        f"subject {subject} {median:.3f}" + (f" (published {published[subject]:.3f})" if published else "")
        for subject, median in medians.items()
    ]
    found = f"median ncsnr over the {mask.sum()} vertices of nsdgeneral: {', '.join(parts)}"
    if len(medians) == len(MEDIANS):
        ceiling = 100 * ceiling_of_ncsnr(list(medians.values()), K).mean()
        found += f"; mean ceiling at k = {K}: {ceiling:.2f} %" + (f" (published {CEILING:.2f} %)" if published else "")
    differ = [str(s) for s, median in medians.items() if published and abs(median - published[s]) > TOLERANCE]
    if differ:
        found += f". Subject {', '.join(differ)} differs from what is published: check these files"
    return found
