"""The Natural Scenes Dataset, one subject, as the official download lies on disk.

Source: E. Allen et al. (2022), Nature Neuroscience 25: 116-126, and the NSD data manual. `docs/nsd.md` lists the files.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Volume
from bddn.data.dataset import About, Stimuli
from bddn.data.dataset_options import choice, given_options, session_numbers, subject_number
from bddn.data.nsd.experiment import SYNTHETIC, Experiment
from bddn.data.nsd.files import DESIGN, N_SESSIONS, SYNTHETIC_DESIGN, VERSIONS, how_to_get
from bddn.data.nsd.surface import NSDGENERAL, Surface
from bddn.data.nsd.volume import SPACE, Func1pt8mm
from bddn.data.session_betas import Session
from bddn.data.session_data import ALL, SessionData
from bddn.errors import DataError
from bddn.files.filekind import MISSING, explain, is_listed

FSAVERAGE = "fsaverage"
SPACES: dict[str, type[Surface] | type[Func1pt8mm]] = {FSAVERAGE: Surface, SPACE: Func1pt8mm}


class Nsd(SessionData):
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

    about: About = About(
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
        self.root, self.selected = root, voxels
        self.subject = subject_number(
            "nsd", subject, range(1, len(N_SESSIONS) + 1), f"a number from 1 to {len(N_SESSIONS)}"
        )
        self.version = choice("nsd", "betas", betas, VERSIONS)
        self._space = SPACES[choice("nsd", "space", space, SPACES)](root, self.subject, self.version, voxels)
        super().__init__("nsd", trials, zscore, ceiling)
        with_synthetic = choice("nsd", SYNTHETIC, synthetic, ("no", "yes")) == "yes"
        given = given_options(
            type(self),
            betas=betas,
            sessions=sessions,
            voxels=voxels,
            space=space,
            trials=trials,
            zscore=zscore,
            synthetic=synthetic,
            ceiling=ceiling,
        )
        self.name = f"nsd:{root},subject={self.subject}{given}"
        wanted = session_numbers("nsd", sessions, N_SESSIONS[self.subject - 1], self.subject)
        self._check_files(with_synthetic)
        more = self._space.synthetic_files() if with_synthetic else None
        self.experiment = Experiment(root, self.subject, self._space.files_of, wanted, more)
        tests = [name for name in self.named_tests() if name != SYNTHETIC]
        choice("nsd", "ceiling", ceiling, (ALL, *tests))
        self._describe(self._in_words())

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
            fix = how_to_get(*absent)
            if labels and set(absent) <= set(self._space.needed()):
                fix = f"For voxels=…, these labels are here: {labels}. For other labels of NSD: {fix}"
            raise DataError(
                self.root,
                expected=", ".join(file.as_posix() for file in needed),
                got=f"no {', '.join(file.as_posix() for file in absent)}",
                fix=fix,
            )

    @property
    def stimuli(self) -> Stimuli:
        """The images that were shown, by their numbers among the 73,000, which count from 0."""
        return self.experiment.stimuli

    def named_tests(self) -> dict[str, tuple[str, ...]]:
        """Return the ids of the images of known test sets; see `Experiment.named_tests`."""
        return self.experiment.named_tests()

    def covariates(self) -> pd.DataFrame | None:
        """Return what else is known of each trial, if responses are single trials; see `Experiment.covariates`."""
        return self.experiment.covariates() if self._single else None

    @property
    def sessions(self) -> list[Session]:
        return self.experiment.sessions

    @property
    def candidates(self) -> Any:
        """Vertices of fsaverage, or voxels of the volume."""
        return self._space.candidates

    def places(self, voxels: Any) -> pd.DataFrame:
        return self._space.table(voxels)

    def ncsnr(self, voxels: Any) -> npt.NDArray[np.floating] | None:
        """Return the ncsnr of NSD's own file, or None without it."""
        return self._space.ncsnr(voxels)

    @property
    def n_with_ceiling(self) -> int:
        """The images of NSD, which those of NSD-synthetic follow."""
        return self.experiment.n_core

    def remarks(self) -> list[str]:
        """Return what a user should know of the files: sessions, voxels, labels and ceilings, as sentences."""
        about = self.experiment
        return [about.in_words(), *about.missing_in_words(), self.left_out_in_words(), *self._space.remarks()]

    @property
    def frame(self) -> Volume | None:
        """The grid of a volume; None on fsaverage."""
        return self._space.frame

    def _in_words(self) -> str:
        unit = "z-scored within each session" if self._zscore else "in percent signal change"
        return (
            f"Responses are the betas {self.version} ({VERSIONS[self.version]}) of subject {self.subject} of the "
            f"Natural Scenes Dataset (Allen et al., 2022), {self._space.where}, {unit}, {self._how} "
            f"({self.experiment.in_words()})."
        )
