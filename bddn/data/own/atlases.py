"""ROIs and noise ceilings of own data, one label or number for each voxel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.data.ceiling import ceiling_of_ncsnr, refuse_shares
from bddn.data.imaging_files import check_side, suffix_of
from bddn.data.own.columns import pick, refuse_other_rows
from bddn.data.own.numbers import LABEL, LOGICAL, Numbers, labels_of, read_numbers
from bddn.data.own.places import Part, Places
from bddn.data.table_files import NO_VALUE, Table, read_table
from bddn.errors import DataError
from bddn.files.paths import expand_home
from bddn.spec import CeilingSpec, NumbersSpec, RoiSpec
from bddn.text import shorten

Labels = npt.NDArray[np.object_]


def read_atlases(specs: Sequence[RoiSpec], places: Places, folder: Path) -> tuple[dict[str, Labels], list[str]]:
    """Read the atlases.

    Returns
    -------
    labels : dict of str to array of str, (N,)
        Of each atlas: the label of every voxel, or ''.
    remarks : list of str

    Raises
    ------
    DataError
        If a file is missing or damaged, has another number of places, or numbers without names.
    """
    found, remarks = dict[str, Labels](), list[str]()
    for spec in specs:
        if spec.column is not None:
            table = _table(spec, places, folder)
            texts = table.texts(spec.column, f"the labels of '{spec.name}'", "column")
            labels, unnamed = _of_texts(table, spec, texts)
        else:
            files = _numbers(spec, places, folder)
            if spec.labels is not None and all(one.names is None for _, one in files):  # names of both hemispheres
                files = [(files[0][0], Numbers(np.concatenate([one.values for _, one in files])))]
            pieces = [labels_of(path, one, spec.labels) for path, one in files]
            labels, unnamed = np.concatenate([one for one, _ in pieces]), [more for _, some in pieces for more in some]
        found[spec.name] = labels
        if not (labels != "").any():
            remarks.append(f"no voxel has a label of the atlas '{spec.name}'")
        if unnamed:
            numbers_text = shorten(sorted(set(unnamed), key=int))
            remarks.append(f"numbers of the atlas '{spec.name}' that have no name are in no ROI: {numbers_text}")
    return found, remarks


def read_ceiling(
    spec: CeilingSpec, places: Places, folder: Path, counts: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Return the noise ceiling of each voxel, the explainable share of variance.

    Parameters
    ----------
    spec : CeilingSpec
    places : Places
    folder : Path
        From which paths start.
    counts : array of int, (n_images,)
        Number of responses to each image that are averaged.

    Raises
    ------
    DataError
        If a file is missing or damaged, or a number is impossible in this unit.
    """
    if spec.column is not None:
        table = _table(spec, places, folder)
        place, values = table.path, table.numbers(spec.column, "the noise ceilings", "column")
    else:
        files = _numbers(spec, places, folder)
        for place, one in files:
            if one.values.dtype.kind not in "fiu":
                raise DataError(place, expected="numbers", got=f"{one.values.dtype}", fix="Save them as float32.")
        values = np.concatenate([one.values for _, one in files]).astype(np.float64)
    highest = {"r2": 1.0, "r": 1.0, "percent": 100.0, "ncsnr": np.inf}[spec.unit]
    known = values[~np.isnan(values)]
    if known.size and not (known.min() >= 0 and known.max() <= highest and np.isfinite(known).all()):
        percent = spec.unit == "r2" and 1 < known.max() <= 100 and known.min() >= 0
        raise DataError(
            place,
            expected=f"noise ceilings from 0 to {highest:g} (unit: {spec.unit})",
            got=f"numbers from {known.min():.3g} to {known.max():.3g}",
            fix="Write 'unit: percent' under ceiling, if they are." if percent else "Correct the unit or the numbers.",
        )
    if spec.unit == "percent":
        fix = "Write 'unit: r2' if they are shares of variance; if not, divide them by 100, and write the same."
        refuse_shares(place, known, fix)
    if spec.unit == "ncsnr":
        return ceiling_of_ncsnr(values, counts if spec.n_trials is None else spec.n_trials)
    return {"r2": values, "r": np.square(values), "percent": values / 100}[spec.unit]


def _table(spec: NumbersSpec, places: Places, folder: Path) -> Table:
    if spec.table is None:
        if places.source is None:
            raise DataError(
                folder,
                expected=f"a 'table' with the column '{spec.column}'",
                got="none, and the voxels are not from a table",
                fix="Add 'table: FILE.csv' beside the column.",
            )
        return places.source
    table = read_table(folder / expand_home(spec.table))
    if len(table) != len(places.table):
        raise DataError(
            table.path,
            expected=f"one row for each of the {len(places.table):,} voxels, in their order",
            got=f"{len(table):,} rows",
            fix="Add or remove rows.",
        )
    places.require_order(table.path)
    refuse_other_rows(table, places)
    return table


def _files(spec: NumbersSpec, places: Places, folder: Path) -> list[tuple[Path, str, Part]]:
    """Return the files with the hemisphere, or '', and the voxels that each is about."""
    if spec.file is not None:
        path = folder / expand_home(spec.file)
        if places.only_side:
            check_side(path, places.only_side)
        return [(path, "", places.whole)]
    given = {hemi: path for hemi, path in (("lh", spec.lh), ("rh", spec.rh)) if path is not None}
    if set(given) != set(places.sides):
        raise DataError(
            folder / next(iter(given.values())),
            expected=f"a file for each of the hemispheres {', '.join(places.sides)}"
            if places.sides
            else "one 'file' for all voxels, because they are not told apart by hemisphere",
            got=f"files for {', '.join(given)}",
            fix="Give the same hemispheres as the voxels have.",
        )
    found = [(folder / expand_home(given[hemi]), hemi, part) for hemi, part in places.sides.items()]
    for path, hemi, _ in found:
        check_side(path, hemi)
    return found


def _numbers(spec: NumbersSpec, places: Places, folder: Path) -> list[tuple[Path, Numbers]]:
    """Return each file with its numbers of the voxels. A FreeSurfer label, which is one ROI, is named as the atlas."""
    found = []
    for path, hemi, part in _files(spec, places, folder):
        numbers = read_numbers(path, spec.key, places.volume, part.n_places if hemi else None)
        names = {1: spec.name} if suffix_of(path) == LABEL and isinstance(spec, RoiSpec) else numbers.names
        values = pick(path, numbers.values, places, hemi)
        found.append((path, Numbers(values, names)))
    return found


def _of_texts(table: Table, spec: RoiSpec, texts: list[str]) -> tuple[Labels, list[str]]:
    """Return labels from the cells of a column, which are names, or numbers that `labels` names."""
    if spec.labels is None:
        return labels_of(table.path, Numbers(np.array(texts, str)), None)
    folded = [one.casefold() for one in texts]
    if set(folded) <= {*LOGICAL, *NO_VALUE}:
        return labels_of(table.path, Numbers(np.array([LOGICAL.get(one, np.nan) for one in folded])), spec.labels)
    numbers = table.numbers(spec.column or "", f"the labels of '{spec.name}'", "column")
    return labels_of(table.path, Numbers(numbers), spec.labels)
