"""What a subject of the Natural Scenes Dataset saw in which session, and where images and betas lie."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from bddn.data.dataset import Stimuli
from bddn.data.dataset_options import sessions_in_words
from bddn.data.nsd.design import LAST, read_design, read_synthetic_order
from bddn.data.nsd.files import (
    N_SESSIONS,
    STIMULI,
    SYNTHETIC_STIMULI,
    how_to_get,
    synthetic_color_stimuli,
)
from bddn.data.nsd.images import N_SYNTHETIC_SHARED, NsdImages
from bddn.data.session_betas import Session, repeats_in_words
from bddn.errors import DataError
from bddn.files.filekind import is_listed

SYNTHETIC = "synthetic"


class Experiment:
    """The sessions of one subject that are used, and their images.

    Parameters
    ----------
    root : Path
        The folder of the download.
    subject : int
        1 to 8.
    files_of : callable
        Returns the files of the betas of a session, relative to the root.
    wanted : sequence of int, optional
        Sessions, ascending; by default all that are on this machine.
    synthetic : mapping of str to Path, optional
        The files of the betas of the session of NSD-synthetic, if it follows.

    Raises
    ------
    DataError
        If the design is missing or wrong, a session that was asked for is missing, or one hemisphere of a session.
    """

    def __init__(
        self,
        root: Path,
        subject: int,
        files_of: Callable[[int], Mapping[str, Path]],
        wanted: Sequence[int] | None,
        synthetic: Mapping[str, Path] | None,
    ) -> None:
        self.root, self.subject, self._files_of, self._synthetic_files = root, subject, files_of, synthetic
        self._design = read_design(root, subject)
        self.used = self._find_sessions(wanted)
        self._shown = [self._design.shown(session) for session in self.used]
        self._numbers = np.unique(np.concatenate(self._shown))
        self.n_core = len(self._numbers)
        """Number of images of NSD; those of NSD-synthetic follow."""
        self._synthetic = read_synthetic_order(root) if synthetic is not None else np.zeros(0, np.intp)

    def _find_sessions(self, wanted: Sequence[int] | None) -> tuple[int, ...]:
        here = {s: [is_listed(self.root / file) for file in self._files_of(s).values()] for s in self._every}
        used = tuple(s for s in self._every if any(here[s])) if wanted is None else tuple(wanted)
        if used and all(all(here[s]) for s in used):
            return used
        files = {s: self._files_of(s).values() for s in used or (1,)}
        absent = [file for s, of in files.items() for file, found in zip(of, here[s], strict=True) if not found]
        raise DataError(
            self.root / absent[0].parent,
            expected="the betas of each session, of both hemispheres on a surface",
            got=f"no {', '.join(file.name for file in absent)}" if used else "none",
            fix=how_to_get(*absent),
        )

    @property
    def _every(self) -> range:
        return range(1, N_SESSIONS[self.subject - 1] + 1)

    def _here(self, files: Mapping[str, Path]) -> dict[str, Path]:
        return {name: self.root / file for name, file in files.items()}

    @cached_property
    def stimuli(self) -> Stimuli:
        """The images that were shown: those of NSD by their numbers from 0, then those of NSD-synthetic."""
        rows = [int(number) for number in self._numbers]
        ids, paths = [f"nsd-{row:05d}" for row in rows], [self.root / STIMULI] * len(rows)
        for k in np.unique(self._synthetic).tolist():
            own = k >= N_SYNTHETIC_SHARED  # of this subject
            file = synthetic_color_stimuli(self.subject) if own else SYNTHETIC_STIMULI / "nsdsynthetic_stimuli.hdf5"
            ids.append(f"nsdsynthetic-subj{self.subject:02d}-{k:03d}" if own else f"nsdsynthetic-{k:03d}")
            paths.append(self.root / file)
            rows.append(k - N_SYNTHETIC_SHARED if own else k)
        return Stimuli(tuple(ids), tuple(paths), tuple(rows), NsdImages())

    @cached_property
    def sessions(self) -> list[Session]:
        """The sessions, with the row of `stimuli` of each trial."""
        found = [
            Session(f"session {session}", self._here(self._files_of(session)), np.searchsorted(self._numbers, shown))
            for session, shown in zip(self.used, self._shown, strict=True)
        ]
        if self._synthetic_files is not None:
            rows = np.searchsorted(np.unique(self._synthetic), self._synthetic)
            files = self._here(self._synthetic_files)
            found.append(Session("NSD-synthetic", files, self.n_core + rows, f"{SYNTHETIC}=no"))
        return found

    def covariates(self) -> pd.DataFrame:
        """Return a row for each trial, session after session: `old` is 1 if its image was shown before, and `time` is
        its place in the session, from -1 to 1."""
        old = [self._design.is_old(session) for session in self.used]
        if len(self._synthetic):
            first = np.unique(self._synthetic, return_index=True)[1]
            old.append(~np.isin(np.arange(len(self._synthetic)), first))
        time = [np.linspace(-1, 1, len(of_session)) for of_session in old]
        return pd.DataFrame({"old": np.concatenate(old).astype(np.float64), "time": np.concatenate(time)})

    def named_tests(self) -> dict[str, tuple[str, ...]]:
        """Return the ids of the images of known test sets; see `Design.named_tests`. `synthetic` is NSD-synthetic."""
        numbers = self._design.named_tests(self.used)
        if len(self.used) <= LAST:
            del numbers[f"last{LAST}"]  # it would be all images
        found = {name: tuple(f"nsd-{k:05d}" for k in of_set) for name, of_set in numbers.items() if len(of_set)}
        return {**found, SYNTHETIC: self.stimuli.ids[self.n_core :]} if len(self._synthetic) else found

    def in_words(self) -> str:
        """Return sessions, trials and images as words."""
        more = f"; {len(self._synthetic)} trials of NSD-synthetic" if len(self._synthetic) else ""
        return f"sessions {sessions_in_words(self.used)}: {repeats_in_words(np.concatenate(self._shown))}{more}"

    def missing_in_words(self) -> list[str]:
        """Return a sentence on the sessions that are not on this machine, and where to get them; or an empty list."""
        absent = [s for s in self._every if not any(is_listed(self.root / file) for file in self._files_of(s).values())]
        if not absent:
            return []
        first = self._files_of(absent[0]).values()
        inside = [session for session in absent if min(self.used) < session < max(self.used)]
        gap = f", {sessions_in_words(inside)} between others that are" if inside else ""
        return [f"sessions {sessions_in_words(absent)} are not on this machine{gap}. {how_to_get(*first)}"]
