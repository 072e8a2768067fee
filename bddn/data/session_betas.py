"""Responses of single trials (betas) in one file per scan session, read session by session.

Shape letters: T trials of a session, N voxels, S sessions.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from bddn.errors import DataError

N_PROBES = 5  # trials of a session that show which voxels have no data
Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Session:
    """The betas of one scan session.

    Attributes
    ----------
    name : str
        For messages.
    files : mapping of str to Path
        By hemisphere on a surface; in a volume there is only one.
    shown : array of int, (T,)
        The image of each trial, as a row of the dataset's stimuli.
    option : str
        The option of the dataset's name that can leave it out, or ''.
    """

    name: str
    files: Mapping[str, Path]
    shown: Ints
    option: str = "sessions=…"


class Voxels(Protocol):
    """Some voxels in the files of betas, on a surface or in a volume."""

    @property
    def n(self) -> int:
        """Number of voxels."""

    def part(self, mask: npt.NDArray[np.bool_]) -> Self:
        """Return the voxels where `mask` (N,) is true."""

    def read(self, session: Session, trials: Ints) -> Floats:
        """Return their betas (trials, N) as they are in the files, in the files' unit.

        Raises
        ------
        DataError
            If a file is missing or damaged, or is not one of this session.
        """

    def probes(self, session: Session) -> Ints:
        """Return a few trials that are quick to read, here evenly over the session, to show which voxels lack data."""
        return np.unique(np.linspace(0, len(session.shown) - 1, N_PROBES).astype(np.intp))

    def place(self, session: Session, voxel: int) -> tuple[Path, str]:
        """Return the file of a voxel, and which of it that is in words."""


class Betas:
    """Responses of voxels in single trials; with `zscore`, standardized within each session.

    Parameters
    ----------
    sessions : sequence of Session
    voxels : Voxels
        The columns.
    zscore : bool
        Subtract each voxel's mean over the trials of the session, and divide by its standard deviation over them
        (population: divided by T), as in the Algonauts data.
    """

    def __init__(self, sessions: Sequence[Session], voxels: Voxels, zscore: bool) -> None:
        self.sessions, self.voxels, self.zscore = sessions, voxels, zscore
        self._scales: dict[int, tuple[Floats, Floats]] = {}  # mean and standard deviation, of sessions read so far

    def read(self, session: int, trials: Ints) -> Floats:
        """Return the responses (trials, N) in some trials of the session at this place of `sessions`.

        The first time, the whole session is read for its means; later only these trials.

        Raises
        ------
        DataError
            If a file is damaged, a response is not finite, or a voxel is constant over the session.
        """
        if not self.zscore:
            return self._stored(session, trials)
        if session in self._scales:
            found = self._stored(session, trials)
        else:
            n_trials = len(self.sessions[session].shown)
            found = self._stored(session, np.arange(n_trials))
            self._scales[session] = self._scale(session, found)
            if not np.array_equal(trials, np.arange(n_trials)):
                found = found[trials]
        mean, std = self._scales[session]
        found -= mean
        found /= std
        return found

    def _stored(self, session: int, trials: Ints) -> Floats:
        """Return betas as they are in the files."""
        found = self.voxels.read(self.sessions[session], trials)
        finite = np.isfinite(found)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            file, voxel = self.voxels.place(self.sessions[session], int(column))
            raise self._unusable(
                file,
                session,
                expected="finite betas of each voxel that has some in the session",
                got=f"{(~finite).sum()} others, the first in trial {trials[row] + 1}, {voxel}",
            )
        return found

    def _scale(self, session: int, found: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (N,) over the trials of a session (T, N)."""
        mean = found.mean(0, dtype=np.float64)
        squares = np.zeros(self.voxels.n)
        for row in found:
            squares += np.square(row - mean)
        std = np.sqrt(squares / len(found)).astype(np.float32)
        if not std.all():
            file, voxel = self.voxels.place(self.sessions[session], int(np.argmin(std)))
            raise self._unusable(
                file,
                session,
                expected="betas that vary over the trials of a session",
                got=f"constant betas in {self.sessions[session].name} at {(std == 0).sum()} voxels, the first {voxel}",
            )
        return mean.astype(np.float32), std

    def _unusable(self, place: Path, session: int, expected: str, got: str) -> DataError:
        out = self.sessions[session]
        fix = f"Download it again, or leave {out.name} out with the option {out.option}."
        fix = fix if out.option else "Download it again."
        return DataError(place, expected=expected, got=got, fix=fix)


def without_data(sessions: Sequence[Session], voxels: Voxels) -> npt.NDArray[np.bool_]:
    """Return which voxels have no data in which session, (S, N).

    Voxels outside the slab of a session are NaN, or 0, in all its trials. A few trials are read (`Voxels.probes`); a
    voxel that is not finite in one of them, or exactly 0 in all, has no data. Other trials are checked when they are
    read.
    """
    found = np.zeros((len(sessions), voxels.n), np.bool_)
    for row, session in enumerate(sessions):
        values = voxels.read(session, voxels.probes(session))
        found[row] = ~np.isfinite(values).all(0) | ~values.any(0)
    return found


def repeats_in_words(images: Ints) -> str:
    """Return the number of trials and of images, and how many images have how many trials, as words."""
    times = Counter(np.unique(images, return_counts=True)[1].tolist())
    parts = ", ".join(f"{n} in {k} trial{'s' if k > 1 else ''}" for k, n in sorted(times.items(), reverse=True))
    return f"{len(images)} trials of {sum(times.values())} images ({parts})"
