"""A map: the numbers of a voxel that it shows, their colours and the legend.

A `Map` does not depend on a surface. Sheets, grids, films and pages can draw every map.

Shape letters: N voxels, k numbers of a voxel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import Floats
from bddn.maps import colors
from bddn.maps.legends import Bar, Classes, LayerField, NoEvidence, Wheel
from bddn.maps.ramps import Ramp

Legend = LayerField | Bar | Wheel | Classes | NoEvidence
Column = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Map:
    """One map of a voxel table.

    Attributes
    ----------
    name : str
        Stem of the file names.
    heading : str
        First sentence of a caption: what the map shows.
    values : array of float64, (N, k)
        The numbers that determine the colours. A voxel with NaN is drawn as grey cortex.
    rgb : callable
        A function from numbers (n, k) to colours (n, 3), sRGB 0 to 1; NaN if missing.
    legend : Legend
        The legend; `legend.draw(ax)` draws it on axes.
    table : mapping of str to array, (N,)
        Columns of the CSV file; numeric columns are also written to GIFTI files.
    classes : int
        If positive, the first number is a class from 0 to `classes` - 1, and classes are never interpolated.
    evident : array of bool, (N,), optional
        Mask of the voxels with evidence; the others are hatched. None to draw all voxels.
    hatched : str
        What the hatching means, for legends.
    about_hatched : str, optional
        A sentence about the hatched voxels, for captions; None for that of the test of evidence in the voxel table.
    caution : str
        A sentence that says why the map is no finding, drawn under the heading; '' if it is one.
    """

    name: str
    heading: str
    values: npt.NDArray[np.float64]
    rgb: Callable[[Floats], npt.NDArray[np.float64]]
    legend: Legend
    table: Mapping[str, Column]
    classes: int = 0
    evident: npt.NDArray[np.bool_] | None = None
    hatched: str = "no evidence"
    about_hatched: str | None = None
    caution: str = ""

    @property
    def shown(self) -> npt.NDArray[np.float64]:
        """The numbers (N, k) that are drawn; NaN for voxels without evidence, and for those that lack any number."""
        missing = np.asarray(np.isnan(self.values).any(axis=1))
        if self.evident is not None:
            missing = missing | ~self.evident
        return np.where(missing[:, None], np.nan, self.values)

    @property
    def n_without_evidence(self) -> int:
        """Number of voxels that are hatched."""
        return 0 if self.evident is None else int((~self.evident).sum())


def ramp_map(
    name: str,
    heading: str,
    table: Mapping[str, npt.NDArray[np.float64]],
    ramp: Ramp,
    label: str,
    ends: tuple[str, str] | None = None,
    evident: npt.NDArray[np.bool_] | None = None,
) -> Map:
    """Return a map of the first column of a table of numbers."""
    values = next(iter(table.values()))
    bar = Bar(ramp, label, ends)
    found = Map(name, heading, values[:, None], lambda v: ramp.rgb(v[:, 0]), bar, table, evident=evident)
    known = found.shown[np.isfinite(found.shown)]
    beyond = (bool((known < ramp.low).any()), bool((known > ramp.high).any()))
    return replace(found, legend=replace(bar, beyond=beyond))


def class_map(column: str, labels: Column, evident: npt.NDArray[np.bool_] | None) -> Map:
    """Return a map of the names (N,) of a column; '' is none."""
    names = sorted(set(labels) - {""})
    number = {name: float(i) for i, name in enumerate(names)}
    values = np.array([number.get(label, np.nan) for label in labels])
    palette = colors.class_colours(len(names))
    counted = labels if evident is None else labels[evident]
    counts = tuple(int((counted == name).sum()) for name in names)
    return Map(
        stem(column),
        f"'{column}' by name",
        values[:, None],
        lambda v: class_rgb(v, palette),
        Classes(tuple(names), palette, counts, column),
        {column: labels, f"{column}_number": values},
        len(names),
        evident,
    )


def class_rgb(values: Floats, palette: Floats) -> npt.NDArray[np.float64]:
    """Return the colours (n, 3) of numbers of classes (n, 1); NaN for none."""
    none = np.isnan(values[:, 0]) | (values[:, 0] < 0)
    out = np.array(palette, dtype=np.float64)[np.where(none, 0, np.nan_to_num(values[:, 0])).astype(np.int64)]
    out[none] = np.nan
    return out


def stem(column: str) -> str:
    """Return a column name in which all characters are allowed in file names."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in column)
