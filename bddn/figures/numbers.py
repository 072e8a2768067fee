"""The numbers beside a picture: a table, a GIFTI file for each hemisphere, and a caption."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.gifti import write_gifti
from bddn.files.atomic import replace_file, write_text
from bddn.maps.kinds import Map

if TYPE_CHECKING:
    import pandas as pd


def write_numbers(kind: Map, table: "pd.DataFrame", caption: str, stem: Path) -> list[Path]:
    """Write what a map shows, for all voxels.

    Parameters
    ----------
    kind : Map
    table : DataFrame, one row per voxel
        With hemi, vertex and roi, in the map's order of rows.
    caption : str
    stem : Path
        Where to, without an ending.

    Returns
    -------
    list of Path
        STEM.csv, STEM.lh.func.gii, STEM.rh.func.gii and STEM.txt, the caption.
    """
    columns = table[["hemi", "vertex", "roi"]].assign(**kind.table)
    csv, text = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.txt")
    if "layer_index" in columns:  # a whole number, empty where there is no layer
        columns["layer_index"] = columns["layer_index"].astype("Int64")
    replace_file(csv, lambda aside: columns.to_csv(aside, index=False, float_format="%.7g", lineterminator="\n"))
    written = [csv]
    numeric = {name: values for name, values in kind.table.items() if np.issubdtype(values.dtype, np.number)}
    for hemi in HEMISPHERES:
        here = (table["hemi"] == hemi).to_numpy()
        arrays = {name: values[here].astype(np.float32) for name, values in numeric.items()}
        written.append(stem.with_name(f"{stem.name}.{hemi}.func.gii"))
        write_gifti(written[-1], hemi, table["vertex"].to_numpy()[here], arrays)
    write_text(text, caption + "\n")
    return [*written, text]
