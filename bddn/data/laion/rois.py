"""ROIs of LAION-fMRI: one NIfTI mask per ROI in T1w space, in one folder per set of ROIs.

The name of a file ends with `space-T1w_…label-NAME_mask.nii.gz`. It may name a hemisphere (`hemi-L_`); otherwise a mask
contains both.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.frames import Volume
from bddn.data.imaging_files import read_volume
from bddn.data.mask_labels import label_by_smallest
from bddn.errors import DataError

FILE_NAME = re.compile(
    r"sub-[^_]+_(?:hemi-(?P<hemi>[LR])_)?space-(?P<space>T1w|fsnative)_(?:res-[^_]+_)?label-(?P<label>[^_]+)_mask"
    r"\.(?P<suffix>nii\.gz|func\.gii)"
)
SIDES = {"L": "lh", "R": "rh", None: ""}
FIRST = "retinotopy"
"""The set that names the ROI of a voxel before other sets do."""
PARCELS = "laion"
"""The beginning of the names of coarse parcels, which never name the ROI of a voxel."""
NAMES = (
    *("FFA-1", "FFA-2", "pSTS-faces", "VWFA-1", "VWFA-2", "mfs-words", "l-objects", "v-objects"),
    *("laion-general", "laion-EVC", "laion-dorsal", "laion-lateral", "laion-ventral"),
)
"""Names with a hyphen, which files of the download have lost."""


@dataclass(frozen=True)
class Roi:
    """A mask: the folder of its set, its name, hemisphere ('' for both), and file."""

    group: str
    name: str
    hemi: str
    path: Path


def find_rois(folder: Path, surface: bool = False) -> list[Roi]:
    """Return the masks below a folder, in T1w space or on the subject's surface, those of the set `FIRST` first."""
    found = []
    for path in sorted(folder.glob("**/*_mask.*")):
        match = FILE_NAME.fullmatch(path.name)
        if match and (match["space"] == "fsnative") == surface == (match["suffix"] == "func.gii"):
            group = path.parent.name if path.parent != folder else "rois"
            label = _BY_PLAIN.get(_plain(match["label"]), match["label"])
            found.append(Roi(group, label, SIDES[match["hemi"]], path))
    return sorted(found, key=lambda roi: (roi.group != FIRST, roi.group, roi.name, roi.hemi))


def named(rois: Sequence[Roi], name: str) -> list[Roi]:
    """Return the masks of an ROI; letters count in either case, and hyphens do not."""
    return [roi for roi in rois if _plain(roi.name) == _plain(name)]


def read_mask(path: Path, volume: Volume) -> npt.NDArray[np.bool_]:
    """Return a mask on a grid.

    Raises
    ------
    DataError
        If the file is damaged, or on another grid.
    """
    values, own = read_volume(path)
    on_grid(path, own, volume)
    return np.asarray(np.nan_to_num(values) > 0.5)


def on_grid(path: Path, own: Volume, volume: Volume) -> None:
    """Refuse a volume on another grid than that of the voxels.

    Raises
    ------
    DataError
    """
    if differs := volume.difference(own):
        raise DataError(
            path,
            expected=f"the grid of the selected voxels, {volume.shape}, with the same affine",
            got=differs,
            fix="Use files of one subject and space (T1w), as they were downloaded.",
        )


def label_columns(rois: Sequence[Roi], ijk: npt.NDArray[np.intp], volume: Volume) -> dict[str, list[str]]:
    """Return `roi` and a column of labels (N,) for each set of ROIs.

    A voxel that is in several ROIs of a set has the label of the smallest of them. `roi` is the label in the first set
    that has one, without coarse parcels.
    """
    at, n = tuple(ijk.T), len(ijk)
    found: dict[str, Any] = {"roi": np.full(n, "", object)}
    for group in dict.fromkeys(roi.group for roi in rois):
        masks = []
        for roi in rois:
            if roi.group == group:
                mask = read_mask(roi.path, volume)
                masks.append((roi.name, int(mask.sum()), mask[at]))
        fine = label_by_smallest((one for one in masks if not one[0].startswith(PARCELS)), n)
        found[group] = label_by_smallest(masks, n)
        found["roi"] = np.where(found["roi"] == "", fine, found["roi"])
    return {name: labels.tolist() for name, labels in found.items()}


def hemispheres(rois: Sequence[Roi], ijk: npt.NDArray[np.intp], volume: Volume) -> npt.NDArray[np.str_]:
    """Return the hemisphere (N,) of each voxel, '' where no mask tells it.

    Raises
    ------
    DataError
        If the masks of the left hemisphere lie to the right of those of the right one.
    """
    found = np.full(len(ijk), "", "<U2")
    middle: dict[str, list[float]] = {"lh": [], "rh": []}
    for roi in rois:
        if roi.hemi:
            mask = read_mask(roi.path, volume)
            found[mask[tuple(ijk.T)]] = roi.hemi
            middle[roi.hemi] += [float(volume.mm(np.argwhere(mask))[:, 0].mean())] * bool(mask.any())
    if middle["lh"] and middle["rh"] and np.mean(middle["lh"]) >= np.mean(middle["rh"]):
        raise DataError(
            next(roi.path for roi in rois if roi.hemi),
            expected="masks of the left hemisphere (hemi-L) to the left of those of the right one",
            got=f"their centres at x = {np.mean(middle['lh']):.1f} mm and {np.mean(middle['rh']):.1f} mm",
            fix="Download the ROIs again; left and right are exchanged.",
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


_BY_PLAIN = {_plain(name): name for name in NAMES}
