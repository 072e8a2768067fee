"""The voxel table, from which the maps are drawn: its checks, and its columns on a mesh."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bddn.cortex.meshes import MESHES, Mesh
from bddn.cortex.places import check_places, on_mesh, place_columns
from bddn.errors import DataError
from bddn.stats.evidence import evident, is_tested

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("hemi", "vertex", "roi", "r2_val", "r2_test", "layer_argmax", "depth", "confidence", "x", "y", "scale")
"""Columns that the maps need, in addition to `weight_<layer>` for each layer; others are ignored."""


def check_voxels(voxels: "pd.DataFrame", layers: Sequence[str]) -> None:
    """Refuse a table from which the maps cannot be drawn.

    Parameters
    ----------
    voxels : DataFrame, one row per voxel
        Columns as in `REQUIRED` and `weight_<layer>`. `layer_argmax` may be missing (NaN, None or '') in a row.
    layers : sequence of str, (L,)
        Names of the layers, from early to late.

    Raises
    ------
    DataError
        If a column is missing, there is no row, a hemisphere, layer or vertex is invalid, or a voxel occurs twice.
    """
    place = "voxel table"
    if not len(layers) or len(set(layers)) != len(layers):
        raise DataError("layers", expected="different names", got=f"{list(layers)}", fix="Give each layer once.")
    missing = [name for name in (*REQUIRED, *(f"weight_{layer}" for layer in layers)) if name not in voxels.columns]
    if missing:
        raise DataError(
            place,
            expected=f"columns {', '.join(missing)}",
            got=f"columns {', '.join(map(str, voxels.columns))}",
            fix="Give the table and the layers of the same run.",
        )
    if not len(voxels):
        raise DataError(place, expected="at least one voxel", got="an empty table", fix="Fit a dataset with voxels.")
    chosen = voxels["layer_argmax"].fillna("").astype(str)
    unknown = sorted(set(chosen) - set(layers) - {""})
    if unknown:
        raise DataError(
            f"{place}, column layer_argmax",
            expected=f"one of {', '.join(layers)}",
            got=f"{unknown[:3]}",
            fix="Give the table and the layers of the same run.",
        )
    check_places(place, voxels)


def layer_index(voxels: "pd.DataFrame", layers: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the index of each voxel's selected layer.

    Parameters
    ----------
    voxels : DataFrame, one row per voxel
        With the column `layer_argmax`.
    layers : sequence of str, (L,)
        Names of the layers, from early to late.

    Returns
    -------
    array of int64, (N,)
        0 to L - 1; -1 if the voxel has no layer.
    """
    number = {name: i for i, name in enumerate(layers)}
    return np.array([number.get(str(name), -1) for name in voxels["layer_argmax"]], dtype=np.int64)


def roi_names(voxels: "pd.DataFrame", hemi: str, mesh: Mesh = "fsaverage5") -> npt.NDArray[np.str_]:
    """Return the ROI of each vertex of a mesh.

    Parameters
    ----------
    voxels : DataFrame, one row per voxel
        On a surface, with the column `roi`.
    hemi : str
        'lh' or 'rh'.
    mesh : str
        'fsaverage5', 'fsaverage6' or 'fsaverage7', with V vertices.

    Returns
    -------
    array of str, (V,)
        '' if a vertex has no voxel or no ROI.
    """
    drawn = on_mesh(voxels[[*place_columns(voxels), "roi"]], mesh)
    drawn = drawn[drawn["hemi"] == hemi]
    names = [str(name) for name in drawn["roi"].fillna("")]
    out = np.full(MESHES[mesh], "", dtype=f"<U{max([len(name) for name in names], default=1) or 1}")
    out[drawn["vertex"].to_numpy(dtype=np.int64)] = names
    return out


def numbers(voxels: "pd.DataFrame", column: str) -> npt.NDArray[np.float64]:
    """Return the numbers (N,) of a column."""
    return voxels[column].to_numpy(dtype=np.float64)


def selected(voxels: "pd.DataFrame", column: str) -> npt.NDArray[np.float64]:
    """Return the numbers (N,) of a column; NaN for voxels without evidence."""
    return np.where(evident(voxels), numbers(voxels, column), np.nan)


def evidence_mask(voxels: "pd.DataFrame") -> npt.NDArray[np.bool_] | None:
    """Return a mask (N,) of the voxels with evidence; None for a table without a test."""
    return evident(voxels) if is_tested(voxels) else None
