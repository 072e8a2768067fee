"""Anyone's own data, described by a YAML file: `table:FILE.yaml`."""

from functools import cached_property, reduce
from operator import getitem
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Frame
from bddn.cortex.places import check_places, positions
from bddn.data.ceiling import ceiling_of_variances, variances_of_images
from bddn.data.dataset import About, Stimuli, Trials
from bddn.data.own.atlases import read_atlases, read_ceiling
from bddn.data.own.parts import open_parts
from bddn.data.own.places import Places, read_places
from bddn.data.own.responses import Responses
from bddn.data.own.stimuli import read_stimuli
from bddn.errors import DataError
from bddn.files.filekind import FOLDER, explain, require_no_pipe
from bddn.spec import OwnDataSpec
from bddn.spec.yaml_file import read_yaml
from bddn.text import count, shorten, word

TRIALS_AT_ONCE = 256  # rows of responses read together
NOT_STATED = "not stated"
LEAVE_ROWS_OUT = (
    "If whole rows have no number, such as repeats that were not made, leave these rows out of the responses and of "
    "the table of stimuli."
)
QUESTION = "?"
"""What `bddn data init` writes where the user must answer."""


class OwnData:
    """Data that a YAML file describes (see `OwnDataSpec`); implements `bddn.data.Dataset`. Files are read on demand."""

    about: ClassVar[About] = About(
        name="table",
        usage="table:FILE.yaml",
        options="FILE.yaml names stimuli, responses and voxels; 'bddn data init FOLDER --out FILE.yaml' begins one.",
        responses="Responses are your own data, in arrays, tables or imaging files.",
        references=(),
        terms="Data terms: those of the data's owner, which FILE.yaml states.",
        terms_stated=False,
    )

    def __init__(self, path: Path) -> None:
        self.name, self._path = f"table:{path}", path.absolute()  # the caller may change its working directory
        self._folder = self._path.parent
        self._spec = read_spec(path)
        self._shown = read_stimuli(self._spec.stimuli, self._folder)
        self.about = self._described()  # type: ignore[misc]

    @cached_property
    def _places(self) -> Places:
        found = read_places(self._spec.voxels, self._folder)
        check_places(f"{self._path}, voxels", found.table)
        return found

    @property
    def stimuli(self) -> Stimuli:
        """The images, in the order in which the table has them first."""
        return self._shown.stimuli

    @property
    def frame(self) -> Frame | None:
        """The volume of a NIfTI mask, or the size of a native surface."""
        return self._places.frame

    @property
    def _single(self) -> bool:
        return self._spec.repeats == "single"

    @property
    def response_ids(self) -> tuple[str, ...] | None:
        """The stimulus id of each single trial; None if repeats are averaged."""
        return tuple(self.stimuli.ids[i] for i in self._shown.image) if self._single else None

    def covariates(self) -> pd.DataFrame | None:
        """Return the covariates of each single trial; see `bddn.data.covariates`."""
        table, names = self._shown.table, self._spec.stimuli.covariates
        if table is None or not names:
            return None
        return pd.DataFrame({name: table.numbers(name, "a covariate", "covariates") for name in names})

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        """Return responses (n, n_voxels) float32: means over the repeats of an image, or single trials, whose rows are
        those of `response_ids`. Read only the requested rows."""
        if self._single:
            wanted = np.arange(len(self._shown.image)) if rows is None else rows
            starts = range(0, len(wanted), TRIALS_AT_ONCE)
            blocks = [self._finite(wanted[start : start + TRIALS_AT_ONCE]) for start in starts]
            return np.concatenate(blocks) if blocks else np.empty((0, len(self._kept)), np.float32)
        images = np.arange(len(self.stimuli)) if rows is None else rows
        out = np.empty((len(images), len(self._kept)), np.float32)
        n_trials = self._shown.counts[images]
        last = np.cumsum(n_trials)
        start = 0
        while start < len(images):
            done = last[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(last, done + TRIALS_AT_ONCE, side="right")))
            out[start:end] = self._means(images[start:end])
            start = end
        return out

    def _means(self, images: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        rows = [self._shown.rows_of[image] for image in images]
        trials = self._finite(np.concatenate(rows))
        if len(trials) == len(images):
            return trials
        counts = np.array([len(one) for one in rows])
        sums = np.add.reduceat(trials, np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0, dtype=np.float64)
        return np.asarray(sums / counts[:, None], np.float32)

    def voxels(self) -> pd.DataFrame:
        """Return the voxels; see `Dataset.voxels`."""
        return self._voxels.copy()

    def coords_mm(self) -> npt.NDArray[np.float32]:
        """Return the positions of the voxels; see `bddn.cortex.places`."""
        return positions(self._voxels)

    def truth(self) -> None:
        """Return None: the true maps of measured data are not known."""

    def remarks(self) -> list[str]:
        """Return what is unusual but allowed."""
        counts = self._shown.counts
        found = [*self._shown.remarks, *self._atlases[1], *(words for part in self._parts for words in part.remarks())]
        if counts.max() > 1 and not self._single:
            found.append(f"{counts.sum()} responses to {len(counts)} images are averaged over repeats")
        if left_out := len(self._places.table) - len(self._kept):
            found.append(f"{count(left_out, 'voxel')} left out ({', '.join(self._spec.voxels.leave_out)})")
        return found

    @cached_property
    def _voxels(self) -> pd.DataFrame:
        table, spec = self._places.table.copy(), self._spec
        table["roi"] = ""
        for name, labels in self._atlases[0].items():
            table[name] = labels
            table["roi"] = table["roi"].where(table["roi"] != "", table[name])
        table = table.iloc[self._kept].reset_index(drop=True)
        averaged = np.ones_like(self._shown.counts) if self._single else self._shown.counts
        if spec.ceiling is not None:
            ceiling = read_ceiling(spec.ceiling, self._places, self._folder, averaged)
            table["ceiling"] = ceiling[self._kept]
        elif self._shown.counts.max() > 1:
            repeats = variances_of_images(self._finite(rows) for rows in self._shown.rows_of)
            table["ceiling"] = ceiling_of_variances(*repeats, averaged)
        else:
            table["ceiling"] = np.nan
        return table

    @cached_property
    def _atlases(self) -> tuple[dict[str, npt.NDArray[np.object_]], list[str]]:
        return read_atlases(self._spec.rois, self._places, self._folder)

    @cached_property
    def _kept(self) -> npt.NDArray[np.intp]:
        """The places that are not left out. All responses are read for it, if some may be."""
        leave_out, n = self._spec.voxels.leave_out, len(self._places.table)
        if not leave_out:
            return np.arange(n)
        finite, lowest, highest = np.ones(n, bool), np.full(n, np.inf), np.full(n, -np.inf)
        for start in range(0, len(self._shown.image), TRIALS_AT_ONCE):
            trials = self._trials(np.arange(start, min(start + TRIALS_AT_ONCE, len(self._shown.image))))
            finite &= np.isfinite(trials).all(0)
            lowest = np.fmin(lowest, np.fmin.reduce(trials))
            highest = np.fmax(highest, np.fmax.reduce(trials))
        kept = finite if "nan" in leave_out else np.ones(n, bool)
        found = np.flatnonzero(kept & (lowest < highest) if "constant" in leave_out else kept)
        if not len(found):
            raise DataError(
                f"{self._path}, voxels",
                expected=f"voxels that 'leave_out: [{', '.join(leave_out)}]' keeps",
                got=f"none of {count(n, 'voxel')}",
                fix=f"Look at the responses: each voxel has such a number in some row. {LEAVE_ROWS_OUT}",
            )
        return found

    def _trials(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Return the responses in rows of the files, to all places, left hemisphere first."""
        return np.concatenate([part.read(rows) for part in self._parts], axis=1)

    @cached_property
    def _parts(self) -> list[Responses]:
        """The responses of all voxels, or of each hemisphere."""
        return open_parts(self._spec, self._path, self._places, self._shown)

    def _finite(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Return the responses of the voxels in rows of the files, or refuse NaN and infinite ones."""
        trials = self._trials(rows)
        if len(self._kept) < trials.shape[1]:
            trials = trials[:, self._kept]
        finite = np.isfinite(trials)
        if finite.all():
            return trials
        row, column = (int(one[0]) for one in np.nonzero(~finite))
        path, at = self._place_of(int(rows[row]), int(self._kept[column]))
        never, blank = (count(int((~finite).all(i).sum()), what) for i, what in enumerate(("voxel", "row")))
        raise DataError(
            path,
            expected="finite responses that float32 can hold",
            got=f"{(~finite).sum()} NaN or infinite ones in {count(len(trials), 'row')}, the first in row {at + 1} "
            f"for voxel {self._kept[column] + 1}; {never} and {blank} without any number among these",
            fix=LEAVE_ROWS_OUT
            if (~finite).all(1).any()
            else "Write 'leave_out: [nan]' under voxels to leave these voxels out, or correct the file.",
        )

    def _place_of(self, row: int, column: int) -> tuple[Path, int]:
        for part in self._parts:
            if column < part.n_voxels:
                return part.place(row)
            column -= part.n_voxels
        raise AssertionError(column)

    def _described(self) -> About:
        owner, title = self._spec.owner, self._spec.title.rstrip(".")
        described = _sentence(owner.description or f"Responses are those of '{title}'")
        if not owner.citation:
            described += f" A citation of the data is {NOT_STATED}."
        averaged = self._shown.counts.max() > 1
        trials: Trials = "averaged" if averaged else self._spec.responses.trials or "unknown"
        trials = "single" if self._single else trials
        return About(
            name="table",
            usage=OwnData.about.usage,
            responses=described,
            references=owner.citation,
            terms=f"Data terms: {_sentence(owner.terms or NOT_STATED)}",
            trials=trials,
            shows_images=owner.show_images,
            terms_stated=owner.terms is not None,
            shares_responses=owner.share_responses,
        )


def read_spec(path: Path) -> OwnDataSpec:
    """Read the YAML file of own data.

    Raises
    ------
    BddnError
        If it cannot be read, a field is wrong, or a question of `bddn data init` is still open.
    """
    try:
        require_no_pipe(path)
        text = path.read_bytes()
    except OSError as error:
        begin = "Begin one with 'bddn data init FOLDER --out FILE.yaml'."
        got, fix = explain(path, f"{error.strerror}", begin)
        if path.is_dir():
            got, begin = FOLDER.name, f"bddn data init {word(path)} --out FILE.yaml"
            fix = f"Give the YAML file, or begin one with '{begin}'."
        raise DataError(path, expected="a YAML file that describes the data", got=got, fix=fix) from error
    document = read_yaml(text, str(path))
    value: Any = document.value
    open_questions = {
        where: line for where, line in document.lines.items() if reduce(getitem, where, value) == QUESTION
    }
    if open_questions:
        listed = [f"'{'.'.join(map(str, where))}' in line {line}" for where, line in open_questions.items()]
        raise DataError(
            path,
            expected=f'an answer in place of every "{QUESTION}"',
            got=f"none for {shorten(listed)}",
            fix="The comment in each line says what may stand there.",
        )
    return OwnDataSpec.parse(value, str(path), document.lines)


def _sentence(words: str) -> str:
    text = " ".join(words.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."
