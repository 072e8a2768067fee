"""LAION-fMRI, one subject, as the official download lies on disk.

Source: J. Zerbe et al. (2026), Vision Sciences Society, talk 25.11, and the documentation of the data
(github.com/ViCCo-Group/LAION-fMRI). `docs/laion.md` lists the files.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Volume
from bddn.data.dataset import About, Stimuli
from bddn.data.dataset_options import choice, given_options, session_numbers, subject_number
from bddn.data.laion.files import (
    HOW_TO_GET_IMAGES,
    IMAGES,
    LAST_SESSION,
    METADATA,
    SUBJECTS,
    betas_folder,
    how_to_get_folder,
    rois_folder,
    subject_name,
    surfaces_folder,
)
from bddn.data.laion.rois import find_rois
from bddn.data.laion.splits import named_tests, splits_folder
from bddn.data.laion.surface import OnFsaverage, agreement, check_agreement, on_fsaverage, surfaces_missing
from bddn.data.laion.trials import Shown
from bddn.data.laion.volume import T1w, T1wGrid
from bddn.data.session_betas import Session
from bddn.data.session_data import ALL, SessionData
from bddn.data.unpacked import Unpacked
from bddn.errors import DataError
from bddn.files.filekind import MISSING, explain, is_listed
from bddn.files.paths import expand_home

GENERAL = "laion-general"
T1W, FSAVERAGE = "T1w", "fsaverage"


class Laion(SessionData):
    """One subject of LAION-fMRI; implements `bddn.data.Dataset`. Files are read on demand.

    Parameters
    ----------
    root : Path
        The folder with `derivatives` and `stimuli`.
    subject : str
        01, 03, 05, 06 or 07.
    sessions : str
        'all' that are there, or numbers such as '1-20' or '1-10+12'.
    voxels : str
        The name of an ROI, or 'r2': voxels with a mean R² above 15 %.
    place : {'T1w', 'fsaverage'}
        Points in the subject's volume, or the same voxels with their places on fsaverage; see `laion_surface`.
    trials : {'mean', 'single'}
        Whether a response is the mean over the trials of an image, or a single trial.
    zscore : {'yes', 'no'}
        Whether responses are standardized within each session.
    ceiling : str
        The images that noise ceilings are for: 'all', or the name of a test set.
    unpacked : str
        Folder in which the betas of the selected voxels are kept for later commands.

    Raises
    ------
    DataError
        If files are missing, which it names with the official command, or an option is wrong.
    """

    about: About = About(
        name="laion",
        usage="laion:ROOT,subject=01",
        responses="Responses are betas of LAION-fMRI (Zerbe et al., 2026).",
        references=(
            "Zerbe J, Roth J, Mell MM, Herholz P, Knapen T, Hebart MN (2026). LAION-fMRI: A densely sampled 7T-fMRI "
            "dataset providing broad coverage of natural image diversity. Talk 25.11, Vision Sciences Society.",
            "Prince JS et al. (2022). Improving the accuracy of single-trial fMRI response estimates using GLMsingle. "
            "eLife 11: e77599.",
        ),
        terms="Data terms: the brain data of LAION-fMRI are in the public domain (CC0), so encoders and maps may be "
        "shared. Its images are gated by an agreement that forbids passing them on, commercial use, and training "
        "general-purpose models with them.",
        options="subject=01|03|05|06|07; sessions=all|1-20; voxels=laion-general|r2|ROI; place=T1w|fsaverage; "
        "trials=mean|single; zscore=yes|no; ceiling=all|ood|…: which images noise ceilings are for; "
        "unpacked=FOLDER keeps unpacked betas.",
        trials="averaged",
        shares_responses=True,
    )

    def __init__(
        self,
        root: Path,
        subject: str = "",
        sessions: str = ALL,
        voxels: str = GENERAL,
        place: str = T1W,
        trials: str = "mean",
        zscore: str = "yes",
        ceiling: str = ALL,
        unpacked: str = "",
    ) -> None:
        self.root, self.selected = root, voxels
        self.subject = subject_number("laion", subject, SUBJECTS, f"one of {', '.join(f'{s:02d}' for s in SUBJECTS)}")
        super().__init__("laion", trials, zscore, ceiling)
        self._on_fsaverage = choice("laion", "place", place, (T1W, FSAVERAGE)) == FSAVERAGE
        given = given_options(
            type(self),
            sessions=sessions,
            voxels=voxels,
            place=place,
            trials=trials,
            zscore=zscore,
            ceiling=ceiling,
            unpacked=unpacked,
        )
        self.name = f"laion:{root},subject={self.subject:02d}{given}"
        self._agreement: float | None = None
        self._check_folder()
        self.shown = Shown(root, self.subject, session_numbers("laion", sessions, LAST_SESSION, self.subject))
        self._space = T1w(root, self.subject, voxels, Unpacked(Path(expand_home(unpacked)) if unpacked else None))
        choice("laion", "ceiling", ceiling, (ALL, *self.named_tests()))
        self._describe(self._in_words())

    def _check_folder(self) -> None:
        folder = self.root / betas_folder(self.subject)
        if not folder.is_dir():
            got, fix = "none", how_to_get_folder(betas_folder(self.subject))
            if not self.root.is_dir():
                got, fix = explain(self.root, "no such folder", "Give the folder of the download.", MISSING)
            raise DataError(folder, expected="the folder of the betas of a subject", got=got, fix=fix)

    @property
    def stimuli(self) -> Stimuli:
        """The images that were shown, by their names."""
        return self.shown.stimuli

    @property
    def sessions(self) -> list[Session]:
        return self.shown.sessions

    def named_tests(self) -> dict[str, tuple[str, ...]]:
        """Return the ids of the images of known test sets; see `bddn.data.laion.splits`."""
        return named_tests(self.root, self.subject, self.shown.ids)

    def covariates(self) -> pd.DataFrame | None:
        """Return what else is known of each trial, if responses are single trials; see `Shown.covariates`."""
        return self.shown.covariates() if self._single else None

    @cached_property
    def candidates(self) -> T1wGrid:
        """The selected voxels; with places on fsaverage, those near the cortex."""
        return self._space.candidates.part(self._places.near) if self._on_fsaverage else self._space.candidates

    @cached_property
    def _places(self) -> OnFsaverage:
        """Places on fsaverage of the selected voxels, near the cortex or not."""
        folder, every = surfaces_folder(self.subject), self._space.candidates
        absent = surfaces_missing(self.root / folder)
        if absent:
            raise DataError(
                self.root / folder,
                expected="the FreeSurfer folder of the subject, for place=fsaverage",
                got=f"no {', '.join(file.name for file in absent)}",
                fix=how_to_get_folder(folder),
            )
        found, sizes = on_fsaverage(self.root / folder, self._space.frame.mm(every.ijk))
        masks = find_rois(self.root / rois_folder(self.subject), surface=True)
        self._agreement = agreement(found, every.ijk, self._space.frame, self._space.rois, masks, sizes)
        check_agreement(self.root / folder, self._agreement)
        return found

    def places(self, voxels: Any) -> pd.DataFrame:
        table = self._space.table(voxels)
        if not self._on_fsaverage:
            return table
        kept = set(voxels.names)
        own = self._places.part(np.array([name in kept for name in self._space.candidates.names]))
        return table.assign(**{str(name): own[name].to_numpy() for name in own})

    def ncsnr(self, voxels: Any) -> npt.NDArray[np.floating] | None:
        return self._space.ncsnr(voxels)

    @property
    def frame(self) -> Volume | None:
        """The grid of the volume; None for voxels with places on fsaverage."""
        return None if self._on_fsaverage else self._space.frame

    def remarks(self) -> list[str]:
        """Return what a user should know of the files, as sentences."""
        found = [
            self.shown.in_words(),
            *self.shown.missing_in_words(),
            self.left_out_in_words(),
            *self._space.remarks(),
        ]
        if self._on_fsaverage:
            near, share = self._places.near, 100 * (self._agreement or 0)
            found.append(
                f"{(~near).sum()} of {len(near)} voxels are not near the cortex and left out; {share:.0f} % of the "
                "voxels of ROIs are at vertices of the same ROIs"
            )
        if splits_folder(self.root, self.subject) is None:
            found.append(
                "the test sets tau, cluster_k5_… and random_… are unknown: install the official package laion_fmri, "
                f"or copy its folder laion_fmri/splits/data/{subject_name(self.subject)} to splits/"
            )
        if not all(is_listed(self.root / file) for file in (IMAGES, METADATA)):
            found.append(HOW_TO_GET_IMAGES)
        return found

    def _in_words(self) -> str:
        unit = "z-scored within each session" if self._zscore else "as they are in the files"
        where = "in its T1w volume (1.8 mm)" + ", placed on fsaverage" * self._on_fsaverage
        return (
            f"Responses are the betas (GLMsingle, TYPED) of {subject_name(self.subject)} of LAION-fMRI (Zerbe et al., "
            f"2026), {where}, {unit}, {self._how} ({self.shown.in_words()})."
        )
