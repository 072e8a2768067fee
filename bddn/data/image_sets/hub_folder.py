"""Read a folder of a dataset of the Hugging Face hub or of the library `datasets`, without this library.

Its images are in Parquet or Arrow tables, whose classes are named in the metadata of the tables or in README.md. Or
they are files beside metadata.csv or metadata.jsonl, or in one folder per class. Source:
huggingface.co/docs/hub/datasets-image.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from bddn.data.dataset import Stimuli
from bddn.data.image_files import ImageFiles, image_files, lacking
from bddn.data.image_sets.image_folder import read_folder
from bddn.data.image_sets.image_table import GROUP_COLUMNS, LABEL_COLUMNS, Row, labelled_by, read_rows
from bddn.data.image_sets.labelled import LabelledImages, labels_of
from bddn.data.image_sets.table_images import ARROW, TableImages, is_image_type, read_columns, read_schema
from bddn.errors import DataError, SpecError
from bddn.spec.yaml_file import read_yaml
from bddn.text import count, shorten

CARD = "README.md"
METADATA = ("metadata.csv", "metadata.jsonl")
LAYOUT = (
    "a dataset of the Hugging Face hub: Parquet or Arrow tables, "
    f"images with {' or '.join(METADATA)}, or folders of classes"
)
NO_CLASS = -1  # the label of images whose class is secret


def read_hub(path: Path, label: str = "", group: str = "") -> LabelledImages:
    """Read all images of a local dataset of the hub; `bddn` draws its own split. Their ids are file and row, or path.

    Raises
    ------
    DataError
        If the layout is unknown, columns are missing or ambiguous, or tables do not fit together.
    """
    found = image_files(path, LAYOUT, "Give the folder of a dataset, for example that of 'hf download --local-dir'.")
    tables = [name for name in found.others if name.endswith(".parquet")] or [
        name
        for name in found.others
        if name.endswith(ARROW) and not PurePosixPath(name).name.startswith(("cache-", "indices-"))
    ]
    metadata = [name for name in found.others if PurePosixPath(name).name in METADATA]
    if tables:
        return _of_tables(found, tables, label, group)
    if metadata:
        rows = _aligned([row for name in metadata for row in _metadata_rows(found.root, name)])
        return labelled_by(path / metadata[0], rows, found, "file_name", label, group)
    if found.images:
        return read_folder(path)
    got = f"{count(len(found.others), 'other file')}: {shorten(found.others)}" if found.others else "no file"
    raise lacking(found, LAYOUT, got, "Give the folder that contains its tables or images.")


def _of_tables(found: ImageFiles, tables: Sequence[str], label: str, group: str) -> LabelledImages:
    card = _card(found.root)
    configs = [str(one.get("config_name")) for one in _mappings(card.get("configs"))]
    if len(configs) > 1:
        raise DataError(
            found.root,
            expected="one configuration of a dataset",
            got=f"{len(configs)} in {CARD}: {shorten(configs)}",
            fix="Give the folder that contains the tables of one of them.",
        )
    schemas = {name: read_schema(found.root / name) for name in tables}
    first = schemas[tables[0]]
    place = found.root / tables[0]
    names_of = _names_in_card(card) | _names_in_metadata(first)
    image = _image_column(place, first)
    label = _label_column(place, first, label, names_of)
    group = _group_column(place, first, group)
    used = [image, label, *([group] if group else [])]
    for name, schema in schemas.items():
        if any(column not in schema.names or schema.field(column).type != first.field(column).type for column in used):
            raise DataError(
                found.root / name,
                expected=f"the columns {', '.join(used)}, of the same types as in {tables[0]}",
                got=f"the columns {', '.join(schema.names)}",
                fix="Give a folder whose tables belong together.",
            )
    ids, paths, rows, class_of, groups, n_unlabelled = [], [], [], [], [], 0
    for name in tables:
        values = read_columns(found.root / name, [column for column in used if column != image])
        for row, value in enumerate(values[label]):
            one = _class(found.root / name, row, value, names_of.get(label))
            if one is None:
                n_unlabelled += 1
                continue
            ids.append(f"{name}:{row}")
            paths.append(found.root / name)
            rows.append(row)
            class_of.append(one)
            groups.append(str(values[group][row] or f"only {ids[-1]}") if group else "")
    labels, classes = labels_of(place, class_of, names_of.get(label))
    notes = [f"classes: the column {label}" + (f"; groups that stay together: the column {group}" if group else "")]
    if label not in names_of and pa.types.is_integer(first.field(label).type):
        notes.append(f"classes have numbers, because neither the tables nor {CARD} name them")
    if len(tables) > 1:
        notes.append(
            f"{count(len(tables), 'table')} are read as one set, and bddn draws its own split: {shorten(tables)}"
        )
    if n_unlabelled:
        notes.append(f"left out: {count(n_unlabelled, 'image')} without a class")
    stimuli = Stimuli(tuple(ids), tuple(paths), tuple(rows), TableImages(image))
    return LabelledImages(
        f"huggingface:{found.root}", stimuli, labels, classes, tuple(groups) if group else None, tuple(notes)
    )


def _image_column(place: Path, schema: pa.Schema) -> str:
    found = [field.name for field in schema if is_image_type(field.type)]
    if "image" in found or len(found) == 1:
        return "image" if "image" in found else found[0]
    raise DataError(
        place,
        expected="one column of images",
        got=f"{shorten(found) or 'none'} of the columns {', '.join(schema.names)}",
        fix="Rename one of them to 'image', or give another dataset.",
    )


def _label_column(place: Path, schema: pa.Schema, given: str, names_of: Mapping[str, Any]) -> str:
    found = [given] if given else [name for name in schema.names if name in names_of]
    found = found or [name for name in schema.names if name.lower() in LABEL_COLUMNS]
    if len(found) == 1 and found[0] in schema.names:
        return found[0]
    raise DataError(
        place,
        expected=f"the column '{given}'" if given else "one column with classes",
        got=f"{'' if given or not found else f'{shorten(found)} of '}the columns {', '.join(schema.names)}",
        fix="Name the column with ',label=COLUMN' after the path.",
    )


def _group_column(place: Path, schema: pa.Schema, given: str) -> str:
    if given and given not in schema.names:
        raise DataError(
            place,
            expected=f"the column '{given}'",
            got=f"the columns {', '.join(schema.names)}",
            fix="Name the column with ',group=COLUMN' after the path.",
        )
    lower = {name.lower(): name for name in schema.names}
    return given or next((lower[name] for name in GROUP_COLUMNS if name in lower), "")


def _class(file: Path, row: int, value: object, names: Sequence[str] | None) -> str | None:
    """Return the class that a cell gives, or None."""
    if value is None or value == "" or (value == NO_CLASS and not isinstance(value, float)):
        return None
    if isinstance(value, int) and names is not None and 0 <= value < len(names):
        return names[value]
    if isinstance(value, str) or (isinstance(value, int) and names is None):
        return str(value)
    raise DataError(
        file,
        expected="a class as text or as a whole number" if names is None else f"numbers of {len(names)} classes from 0",
        got=f"{value!r} in row {row}",
        fix="Name another column with ',label=COLUMN' after the path, or correct the table.",
    )


def _names_in_metadata(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes of each column that `datasets` has written into a table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: tuple(map(str, one["names"])) for name, one in features.items() if one["_type"] == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _names_in_card(card: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes of each column from a dataset card."""
    found = {}
    for about in _mappings(card.get("dataset_info")):
        for feature in _mappings(about.get("features")):
            kind = feature.get("dtype")
            label = kind.get("class_label") if isinstance(kind, dict) else None
            names = label.get("names") if isinstance(label, dict) else None
            if isinstance(names, dict) and sorted(names) == sorted(map(str, range(len(names)))):
                found[str(feature.get("name"))] = tuple(str(names[str(i)]) for i in range(len(names)))
            elif isinstance(names, list):
                found[str(feature.get("name"))] = tuple(map(str, names))
    return found


def _card(root: Path) -> Mapping[str, Any]:
    """Return the settings at the start of README.md; empty if there are none that can be read."""
    try:
        start, settings, *_ = (root / CARD).read_bytes().replace(b"\r\n", b"\n").split(b"---\n", 2)
        found = read_yaml(settings, CARD).value
    except (OSError, ValueError, SpecError):
        return {}
    return found if isinstance(found, dict) and not start.strip() else {}


def _mappings(value: object) -> list[dict[str, Any]]:
    """Return the mappings in a list, or the only one."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _metadata_rows(root: Path, name: str) -> list[Row]:
    """Return the rows of a metadata file, whose `file_name` becomes relative to the root."""
    path, folder = root / name, PurePosixPath(name).parent
    rows = read_rows(path) if name.endswith(".csv") else _json_rows(path)
    if not rows or "file_name" not in rows[0]:
        raise DataError(
            path,
            expected="a row with 'file_name' for each image",
            got=f"the columns {', '.join(rows[0])}" if rows else "no row",
            fix="Correct this file.",
        )
    return [{**row, "file_name": str(folder / row["file_name"])} for row in rows]


def _json_rows(path: Path) -> list[Row]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        rows = [{key: "" if value is None else str(value) for key, value in line.items()} for line in lines]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(path, expected="one JSON object per line", got=f"{error}", fix="Correct this file.") from error
    return _aligned(rows)


def _aligned(rows: Sequence[Row]) -> list[Row]:
    """Return rows that all have the same columns; missing cells become empty."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column, "") for column in columns} for row in rows]
