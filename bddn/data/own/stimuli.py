"""The stimuli of own data: the images, and the image of every response."""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.data.array_images import ArrayImages
from bddn.data.dataset import Stimuli
from bddn.data.image_files import SUFFIXES
from bddn.data.listing import is_hidden, is_printable
from bddn.data.table_files import NO_VALUE, Table, read_table
from bddn.errors import DataError
from bddn.files.filekind import explain
from bddn.files.paths import expand_home
from bddn.spec import StimuliSpec
from bddn.text import count, shorten


@dataclass(frozen=True)
class Shown:
    """What was shown.

    Attributes
    ----------
    stimuli : Stimuli
        In the order in which they appear first.
    image : array of int, (T,)
        Row of `stimuli` of each response.
    sessions : tuple of str or None, (T,)
        Session of each response, if known.
    table : Table or None
        With one row for each response.
    remarks : tuple of str
        What is unusual but allowed.
    """

    stimuli: Stimuli
    image: npt.NDArray[np.intp]
    sessions: tuple[str, ...] | None = None
    table: Table | None = None
    remarks: tuple[str, ...] = ()

    @property
    def counts(self) -> npt.NDArray[np.intp]:
        """Number of responses to each image."""
        return np.bincount(self.image, minlength=len(self.stimuli))

    @cached_property
    def rows_of(self) -> list[npt.NDArray[np.intp]]:
        """The rows of the responses to each image."""
        return np.split(np.argsort(self.image, kind="stable"), np.cumsum(self.counts)[:-1])


def read_stimuli(spec: StimuliSpec, folder: Path) -> Shown:
    """Read the table or the array of the stimuli; no image is decoded.

    Parameters
    ----------
    spec : StimuliSpec
    folder : Path
        Folder of the YAML file, from which its paths start.

    Raises
    ------
    DataError
        If a file is missing, a row has no id or no image, an id has two images, or one repeat occurs twice.
    """
    array = None if spec.array is None else folder / expand_home(spec.array)
    if spec.table is None:
        assert array is not None
        n = ArrayImages(spec.key).count(array)
        numbered = tuple(f"image-{i:0{len(str(n - 1))}d}" for i in range(n))
        stimuli = Stimuli(numbered, (array,) * n, tuple(range(n)), ArrayImages(spec.key))
        return Shown(stimuli, np.arange(n), remarks=tuple(ArrayImages(spec.key).remarks(array)))
    table = read_table(folder / expand_home(spec.table))
    ids = _ids(table, spec)
    image = pd.factorize(np.array(ids, object))[0]  # numbers of the ids, in the order in which they come first
    first = np.unique(image, return_index=True)[1].tolist()
    _refuse_repeated(table, spec, ids)
    remarks: tuple[str, ...] = ()
    if array is not None:
        rows = _rows(table, spec, array, len(first) == len(ids))
        remarks = tuple(ArrayImages(spec.key).remarks(array))
        _refuse_two_images(table, ids, image, [f"row {row}" for row in rows], first)
        stimuli = Stimuli(
            tuple(ids[i] for i in first), (array,) * len(first), tuple(rows[i] for i in first), ArrayImages(spec.key)
        )
    else:
        names = _names(table, spec)
        _refuse_two_images(table, ids, image, names, first)
        root = folder if spec.images is None else folder / expand_home(spec.images)
        remarks = _check_listed(table, root, [names[i] for i in first])
        stimuli = Stimuli(tuple(ids[i] for i in first), tuple(root / names[i] for i in first))
    sessions = table.cells.get(spec.session)
    return Shown(stimuli, image, None if sessions is None else tuple(sessions), table, remarks)


def _ids(table: Table, spec: StimuliSpec) -> list[str]:
    ids = table.texts(spec.id, "the stimulus ids", "id")
    bad = [f"row {i + 1}" for i, one in enumerate(ids) if one.casefold() in NO_VALUE]
    bad += [f"{one!a} in row {i + 1}" for i, one in enumerate(ids) if not is_printable(one)]
    if bad:
        raise DataError(
            table.path,
            expected=f"an id that can be printed in every row, in the column '{spec.id}'",
            got=f"none in {shorten(bad)}",
            fix="Complete or remove these rows; the responses need the same rows.",
        )
    return ids


def _refuse_repeated(table: Table, spec: StimuliSpec, ids: list[str]) -> None:
    """Refuse two rows with the same id, repeat, session and run; and named columns that there are not."""
    given = [name for name in ("repeat", "session", "run") if name in spec.model_fields_set]
    for name in given:
        table.texts(getattr(spec, name), f"the {name}", name)
    repeat = table.cells.get(spec.repeat)
    if repeat is None:
        return
    apart = [table.cells[column] for column in (spec.session, spec.run) if column in table.cells]
    times = Counter(zip(ids, repeat, *apart, strict=True))
    twice = [f"'{row[0]}' with repeat {row[1]}" for row, n in times.items() if n > 1]
    if twice:
        raise DataError(
            table.path,
            expected="every repeat of an image in one row",
            got=f"several rows of {shorten(twice)}",
            fix="Remove the duplicates here and from the responses, or correct the column of repeats.",
        )


def _refuse_two_images(
    table: Table, ids: list[str], image: npt.NDArray[np.intp], names: list[str], first: list[int]
) -> None:
    differ = [i for i, one in enumerate(names) if one != names[first[image[i]]]]
    if differ:
        i = differ[0]
        raise DataError(
            table.path,
            expected="the same image wherever an id occurs",
            got=f"'{ids[i]}' with {names[first[image[i]]]} and, in row {i + 1}, with {names[i]}",
            fix="Correct the ids; two images need two ids.",
        )


def _rows(table: Table, spec: StimuliSpec, array: Path, once: bool) -> list[int]:
    """Return the row of the array that each row of the table means."""
    n = ArrayImages(spec.key).count(array)
    if spec.row not in table.cells and "row" not in spec.model_fields_set and len(table) == n and once:
        return list(range(n))
    numbers = table.numbers(spec.row, f"the number of the image in {array.name}, from {spec.count_from}", "row")
    rows = numbers - spec.count_from
    bad = [i for i, row in enumerate(rows) if not (0 <= row < n and row == int(row))]
    if bad:
        from_one = spec.count_from == 0 and np.nanmax(numbers) == n and np.nanmin(numbers) >= 1
        raise DataError(
            table.path,
            expected=f"whole numbers from {spec.count_from} to {n - 1 + spec.count_from} in the column '{spec.row}', "
            f"because {array.name} has {count(n, 'image')}",
            got=shorten([f"'{table.cells[spec.row][i]}' in row {i + 1}" for i in bad]),
            fix="Write 'count_from: 1' if images are counted from 1." if from_one else "Correct these rows.",
        )
    if "count_from" not in spec.model_fields_set and rows.min() > 0:
        raise DataError(
            table.path,
            expected="'count_from: 0' or 'count_from: 1' under stimuli, because no row has the image 0",
            got=f"numbers from {rows.min():.0f} to {rows.max():.0f} in the column '{spec.row}', and "
            f"{count(n, 'image')} in {array.name}",
            fix="Write the number of the first image: 0 as in Python, 1 as in MATLAB and R.",
        )
    return [int(row) for row in rows]


def _names(table: Table, spec: StimuliSpec) -> list[str]:
    names = table.texts(spec.file, "the files of the images", "file")
    empty = [f"row {i + 1}" for i, name in enumerate(names) if name.casefold() in NO_VALUE]
    odd = [name for name in names if not is_printable(name)]
    if empty or odd:
        raise DataError(
            table.path,
            expected=f"a file name in every row, in the column '{spec.file}'",
            got=f"none in {shorten(empty)}" if empty else f"{odd[0]!a}",
            fix="Complete or remove these rows; the responses need the same rows.",
        )
    return names


def _check_listed(table: Table, root: Path, names: list[str]) -> tuple[str, ...]:
    """Refuse names of files that their folder does not list. A folder that is not on this machine is a remark."""
    wanted: dict[Path, list[str]] = {}
    for name in names:
        path = root / name
        wanted.setdefault(path.parent, []).append(path.name)
    missing, spare, away, near = list[str](), list[str](), list[Path](), ""
    for parent, inside in wanted.items():
        try:
            listed = {path.name for path in parent.iterdir()}
        except FileNotFoundError:
            away.append(parent)
            continue
        except OSError as error:
            above = (parent, *parent.parents) if isinstance(error, NotADirectoryError) else ()
            file = next((one for one in above if one.is_file()), parent)
            fix = "Correct the names in the table, or the rights of this folder."
            got, fix = explain(file, f"{error.strerror}", fix)
            raise DataError(file, expected="a folder of images", got=got, fix=fix) from error
        lacking = [name for name in inside if name not in listed]
        missing += lacking
        folded = {_folded(name): name for name in listed}
        near = near or next((folded[_folded(name)] for name in lacking if _folded(name) in folded), "")
        others = listed - set(inside)
        spare += [name for name in others if Path(name).suffix.lower() in SUFFIXES and not is_hidden(name)]
    backslash = next((name for name in names if "\\" in name), None)
    if backslash is not None and (missing or away):
        raise DataError(
            table.path,
            expected="paths with '/' between folder and file",
            got=f"'{backslash}', as on Windows",
            fix="Replace every \\ by /, and drive letters by a folder of this machine.",
        )
    if missing:
        hint = f"; there is {near}, which differs by case or by how accents are written (Unicode)" if near else ""
        raise DataError(
            table.path,
            expected=f"files that are in {root}",
            got=f"{len(missing)} of {len(names)} that are not, {shorten(missing)}{hint}",
            fix="Restore these images, or give their folder by 'images: FOLDER' under stimuli.",
        )
    remarks = [f"the folder {folder} of images is not on this machine" for folder in away[:1]]
    if spare:
        remarks.append(f"{count(len(spare), 'image')} without a row in {table.path}: {shorten(sorted(spare))}")
    return tuple(remarks)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
