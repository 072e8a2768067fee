"""Betas, labels and ceilings of the Natural Scenes Dataset at the vertices of fsaverage."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES
from bddn.cortex.mgh import Mgh, open_mgh
from bddn.data.nsd.ceilings import compared_with_published, ncsnr_files, read_ncsnr
from bddn.data.nsd.files import GROUP_LABELS, UNIT, betas_files, how_to_get, synthetic_betas_files
from bddn.data.nsd.labels import OWN, atlases_here, how_to_map, label_columns, label_file, read_numbers
from bddn.data.session_betas import Floats, Ints, Session, Voxels
from bddn.data.session_data import ALL
from bddn.errors import DataError
from bddn.files.filekind import is_listed

NSDGENERAL = "nsdgeneral"


@dataclass(frozen=True)
class Vertices(Voxels):
    """Vertices of each hemisphere, left first."""

    of: Mapping[str, Ints]

    @property
    def n(self) -> int:
        """Number of vertices."""
        return sum(len(self.of[hemi]) for hemi in HEMISPHERES)

    def part(self, mask: npt.NDArray[np.bool_]) -> "Vertices":
        """Return the vertices where `mask` (N,) is true."""
        parts = np.split(mask, [len(self.of["lh"])])
        return Vertices({hemi: self.of[hemi][part] for hemi, part in zip(HEMISPHERES, parts, strict=True)})

    def read(self, session: Session, trials: Ints) -> Floats:
        """See `Voxels.read`; in percent signal change. One trial is in memory at a time."""
        files = [self._open(session, hemi) for hemi in HEMISPHERES]
        found = np.empty((len(trials), self.n), np.float32)
        start = 0
        for hemi, file in zip(HEMISPHERES, files, strict=True):
            columns = found[:, start : start + len(self.of[hemi])]
            file.read(self.of[hemi], trials, columns)
            if file.dtype.kind in "iu":
                columns /= UNIT
            start += len(self.of[hemi])
        return found

    def place(self, session: Session, voxel: int) -> tuple[Path, str]:
        n_left = len(self.of["lh"])
        hemi, row = ("lh", voxel) if voxel < n_left else ("rh", voxel - n_left)
        return session.files[hemi], f"vertex {self.of[hemi][row]}"

    def _open(self, session: Session, hemi: str) -> Mgh:
        found = open_mgh(session.files[hemi])
        if (found.n_vertices, found.n_frames) != (N_VERTICES, len(session.shown)):
            raise DataError(
                found.path,
                expected=f"betas of {N_VERTICES} vertices of fsaverage in {len(session.shown)} trials",
                got=f"{found.n_vertices} vertices, {found.n_frames} trials",
                fix="Use the betas of the folder fsaverage, of the subject and session that the name says.",
            )
        return found


class Surface:
    """fsaverage, for one subject.

    Parameters
    ----------
    root : Path
        The folder of the download.
    subject : int
    version : str
        A key of `VERSIONS`.
    selected : str
        'nsdgeneral', 'all', or the name of labels: vertices with a label above 0.
    """

    where = "on fsaverage"
    frame = None

    def __init__(self, root: Path, subject: int, version: str, selected: str) -> None:
        self.root, self.subject, self.version, self._selected = root, subject, version, selected

    def needed(self) -> list[Path]:
        """Return the files without which there are no voxels, relative to the root."""
        names = [] if self._selected == ALL else [f"{hemi}.{self._selected}.mgz" for hemi in HEMISPHERES]
        return [GROUP_LABELS / name for name in names]

    def labels_here(self) -> list[str]:
        """Return the names of labels that can select voxels."""
        return sorted(path.name[len("lh.") : -len(".mgz")] for path in (self.root / GROUP_LABELS).glob("lh.*.mgz"))

    def files_of(self, session: int) -> dict[str, Path]:
        """Return the betas of a session."""
        return betas_files(self.subject, self.version, session)

    def synthetic_files(self) -> dict[str, Path]:
        """Return the betas of NSD-synthetic."""
        return synthetic_betas_files(self.subject, self.version)

    @cached_property
    def candidates(self) -> Vertices:
        """The selected vertices, with or without data."""
        if self._selected == ALL:
            return Vertices({hemi: np.arange(N_VERTICES) for hemi in HEMISPHERES})
        files = zip(HEMISPHERES, self.needed(), strict=True)
        found = Vertices({hemi: np.flatnonzero(read_numbers(self.root / file) > 0) for hemi, file in files})
        if not found.n:
            raise DataError(
                self.root / GROUP_LABELS,
                expected=f"vertices with a label above 0 in lh. or rh.{self._selected}.mgz",
                got="none",
                fix="Give other labels with the option voxels=….",
            )
        return found

    def table(self, voxels: Vertices) -> pd.DataFrame:
        """Return the table of voxels without ceilings."""
        hemi = np.repeat(HEMISPHERES, [len(voxels.of[h]) for h in HEMISPHERES])
        table = pd.DataFrame({"hemi": hemi, "vertex": np.concatenate([voxels.of[h] for h in HEMISPHERES]), "roi": ""})
        numbers = {}
        for atlas in atlases_here(self.root, self.subject):
            files = {h: label_file(self.root, h, atlas, self.subject) for h in HEMISPHERES}
            numbers[atlas] = np.concatenate([read_numbers(file)[voxels.of[h]] for h, file in files.items()])
        return table.assign(**label_columns(self.root, self.subject, numbers)) if numbers else table

    def ncsnr(self, voxels: Vertices) -> npt.NDArray[np.float32] | None:
        """Return the ncsnr (N,) of voxels, or None without the files."""
        found = read_ncsnr(self.root, self.subject, self.version)
        if found is None:
            return None
        return np.concatenate([of_hemi[voxels.of[hemi]] for of_hemi, hemi in zip(found, HEMISPHERES, strict=True)])

    def remarks(self) -> list[str]:
        """Return what is to be said of labels and ceilings."""
        found = []
        absent = [atlas for atlas in OWN if not is_listed(label_file(self.root, "lh", atlas, self.subject))]
        if absent:
            found.append(how_to_map(self.subject, absent))
        files = ncsnr_files(self.subject, self.version)
        if not is_listed(self.root / files[0]):
            found.append(f"noise ceilings are unknown without {files[0]} and {files[1].name}. {how_to_get(*files)}")
        elif is_listed(self.root / GROUP_LABELS / f"lh.{NSDGENERAL}.mgz"):
            found.append(compared_with_published(self.root, self.version))
        return found
