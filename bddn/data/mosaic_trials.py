"""The trials in a file of MOSAIC, and their grayordinates.

    betas/sub-01_NSD_stimulus-NAME_phase-train_rep-0                 (G,) one trial, with the attributes
        presented_stimulus_filename, phase, repetition, and nan_indices: grayordinates that had no data
    noiseceilings/sub-01_NSD_phase-test_n-1_noiseceiling             (G,) of single trials

Shape letters: G grayordinates, N voxels, T trials.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bddn.data.array_files import open_group
from bddn.data.ceiling import ncsnr_of_percent
from bddn.data.session_betas import Floats, Ints, Session, Voxels
from bddn.errors import DataError
from bddn.files.filekind import FOLDER, MISSING, explain
from bddn.text import shorten

BETAS, CEILINGS = "betas", "noiseceilings"
FILE, SHOWN_FILE, PHASE, NAN = "presented_stimulus_filename", "image_stimulus_filename", "phase", "nan_indices"
TEST = "test"
ONE = "Give the HDF5 file of one subject, as it was downloaded."
OF_SINGLE_TRIALS = re.compile(r"phase-(\w+)_n-1_")
SPHERE = re.compile(r"(?:^|[._-])(?:hemi-)?(?P<side>[LR])(?=[._-])")


@dataclass(frozen=True)
class TrialSession(Session):
    """All trials of a file, with the name of each (T,) in its group of betas."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class MosaicVoxels(Voxels):
    """Some vertices of the cortex.

    Attributes
    ----------
    rows : array of int, (N,)
        Their rows among all vertices of the cortex.
    index : array of int, (N,)
        Their grayordinates.
    n_places : int
        Number of all grayordinates.
    """

    rows: Ints
    index: Ints
    n_places: int

    @property
    def n(self) -> int:
        """Number of voxels."""
        return len(self.rows)

    def part(self, mask: npt.NDArray[np.bool_]) -> Self:
        """Return the voxels where `mask` (N,) is true."""
        return type(self)(self.rows[mask], self.index[mask], self.n_places)

    def read(self, session: Session, trials: Ints) -> Floats:
        """See `Voxels.read`; one trial is in memory at a time."""
        assert isinstance(session, TrialSession)
        group = open_group(session.files[BETAS], BETAS)
        found = np.empty((len(trials), self.n), np.float32)
        for row, trial in enumerate(trials):
            array = group[session.names[trial]]
            try:
                values = np.asarray(array).ravel()
            except (OSError, RuntimeError) as error:
                raise _damaged(session.files[BETAS], array.name, "readable betas", f"{error}") from error
            found[row] = _of_all(session.files[BETAS], array.name, values, self.n_places)[self.index]
        return found

    def place(self, session: Session, voxel: int) -> tuple[Path, str]:
        return session.files[BETAS], f"grayordinate {self.index[voxel]}"


class MosaicTrials:
    """What was shown in each trial.

    Parameters
    ----------
    path : Path

    Raises
    ------
    DataError
        If the file is not one of MOSAIC or has several subjects, or a trial lacks the name of its image.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._group = path, open_group(path, BETAS)
        names = sorted(self._group)
        subjects = sorted({name.partition("_stimulus-")[0] for name in names})
        if len(subjects) > 1:
            raise _damaged(path, BETAS, "trials of one subject and dataset", shorten(subjects), ONE)
        attributes = [self._group[name].attrs for name in names]
        lacking = [name for name, about in zip(names, attributes, strict=True) if FILE not in about]
        if lacking or not names:
            raise DataError(
                f"{path}, {BETAS}",
                expected=f"an array for each trial, with the attribute {FILE}",
                got=f"none in {lacking[0]}, and {len(lacking) - 1} more" if lacking else "no array",
                fix=ONE,
            )
        shown = [_text(about[FILE]) for about in attributes]
        self.ids: tuple[str, ...] = tuple(sorted(set(shown)))
        """The images, by the names of the files that were presented."""
        row = {name: k for k, name in enumerate(self.ids)}
        file_of = {name: _text(about.get(SHOWN_FILE, name)) for name, about in zip(shown, attributes, strict=True)}
        self.files = tuple(file_of[name] for name in self.ids)
        """The file of each image; of a video, that of one of its frames."""
        self._phases = {(name, _text(about.get(PHASE, ""))) for name, about in zip(shown, attributes, strict=True)}
        self.n_places = int(self._group[names[0]].size)
        self.session = TrialSession(
            "the file", {BETAS: path}, np.array([row[name] for name in shown], np.intp), "", tuple(names)
        )

    @cached_property
    def test_ids(self) -> tuple[str, ...]:
        """The images of the test set.

        Raises
        ------
        DataError
            If an image is for training and for testing.
        """
        tests = {name for name, phase in self._phases if phase == TEST}
        if mixed := sorted(name for name, phase in self._phases if phase != TEST and name in tests):
            got = f"{len(mixed)} in both, the first '{mixed[0]}'"
            raise _damaged(self._path, BETAS, "images that are either for training or for testing", got)
        return tuple(name for name in self.ids if name in tests)

    @cached_property
    def filled(self) -> npt.NDArray[np.bool_]:
        """Which grayordinates (G,) had no data in some trial; MOSAIC may have filled them from their neighbours."""
        found = np.zeros(self.n_places, np.bool_)
        for name in self.session.names:
            lacking = np.asarray(self._group[name].attrs.get(NAN, ()))
            if lacking.size == 0:
                continue
            if lacking.dtype.kind not in "iu" or lacking.min() < 0 or lacking.max() >= self.n_places:
                got = f"{lacking.dtype} from {lacking.min()} to {lacking.max()}"
                expected = f"{NAN} from 0 to {self.n_places - 1}, the numbers of grayordinates"
                raise _damaged(self._path, f"{BETAS}/{name}", expected, got)
            found[lacking] = True
        return found


def read_ncsnr(path: Path, n_places: int) -> npt.NDArray[np.float64] | None:
    """Return the ncsnr (G,) from the noise ceilings of single trials, those of the test set first, or None."""
    file = open_group(path, BETAS).file
    if CEILINGS not in file:
        return None
    found: dict[str, Any] = {}
    for name in sorted(file[CEILINGS]):
        match = OF_SINGLE_TRIALS.search(name)
        if match:
            found.setdefault(match[1], name)
    if not found:
        return None
    name = found.get(TEST, next(iter(found.values())))
    values = _of_all(path, name, np.asarray(file[CEILINGS][name], np.float64).ravel(), n_places)
    in_percent = values * (1 if np.nanmax(values, initial=0) > 1 else 100)
    return ncsnr_of_percent(f"{path}, {name}", in_percent, 1)


def find_spheres(folder: Path) -> dict[str, str]:
    """Return the GIFTI spheres of both hemispheres in a folder, those whose name contains 'sphere' and 'fsaverage'.

    Raises
    ------
    DataError
        If there are none, or several of a hemisphere.
    """
    here = sorted(folder.glob("[!.]*sphere*.gii")) if folder.is_dir() else []
    found: dict[str, list[Path]] = {"lh": [], "rh": []}
    for path in here:
        sides = {match["side"] for match in SPHERE.finditer(path.name.replace("fs_LR", ""))}
        if "fsaverage" in path.name and len(sides) == 1:
            found["lh" if sides == {"L"} else "rh"].append(path)
    if any(len(paths) != 1 for paths in found.values()):
        got = ", ".join(path.name for path in here) or "no file '*sphere*.gii'"
        if not folder.is_dir():
            got, _ = explain(folder, "no folder", "", FOLDER, MISSING)
        raise DataError(
            folder,
            expected="a folder with one sphere of fsLR deformed to fsaverage for each hemisphere, such as "
            "fs_LR-deformed_to-fsaverage.L.sphere.32k_fs_LR.surf.gii",
            got=got,
            fix="Get both from the standard_mesh_atlases of the Human Connectome Project.",
        )
    return {hemi: f"{paths[0].absolute()}" for hemi, paths in found.items()}


def _of_all(path: Path, name: str, values: npt.NDArray[Any], n_places: int) -> npt.NDArray[Any]:
    if len(values) == n_places:
        return values
    raise _damaged(path, name, f"numbers of all {n_places:,} grayordinates", f"{len(values):,}")


def _damaged(path: Path, name: str, expected: str, got: str, fix: str = "Download the file again.") -> DataError:
    return DataError(f"{path}, {name}", expected=expected, got=got, fix=fix)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
