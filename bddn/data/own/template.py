"""Begin the YAML file of own data from what is in a folder. Guesses end with a question, and gaps are left open."""

import json
import os
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.meshes import MESHES
from bddn.cortex.places import COORDINATES
from bddn.data.array_files import open_array
from bddn.data.imaging_files import read_volume, registered_to
from bddn.data.own.order import by_number
from bddn.data.own.scan import File, Folder
from bddn.data.table_files import read_table
from bddn.errors import DataError, OutputError
from bddn.files.atomic import write_text

ID_COLUMNS = ("id", "stimulus", "stimulus_id", "image_id", "image", "nsd_id", "name")
FILE_COLUMNS = ("file", "file_name", "filename", "image_file", "path", "image_path", "stim_file", "image")
CEILING_WORDS = ("ceiling", "noise_ceil", "_nc", "nc_", "ncsnr", "reliab")
SHOWN = 40
OPEN = '"?"'
PLAIN = re.compile(r"[^\W\d][\w./ -]*(?<! )|\.")  # texts that need no quotes in YAML


def begin(folder: Path, found: Folder, out: Path) -> str:
    """Write the YAML file `out`, which must be new and in the folder, and return its text.

    Raises
    ------
    OutputError
        If it exists, is elsewhere, or cannot be written.
    """
    inside = out.resolve().parent == folder.resolve()
    if os.path.lexists(out) or not inside:
        raise OutputError(
            out,
            expected=f"the path of a new file in {folder}",
            got="an existing file" if inside else f"a path in {out.parent}",
            fix="Give another name; nothing is overwritten." if inside else f"Write --out {folder / out.name}.",
        )
    text = template(folder, found)
    try:
        write_text(out, text)
    except PermissionError as error:
        raise OutputError(
            out,
            expected="a folder in which you can write",
            got=f"{error.strerror}",
            fix=f"Link the data into a folder of your own ('ln -s {folder.resolve()} OWN/data'), and give that folder.",
        ) from error
    return text


def template(folder: Path, found: Folder) -> str:
    """Return the text of a YAML file for the data in a folder.

    Parameters
    ----------
    folder : Path
        The YAML file is written into it, so paths start from it.
    found : Folder
        See `scan`.
    """
    stimuli, n_images = _stimuli(folder, found)
    responses, n_voxels = _responses(found, n_images)
    lines = [
        f"# Own data for bddn, begun from what is in {_line(folder.resolve().name)}/.",
        "# Every line with '# ?' is a guess or a question: correct it, and then delete the mark. Nothing is read while",
        '# a "?" is left.',
        "# docs/own_data.md of bddn explains all fields; 'bddn data check table:FILE.yaml' checks the file.",
        "#",
        "# Found:",
        *_comments([f"{name}/: {n} images" for name, n in sorted(found.images.items())], "folders"),
        *_comments([file.words() for file in found.files], "files"),
        *_comments([f"not readable: {words}" for words in found.unreadable], "files"),
        "",
        f"title: {_quoted(folder.resolve().name)}  # ? one line for people",
        "",
        *stimuli,
        "",
        *responses,
        "",
        *_voxels(folder, found, n_voxels),
        "",
        *_rois(found, n_voxels),
        *_ceiling(found, n_voxels),
        "owner:  # what is missing here is stated as 'not stated' on every page",
        "  # description: Responses are …   # sentences for the Methods text",
        '  # citation: ["Author A (2025). Title. Journal."]',
        "  # terms: …                       # terms of use",
        "  show_images: false      # true if a page that is passed on may contain small copies of the images",
        "  share_responses: false  # true if anyone may pass the responses on",
    ]
    return "\n".join(lines) + "\n"


def _comments(lines: Sequence[str], what: str) -> list[str]:
    """Return the first lines as comments."""
    more = [f"and {len(lines) - SHOWN} more {what}"] if len(lines) > SHOWN else []
    return [f"#   {_line(words)}" for words in (*lines[:SHOWN], *more)]


def _line(text: str) -> str:
    """Return a text, such as a name with a line break in it, in one line."""
    return " ".join(text.split())


def _stimuli(folder: Path, found: Folder) -> tuple[list[str], int | None]:
    """Return the lines of the section `stimuli`, and the number of responses that it implies."""
    array = next((f for f in found.of("array") if len(f.shape) in (3, 4) and f.dtype == "uint8"), None)
    for table in found.of("table"):
        if set(COORDINATES) <= set(table.columns):
            continue
        one = _named(table.columns, ID_COLUMNS)
        names = _named(table.columns, FILE_COLUMNS)
        lines = ["stimuli:", f"  table: {_quoted(table.name)}  # ? one row for each response, in the same order"]
        if names is not None and found.images:
            root = _root_of(folder, read_table(folder / table.name).cells[names][0], found)
            lines += [
                f"  images: {_quoted(root)}  # ? the folder from which the names in '{names}' start",
                f"  id: {_quoted(one or names)}  # ? the column of ids",
                f"  file: {_quoted(names)}  # ? the column of file names",
            ]
            return lines, table.shape[0]
        if array is not None and one is not None:
            row = _named(table.columns, ("row", "index", "image_index"))
            lines += [*_array(array), f"  id: {_quoted(one)}  # ? the column of ids"]
            lines.append(f"  row: {_quoted(row)}  # ? the column of the number of each image in the array")
            cells = read_table(folder / table.name).cells.get(row or "", [])
            return [*lines, _count_from("0" in cells, "the first image")], table.shape[0]
    if array is not None:
        return ["stimuli:", *_array(array), "  # images are in the order of the responses"], array.shape[0]
    lines = ["stimuli:", f"  table: {OPEN}  # ? CSV with the columns id and file, one row for each response"]
    largest = max(found.images, key=found.images.__getitem__, default=None)
    return [*lines, f"  images: {_quoted(largest)}  # ? the folder of the images"], None


def _array(file: File) -> list[str]:
    return [f"  array: {_quoted(file.name)}  # ? {_shape(file)}", *_key(file)]


def _key(file: File) -> list[str]:
    return [f"  key: {_quoted(file.key)}"] if file.key else []


def _count_from(has_0: bool, what: str) -> str:
    return f"  count_from: {0 if has_0 else OPEN}  # {'' if has_0 else '? '}number of {what}: 0, or 1 as in MATLAB"


def _named(columns: Sequence[str], usual: Sequence[str]) -> str | None:
    folded = {column.casefold(): column for column in columns}
    return next((folded[name] for name in usual if name in folded), None)


def _root_of(folder: Path, name: str, found: Folder) -> str | None:
    roots = {str(root) for inside in found.images for root in (Path(inside), *Path(inside).parents)}
    return next((root for root in sorted({".", *roots}) if (folder / root / name).is_file()), None)


def _responses(found: Folder, n_images: int | None) -> tuple[list[str], int | None]:
    """Return the lines of the section `responses`, and the number of voxels or places of (each hemisphere of) them."""
    files = [file for file in _candidates(found) if n_images is None or n_images in _n_images(file)]
    sides = {hemi: [f for f in files if f.hemi == hemi] for hemi in HEMISPHERES}
    chosen = {hemi: mine[:1] for hemi, mine in sides.items() if mine} or ({"file": files[:1]} if files else {})
    if not chosen and (several := _several(found, n_images)):
        chosen = {"file": several}
    if not chosen:
        return ["responses:", f"  file: {OPEN}  # ? or lh: and rh:", f"  images: {OPEN}  # ? rows or columns"], None
    first = next(iter(chosen.values()))[0]
    lines = ["responses:", *(f"  {name}: {_names(some)}  # ? {_shape(some[0])}" for name, some in chosen.items())]
    if first.kind in ("array", "table"):
        rows, columns = first.shape
        axis = OPEN if rows == columns else "columns" if columns == n_images else "rows"
        n_voxels = rows if axis == "columns" else columns
        lines += [*_key(first), f"  images: {axis}  # ? what the images are in the array: rows or columns"]
    else:
        n_voxels = first.shape[-1]
    lines.append("  # trials: single  # or averaged: what a row is. Rows with the same id are averaged.")
    return lines, None if first.kind == "volume" else n_voxels


def _candidates(found: Folder) -> list[File]:
    """Return the files that may be responses, by their shape."""
    tables = [file for file in found.of("table") if file.name.endswith((".parquet", ".pq")) and file.shape[1] > 2]
    arrays = [file for file in found.of("array", "mgh", "cifti", "gifti") if len(file.shape) == 2 and file.shape[0] > 1]
    return [*arrays, *(file for file in found.of("volume") if len(file.shape) == 4), *tables]


def _n_images(file: File) -> tuple[int, ...]:
    """Return the numbers of images that a file may have."""
    return {"volume": file.shape[3:] or (1,), "array": file.shape}.get(file.kind, file.shape[:1])


def _several(found: Folder, n_images: int | None) -> list[File]:
    """Return files of one kind and of the same places that have this number of images together, or none."""
    groups: dict[tuple[object, ...], list[File]] = {}
    single = [file for file in found.of("volume") if len(file.shape) == 3]
    for file in sorted((*_candidates(found), *single), key=lambda file: by_number(file.name)):
        last = file.kind == "volume"
        groups.setdefault((file.kind, file.dtype, file.shape[:3] if last else file.shape[1:]), []).append(file)
    fits = (some for some in groups.values() if sum(_n_images(file)[0] for file in some) == n_images)
    return next(fits, [])


def _names(files: Sequence[File]) -> str:
    names = [_quoted(file.name) for file in files]
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


def _shape(file: File) -> str:
    return " × ".join(map(str, file.shape))


def _voxels(folder: Path, found: Folder, n_voxels: int | None) -> list[str]:
    lines = ["voxels:"]
    table = _table_of_voxels(found, n_voxels)
    rows = [f for f in found.of("table") if f.shape[0] == n_voxels and _named(f.columns, FILE_COLUMNS) is None]
    spheres = [f for f in found.of("surface", "gifti surface") if "sphere" in f.name and not registered_to(f.name)]
    n_places = {(file.shape[-1],) for file in _candidates(found)} if (n_voxels,) in [f.shape for f in spheres] else ()
    spheres = [file for file in spheres if file.shape in n_places]
    mesh = next((name for name, n in MESHES.items() if n_voxels in (n, 2 * n)), None)
    volumes = [file for file in found.of("volume") if len(file.shape) == 3]
    mask = _mask(folder, volumes, n_voxels)
    cifti = found.of("cifti")
    listed = [f for f in found.of("array") if len(f.shape) == 1 and f.dtype.startswith(("int", "uint", "bool"))]
    vertices = _by_side(listed)
    if table is not None:
        lines.append(f"  table: {_quoted(table.name)}  # ? {table.shape[0]} voxels")
    elif spheres:
        lines += ["  sphere:  # ? a native surface", *_by_side(spheres)]
    elif mesh is not None:
        lines.append(f"  fsaverage: {mesh}  # ? because there are {n_voxels} numbers for each image")
    elif cifti:
        lines.append(f"  cifti: {_quoted(cifti[0].name)}  # ? the brain models")
        lines.append(f"  fsaverage: {OPEN}  # ? or sphere: {{lh: …, rh: …}}, e.g. of fsLR")
    elif rows and mask is None and not vertices:
        name = _quoted(rows[0].name)
        lines.append(f"  table: {OPEN}  # ? {name} has a row for each voxel, but no columns {', '.join(COORDINATES)}")
    elif mask is not None and (n_voxels is None or not vertices):
        lines += [
            f"  mask: {_quoted(mask.name)}  # ? {_shape(mask)}",
            f"  space: {OPEN}  # ? MNI, T1w or other",
        ]
        if n_voxels is not None:
            lines.append(f"  order: {OPEN}  # ? numpy or matlab: the order of the voxels in the array")
    else:
        what = f"; no mask of {n_voxels} voxels is here" if volumes else ""
        lines.append(f"  fsaverage: {OPEN}  # ? fsaverage5, fsaverage6, fsaverage7; or sphere:, table:, mask:{what}")
        if vertices:
            lines += ["  vertices:  # ? which vertices of the mesh", *vertices]
            chosen = [next((f for f in listed if f.hemi == hemi), None) for hemi in HEMISPHERES]
            values = [open_array(folder / f.name, f.key)[...] for f in chosen if f is not None]
            lines.append(_count_from(any((one == 0).any() for one in values), "the first vertex"))
    return [*lines, "  # leave_out: [nan, constant]  # voxels to leave out"]


def _table_of_voxels(found: Folder, n_voxels: int | None) -> File | None:
    """Return the first table with coordinates, if possible one with a row for each voxel."""
    tables = [file for file in found.of("table") if set(COORDINATES) <= set(file.columns)]
    return min(tables, key=lambda file: file.shape[0] != n_voxels, default=None)


def _mask(folder: Path, volumes: Sequence[File], n_voxels: int | None) -> File | None:
    """Return the first volume of 0 and 1 that has this number of voxels inside; of any number if it is not known."""
    for file in sorted(volumes, key=lambda file: "mask" not in file.name.casefold())[:SHOWN]:
        try:
            values, _ = read_volume(folder / file.name)
        except DataError:
            continue
        n = int(np.count_nonzero(values))
        if np.isin(values, (0, 1)).all() and (n == n_voxels or (n_voxels is None and n)):
            return file
    return None


def _by_side(files: Sequence[File]) -> list[str]:
    """Return a line for each hemisphere that a file is known to be of."""
    first = {hemi: next((file for file in files if file.hemi == hemi), None) for hemi in HEMISPHERES}
    return [f"    {hemi}: {_quoted(file.name)}" for hemi, file in first.items() if file is not None]


def _rois(found: Folder, n_voxels: int | None) -> list[str]:
    lines = []
    labels = found.of("annot", "label", "gifti label")
    for name in dict.fromkeys(_atlas(file.name) for file in labels):
        mine = [file for file in labels if _atlas(file.name) == name]
        lines += [f"  - name: {name}  # ?", *_by_side(mine)]
        unknown = [file for file in mine if not file.hemi]
        free = [hemi for hemi in HEMISPHERES if all(file.hemi != hemi for file in mine)]
        if unknown and free:
            lines.append(f"    {free[0]}: {OPEN}  # ? {_quoted(unknown[0].name)}, under lh or rh: which is it of?")
    table = _table_of_voxels(found, n_voxels)
    if table is not None:
        spare = [c for c in table.columns if c not in (*COORDINATES, "hemi", "voxel") and not _is_ceiling(c)][:SHOWN]
        lines += [
            line
            for c in spare
            for line in (f"  - name: {_quoted(c)}  # ? if this column has labels", f"    column: {_quoted(c)}")
        ]
    return ["rois:  # the first atlas that has a label gives the ROI of a voxel", *lines, ""] if lines else []


def _atlas(name: str) -> str:
    parts = Path(name).name.split(".")
    inner = [part for part in parts[:-1] if part not in HEMISPHERES and part not in ("label", "L", "R")]
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in "_".join(inner)).lstrip("_-0123456789") or "atlas"


def _is_ceiling(name: str) -> bool:
    return any(word in name.casefold() for word in CEILING_WORDS)


def _ceiling(found: Folder, n_voxels: int | None) -> list[str]:
    unit = "  unit: r2  # ? r2 (share of variance, 0 to 1), r, percent, or ncsnr"
    table = _table_of_voxels(found, n_voxels)
    if column := next(filter(_is_ceiling, table.columns if table else ()), None):
        return ["ceiling:", f"  column: {_quoted(column)}  # ?", unit, ""]
    files = [f for f in found.of("array", "gifti") if _is_ceiling(Path(f.name).stem) and max(f.shape) == prod(f.shape)]
    if not files:
        return []
    sides = [line[2:] for line in _by_side(files)]
    return ["ceiling:", *(sides or [f"  file: {_quoted(files[0].name)}  # ?"]), unit, ""]


def _quoted(name: str | None) -> str:
    """Return a text of YAML, in quotes where it needs them; None is an open question."""
    if name is None:
        return OPEN
    plain = PLAIN.fullmatch(name) and name.casefold() not in ("true", "false", "null")
    return name if plain else json.dumps(name, ensure_ascii=False)
