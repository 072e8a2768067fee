"""The Natural Scenes Dataset, one subject, as the official download lies on disk.

Source: E. Allen et al. (2022), Nature Neuroscience 25: 116-126, and the NSD data manual. `docs/nsd.md` lists the files.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Volume
from bddn.cortex.places import positions
from bddn.data.ceiling import ceiling_of_ncsnr
from bddn.data.dataset import About, Stimuli, Trials
from bddn.data.nsd_betas import Betas, without_data
from bddn.data.nsd_experiment import SYNTHETIC, Experiment
from bddn.data.nsd_files import DESIGN, SYNTHETIC_DESIGN, VERSIONS, how_to_get
from bddn.data.nsd_options import choice, session_numbers, subject_number
from bddn.data.nsd_surface import ALL, NSDGENERAL, Surface
from bddn.data.nsd_volume import SPACE, Func1pt8mm
from bddn.errors import DataError
from bddn.files.filekind import MISSING, explain, is_listed

FSAVERAGE = "fsaverage"
SPACES: dict[str, type[Surface] | type[Func1pt8mm]] = {FSAVERAGE: Surface, SPACE: Func1pt8mm}


class Nsd:
    """One subject of NSD; implements `bddn.data.Dataset`. Files are read on demand.

    Parameters
    ----------
    root : Path
        The folder with `nsddata`, `nsddata_betas` and `nsddata_stimuli`.
    subject : str
        1 to 8.
    betas : {'b3', 'b2'}
    sessions : str
        'all' that are there, or numbers such as '1-37' or '1-10+12'.
    voxels : str
        'nsdgeneral', 'all', or the name of labels: voxels with a label above 0.
    space : {'fsaverage', 'func1pt8mm'}
        Vertices of fsaverage, or voxels of the subject's own volume.
    trials : {'mean', 'single'}
        Whether a response is the mean over the trials of an image, or a single trial.
    zscore : {'yes', 'no'}
        Whether responses are standardized within each session.
    synthetic : {'no', 'yes'}
        Whether the images of NSD-synthetic are added.
    ceiling : str
        The images that noise ceilings are for: 'all', or the name of a test set.

    Raises
    ------
    DataError
        If files are missing, which it names with the official command, or an option is wrong.
    """

    about: ClassVar[About] = About(
        name="nsd",
        usage="nsd:ROOT,subject=1",
        responses="Responses are betas of the Natural Scenes Dataset (Allen et al., 2022) on fsaverage.",
        references=(
            "Allen EJ et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial "
            "intelligence. Nature Neuroscience 25: 116-126.",
        ),
        terms="Data terms: every user of the Natural Scenes Dataset accepts its terms of use; neither the data nor "
        "parts of them may be passed on. Check these terms before sharing encoders or maps of single subjects.",
        options="subject=1 to 8; betas=b3|b2; sessions=all|1-37; voxels=nsdgeneral|all|LABEL; "
        "space=fsaverage|func1pt8mm; trials=mean|single; zscore=yes|no; synthetic=no|yes adds NSD-synthetic; "
        "ceiling=all|shared515|…: which images noise ceilings are for.",
        trials="averaged",
    )

    def __init__(
        self,
        root: Path,
        subject: str = "",
        betas: str = "b3",
        sessions: str = ALL,
        voxels: str = NSDGENERAL,
        space: str = FSAVERAGE,
        trials: str = "mean",
        zscore: str = "yes",
        synthetic: str = "no",
        ceiling: str = ALL,
    ) -> None:
        self.root, self.subject, self._selected = root, subject_number(subject), voxels
        self.version = choice("betas", betas, VERSIONS)
        self._space = SPACES[choice("space", space, SPACES)](root, self.subject, self.version, voxels)
        self._single = choice("trials", trials, ("mean", "single")) == "single"
        self._zscore = choice("zscore", zscore, ("yes", "no")) == "yes"
        with_synthetic = choice(SYNTHETIC, synthetic, ("no", "yes")) == "yes"
        given = {
            "betas": (betas, "b3"),
            "sessions": (sessions, ALL),
            "voxels": (voxels, NSDGENERAL),
            "space": (space, FSAVERAGE),
            "trials": (trials, "mean"),
            "zscore": (zscore, "yes"),
            SYNTHETIC: (synthetic, "no"),
            "ceiling": (ceiling, ALL),
        }
        options = "".join(f",{key}={value}" for key, (value, default) in given.items() if value != default)
        self.name = f"nsd:{root},subject={self.subject}{options}"
        wanted = session_numbers(sessions, self.subject)
        self._check_files(with_synthetic)
        more = self._space.synthetic_files() if with_synthetic else None
        self.experiment = Experiment(root, self.subject, self._space.files_of, wanted, more)
        tests = [name for name in self.named_tests() if name != SYNTHETIC]
        self._ceiling_of = choice("ceiling", ceiling, (ALL, *tests))
        kind: Trials = "single" if self._single else "averaged"
        self.about = replace(self.about, responses=self._in_words(), trials=kind)  # type: ignore[misc]

    def _check_files(self, with_synthetic: bool) -> None:
        """Name all files that are missing, in one message."""
        if not (self.root / "nsddata").is_dir():
            fix = "Give the folder of the download."
            got, fix = explain(self.root, "no such folder", fix, MISSING) if not self.root.is_dir() else ("others", fix)
            raise DataError(self.root, expected="a folder with nsddata/ and nsddata_betas/", got=got, fix=fix)
        synthetic = [SYNTHETIC_DESIGN, *self._space.synthetic_files().values()] if with_synthetic else []
        needed = [DESIGN, *self._space.needed(), *synthetic]
        absent = [file for file in needed if not is_listed(self.root / file)]
        if absent:
            labels = ", ".join(self._space.labels_here())
            known = f" For voxels=…, these labels are here: {labels}." if {*self._space.needed()} & {*absent} else ""
            raise DataError(
                self.root,
                expected=", ".join(file.as_posix() for file in needed),
                got=f"no {', '.join(file.as_posix() for file in absent)}",
                fix=how_to_get(*absent) + known * bool(labels),
            )

    @property
    def stimuli(self) -> Stimuli:
        """The images that were shown, by their numbers among the 73,000, which count from 0."""
        return self.experiment.stimuli

    def named_tests(self) -> dict[str, tuple[str, ...]]:
        """Return the ids of the images of known test sets; see `Experiment.named_tests`."""
        return self.experiment.named_tests()

    @property
    def response_ids(self) -> tuple[str, ...] | None:
        """The stimulus id of each trial, if responses are single trials; see `bddn.data.trials`."""
        return self.experiment.trial_ids if self._single else None

    def covariates(self) -> pd.DataFrame | None:
        """Return what else is known of each trial, if responses are single trials; see `Experiment.covariates`."""
        return self.experiment.covariates() if self._single else None

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        """Return responses (n, n_voxels): means over the trials of each image, or single trials.

        Raises
        ------
        DataError
            If a file of betas is damaged.
        """
        n = len(self.experiment.trial_ids if self._single else self.stimuli)
        wanted = np.arange(n) if rows is None else np.asarray(rows, np.intp)
        return self._trials(wanted) if self._single else self._means(wanted)

    def _trials(self, wanted: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        out = np.empty((len(wanted), self._voxels.n), np.float32)
        ends = np.cumsum([len(session.shown) for session in self.experiment.sessions])
        places = np.searchsorted(ends, wanted, "right")
        for place in np.unique(places):
            at = np.flatnonzero(places == place)
            start = ends[place] - len(self.experiment.sessions[place].shown)
            out[at] = self._betas.read(int(place), wanted[at] - start)
        return out

    def _means(self, wanted: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        out = np.zeros((len(wanted), self._voxels.n), np.float32)
        for place, session in enumerate(self.experiment.sessions):
            trials = np.flatnonzero(np.isin(session.shown, ascending))
            if not len(trials):
                continue
            first, last = (np.searchsorted(ascending, session.shown[trials], side) for side in ("left", "right"))
            for response, start, stop in zip(self._betas.read(place, trials), first, last, strict=True):
                for row in order[start:stop]:
                    out[row] += response
        out /= self.experiment.n_trials[wanted, None].astype(np.float32)
        return out

    def voxels(self) -> pd.DataFrame:
        """Return the table of `bddn.data.Dataset`, with a column for each atlas on this machine."""
        return self._table.copy()

    def coords_mm(self) -> npt.NDArray[np.float32]:
        """See `Dataset.coords_mm`."""
        return positions(self._table)

    def truth(self) -> pd.DataFrame | None:
        """Return None."""
        return None

    def remarks(self) -> list[str]:
        """Return what a user should know of the files: sessions, voxels, labels and ceilings, as sentences."""
        about = self.experiment
        return [about.in_words(), *about.missing_in_words(), self._left_out_in_words(), *self._space.remarks()]

    @property
    def frame(self) -> Volume | None:
        """The grid of a volume; None on fsaverage."""
        return self._space.frame

    @cached_property
    def _without_data(self) -> npt.NDArray[np.bool_]:
        """Which of the selected voxels have no data in which session, (sessions, candidates)."""
        return without_data(self.experiment.sessions, self._space.candidates)

    @cached_property
    def _voxels(self) -> Any:
        """The voxels that have data in all sessions."""
        kept = np.logical_not(self._without_data.any(0))
        if not kept.any():
            raise DataError(
                self.name,
                expected="voxels with betas in all used sessions",
                got=f"none of {len(kept)}",
                fix="Give fewer sessions with the option sessions=…, or download the betas again.",
            )
        return self._space.candidates.part(kept)

    @cached_property
    def _betas(self) -> Betas:
        return Betas(self.experiment.sessions, self._voxels, self._zscore)

    @cached_property
    def _table(self) -> pd.DataFrame:
        return self._space.table(self._voxels).assign(ceiling=self._ceilings())

    def _ceilings(self) -> npt.NDArray[np.float64]:
        """Return noise ceilings for the numbers of trials that the images have; NaN without the files of ncsnr."""
        ncsnr = self._space.ncsnr(self._voxels)
        if ncsnr is None:
            return np.full(self._voxels.n, np.nan)
        if self._single:
            return ceiling_of_ncsnr(ncsnr, 1)
        n_trials = self.experiment.n_trials[: self.experiment.n_core]
        if self._ceiling_of != ALL:
            chosen = set(self.named_tests()[self._ceiling_of])
            n_trials = n_trials[[stimulus in chosen for stimulus in self.stimuli.ids[: len(n_trials)]]]
        return ceiling_of_ncsnr(ncsnr, n_trials)

    def _left_out_in_words(self) -> str:
        lacking = self._without_data
        never, sometimes = lacking.all(0), lacking.any(0) & ~lacking.all(0)
        worst = self.experiment.sessions[int(lacking[:, sometimes].sum(1).argmax())].name
        where = f" (most of them in {worst})" if sometimes.any() else ""
        return (
            f"left out of the {lacking.shape[1]} voxels of {self._selected}: {never.sum()} without data in any "
            f"session, and {sometimes.sum()} without data in some{where}"
        )

    def _in_words(self) -> str:
        unit = "z-scored within each session" if self._zscore else "in percent signal change"
        how = "single trials" if self._single else "means over the trials of an image"
        return (
            f"Responses are the betas {self.version} ({VERSIONS[self.version]}) of subject {self.subject} of the "
            f"Natural Scenes Dataset (Allen et al., 2022), {self._space.where}, {unit}, {how} "
            f"({self.experiment.in_words()})."
        )
