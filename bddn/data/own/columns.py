"""Which numbers of a file are those of the voxels of own data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.data.imaging_files import VOLUMES, brain_models, is_cifti, parcels, suffix_of
from bddn.data.own.order import refuse_other_order, same_order
from bddn.data.own.places import CIFTI_NAME, Ints, Part, Places
from bddn.data.table_files import Table
from bddn.errors import DataError


def cifti_columns(path: Path, sides: Mapping[str, Part]) -> Ints:
    """Return the columns of a CIFTI file that are the voxels of surfaces, by their vertices.

    Raises
    ------
    DataError
        If it has none for some of them.
    """
    axis, found = brain_models(path), list[Ints]()
    for hemi, part in sides.items():
        columns = np.full(part.n_places, -1)
        if axis.nvertices.get(CIFTI_NAME[hemi]) == part.n_places:
            mine = np.flatnonzero(np.asarray(axis.name) == CIFTI_NAME[hemi])
            columns[np.asarray(axis.vertex)[mine]] = mine
        found.append(columns[part.index])
    lacking = int((np.concatenate(found) < 0).sum())
    if lacking:
        n = ", ".join(f"{hemi} {part.n_places:,}" for hemi, part in sides.items())
        raise DataError(
            path,
            expected=f"brain models with the {sum(map(len, found)):,} voxels, on meshes of as many vertices ({n})",
            got=f"no number for {lacking:,} of them",
            fix="Give a CIFTI file of the same mesh that has these vertices.",
        )
    return np.concatenate(found)


def pick(path: Path, values: npt.NDArray[Any], places: Places, hemi: str) -> npt.NDArray[Any]:
    """Return the numbers of a file that are those of the voxels of a hemisphere, or of all for ''.

    Raises
    ------
    DataError
        If it has another number of voxels or places, or the order of its voxels is not known.
    """
    part, sides = (places.sides[hemi], {hemi: places.sides[hemi]}) if hemi else (places.whole, places.sides)
    if sides and is_cifti(path):
        return np.asarray(values[cifti_columns(path, sides)])
    on_grid = suffix_of(path) in VOLUMES
    try:
        index = places.select(len(values), part, on_grid)
    except ValueError as error:
        raise DataError(
            path,
            expected=f"numbers of {error}",
            got=f"{len(values):,}",
            fix="Give a file of the same mesh, volume or voxels.",
        ) from None
    if not on_grid:
        places.require_order(path)
    refuse_other_names(path, parcels(path), places)
    return values if index is None else values[index]


def refuse_other_names(path: Path, names: Sequence[str], places: Places) -> None:
    """Refuse names of columns that are those of the voxels of a table, in any column of it, in another order.

    Raises
    ------
    DataError
    """
    if places.source is None:
        return
    counts = any([*names] == [str(i + first) for i in range(len(names))] for first in (0, 1))  # which is no name
    known = [places.table["voxel"].tolist(), *(() if counts else places.source.cells.values())]
    if not any(same_order(names, wanted) for wanted in known):
        for wanted in known:
            refuse_other_order(path, "column", names, wanted, "of the voxels")


def refuse_other_rows(table: Table, places: Places) -> None:
    """Refuse a table that names the voxels, by `voxel` or `vertex`, perhaps with `hemi`, in another order.

    Raises
    ------
    DataError
    """
    column = next((name for name in ("voxel", "vertex") if name in places.table and name in table.cells), "")
    if not column:
        return
    names, wanted = list(table.cells[column]), places.table[column].astype(str).tolist()
    if hemi := table.cells.get("hemi"):
        names = [f"{side} {name}" for side, name in zip(hemi, names, strict=True)]
        wanted = [f"{side} {name}" for side, name in zip(places.table["hemi"], wanted, strict=True)]
    refuse_other_order(table.path, "row", names, wanted, "of the voxels")
