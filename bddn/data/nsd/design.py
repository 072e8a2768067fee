"""The design of the Natural Scenes Dataset: which image a subject saw in which trial.

`nsd_expdesign.mat` counts everything from 1 (NSD data manual, "nsd_expdesign.mat"):

    masterordering (1, 30000)   for each trial, which of a subject's 10,000 images was shown; the same for all subjects
    subjectim (8, 10000)        for each of a subject's images, its number among the 73,000; the first 1,000 are shared
    sharedix (1, 1000)          the numbers of the shared images

Here, all of them count from 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.data.nsd.files import DESIGN, N_SESSIONS, SYNTHETIC_DESIGN, how_to_get, missing
from bddn.errors import DataError
from bddn.files.filekind import MATLAB, explain

N_IMAGES = 73_000
MAX_SESSIONS = max(N_SESSIONS)
N_PAPER = 284
"""Number of shared images in the test of the NSD-synthetic paper."""
LAST = 5
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Design:
    """What one subject saw.

    Attributes
    ----------
    order : array of int, (40 · T,)
        For each trial of 40 sessions of T trials, which of the subject's images was shown.
    images : array of int, (10000,)
        The number of each of the subject's images among the 73,000.
    n_shared : int
        So many of the first of them are those that all subjects share.
    """

    order: Ints
    images: Ints
    n_shared: int

    @property
    def n_trials(self) -> int:
        """Trials of a session: 750."""
        return len(self.order) // MAX_SESSIONS

    def shown(self, session: int) -> Ints:
        """Return the number among the 73,000 of the image of each trial (T,) of a session, which is counted from 1."""
        return np.asarray(self.images[self._slots(session)])

    def is_old(self, session: int) -> npt.NDArray[np.bool_]:
        """Return for each trial (T,) whether its image was shown before, in this or an earlier session."""
        old = np.ones(len(self.order), np.bool_)
        old[np.unique(self.order, return_index=True)[1]] = False
        return old[(session - 1) * self.n_trials : session * self.n_trials]

    def _slots(self, session: int) -> Ints:
        return self.order[(session - 1) * self.n_trials : session * self.n_trials]

    def named_tests(self, sessions: Sequence[int]) -> dict[str, Ints]:
        """Return the numbers of images, ascending, that are known as test sets, of those shown in some sessions.

        - `shared1000`: the images that all subjects were to see.
        - `shared515`: those that all eight subjects saw three times, which is within the 30 sessions that all have.
        - `shared284`: the first 284 of these (Gifford et al., NSD-synthetic).
        - `last5`: the images that were shown only in the last five of the sessions.
        """
        seen = {session: self._slots(session) for session in sessions}
        here = np.unique(np.concatenate(list(seen.values())))
        of_all, times = np.unique(self.order[: min(N_SESSIONS) * self.n_trials], return_counts=True)
        thrice = of_all[(times == 3) & (of_all < self.n_shared)]
        earlier = np.concatenate([np.zeros(0, np.intp), *(seen[session] for session in sorted(seen)[:-LAST])])
        slots = {
            "shared1000": here[here < self.n_shared],
            "shared515": np.intersect1d(thrice, here),
            "last5": np.setdiff1d(here, earlier),
        }
        found = {name: np.sort(self.images[rows]) for name, rows in slots.items()}
        return {**found, "shared284": np.intersect1d(np.sort(self.images[thrice])[:N_PAPER], found["shared515"])}


def read_design(root: Path, subject: int) -> Design:
    """Read the design of a subject, 1 to 8.

    Raises
    ------
    DataError
        If the file is missing or damaged, or its numbers are not those of such a design.
    """
    found = _read_mat(root, DESIGN, ("masterordering", "subjectim", "sharedix"))
    path = root / DESIGN
    every = _from_one(path, "subjectim", found["subjectim"], N_IMAGES)
    order = _from_one(path, "masterordering", found["masterordering"], every.shape[-1]).ravel()
    shared = _from_one(path, "sharedix", found["sharedix"], N_IMAGES).ravel()
    problems = {
        f"subjectim with {len(N_SESSIONS)} rows, one per subject": every.ndim == 2 and len(every) == len(N_SESSIONS),
        f"masterordering of {MAX_SESSIONS} sessions of equal length": len(order) % MAX_SESSIONS == 0,
    }
    if all(problems.values()):
        images = every[subject - 1]
        problems["each image once in a row of subjectim"] = len(np.unique(images)) == len(images)
        problems["the shared images first in subjectim"] = set(images[: len(shared)]) == set(shared)
    wrong = [words for words, holds in problems.items() if not holds]
    if wrong:
        shapes = ", ".join(f"{name} {found[name].shape}" for name in found)
        raise DataError(path, expected=wrong[0], got=f"other numbers ({shapes})", fix=how_to_get(DESIGN))
    return Design(order, images, len(shared))


def read_synthetic_order(root: Path) -> Ints:
    """Return which of the 284 images of NSD-synthetic was shown in each trial, counted from 0."""
    found = _read_mat(root, SYNTHETIC_DESIGN, ("masterordering",))
    return _from_one(root / SYNTHETIC_DESIGN, "masterordering", found["masterordering"], N_PAPER).ravel()


def _read_mat(root: Path, file: Path, names: Sequence[str]) -> Mapping[str, npt.NDArray[Any]]:
    from scipy.io import loadmat

    path = root / file
    if not path.exists():
        raise missing(root, file, "the design of the experiment")
    try:
        found = loadmat(path, variable_names=list(names))
        return {name: np.asarray(found[name]) for name in names}
    except Exception as error:  # a damaged file can raise anything in the reader
        cause = f"no variable {error}" if isinstance(error, KeyError) else f"{error}" or type(error).__name__
        got, fix = explain(path, f"another file, or a damaged one ({cause})", how_to_get(file), MATLAB)
        raise DataError(path, expected=f"a MATLAB file with {', '.join(names)}", got=got, fix=fix) from error


def _from_one(path: Path, name: str, values: npt.NDArray[Any], most: int) -> Ints:
    """Return whole numbers from 1 to `most`, less 1."""
    numbers = values.dtype.kind in "iuf" and values.size > 0
    if not numbers or (values != np.floor(values)).any() or values.min() < 1 or values.max() > most:
        raise DataError(
            path,
            expected=f"{name} of whole numbers from 1 to {most}",
            got=f"{values.dtype} of shape {values.shape}" + (f" from {values.min()}" if numbers else ""),
            fix="NSD counts from 1. Restore the original file.",
        )
    return values.astype(np.intp) - 1
