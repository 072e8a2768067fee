"""One subject of MOSAIC: single-trial betas of one of its fMRI datasets on fsLR 32k, in one HDF5 file.

Source: B. Lahner et al. (2025), bioRxiv 2025.11.28.690060, and github.com/blahner/mosaic-preprocessing.
`docs/mosaic.md` describes the file.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Frame
from bddn.data.array_files import open_group
from bddn.data.dataset import About, Stimuli
from bddn.data.dataset_options import choice, given_options
from bddn.data.mosaic_trials import TEST, MosaicTrials, MosaicVoxels, find_spheres, read_ncsnr
from bddn.data.own.columns import pick
from bddn.data.own.numbers import Numbers, labels_of, read_numbers
from bddn.data.own.places import Places, read_places
from bddn.data.session_betas import Session, repeats_in_words
from bddn.data.session_data import ALL, SessionData
from bddn.errors import DataError
from bddn.files.filekind import is_listed
from bddn.files.paths import expand_home
from bddn.spec import SidesSpec, VoxelsSpec


class Mosaic(SessionData):
    """One subject of MOSAIC; implements `bddn.data.Dataset`. The file is read on demand.

    Parameters
    ----------
    path : Path
        `sub-XX_DATASET….hdf5`.
    cifti : str
        Any CIFTI file with the 91,282 grayordinates of the HCP, whose brain models tell the vertices.
    spheres : str
        Folder of the two spheres of fsLR 32k that are deformed to fsaverage.
    stimuli : str
        Folder of the images; by default `stimuli` beside the file.
    rois : str
        A CIFTI label file (.dlabel.nii) of the same grayordinates.
    trials : {'mean', 'single'}
        Whether a response is the mean over the trials of an image, or a single trial.
    ceiling : {'all', 'test'}
        The images that noise ceilings are for.

    Raises
    ------
    DataError
        If a file is missing, damaged or does not fit, or an option is wrong.
    """

    about: About = About(
        name="mosaic",
        usage="mosaic:FILE,cifti=ANY.dscalar.nii,spheres=FOLDER",
        responses="Responses are single-trial betas of one dataset of MOSAIC (Lahner et al., 2025).",
        references=(
            "Lahner B, Deb M, Murty NAR, Oliva A (2025). MOSAIC: a collection of fMRI datasets in one space. bioRxiv "
            "2025.11.28.690060.",
        ),
        terms="Data terms: those of the dataset that the file is of; some, such as NSD, must not be passed on.",
        options="cifti=FILE with the same grayordinates; spheres=FOLDER of fsLR 32k deformed to fsaverage; "
        "stimuli=FOLDER; rois=FILE.dlabel.nii; trials=mean|single; ceiling=all|test.",
        trials="averaged",
        terms_stated=False,
    )

    def __init__(
        self,
        path: Path,
        cifti: str = "",
        spheres: str = "",
        stimuli: str = "",
        rois: str = "",
        trials: str = "mean",
        ceiling: str = ALL,
    ) -> None:
        self.path, self.selected = path, "the cortex"
        super().__init__("mosaic", trials, "no", choice("mosaic", "ceiling", ceiling, (ALL, TEST)))
        self._cifti, self._spheres, self._rois = (Path(expand_home(name)) for name in (cifti, spheres, rois))
        self._images = Path(expand_home(stimuli)) if stimuli else path.parent / "stimuli"
        files = {"cifti": cifti, "spheres": spheres, "stimuli": stimuli, "rois": rois}
        self.name = f"mosaic:{path}{given_options(type(self), **files, trials=trials, ceiling=ceiling)}"
        for option, what in (("cifti", "a CIFTI file with the grayordinates of the HCP"), ("spheres", "a folder")):
            if not files[option]:
                raise DataError(
                    f"mosaic option '{option}'",
                    expected=f"{what}, because the HDF5 file does not say which vertex a grayordinate is, or where",
                    got="none",
                    fix=f"Write {self.about.usage}; docs/mosaic.md says where to get both.",
                )
        self.shown = MosaicTrials(path)
        self._describe(self._in_words())

    @cached_property
    def stimuli(self) -> Stimuli:
        """The images that were shown, by the names of their files."""
        return Stimuli(self.shown.ids, tuple(self._images / name for name in self.shown.files))

    @cached_property
    def sessions(self) -> list[Session]:
        """One session with all trials: the betas are standardized already."""
        return [self.shown.session]

    def named_tests(self) -> dict[str, tuple[str, ...]]:
        """Return the ids of the images of the dataset's own test set."""
        tests = self.shown.test_ids
        return {TEST: tests} if tests else {}

    @cached_property
    def _grayordinates(self) -> Places:
        spheres = find_spheres(self._spheres)
        spec = VoxelsSpec(cifti=f"{self._cifti.absolute()}", sphere=SidesSpec(**spheres))
        return read_places(spec, Path())

    @cached_property
    def candidates(self) -> MosaicVoxels:
        """The vertices of the cortex, without those that lack data in any trial."""
        places = self._grayordinates.whole
        if places.n_places != self.shown.n_places:
            raise DataError(
                self._cifti,
                expected=f"the {self.shown.n_places:,} grayordinates of {self.path.name}",
                got=f"{places.n_places:,}",
                fix="Give a CIFTI file of fsLR 32k with the subcortical volumes of the HCP.",
            )
        rows = np.flatnonzero(~self.shown.filled[places.index])
        return MosaicVoxels(rows, places.index[rows], places.n_places)

    def places(self, voxels: Any) -> pd.DataFrame:
        table: pd.DataFrame = self._grayordinates.table.iloc[voxels.rows].reset_index(drop=True).assign(roi="")
        if self._rois == Path():
            return table
        found = read_numbers(self._rois)
        values = pick(self._rois, found.values, self._grayordinates, "")
        labels, _ = labels_of(self._rois, Numbers(values[voxels.rows], found.names), None)
        return table.assign(roi=labels.tolist(), atlas=labels.tolist())

    def ncsnr(self, voxels: Any) -> npt.NDArray[np.floating] | None:
        """Return the ncsnr from the noise ceilings of single trials, of the test set if there are any."""
        found = read_ncsnr(self.path, self.shown.n_places)
        return None if found is None else found[voxels.index]

    @property
    def frame(self) -> Frame | None:
        """The size of the mesh of fsLR."""
        return self._grayordinates.frame

    def remarks(self) -> list[str]:
        """Return what a user should know of the file, as sentences."""
        index = self._grayordinates.whole.index
        filled = int(self.shown.filled[index].sum())
        found = [
            self._trials_in_words(),
            f"{filled} of {len(index)} vertices of the cortex are left out: they lack data in some trials, and MOSAIC "
            "fills them from their neighbours",
            self.left_out_in_words(),
        ]
        if read_ncsnr(self.path, self.shown.n_places) is None:
            found.append("noise ceilings are unknown: the file has none of single trials")
        if not is_listed(self.stimuli.paths[0]):
            found.append(f"the images are not on this machine ({self._images}): get them from the dataset's owner")
        return found

    def _trials_in_words(self) -> str:
        return repeats_in_words(self.shown.session.shown)

    def _in_words(self) -> str:
        about: Mapping[str, Any] = open_group(self.path, "betas").file.attrs
        which = f"{about.get('subjectID', 'one subject')} of {about.get('dataset_name', self.path.name)}"
        return (
            f"Responses are the single-trial betas of {which}, as standardized by MOSAIC (Lahner et al., 2025), on "
            f"fsLR 32k, {self._how} ({self._trials_in_words()})."
        )
