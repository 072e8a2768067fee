"""Betas, noise ceilings and masks of LAION-fMRI in the T1w space of a subject, with voxels of 1.8 mm.

Betas are NIfTI files (X, Y, Z, trials), one per session, compressed: 12 GB each once unpacked. They are read from start
to end once, a volume at a time, and only the selected voxels are kept; see `bddn.data.unpacked`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zlib import error as DamagedGzip

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Volume
from bddn.data.ceiling import ncsnr_of_percent, refuse_shares
from bddn.data.grid_voxels import FILE, Grid
from bddn.data.imaging_files import load_image, read_volume, volumes_of
from bddn.data.laion.files import MASK, R2_MEAN, ceiling_file, how_to_get, how_to_get_folder, map_file, rois_folder
from bddn.data.laion.rois import Roi, find_rois, hemispheres, label_columns, named, on_grid, read_mask
from bddn.data.session_betas import N_PROBES, Floats, Ints, Session
from bddn.data.unpacked import Unpacked
from bddn.errors import DataError
from bddn.files.filekind import GZIP, explain, is_listed

R2 = "r2"
LEAST_R2 = 15.0  # per cent, as in the name of the mask
REPEATS = ("12", "4")
"""Numbers of trials for which there are maps of noise ceilings, the most reliable first."""


@dataclass(frozen=True)
class T1wGrid(Grid):
    """Voxels in the volumes of betas; implements `bddn.data.session_betas.Voxels`."""

    volume: Volume
    unpacked: Unpacked

    def probes(self, session: Session) -> Ints:
        """See `Voxels.probes`: the first trials, because a compressed file can only be read from its start."""
        return np.arange(min(N_PROBES, len(session.shown)))

    def read(self, session: Session, trials: Ints) -> Floats:
        path, n = session.files[FILE], len(session.shown)
        if len(trials) and trials.max() < N_PROBES:
            return np.stack(list(self._volumes(path, n, int(trials.max()) + 1)))[trials]
        return self.unpacked.read(path, self.ijk, n, lambda: self._volumes(path, n, n), trials)

    def _volumes(self, path: Path, n_trials: int, n: int) -> Iterator[Floats]:
        """Yield the voxels (N,) in the first `n` volumes."""
        image = load_image(path)
        shape = (*self.shape, n_trials)
        if image.shape != shape or np.dtype(image.get_data_dtype()).kind not in "fiu":
            turned = sorted(image.shape) == sorted(shape)
            raise DataError(
                path,
                expected=f"numbers of shape {shape}: that of the mask, and the rows of trials.tsv",
                got=f"{image.get_data_dtype()} of shape {image.shape}" + (", with axes in another order" * turned),
                fix="Use the betas of this subject and session as they were downloaded.",
            )
        on_grid(path, Volume.of(image.affine, image.shape[:3]), self.volume)
        try:
            for volume in volumes_of(path, image, n):
                yield volume[self.at].astype(np.float32)
        except (OSError, EOFError, ValueError, DamagedGzip) as error:
            got, fix = explain(path, f"a damaged file ({error})", "Download it again.", GZIP)
            raise DataError(path, expected="betas in a compressed NIfTI file", got=got, fix=fix) from error


class T1w:
    """The volume of one subject.

    Parameters
    ----------
    root : Path
        The folder of the download.
    subject : int
    selected : str
        'r2', for the voxels whose mean R² of the GLM is above 15 %, or the name of an ROI.
    unpacked : Unpacked
    """

    where = "in the subject's T1w volume (1.8 mm)"

    def __init__(self, root: Path, subject: int, selected: str, unpacked: Unpacked) -> None:
        self.root, self.subject, self._selected, self._unpacked = root, subject, selected, unpacked

    @cached_property
    def rois(self) -> list[Roi]:
        """All ROIs that are on this machine."""
        return find_rois(self.root / rois_folder(self.subject))

    @cached_property
    def candidates(self) -> T1wGrid:
        """The selected voxels."""
        mask, volume = self._r2_mask() if self._selected == R2 else self._roi_mask()
        if not mask.any():
            raise DataError(
                self.root, expected=f"voxels in {self._selected}", got="none", fix="Correct the option voxels=…."
            )
        return T1wGrid(np.argwhere(mask), mask.shape, volume, self._unpacked)

    def _roi_mask(self) -> tuple[npt.NDArray[np.bool_], Volume]:
        chosen = named(self.rois, self._selected)
        if not chosen:
            here = ", ".join(sorted({roi.name for roi in self.rois})) or "none"
            fix = "Give one of these with the option voxels=…, or 'r2' for the mask by mean R²."
            raise DataError(
                self.root / rois_folder(self.subject),
                expected=f"masks of the ROI '{self._selected}' in T1w space (…_label-{self._selected}_mask.nii.gz)",
                got=f"the ROIs {here}",
                fix=fix if self.rois else f"{how_to_get_folder(rois_folder(self.subject))} {fix}",
            )
        _, volume = read_volume(chosen[0].path)
        return np.logical_or.reduce([read_mask(roi.path, volume) for roi in chosen]), volume

    def _r2_mask(self) -> tuple[npt.NDArray[np.bool_], Volume]:
        mask, r2 = (map_file(self.subject, what) for what in (MASK, R2_MEAN))
        if is_listed(self.root / mask):
            values, volume = read_volume(self.root / mask)
            return values > 0, volume
        if not is_listed(self.root / r2):
            raise DataError(self.root, expected=f"{mask.name}, or {r2.name}", got="neither", fix=how_to_get(r2))
        values, volume = read_volume(self.root / r2)
        values = np.nan_to_num(values)
        return values > (LEAST_R2 if values.max() > 1 else LEAST_R2 / 100), volume

    @cached_property
    def frame(self) -> Volume:
        """The grid, for maps as NIfTI."""
        return self.candidates.volume

    def table(self, voxels: T1wGrid) -> pd.DataFrame:
        """Return the table of voxels without ceilings."""
        table = voxels.table(self.frame, hemispheres(self.rois, voxels.ijk, self.frame))
        return table.assign(**label_columns(self.rois, voxels.ijk, self.frame))

    def ncsnr(self, voxels: T1wGrid) -> npt.NDArray[np.float64] | None:
        """Return the ncsnr (N,), NaN where it is unknown, or None without maps of noise ceilings.

        The maps are 100 · ncsnr² / (ncsnr² + 1 / k) for k trials.
        """
        for repeats in REPEATS:
            path = self.root / ceiling_file(self.subject, repeats)
            if is_listed(path):
                values, volume = read_volume(path)
                on_grid(path, volume, self.frame)
                refuse_shares(path, np.asarray(values, np.float64))
                return ncsnr_of_percent(path, np.asarray(values[voxels.at], np.float64), int(repeats))
        return None

    def remarks(self) -> list[str]:
        """Return what is to be said of ROIs and ceilings."""
        files = [ceiling_file(self.subject, repeats) for repeats in REPEATS]
        here = [repeats for repeats, file in zip(REPEATS, files, strict=True) if is_listed(self.root / file)]
        found = []
        if not self.rois:
            found.append(f"ROIs are unknown. {how_to_get_folder(rois_folder(self.subject))}")
        if here:
            found.append(f"noise ceilings are computed from the map for {here[0]} trials")
        else:
            found.append(f"noise ceilings are unknown without {files[0].name}. {how_to_get(files[0])}")
        return found
