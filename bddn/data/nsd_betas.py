"""Betas of the Natural Scenes Dataset on fsaverage, read from the files of its sessions.

Shape letters: T trials of a session, N vertices of both hemispheres, S sessions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES
from bddn.cortex.mgh import Mgh, open_mgh
from bddn.errors import DataError

N_PROBES = 5  # trials of a session that show which vertices have no data
UNIT = 300  # integers are percent signal change times 300; floats are percent signal change
Ints = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Session:
    """The betas of one scan session.

    Attributes
    ----------
    name : str
        For messages, and to leave it out.
    files : mapping of str to Path
        The file of each hemisphere.
    shown : array of int, (T,)
        The image of each trial, as a row of the dataset's stimuli.
    """

    name: str
    files: Mapping[str, Path]
    shown: Ints

    def open(self) -> dict[str, Mgh]:
        """Read the headers of both files.

        Raises
        ------
        DataError
            If a file is missing or damaged, or is not one of this session on fsaverage.
        """
        found = {hemi: open_mgh(self.files[hemi]) for hemi in HEMISPHERES}
        for one in found.values():
            if (one.n_vertices, one.n_frames) != (N_VERTICES, len(self.shown)):
                raise DataError(
                    one.path,
                    expected=f"betas of {N_VERTICES} vertices of fsaverage in {len(self.shown)} trials",
                    got=f"{one.n_vertices} vertices, {one.n_frames} trials",
                    fix="Use the betas of the folder fsaverage, of the subject and session that the name says.",
                )
        return found


class Betas:
    """Responses of vertices in single trials; with `zscore`, standardized within each session.

    Parameters
    ----------
    sessions : sequence of Session
    vertices : mapping of str to array of int
        Vertices of each hemisphere, which are the columns, left hemisphere first.
    zscore : bool
        Subtract each vertex's mean over the trials of the session, and divide by its standard deviation over them
        (population: divided by T), as in the Algonauts data.
    """

    def __init__(self, sessions: Sequence[Session], vertices: Mapping[str, Ints], zscore: bool) -> None:
        self.sessions, self.vertices, self.zscore = sessions, vertices, zscore
        self._scales: dict[int, tuple[Floats, Floats]] = {}  # mean and standard deviation, of sessions read so far

    @cached_property
    def n_vertices(self) -> int:
        return sum(len(self.vertices[hemi]) for hemi in HEMISPHERES)

    def read(self, session: int, trials: Ints) -> Floats:
        """Return the responses (trials, N) in some trials of the session at this place of `sessions`.

        The first time, the whole session is read for its means; later only these trials.

        Raises
        ------
        DataError
            If a file is damaged, a response is not finite, or a vertex is constant over the session.
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
        """Return betas in percent signal change."""
        files = self.sessions[session].open()
        found = np.empty((len(trials), self.n_vertices), np.float32)
        start = 0
        for hemi in HEMISPHERES:
            file, vertices = files[hemi], self.vertices[hemi]
            columns = found[:, start : start + len(vertices)]
            file.read(vertices, trials, columns)
            if file.dtype.kind in "iu":
                columns /= UNIT
            finite = np.isfinite(columns)
            if not finite.all():
                row, column = np.argwhere(~finite)[0]
                raise self._unusable(
                    file.path,
                    session,
                    expected="finite betas of each vertex that has some in the session",
                    got=f"{(~finite).sum()} others, the first in trial {trials[row] + 1}, vertex {vertices[column]}",
                )
            start += len(vertices)
        return found

    def _scale(self, session: int, found: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (N,) over the trials of a session (T, N)."""
        mean = found.mean(0, dtype=np.float64)
        squares = np.zeros(self.n_vertices)
        for row in found:
            squares += np.square(row - mean)
        std = np.sqrt(squares / len(found)).astype(np.float32)
        if not std.all():
            raise self._unusable(
                self.sessions[session].files[HEMISPHERES[0]].parent,
                session,
                expected="betas that vary over the trials of a session",
                got=f"{(std == 0).sum()} vertices with constant betas in {self.sessions[session].name}",
            )
        return mean.astype(np.float32), std

    def _unusable(self, place: Path, session: int, expected: str, got: str) -> DataError:
        fix = f"Download it again, or leave {self.sessions[session].name} out (options sessions=… and synthetic=no)."
        return DataError(place, expected=expected, got=got, fix=fix)


def without_data(sessions: Sequence[Session], vertices: Mapping[str, Ints]) -> npt.NDArray[np.bool_]:
    """Return which vertices have no data in which session, (S, N), left hemisphere first.

    Vertices outside the slab of a session are NaN in all its trials. A few trials are read, evenly over the session; a
    vertex that is not finite in one of them, or exactly 0 in all, has no data. Other trials are checked when they are
    read.
    """
    found = np.zeros((len(sessions), sum(len(vertices[hemi]) for hemi in HEMISPHERES)), np.bool_)
    for row, session in enumerate(sessions):
        files = session.open()
        probes = np.unique(np.linspace(0, len(session.shown) - 1, N_PROBES).astype(np.intp))
        values = np.concatenate([files[hemi].read(vertices[hemi], probes) for hemi in HEMISPHERES], axis=1)
        found[row] = ~np.isfinite(values).all(0) | ~values.any(0)
    return found
