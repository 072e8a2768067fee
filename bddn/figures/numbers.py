"""Write the numbers of a map: a table, a GIFTI file for each hemisphere, and a caption."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.gifti import write_gifti, write_labels
from bddn.files.atomic import replace_file, write_text
from bddn.maps.colors import NO_EVIDENCE
from bddn.maps.legends import Classes, LayerField
from bddn.maps.map import Map
from bddn.stats.evidence import in_words

if TYPE_CHECKING:
    import pandas as pd


def write_numbers(kind: Map, table: "pd.DataFrame", caption: str, stem: Path) -> list[Path]:
    """Write the numbers of a map for all voxels, also of those without evidence: for these, `evident` is 0.

    Parameters
    ----------
    kind : Map
    table : DataFrame, one row per voxel
        With columns hemi, vertex and roi, in the row order of the map.
    caption : str
    stem : Path
        Path of the files without a suffix.

    Returns
    -------
    list of Path
        STEM.csv, STEM.lh.func.gii, STEM.rh.func.gii, of a map of classes STEM.lh.label.gii and STEM.rh.label.gii, and
        the caption STEM.txt.
    """
    numbers = dict(kind.table)
    if kind.evident is not None:
        numbers["evident"] = kind.evident.astype(np.int64)
    columns = table[["hemi", "vertex", "roi"]].assign(**numbers)
    csv, text = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.txt")
    if "layer_index" in columns:  # so that it is written as an integer, or empty without a layer
        columns["layer_index"] = columns["layer_index"].astype("Int64")
    replace_file(csv, lambda path: columns.to_csv(path, index=False, float_format="%.7g", lineterminator="\n"))
    written = [csv]
    numeric = {name: values for name, values in numbers.items() if np.issubdtype(values.dtype, np.number)}
    about = kind.about_hatched or in_words(table)
    for hemi in HEMISPHERES:
        rows = (table["hemi"] == hemi).to_numpy()
        arrays = {name: values[rows].astype(np.float32) for name, values in numeric.items()}
        vertex = table["vertex"].to_numpy()[rows]
        written.append(stem.with_name(f"{stem.name}.{hemi}.func.gii"))
        write_gifti(written[-1], hemi, vertex, arrays, about)
        if kind.classes:
            label, labels = np.nan_to_num(kind.values[rows, 0], nan=-1).astype(np.int32), _labels(kind)
            if kind.evident is not None:
                label[~kind.evident[rows]] = len(labels)
                labels.append(("no evidence", np.full(3, NO_EVIDENCE)))
            written.append(stem.with_name(f"{stem.name}.{hemi}.label.gii"))
            write_labels(written[-1], hemi, vertex, kind.name, label, labels, about)
    write_text(text, caption + "\n")
    return [*written, text]


def _labels(kind: Map) -> list[tuple[str, npt.NDArray[np.float64]]]:
    """Return the names and colours (3,) of the classes of a map, those of layers at full confidence."""
    legend = kind.legend
    assert isinstance(legend, LayerField | Classes)
    names = legend.layers if isinstance(legend, LayerField) else legend.names
    full = np.column_stack([np.arange(kind.classes), np.ones((kind.classes, kind.values.shape[1] - 1))])
    return list(zip(names, kind.rgb(full), strict=True))
