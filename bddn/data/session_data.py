"""A subject whose responses are betas of single trials, in one file per scan session."""

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import positions
from bddn.data.ceiling import ceiling_of_ncsnr
from bddn.data.dataset import About, Stimuli
from bddn.data.dataset_options import choice
from bddn.data.session_betas import Betas, Session, Voxels, without_data
from bddn.errors import DataError

ALL = "all"


class SessionData(ABC):
    """The base of such datasets; implements most of `bddn.data.Dataset`. Files are read on demand.

    Responses are single trials or means over the trials of each image. Voxels without data in one of the sessions are
    left out. Noise ceilings are for the numbers of trials that the images have.

    Attributes
    ----------
    name : str
        As the user gave it.
    selected : str
        Which voxels were selected, in words.

    Parameters
    ----------
    kind : str
        That of the dataset, for messages.
    trials : str
        Whether a response is the mean over the trials of an image ('mean'), or a single trial ('single').
    zscore : str
        Whether responses are standardized within each session: 'yes' or 'no'.
    ceiling_of : str
        The images that noise ceilings are for: 'all', or the name of a test set.

    Raises
    ------
    DataError
        If `trials` or `zscore` is something else.
    """

    about: About
    name: str
    selected: str

    def __init__(self, kind: str, trials: str, zscore: str, ceiling_of: str) -> None:
        self._single = choice(kind, "trials", trials, ("mean", "single")) == "single"
        self._zscore = choice(kind, "zscore", zscore, ("yes", "no")) == "yes"
        self._ceiling_of = ceiling_of
        self._how = "single trials" if self._single else "means over the trials of an image"

    def _describe(self, responses: str) -> None:
        """Say in `about` what the responses are, instead of what they are of any subject."""
        self.about = replace(self.about, responses=responses, trials="single" if self._single else "averaged")

    @property
    @abstractmethod
    def stimuli(self) -> Stimuli:
        """The images that were shown."""

    @property
    @abstractmethod
    def sessions(self) -> list[Session]:
        """The sessions that are used."""

    @property
    @abstractmethod
    def candidates(self) -> Voxels:
        """The selected voxels, with or without data."""

    @abstractmethod
    def places(self, voxels: Voxels) -> pd.DataFrame:
        """Return the table of some of the candidates, without ceilings."""

    @abstractmethod
    def ncsnr(self, voxels: Voxels) -> npt.NDArray[np.floating] | None:
        """Return standard deviation of the signal over that of the noise of a single trial (N,), or None if unknown."""

    @abstractmethod
    def named_tests(self) -> dict[str, tuple[str, ...]]:
        """Return the ids of the images of known test sets."""

    @property
    def n_with_ceiling(self) -> int:
        """So many of the first images are those that `ncsnr` is about."""
        return len(self.stimuli)

    @cached_property
    def n_trials(self) -> npt.NDArray[np.intp]:
        """The number of trials of each image (n_images,)."""
        return np.bincount(np.concatenate([session.shown for session in self.sessions]), minlength=len(self.stimuli))

    @property
    def response_ids(self) -> tuple[str, ...] | None:
        """The stimulus id of each trial, if responses are single trials; see `bddn.data.trials`."""
        return self._trial_ids if self._single else None

    @cached_property
    def _trial_ids(self) -> tuple[str, ...]:
        ids = self.stimuli.ids
        return tuple(ids[row] for session in self.sessions for row in session.shown)

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        """Return responses (n, n_voxels): means over the trials of each image, or single trials.

        Raises
        ------
        DataError
            If a file of betas is damaged.
        """
        n = int(self.n_trials.sum()) if self._single else len(self.stimuli)
        wanted = np.arange(n) if rows is None else np.asarray(rows, np.intp)
        return self._trials(wanted) if self._single else self._means(wanted)

    def _trials(self, wanted: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        out = np.empty((len(wanted), self._voxels.n), np.float32)
        ends = np.cumsum([len(session.shown) for session in self.sessions])
        places = np.searchsorted(ends, wanted, "right")
        for place in np.unique(places):
            at = np.flatnonzero(places == place)
            start = ends[place] - len(self.sessions[place].shown)
            out[at] = self._betas.read(int(place), wanted[at] - start)
        return out

    def _means(self, wanted: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        out = np.zeros((len(wanted), self._voxels.n), np.float32)
        for place, session in enumerate(self.sessions):
            trials = np.flatnonzero(np.isin(session.shown, ascending))
            if not len(trials):
                continue
            first, last = (np.searchsorted(ascending, session.shown[trials], side) for side in ("left", "right"))
            for response, start, stop in zip(self._betas.read(place, trials), first, last, strict=True):
                for row in order[start:stop]:
                    out[row] += response
        out /= self.n_trials[wanted, None].astype(np.float32)
        return out

    def voxels(self) -> pd.DataFrame:
        """Return the table of `bddn.data.Dataset`, with a column for each atlas on this machine."""
        return self._table.copy()

    def coords_mm(self) -> npt.NDArray[np.float32]:
        return positions(self._table)

    def truth(self) -> pd.DataFrame | None:
        """Return None."""
        return None

    @cached_property
    def _without_data(self) -> npt.NDArray[np.bool_]:
        """Which of the selected voxels have no data in which session, (sessions, candidates)."""
        return without_data(self.sessions, self.candidates)

    @cached_property
    def _voxels(self) -> Voxels:
        """The voxels that have data in all sessions."""
        kept = np.logical_not(self._without_data.any(0))
        if not kept.any():
            raise DataError(
                self.name,
                expected="voxels with betas in all used sessions",
                got=f"none of {len(kept)}",
                fix="Give fewer sessions with the option sessions=…, or download the betas again.",
            )
        return self.candidates.part(kept)

    @cached_property
    def _betas(self) -> Betas:
        return Betas(self.sessions, self._voxels, self._zscore)

    @cached_property
    def _table(self) -> pd.DataFrame:
        return self.places(self._voxels).assign(ceiling=self._ceilings())

    def _ceilings(self) -> npt.NDArray[np.float64]:
        """Return noise ceilings for the numbers of trials that the images have; NaN where they are unknown."""
        ncsnr = self.ncsnr(self._voxels)
        if ncsnr is None:
            return np.full(self._voxels.n, np.nan)
        if self._single:
            return ceiling_of_ncsnr(ncsnr, 1)
        n_trials = self.n_trials[: self.n_with_ceiling]
        if self._ceiling_of != ALL:
            chosen = set(self.named_tests()[self._ceiling_of])
            n_trials = n_trials[[stimulus in chosen for stimulus in self.stimuli.ids[: len(n_trials)]]]
        return ceiling_of_ncsnr(ncsnr, n_trials)

    def left_out_in_words(self) -> str:
        """Return how many of the selected voxels have no data, as words."""
        lacking = self._without_data
        never, sometimes = lacking.all(0), lacking.any(0) & ~lacking.all(0)
        worst = self.sessions[int(lacking[:, sometimes].sum(1).argmax())].name
        where = f" (most of them in {worst})" if sometimes.any() else ""
        return (
            f"left out of the {lacking.shape[1]} voxels of {self.selected}: {never.sum()} without data in any "
            f"session, and {sometimes.sum()} without data in some{where}"
        )
