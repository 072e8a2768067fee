"""Labels of regions of the Natural Scenes Dataset at the vertices of fsaverage.

Labels of all subjects lie in `nsddata/freesurfer/fsaverage/label`. Those of a single subject (prf-…, floc-…) lie on its
own surface. Once mapped to fsaverage, they are read from a folder of the subject beside the former: `label/subj01`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES
from bddn.cortex.mgh import read_mgh
from bddn.data.nsd.files import GROUP_LABELS, native_labels
from bddn.errors import DataError
from bddn.files.filekind import is_listed

GROUP = ("Kastner2015", "streams", "HCP_MMP1")
OWN = ("prf-visualrois", "floc-bodies", "floc-faces", "floc-places", "floc-words")
"""Atlases of all subjects, and of single subjects."""
NAMES: Mapping[str, tuple[str, ...]] = {
    "Kastner2015": (
        *("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4", "VO1", "VO2", "PHC1", "PHC2", "MST", "hMT", "LO2", "LO1"),
        *("V3b", "V3a", "IPS0", "IPS1", "IPS2", "IPS3", "IPS4", "IPS5", "SPL1", "FEF"),
    ),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
}
"""The names of labels 1, 2, …, where the download lacks the file NAME.mgz.ctab (NSD data manual, "ROIs")."""
PREFIXES = {"HCP_MMP1": "HCP-", "Kastner2015": "Kastner-"}
"""Put before names that other atlases use for other regions, because ROIs are sought by name in all atlases."""


def label_file(root: Path, hemi: str, atlas: str, subject: int) -> Path:
    """Return where the labels of an atlas lie on fsaverage."""
    folder = root / GROUP_LABELS
    return (folder / f"subj{subject:02d}" if atlas in OWN else folder) / f"{hemi}.{atlas}.mgz"


def atlases_here(root: Path, subject: int) -> list[str]:
    """Return the atlases of which both hemispheres are on this machine, those of the subject first.

    Raises
    ------
    DataError
        If there is only one hemisphere of an atlas, or the labels of a single subject lie where those of all are.
    """
    found = []
    for atlas in (*OWN, *GROUP):
        files = [label_file(root, hemi, atlas, subject) for hemi in HEMISPHERES]
        here = [is_listed(file) for file in files]
        misplaced = root / GROUP_LABELS / f"lh.{atlas}.mgz"
        if any(here) and not all(here):
            raise DataError(
                files[here.index(False)],
                expected=f"the labels of both hemispheres of {atlas}",
                got="one hemisphere",
                fix="Add it, or remove the other one.",
            )
        if atlas in OWN and is_listed(misplaced):
            raise DataError(
                misplaced,
                expected="labels of all subjects in this folder",
                got=f"{atlas}, which differs between subjects",
                fix=f"Move lh. and rh.{atlas}.mgz into a folder of their subject, e.g. {files[0].parent}.",
            )
        if all(here):
            found.append(atlas)
    return found


def label_columns(root: Path, subject: int, numbers: Mapping[str, npt.NDArray[np.intp]]) -> dict[str, list[str]]:
    """Return a column of labels for `roi` and for each atlas; '' for none.

    `roi` is the first label of prf-visualrois, floc-… and, where there is no prf-visualrois, Kastner2015. Only then are
    the names of Kastner2015 without prefix.

    Parameters
    ----------
    root : Path
    subject : int
    numbers : mapping of str to array of int, (N,)
        The label of each voxel in each atlas that is on this machine; up to 0 for none.
    """
    plain = {*OWN, "Kastner2015"} if OWN[0] not in numbers else {*OWN}
    found = {"roi": [""] * len(next(iter(numbers.values()), ()))}
    for atlas, of_atlas in numbers.items():
        names = _names(root, atlas, subject)
        prefix = "" if atlas in plain else PREFIXES.get(atlas, "")
        found[atlas] = [f"{prefix}{names.get(k, k)}" if k > 0 else "" for k in of_atlas.tolist()]
        if atlas in plain:
            found["roi"] = [roi or label for roi, label in zip(found["roi"], found[atlas], strict=True)]
    return found


def read_numbers(path: Path) -> npt.NDArray[np.intp]:
    """Return the label numbers (163842,) of a file.

    Raises
    ------
    DataError
        If they are not whole numbers at the vertices of fsaverage.
    """
    numbers = read_mgh(path)
    whole = numbers.shape == (N_VERTICES,) and bool(np.isfinite(numbers).all())
    if not whole or (numbers != np.round(numbers)).any():
        raise DataError(
            path,
            expected=f"whole numbers at the {N_VERTICES} vertices of fsaverage",
            got=f"numbers of shape {numbers.shape}" if numbers.shape != (N_VERTICES,) else "other numbers",
            fix="Give labels of fsaverage. Those of a subject's own surface must be mapped with nsdcode first.",
        )
    return numbers.astype(np.intp)


def how_to_map(subject: int, atlases: list[str]) -> str:
    """Return in words what must be done for labels that lie on the subject's own surface."""
    own = native_labels(subject)
    return (
        f"{', '.join(atlases)}: not on fsaverage. NSD gives them on the subject's own surface "
        f"({own}/lh.{atlases[0]}.mgz). Map them with the official tool nsdcode "
        f"(NSDmapdata: subject {subject}, from lh.white and rh.white to fsaverage) and save them as "
        f"{GROUP_LABELS}/subj{subject:02d}/lh.{atlases[0]}.mgz and rh.{atlases[0]}.mgz"
    )


def _names(root: Path, atlas: str, subject: int) -> dict[int, str]:
    """Return the names of label numbers: of NAME.mgz.ctab, or else those of `NAMES`."""
    for folder in (GROUP_LABELS, native_labels(subject)):
        path = root / folder / f"{atlas}.mgz.ctab"
        if path.is_file():
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
                pairs = (line.split(maxsplit=1) for line in lines if line.strip())
                return {int(number): name.strip() for number, name in pairs}
            except ValueError as error:
                raise DataError(
                    path, expected="a number and a name in each line", got=f"{error}", fix="Restore the original file."
                ) from error
    return dict(enumerate(NAMES.get(atlas, ()), 1))
