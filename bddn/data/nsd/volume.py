"""Betas, labels and ceilings of the Natural Scenes Dataset in the subject's own volume, with voxels of 1.8 mm.

Files of betas are HDF5 with the array `betas`, int16, percent signal change times 300. MATLAB wrote it as (X, Y, Z, T),
so that HDF5 gives (T, Z, Y, X): the axes of the NIfTI files of the same volume in reverse.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Volume
from bddn.cortex.fsaverage import HEMISPHERES
from bddn.data.array_files import open_array
from bddn.data.grid_voxels import FILE, Grid
from bddn.data.imaging_files import read_volume
from bddn.data.nsd.files import UNIT, betas_folder, how_to_get
from bddn.data.nsd.labels import GROUP, OWN, label_columns
from bddn.data.session_betas import Floats, Ints, Session, Voxels
from bddn.errors import DataError
from bddn.files.filekind import explain, is_listed

SPACE = "func1pt8mm"
KEY = "betas"
AXES = "RAS"


class BetaGrid(Grid, Voxels):
    """Voxels in NSD's files of betas."""

    def read(self, session: Session, trials: Ints) -> Floats:
        """See `Voxels.read`; in percent signal change. One slice of the volume is in memory at a time."""
        betas = self._open(session)
        found = np.empty((len(trials), self.n), np.float32)
        low, high = self.ijk.min(0, initial=self.shape[0]), self.ijk.max(0, initial=0) + 1
        for k in np.unique(self.ijk[:, 2]).tolist():
            here = np.flatnonzero(self.ijk[:, 2] == k)
            i, j = self.ijk[here, 0] - low[0], self.ijk[here, 1] - low[1]
            try:
                plane = np.asarray(betas[:, k, low[1] : high[1], low[0] : high[0]])
            except (OSError, RuntimeError) as error:
                raise _damaged(session.files[FILE], f"{error}") from error
            found[:, here] = plane[:, j, i][trials]
        if betas.dtype.kind in "iu":
            found /= UNIT
        return found

    def _open(self, session: Session) -> Any:
        betas, n_trials = open_array(session.files[FILE], KEY), len(session.shown)
        if betas.shape != (n_trials, *self.shape[::-1]):
            turned = betas.shape == (*self.shape, n_trials)
            raise DataError(
                session.files[FILE],
                expected=f"betas of shape {(n_trials, *self.shape[::-1])}, which is that of the labels reversed",
                got=f"{betas.shape}" + (", the other way round" if turned else ""),
                fix="Use NSD's own HDF5 files, of the subject and session that the name says.",
            )
        return betas


class Func1pt8mm:
    """The volume of one subject; parameters and methods are those of `bddn.data.nsd.surface.Surface`."""

    where = f"in the subject's volume ({SPACE})"

    def __init__(self, root: Path, subject: int, version: str, selected: str) -> None:
        self.root, self.subject, self.version, self._selected = root, subject, version, selected
        self._rois = Path(f"nsddata/ppdata/subj{subject:02d}/{SPACE}/roi")
        self._betas = betas_folder(subject, version, SPACE)

    def needed(self) -> list[Path]:
        """Return the files without which there are no voxels, relative to the root."""
        return [self._rois / f"{self._selected}.nii.gz"]

    def labels_here(self) -> list[str]:
        """Return the names of labels that can select voxels."""
        names = (path.name.removesuffix(".nii.gz") for path in (self.root / self._rois).glob("[!.]*.nii.gz"))
        return sorted(name for name in names if name[:3] not in ("lh.", "rh."))

    def files_of(self, session: int) -> dict[str, Path]:
        """Return the betas of a session."""
        return {FILE: self._betas / f"betas_session{session:02d}.hdf5"}

    def synthetic_files(self) -> dict[str, Path]:
        """Refuse NSD-synthetic."""
        raise DataError(
            "nsd option 'synthetic'",
            expected="space=fsaverage, on which NSD-synthetic is read",
            got=f"space={SPACE}",
            fix="Remove one of the two options.",
        )

    @cached_property
    def candidates(self) -> BetaGrid:
        """The selected voxels: those with a label above 0. In nsdgeneral, -1 marks the rest of the cortex."""
        labels = _read_labels(self.root / self.needed()[0])
        if not (labels > 0).any():
            raise DataError(
                self.root / self.needed()[0],
                expected="voxels with a label above 0",
                got="none",
                fix="Give other labels with the option voxels=….",
            )
        return BetaGrid(np.argwhere(labels > 0), labels.shape)

    @cached_property
    def frame(self) -> Volume:
        """The grid, for maps as NIfTI."""
        return _read(self.root / self.needed()[0])[1]

    def table(self, voxels: BetaGrid) -> pd.DataFrame:
        """Return the table of voxels without ceilings."""
        numbers = {
            atlas: self._at(voxels, self.root / self._rois / f"{atlas}.nii.gz")
            for atlas in (*OWN, *GROUP)
            if is_listed(self.root / self._rois / f"{atlas}.nii.gz")
        }
        table = voxels.table(self.frame, self._hemispheres(voxels))
        return table.assign(**label_columns(self.root, self.subject, numbers)) if numbers else table

    def _hemispheres(self, voxels: BetaGrid) -> npt.NDArray[np.str_]:
        found = np.full(voxels.n, "", "<U2")
        for hemi in HEMISPHERES:
            path = self.root / self._rois / f"{hemi}.{self._selected}.nii.gz"
            if is_listed(path):
                found[self._at(voxels, path) > 0] = hemi
        x = [self.frame.mm(voxels.ijk[found == hemi])[:, 0] for hemi in HEMISPHERES]
        if all(map(len, x)) and x[0].mean() >= x[1].mean():
            raise DataError(
                self.root / self._rois,
                expected=f"lh.{self._selected}.nii.gz to the left of rh.{self._selected}.nii.gz",
                got=f"their centres at x = {x[0].mean():.1f} mm and {x[1].mean():.1f} mm",
                fix="Get both again; left and right are exchanged in their names or in their headers.",
            )
        return found

    def _at(self, voxels: BetaGrid, path: Path) -> Ints:
        labels = _read_labels(path)
        if labels.shape != voxels.shape:
            raise DataError(
                path,
                expected=f"labels of shape {voxels.shape}",
                got=f"{labels.shape}",
                fix=how_to_get(self.needed()[0]),
            )
        found: Ints = labels[voxels.at]
        return found

    def ncsnr(self, voxels: BetaGrid) -> npt.NDArray[np.float32] | None:
        """Return the ncsnr (N,) of voxels, NaN where it is unknown, or None without the file."""
        path = self.root / self._betas / "ncsnr.nii.gz"
        if not is_listed(path):
            return None
        found = _read(path)[0].astype(np.float32)
        if found.shape != voxels.shape:
            raise DataError(
                path, expected=f"numbers of shape {voxels.shape}", got=f"{found.shape}", fix="Get it again."
            )
        at: npt.NDArray[np.float32] = found[voxels.at]
        return at

    def remarks(self) -> list[str]:
        """Return what is to be said of labels and ceilings."""
        files = [self._rois / f"{atlas}.nii.gz" for atlas in OWN] + [self._betas / "ncsnr.nii.gz"]
        absent = [file for file in files if not is_listed(self.root / file)]
        names = ", ".join(file.name for file in absent)
        return [f"without {names} labels or noise ceilings are unknown. {how_to_get(*absent)}"] if absent else []


def _read(path: Path) -> tuple[npt.NDArray[np.floating], Volume]:
    """Read a volume whose axes are those of the betas, which have no affine of their own: right, anterior, superior."""
    from nibabel.orientations import aff2axcodes

    values, volume = read_volume(path)
    axes = "".join(aff2axcodes(volume.affine))
    if axes != AXES:
        raise DataError(
            path,
            expected=f"axes to the right, front and top ({AXES}), as those of NSD's volumes and betas",
            got=axes,
            fix=f"Get the original file; this copy was turned. {how_to_get(Path(*path.parts[-6:]))}",
        )
    return values, volume


def _read_labels(path: Path) -> Ints:
    values = np.nan_to_num(_read(path)[0])
    if (values != np.round(values)).any():
        raise DataError(path, expected="whole numbers as labels", got="other numbers", fix="Get it again.")
    return np.asarray(values, np.intp)


def _damaged(path: Path, cause: str) -> DataError:
    got, fix = explain(path, f"a damaged file, or another kind of file ({cause})", "Download it again.")
    return DataError(path, expected="a file of NSD's volumes", got=got, fix=fix)
