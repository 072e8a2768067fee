"""Read image sets whose classes are in a table: one label, or one column per class (one-hot)."""

import csv
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path, PurePosixPath

from bddn.data.dataset import Stimuli
from bddn.data.image_files import ImageFiles, image_files
from bddn.data.image_sets.labelled import LabelledImages, labels_of
from bddn.errors import DataError
from bddn.files.filekind import HEAD_BYTES, explain, kind_of_bytes, require_no_pipe
from bddn.files.paths import expand_home
from bddn.text import count, shorten

NAME_COLUMNS = ("image", "file_name", "filename", "file", "image_name", "image_id", "image_path", "path", "id")
LABEL_COLUMNS = ("label", "labels", "class", "category", "target", "dx", "diagnosis")
GROUP_COLUMNS = ("patient_id", "subject_id", "lesion_id")  # coarse before fine
SEPARATOR = re.compile(r"sep=([,;\t])\r?\n", re.IGNORECASE)  # the first line of some spreadsheets
SHOWN = 20  # columns in a message
Row = Mapping[str, str]


def read_csv_set(path: Path, images: str = "", name: str = "", label: str = "", group: str = "") -> LabelledImages:
    """Read the classes of images from a CSV file, by default of the images in its folder and below.

    The id of an image is its path in the folder. Commas, semicolons or tabs may separate the columns.

    Raises
    ------
    DataError
        If the table or the folder cannot be read, or they do not fit together.
    """
    rows = read_rows(path)
    folder = Path(expand_home(images)) if images else path.parent
    files = image_files(folder, f"the folder of the images of {path}", "Give it by ',images=FOLDER'.")
    return labelled_by(path, rows, files, name, label, group)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file as texts by column. Columns without a name, such as the row numbers that pandas and
    R write first, are left out.

    Raises
    ------
    DataError
        If it is not a CSV file in UTF-8 with a header, or a row is too short or too long.
    """
    lines = _lines(path)
    columns, *rows = lines or [[]]
    named = {column: i for i, column in enumerate(columns) if column}
    ragged = next((i for i, row in enumerate(rows) if len(row) != len(columns)), None)
    if rows and named and len(named) == sum(map(bool, columns)) and ragged is None:
        return [{column: row[i] for column, i in named.items()} for row in rows]
    got = f"{count(len(rows), 'row')} below the header {shorten(columns, SHOWN)}"
    if ragged is not None:
        got = f"{count(len(rows[ragged]), 'column')} in row {ragged + 1} below a header of {len(columns)}"
    raise _not_a_table(path, got)


def _lines(path: Path) -> list[list[str]]:
    """Return the cells of all lines that are not empty."""
    try:
        require_no_pipe(path)
        data = path.read_bytes()
        if kind_of_bytes(data[:HEAD_BYTES]) is not None:
            raise _not_a_table(path, "another kind of file")
        text = data.decode("utf-8-sig")
        said = SEPARATOR.match(text)
        text = text[said.end() :] if said else text
        separator = said[1] if said else max(",;\t", key=text.partition("\n")[0].count)
        lines = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
        return [[cell.strip() for cell in line] for line in lines if line]
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise _not_a_table(path, f"{error}", "Save it in UTF-8, in spreadsheets as 'CSV UTF-8'.") from error
    except (OSError, ValueError, csv.Error) as error:
        raise _not_a_table(path, f"{error}") from error


def _not_a_table(path: Path, got: str, fix: str = "Correct the table, or give another one.") -> DataError:
    got, fix = explain(path, got, fix)
    return DataError(
        path, expected="a CSV file in UTF-8 with a header of different names, and rows as long", got=got, fix=fix
    )


def labelled_by(
    place: Path, rows: Sequence[Row], files: ImageFiles, name: str = "", label: str = "", group: str = ""
) -> LabelledImages:
    """Return the images that a table names, with their classes and groups.

    Parameters
    ----------
    place : Path
        The table, for messages.
    rows : sequence of mapping
    files : ImageFiles
        The images that rows may name: by their path, their file name, or their file name without suffix.
    name, label, group : str
        The columns of the file of an image, of its class, and of what images have in common that must not be in two
        parts, such as a lesion or a patient; '' means to find it by its usual names.

    Raises
    ------
    DataError
        If columns are missing or ambiguous, a row has no image or not one class, or two rows have the same image.
    """
    name = _column(place, rows, name, NAME_COLUMNS, "name")
    label = _column(place, rows, label, LABEL_COLUMNS, "label")
    group = _column(place, rows, group, GROUP_COLUMNS, "group")
    if not name:
        raise _no_column(place, rows, "the file name of an image", "name")
    rest = [column for column in rows[0] if column not in (name, group)]
    if not label and len(rest) == 1:
        label = rest[0]
    one_hot = [] if label else _one_hot_columns(rows, rest)
    if not label and len(one_hot) < 2:
        raise _no_column(place, rows, "the class of an image, or one column of 0 and 1 for each class", "label")
    class_of = [row[label] for row in rows] if label else _one_hot(place, rows, name, one_hot)
    labelled = [i for i, one in enumerate(class_of) if one]
    images = _find_images(place, [rows[i][name] for i in labelled], files)
    _refuse_duplicates(place, images, [class_of[i] for i in labelled])
    labels, classes = labels_of(place, [class_of[i] for i in labelled], one_hot or None)
    source = f"the column {label}" if label else f"the {len(one_hot)} columns {', '.join(one_hot)}"
    notes = [f"classes: {source}" + (f"; groups that stay together: the column {group}" if group else "")]
    unused = sorted(set(one_hot) - set(classes))
    if unused:
        notes.append(f"no image has the class {shorten(unused)}, which is left out")
    if len(labelled) < len(rows):
        notes.append(f"left out: {count(len(rows) - len(labelled), 'row')} without a class")
    if strays := sorted(set(files.images) - set(images)):
        notes.append(f"left out: {count(len(strays), 'image')} without a row in the table, {shorten(strays)}")
    groups = (
        tuple(rows[i][group] or f"only {image}" for i, image in zip(labelled, images, strict=True)) if group else None
    )
    stimuli = Stimuli(tuple(images), tuple(files.root / image for image in images))
    return LabelledImages(f"csv:{place}", stimuli, labels, classes, groups, tuple(notes))


def _column(place: Path, rows: Sequence[Row], given: str, usual: Sequence[str], option: str) -> str:
    """Return the column that is given or has a usual name, or ''."""
    if given and given not in rows[0]:
        raise _no_column(place, rows, f"column '{given}'", option)
    found = [column for one in usual for column in rows[0] if column.lower() == one]
    if option == "label" and not given and len(found) > 1:
        raise _no_column(place, rows, f"one column with classes instead of {' and '.join(found)}", option)
    return given or (found[0] if found else "")


def _no_column(place: Path, rows: Sequence[Row], expected: str, option: str) -> DataError:
    return DataError(
        place,
        expected=expected,
        got=f"the columns {shorten(list(rows[0]), SHOWN)}",
        fix=f"Name the column with ',{option}=COLUMN' after the path.",
    )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _one_hot_columns(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return the columns that contain only numbers from 0 to 1 and empty cells."""

    def is_one_hot(column: str) -> bool:
        cells = {row[column] for row in rows} - {""}
        return bool(cells) and all((value := _number(cell)) is not None and 0 <= value <= 1 for cell in cells)

    return [column for column in columns if is_one_hot(column)]


def _one_hot(place: Path, rows: Sequence[Row], name: str, columns: Sequence[str]) -> list[str]:
    """Return the class of each row, of which exactly one column is 1 and all others are 0."""
    found, wrong = list[str](), list[str]()
    for row in rows:
        values = {column: _number(row[column]) for column in columns}
        chosen = [column for column, value in values.items() if value == 1]
        parted = [f"{column} {row[column] or 'empty'}" for column, value in values.items() if value not in (0, 1)]
        if len(chosen) != 1 or parted:
            wrong.append(f"{' and '.join([*chosen, *parted]) or 'no class'} for '{row[name]}'")
        found.append(chosen[0] if chosen else "")
    if wrong:
        raise DataError(
            place,
            expected=f"1 in exactly one of {', '.join(columns)} in every row, and 0 in the others",
            got=f"{shorten(wrong)}",
            fix="Correct these rows, or name a column of labels with ',label=COLUMN' after the path.",
        )
    return found


def _find_images(place: Path, names: Sequence[str], files: ImageFiles) -> list[str]:
    """Return the image that each name means: its path, its file name, or its file name without suffix."""
    by_name: dict[str, list[str]] = {}
    for image in files.images:
        path = PurePosixPath(image)
        for key in {image, path.name, path.stem, str(path.with_suffix(""))}:
            by_name.setdefault(key, []).append(image)
    found, missing = list[str](), list[str]()
    for name in names:
        path = PurePosixPath(name)
        if "\\" in name and name not in by_name:
            raise DataError(
                place,
                expected="paths with '/' between folder and file",
                got=f"'{name}', as on Windows",
                fix="Replace every \\ by /, and write the paths as they are below this folder, without a drive letter.",
            )
        if path.is_absolute() or ".." in path.parts:
            raise DataError(
                place,
                expected=f"names of images in {files.root}",
                got=f"'{name}', which leads out of it",
                fix="Give the folder that contains all images by ',images=FOLDER', and names relative to it.",
            )
        fits = by_name.get(str(path), [])
        fits = [str(path)] if str(path) in fits else fits
        if len(fits) > 1:
            raise DataError(
                place,
                expected=f"names that mean one image in {files.root}",
                got=f"'{name}', which means {shorten(fits)}",
                fix="Write the path of each image in this folder, with its suffix.",
            )
        if not fits:
            missing.append(name or "an empty name")
        found += fits
    if missing:
        lower = {key.casefold(): images[0] for key, images in by_name.items()}
        near = next((lower[name.casefold()] for name in missing if name.casefold() in lower), None)
        hint = f"; {near} differs from one of them only by case" if near else ""
        raise DataError(
            place,
            expected=f"an image in {files.root} for each of the {len(names)} rows with a class",
            got=f"none for {len(missing)} of them, {shorten(missing)}{hint}",
            fix="Restore these images, remove their rows, or give the folder of the images by ',images=FOLDER'.",
        )
    return found


def _refuse_duplicates(place: Path, images: Sequence[str], class_of: Sequence[str]) -> None:
    classes: dict[str, list[str]] = {}
    for image, one in zip(images, class_of, strict=True):
        classes.setdefault(image, []).append(one)
    twice = [f"{image} ({', '.join(ones)})" for image, ones in classes.items() if len(ones) > 1]
    if twice:
        raise DataError(
            place,
            expected="one row for each image",
            got=f"{count(len(twice), 'image')} with several rows, here with their classes: {shorten(twice)}",
            fix="Keep one row of each.",
        )
