"""THINGS-fMRI, one subject, as the single-trial responses in table format lie on disk.

Source: M. Hebart et al. (2023), eLife 12: e82580, and the notebooks of the data (github.com/ViCCo-Group/THINGS-data).
`docs/things.md` lists the files.
"""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Volume
from bddn.data.dataset import About, Stimuli
from bddn.data.dataset_options import choice, given_options, subject_number
from bddn.data.imaging_files import read_volume
from bddn.data.session_betas import Session, repeats_in_words
from bddn.data.session_data import ALL, SessionData
from bddn.data.table_files import read_table
from bddn.data.things_voxels import (
    RESPONSES,
    ROIS,
    ColumnSession,
    TableVoxels,
    find_responses,
    ncsnr_of,
    read_voxels,
    roi_columns,
    selected_voxels,
)
from bddn.data.unpacked import Unpacked
from bddn.errors import DataError
from bddn.files.filekind import MISSING, explain, is_listed
from bddn.files.paths import expand_home

SUBJECTS = (1, 2, 3)
TABLES = "betas_csv"
PAGE = "plus.figshare.com, 'THINGS-data: fMRI Single Trial Responses (table format)'"
HOW_TO_GET = f"Get betas_csv from {PAGE} (10.25452/figshare.plus.20492835), and unpack it."
HOW_TO_GET_IMAGES = (
    "Get the images of the THINGS database (osf.io/jum2f; its archive has a password), unpack them, and give their "
    "folder with the option images=FOLDER."
)
TEST, SUBJECT = "test", "subject_id"
SESSION, RUN, TRIAL = "session", "run", "trial_id"


class Things(SessionData):
    """One subject of THINGS-fMRI; implements `bddn.data.Dataset`. Files are read on demand.

    Parameters
    ----------
    root : Path
        The folder with the tables, or the folder above `betas_csv`.
    subject : str
        01, 02 or 03.
    voxels : str
        'rois' for voxels in an ROI (but not only in one of Glasser's), 'all', or the name of an ROI.
    images : str
        Folder of the images: NAME or CONCEPT/NAME; by default `images` below the root.
    trials : {'mean', 'single'}
        Whether a response is the mean over the trials of an image, or a single trial.
    zscore : {'yes', 'no'}
        Whether responses are standardized within each session.
    ceiling : {'all', 'test'}
        The images that noise ceilings are for: all, or those of the test set.

    Raises
    ------
    DataError
        If files are missing, damaged or do not fit together, or an option is wrong.
    """

    about: About = About(
        name="things",
        usage="things:ROOT,subject=01",
        responses="Responses are single-trial betas of THINGS-fMRI (Hebart et al., 2023).",
        references=(
            "Hebart MN et al. (2023). THINGS-data, a multimodal collection of large-scale datasets for investigating "
            "object representations in human brain and behavior. eLife 12: e82580.",
        ),
        terms="Data terms: those of THINGS-fMRI (plus.figshare.com) and of the THINGS images (osf.io/jum2f).",
        options="subject=01|02|03; voxels=rois|all|ROI; images=FOLDER; trials=mean|single; zscore=yes|no; "
        "ceiling=all|test: which images noise ceilings are for.",
        trials="averaged",
        terms_stated=False,
    )

    def __init__(
        self,
        root: Path,
        subject: str = "",
        voxels: str = ROIS,
        images: str = "",
        trials: str = "mean",
        zscore: str = "yes",
        ceiling: str = ALL,
    ) -> None:
        self.root, self.selected = root, voxels
        self.subject = subject_number("things", subject, SUBJECTS, "one of 01, 02, 03")
        super().__init__("things", trials, zscore, choice("things", "ceiling", ceiling, (ALL, TEST)))
        self._images = Path(expand_home(images)) if images else root / "images"
        given = given_options(type(self), voxels=voxels, images=images, trials=trials, zscore=zscore, ceiling=ceiling)
        self.name = f"things:{root},subject={self.subject:02d}{given}"
        self._shown = read_table(self._path_of("StimulusMetadata.csv"))
        self._about_voxels = read_voxels(self._path_of("VoxelMetadata.csv"))
        self._check_subject(self._shown.path, self._shown.cells.get(SUBJECT, ()))
        self._check_subject(self._about_voxels.path, self._about_voxels.cells.get(SUBJECT, ()))
        self._check_order()
        self._describe(self._in_words())

    def _check_order(self) -> None:
        """Refuse rows in another order than that of the trials, which is that of the columns of the responses."""
        cells, seen, last = self._shown.cells, set[tuple[str, str]](), None
        if not {SESSION, RUN, TRIAL} <= {*cells}:
            return
        numbers = self._shown.numbers(TRIAL, "the number of each trial", "")
        for row, (run, number) in enumerate(zip(zip(cells[SESSION], cells[RUN], strict=True), numbers, strict=True)):
            if (run in seen) if run != last else not number > numbers[row - 1]:
                raise DataError(
                    self._shown.path,
                    expected=f"trials in their order: those of a run together, and {TRIAL} ascending in it",
                    got=f"another trial in row {row + 1}, as in a table that was sorted",
                    fix="Restore the original file.",
                )
            seen.add(run)
            last = run

    def _check_subject(self, path: Path, cells: Iterable[object]) -> None:
        """Refuse a table whose rows tell that they are of another subject: all subjects have as many trials."""
        found = sorted({str(cell) for cell in cells})
        if any(re.sub(r"\D", "", one).lstrip("0") != f"{self.subject}" for one in found):
            raise DataError(
                path,
                expected=f"{SUBJECT} {self.subject} in every row",
                got=", ".join(found),
                fix="Use the tables of one subject, under the names that they were downloaded with.",
            )

    def _path_of(self, what: str) -> Path:
        name = f"sub-{self.subject:02d}_{what}"
        places = [self.root / name, self.root / TABLES / name]
        found = next((path for path in places if is_listed(path)), None)
        if found is not None:
            return found
        got, fix = f"no {name} there or in {TABLES}", HOW_TO_GET
        if not self.root.is_dir():
            got, fix = explain(self.root, "no such folder", HOW_TO_GET, MISSING)
        raise DataError(self.root, expected=f"the tables of sub-{self.subject:02d}", got=got, fix=fix)

    def _texts(self, column: str, what: str) -> list[str]:
        return self._shown.texts(column, what, "")

    @cached_property
    def _names(self) -> list[str]:
        """The file of the image of each trial."""
        return self._texts("stimulus", "the file of the image of each trial")

    @cached_property
    def stimuli(self) -> Stimuli:
        """The images that were shown, by the names of their files."""
        ids = tuple(sorted(set(self._names)))
        concepts = dict(zip(self._names, self._shown.cells.get("concept", self._names), strict=True))
        places = [(name, f"{concepts[name]}/{name}", f"{name.rsplit('_', 1)[0]}/{name}") for name in ids]
        paths = (next((one for one in of_image if is_listed(self._images / one)), of_image[-1]) for of_image in places)
        return Stimuli(ids, tuple(self._images / one for one in paths))

    @cached_property
    def sessions(self) -> list[Session]:
        """The sessions, with the row of `stimuli` of each trial and its column in the array of responses."""
        row = {name: k for k, name in enumerate(self.stimuli.ids)}
        session = np.array(self._texts("session", "the session of each trial"))
        shown = np.array([row[name] for name in self._names], np.intp)
        files = {RESPONSES: self._path_of("ResponseData.h5")}
        return [
            ColumnSession(f"session {one}", files, shown[session == one], "", np.flatnonzero(session == one))
            for one in dict.fromkeys(session.tolist())
        ]

    def named_tests(self) -> dict[str, tuple[str, ...]]:
        """Return the ids of the images that were shown in every session, which are the test set.

        Raises
        ------
        DataError
            If an image is for training and for testing.
        """
        kinds = self._texts("trial_type", "whether a trial is of the training or the test set")
        tests = {name for name, kind in zip(self._names, kinds, strict=True) if kind == TEST}
        mixed = tests & {name for name, kind in zip(self._names, kinds, strict=True) if kind != TEST}
        if mixed:
            raise DataError(
                self._shown.path,
                expected="images that are either for training or for testing",
                got=f"{len(mixed)} in both, the first '{min(mixed)}'",
                fix="Restore the original file.",
            )
        return {TEST: tuple(sorted(tests))} if tests else {}

    @cached_property
    def candidates(self) -> TableVoxels:
        """The selected voxels, as rows of the array of responses."""
        rows = selected_voxels(self._about_voxels, self.selected)
        file = self._path_of("ResponseData.h5")
        key = find_responses(file, self._about_voxels, len(self._shown))
        return TableVoxels(rows, key, self._about_voxels, Unpacked())

    @cached_property
    def frame(self) -> Volume | None:
        """The grid of the subject's volume, if its brain mask is there; for maps as NIfTI."""
        name = f"sub-{self.subject:02d}_space-T1w_brainmask.nii.gz"
        path = next((one for one in (self.root / "brainmasks" / name, self.root / name) if is_listed(one)), None)
        return read_volume(path)[1] if path else None

    def places(self, voxels: Any) -> pd.DataFrame:
        table: pd.DataFrame = voxels.table(self.frame)
        return table.assign(**roi_columns(self._about_voxels, voxels.rows))

    def ncsnr(self, voxels: Any) -> npt.NDArray[np.floating] | None:
        """Return the ncsnr of the column of noise ceilings of single trials."""
        return ncsnr_of(self._about_voxels, voxels.rows)

    def remarks(self) -> list[str]:
        """Return what a user should know of the files, as sentences."""
        found = [self._trials_in_words(), self.left_out_in_words()]
        if self.frame is None:
            found.append(
                "coordinates are indices of voxels times 2 mm, because there is no brain mask with an affine "
                f"(brainmasks/sub-{self.subject:02d}_space-T1w_brainmask.nii.gz)"
            )
        if not is_listed(self.stimuli.paths[0]):
            found.append(HOW_TO_GET_IMAGES)
        return found

    def _trials_in_words(self) -> str:
        n = len(set(self._texts("session", "the session of each trial")))
        return f"{n} sessions: {repeats_in_words(np.unique(self._names, return_inverse=True)[1])}"

    def _in_words(self) -> str:
        unit = "z-scored within each session" if self._zscore else "as they are in the file"
        return (
            f"Responses are the single-trial betas of sub-{self.subject:02d} of THINGS-fMRI (Hebart et al., 2023), in "
            f"its T1w volume (2 mm), {unit}, {self._how} ({self._trials_in_words()})."
        )
