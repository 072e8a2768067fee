"""Which images a subject of LAION-fMRI saw in which session."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from bddn.data.dataset import Stimuli
from bddn.data.dataset_options import sessions_in_words
from bddn.data.grid_voxels import FILE
from bddn.data.laion.files import N_SESSIONS, betas_file, how_to_get, trials_file
from bddn.data.laion.images import read_stimuli
from bddn.data.session_betas import Session, repeats_in_words
from bddn.data.table_files import read_table
from bddn.errors import DataError
from bddn.files.filekind import is_listed

INDEX, LABEL, SESSION = "beta_index", "label", "session"


def read_labels(path: Path, session: int) -> tuple[str, ...]:
    """Return the name of the image of each volume of a session, from its trials.tsv.

    Raises
    ------
    DataError
        If it is missing or damaged, does not number the volumes from 0, or is of another session.
    """
    table = read_table(path)
    index = table.numbers(INDEX, "the volume of each trial, from 0", "")
    labels = table.texts(LABEL, "the name of the image of each trial", "")
    numbers = {re.sub(r"\D", "", cell).lstrip("0") for cell in table.cells.get(SESSION, [str(session)])}
    n = len(labels)
    problems = {
        f"{INDEX} with each number from 0 to {n - 1} once": np.array_equal(np.sort(index), np.arange(n)),
        f"trials of session {session}": numbers == {str(session)},
        f"a name in each row of {LABEL}": all(labels),
    }
    wrong = [words for words, holds in problems.items() if not holds]
    if wrong:
        counted = ", as if counted from 1" if index.min() == 1 and index.max() == n else ""
        raise DataError(
            path,
            expected=wrong[0],
            got=f"{n} rows, {INDEX} from {index.min():g} to {index.max():g}{counted}, session {', '.join(numbers)}",
            fix="Download it again.",
        )
    return tuple(labels[k] for k in np.argsort(index))


class Shown:
    """The sessions of one subject that are used, and their images.

    Parameters
    ----------
    root : Path
        The folder of the download.
    subject : int
    wanted : sequence of int, optional
        Sessions, ascending; by default all released ones that are on this machine.

    Raises
    ------
    DataError
        If a session that was asked for is missing, or the trials of a session whose betas are there.
    """

    def __init__(self, root: Path, subject: int, wanted: Sequence[int] | None) -> None:
        self.root, self.subject = root, subject
        self.used = self._find(wanted)
        self.labels = {session: read_labels(root / trials_file(subject, session), session) for session in self.used}
        self.ids = tuple(sorted({label for of_session in self.labels.values() for label in of_session}))

    def _find(self, wanted: Sequence[int] | None) -> tuple[int, ...]:
        every = range(1, N_SESSIONS + 1)
        used = tuple(s for s in every if self._is_here(s)) if wanted is None else tuple(wanted)
        needed = [file(self.subject, s) for s in used or (1,) for file in (betas_file, trials_file)]
        absent = [file for file in needed if not is_listed(self.root / file)]
        if used and not absent:
            return used
        raise DataError(
            self.root,
            expected="the betas of each session, and the table of its trials",
            got=f"no {', '.join(file.name for file in absent)}" if used else "no betas",
            fix=how_to_get(*absent),
        )

    def _is_here(self, session: int) -> bool:
        return is_listed(self.root / betas_file(self.subject, session))

    @cached_property
    def stimuli(self) -> Stimuli:
        """The images, sorted by name."""
        return read_stimuli(self.root, self.ids)

    @cached_property
    def sessions(self) -> list[Session]:
        """The sessions, with the row of `stimuli` of each trial."""
        row = {label: k for k, label in enumerate(self.ids)}
        return [
            Session(
                f"session {session}",
                {FILE: self.root / betas_file(self.subject, session)},
                np.array([row[label] for label in labels], np.intp),
            )
            for session, labels in self.labels.items()
        ]

    def covariates(self) -> pd.DataFrame:
        """Return a row for each trial, session after session.

        `old` is 1 if the image was shown before, and NaN if an earlier session whose trials are not here may have
        shown it. `time` is the place in the session, from -1 to 1.
        """
        seen, old, time = set[str](), list[float](), list[np.ndarray]()
        known = True
        for session in range(1, max(self.used) + 1):
            path = self.root / trials_file(self.subject, session)
            labels = self.labels.get(session) or (read_labels(path, session) if is_listed(path) else ())
            known &= bool(labels)
            if session in self.labels:
                time.append(np.linspace(-1, 1, len(labels)))
            for label in labels:
                if session in self.labels:
                    old.append(1.0 if label in seen else 0.0 if known else np.nan)
                seen.add(label)
        return pd.DataFrame({"old": np.array(old), "time": np.concatenate(time)})

    def in_words(self) -> str:
        """Return sessions, trials and images as words."""
        shown = np.concatenate([session.shown for session in self.sessions])
        return f"sessions {sessions_in_words(self.used)}: {repeats_in_words(shown)}"

    def missing_in_words(self) -> list[str]:
        """Return a sentence on the sessions that are not on this machine, and where to get them; or an empty list."""
        absent = [s for s in range(1, N_SESSIONS + 1) if not self._is_here(s)]
        if not absent:
            return []
        inside = [session for session in absent if min(self.used) < session < max(self.used)]
        gap = f", {sessions_in_words(inside)} between others that are" if inside else ""
        files = betas_file(self.subject, absent[0]), trials_file(self.subject, absent[0])
        return [f"sessions {sessions_in_words(absent)} are not on this machine{gap}. {how_to_get(*files)}"]
