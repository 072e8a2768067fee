"""Open the responses of own data, and compare their shapes with the stimuli and the voxels."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.cortex.frames import Volume
from bddn.cortex.fsaverage import HEMISPHERES
from bddn.data.imaging_files import check_side
from bddn.data.own.columns import cifti_columns, refuse_other_names
from bddn.data.own.order import differing, is_counted, refuse_other_order
from bddn.data.own.places import Part, Places
from bddn.data.own.responses import CiftiRows, ResponseFile, Responses, VolumeRows, open_responses
from bddn.data.own.stimuli import Shown
from bddn.errors import DataError
from bddn.files.paths import expand_home
from bddn.spec import OwnDataSpec, ResponsesSpec
from bddn.text import count

OTHER_WAY = "Write 'images: {}': the array is the other way round."
OTHER_AXIS = {"rows": "columns", "columns": "rows"}


def open_parts(spec: OwnDataSpec, path: Path, places: Places, shown: Shown) -> list[Responses]:
    """Open the responses of all voxels, or of each hemisphere.

    Parameters
    ----------
    spec : OwnDataSpec
    path : Path
        Its YAML file.
    places : Places
    shown : Shown

    Raises
    ------
    DataError
        If a file cannot be read, or has another number of rows than the stimuli or of columns than the voxels.
    """
    named = spec.responses
    if named.file is not None:
        return [_Opener(spec, path, places, shown).open(named.file, places.whole, "")]
    given = {"lh": named.lh, "rh": named.rh}
    found = [hemi for hemi in HEMISPHERES if given[hemi] is not None]
    if set(found) != set(places.sides):
        raise DataError(
            f"{path}, responses",
            expected=f"the hemispheres of the voxels, {' and '.join(places.sides)}"
            if places.sides
            else "one 'file' for all voxels, because they are not told apart by hemisphere",
            got=" and ".join(found),
            fix="Give the same hemispheres in both."
            if places.sides
            else "Give the responses by 'file', in the order of the voxels.",
        )
    opener = _Opener(spec, path, places, shown)
    return [opener.open(given[hemi] or (), part, hemi) for hemi, part in places.sides.items()]


def _check_grid(file: VolumeRows, mask: Volume) -> None:
    """Refuse volumes of another grid than that of the mask."""
    if differs := mask.difference(file.grid):
        raise DataError(
            file.path,
            expected=f"responses of volumes of shape {mask.shape}, as the mask",
            got=f"volumes of shape {file.grid.shape}{' with ' + differs if file.grid.shape == mask.shape else ''}, "
            f"and {count(file.shape[0], 'image')}",
            fix="Give a mask on the grid of the responses, or resample it to this grid by the nearest neighbour.",
        )


class _Opener:
    def __init__(self, spec: OwnDataSpec, path: Path, places: Places, shown: Shown) -> None:
        self._path, self._places, self._shown = path, places, shown
        self._spec: ResponsesSpec = spec.responses

    def open(self, names: tuple[str, ...], part: Part, hemi: str) -> Responses:
        files = []
        for path in (self._path.parent / expand_home(name) for name in names):
            if side := hemi or self._places.only_side:
                check_side(path, side)
            files.append(open_responses(path, self._spec.key, self._spec.images))
        self._check_rows(files, part)
        self._check_names(files)
        self._check_sessions(files)
        sides = {hemi: part} if hemi else self._places.sides
        return Responses(files, [self._index(file, part, sides) for file in files], len(part.index))

    def _index(self, file: ResponseFile, part: Part, sides: Mapping[str, Part]) -> npt.NDArray[np.intp] | None:
        """Return which columns of a file are the voxels, or refuse their number."""
        if sides and isinstance(file, CiftiRows):
            return cifti_columns(file.path, sides)
        n, is_volume, mask = file.shape[1], isinstance(file, VolumeRows), self._places.volume
        if mask is not None and isinstance(file, VolumeRows):
            _check_grid(file, mask)
        try:
            found = self._places.select(n, part, is_volume)
        except ValueError as error:
            raise DataError(
                file.path,
                expected=f"responses of {error}",
                got=f"{n:,} voxels, and {count(file.shape[0], 'image')}",
                fix="Correct 'voxels', or give the responses of these voxels.",
            ) from None
        if not is_volume:
            self._places.require_order(file.path)
        return found

    def _check_rows(self, files: list[ResponseFile], part: Part) -> None:
        """Refuse files whose numbers of rows are not those of the stimuli."""
        n_rows, n_trials = [file.shape[0] for file in files], len(self._shown.image)
        if sum(n_rows) == n_trials:
            return
        fix = "Give the table of stimuli one row for each response, in the same order."
        turned = sum(file.shape[1] for file in files) == n_trials
        if self._spec.images is not None and turned and n_rows[0] in (part.n_places, len(part.index)):
            fix = OTHER_WAY.format(OTHER_AXIS[self._spec.images])
        raise DataError(
            files[0].path if len(files) == 1 else f"{files[0].path} and {len(files) - 1} more",
            expected=f"responses to the {count(n_trials, 'row')} of the stimuli",
            got=f"responses to {' + '.join(f'{n:,}' for n in n_rows)} images",
            fix=fix,
        )

    def _check_names(self, files: list[ResponseFile]) -> None:
        """Refuse files that name their images or voxels as the tables do, but have them in another order."""
        start = 0
        for file in files:
            for wanted in self._names_of_rows():
                mine = wanted[start : start + file.shape[0]]
                if refuse_other_order(file.path, "row", file.row_names, mine, "of the stimuli"):
                    break
            start += file.shape[0]
            refuse_other_names(file.path, file.column_names, self._places)
        names = differing([file.path.name for file in files])
        if len(names) == start > 1 and not is_counted(names):  # a file for each image
            for wanted in self._names_of_rows():
                self._refuse_files(names, differing(wanted), "of the stimuli")

    def _names_of_rows(self) -> list[list[str]]:
        """Return the ids and, if every image is a file, the names of the files, in the order of the rows."""
        stimuli, image = self._shown.stimuli, self._shown.image
        ids = [stimuli.ids[i] for i in image]
        files = [] if stimuli.rows is not None else [[stimuli.paths[i].name for i in image]]
        return [ids, *files]

    def _refuse_files(self, names: Sequence[str], wanted: Sequence[str], whose: str) -> None:
        fix = "List the files in the order of the rows; or rename them, if only their names are wrong."
        refuse_other_order(f"{self._path}, responses", "file", names, wanted, whose, fix)

    def _check_sessions(self, files: list[ResponseFile]) -> None:
        """Refuse files of sessions in another order than the sessions of the stimuli, as far as lengths and names tell
        it."""
        sessions, n_rows = self._shown.sessions, [file.shape[0] for file in files]
        if len(n_rows) == 1 or sessions is None:
            return
        changes = np.flatnonzero([a != b for a, b in pairwise(sessions)]) + 1
        lengths = np.diff([0, *changes, len(sessions)]).tolist()
        if len(lengths) != len(n_rows):
            return
        if lengths != n_rows:
            raise DataError(
                f"{self._path}, responses",
                expected=f"files of {' + '.join(map(str, lengths))} rows, as the sessions of the stimuli",
                got=" + ".join(map(str, n_rows)),
                fix="Give the files in the order of the sessions.",
            )
        blocks = [sessions[start] for start in (0, *changes)]
        self._refuse_files(differing([file.path.name for file in files]), differing(blocks), "of the sessions")
