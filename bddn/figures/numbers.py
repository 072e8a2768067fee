"""Write the numbers of a map: a table, files for programs that show brains, and a caption."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bddn.cortex.frames import Frame, write_classes, write_values
from bddn.cortex.places import place_columns
from bddn.files.atomic import write_csv, write_text
from bddn.maps.colors import NO_EVIDENCE
from bddn.maps.legends import Classes, LayerField
from bddn.maps.map import Map
from bddn.stats.evidence import in_words

if TYPE_CHECKING:
    import pandas as pd


def write_numbers(kind: Map, table: "pd.DataFrame", caption: str, stem: Path, frame: Frame | None = None) -> list[Path]:
    """Write the numbers of a map for all voxels, also of those without evidence: for these, `evident` is 0.

    Parameters
    ----------
    kind : Map
    table : DataFrame, one row per voxel
        Where they lie, and roi, in the row order of the map.
    caption : str
    stem : Path
        Path of the files without a suffix.
    frame : Frame, optional
        What the numbers of voxels that are not on fsaverage are written on.

    Returns
    -------
    list of Path
        STEM.csv; on a surface STEM.lh.func.gii, STEM.rh.func.gii, and of a map of classes STEM.lh.label.gii and
        STEM.rh.label.gii; of points in a volume STEM.nii.gz; and the caption STEM.txt.
    """
    numbers = dict(kind.table)
    if kind.evident is not None:
        numbers["evident"] = kind.evident.astype(np.int64)
    columns = table[[*place_columns(table), "roi"]].assign(**numbers)
    csv, text = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.txt")
    if "layer_index" in columns:  # so that it is written as an integer, or empty without a layer
        columns["layer_index"] = columns["layer_index"].astype("Int64")
    write_csv(csv, columns, float_format="%.7g")
    numeric = {name: values for name, values in numbers.items() if np.issubdtype(values.dtype, np.number)}
    about = kind.about_hatched or in_words(table)
    others = write_values(stem, table, numeric, frame, about)
    if kind.classes:
        label, labels = np.nan_to_num(kind.values[:, 0], nan=-1).astype(np.int32), _labels(kind)
        if kind.evident is not None:
            label[~kind.evident] = len(labels)
            labels.append(("no evidence", np.full(3, NO_EVIDENCE)))
        others += write_classes(stem, table, kind.name, label, labels, frame, about)
    write_text(text, caption + "\n")
    return [csv, *sorted(others), text]


def _labels(kind: Map) -> list[tuple[str, npt.NDArray[np.float64]]]:
    """Return the names and colours (3,) of the classes of a map, those of layers at full confidence."""
    legend = kind.legend
    assert isinstance(legend, LayerField | Classes)
    names = legend.layers if isinstance(legend, LayerField) else legend.names
    full = np.column_stack([np.arange(kind.classes), np.ones((kind.classes, kind.values.shape[1] - 1))])
    return list(zip(names, kind.rgb(full), strict=True))
