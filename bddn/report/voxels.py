"""The drawn voxels of a run: their numbers and names, and the most similar voxels of each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.places import PLACE_COLUMNS, on_mesh, place_columns
from bddn.maps.voxel_table import layer_index
from bddn.report.packing import packed
from bddn.stats.evidence import evident

if TYPE_CHECKING:
    import pandas as pd

SIMILAR = 8
"""Number of most similar voxels on a page."""
_PART = 1024  # voxels that are compared with all others at a time; another number changes last bits of their products
_LANES = 512  # groups of voxels: only the groups with the largest maxima are searched

Floats = npt.NDArray[np.floating]


def drawn_voxels(voxels: "pd.DataFrame") -> "pd.DataFrame":
    """Return the voxels that a page draws, at the vertices of fsaverage5; see `cortex.places.on_mesh`."""
    return on_mesh(voxels, "fsaverage5")


def drawn_rows(voxels: "pd.DataFrame") -> npt.NDArray[np.int64]:
    """Return the rows of these voxels."""
    return drawn_voxels(voxels[place_columns(voxels)]).index.to_numpy(np.int64)


def number_columns(voxels: "pd.DataFrame") -> list[str]:
    """Return the names of numeric columns, without those that say which voxel it is."""
    return [str(name) for name in voxels.select_dtypes("number").columns if name not in PLACE_COLUMNS]


def word_columns(voxels: "pd.DataFrame") -> list[str]:
    """Return the names of text columns, without those that say which voxel it is, and the layer."""
    found = voxels.select_dtypes(include=["object", "string", "category"]).columns
    return [str(name) for name in found if name not in {*PLACE_COLUMNS, "layer_argmax"}]


def voxel_arrays(voxels: "pd.DataFrame", layers: Sequence[str]) -> dict[str, Any]:
    """Return the data of a run's voxels for the page's script.

    Parameters
    ----------
    voxels : DataFrame, one row per voxel
        Those of `drawn_voxels`.
    layers : sequence of str, (L,)
        Early to late.

    Returns
    -------
    dict
        `side` (V,), 0 for left; `vertex` (V,); `layer` (V,), the one with the highest weight, L for none; `evident`
        (V,), 0 for voxels without evidence; `numbers`, every numeric column in single precision; `words`, every text
        column as `names` and the index `code` (V,) of each voxel's name.
    """
    side = np.array([HEMISPHERES.index(hemi) for hemi in voxels["hemi"]], dtype=np.uint8)
    numbers = {name: packed(voxels[name].to_numpy(dtype=np.float32), "f4") for name in number_columns(voxels)}
    words = {}
    for name in word_columns(voxels):
        names, code = np.unique(voxels[name].fillna("").astype(str).to_numpy(dtype=np.str_), return_inverse=True)
        words[name] = {"names": names.tolist(), "code": packed(code, "u2")}
    layer = layer_index(voxels, layers)
    return {
        "side": packed(side, "u1"),
        "vertex": packed(voxels["vertex"].to_numpy(), "u2"),
        "layer": packed(np.where(layer < 0, len(layers), layer), "u2"),
        "evident": packed(evident(voxels), "u1"),
        "numbers": numbers,
        "words": words,
    }


def similar_voxels(channels: Floats, n: int = SIMILAR) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return for every voxel those with the most similar direction of channel weights.

    Parameters
    ----------
    channels : array of float, (V, D)
        Channel weights. A voxel of zeros is similar to no other voxel.
    n : int
        Number of similar voxels, at most V - 1; none without channels.

    Returns
    -------
    row : array of int64, (V, n)
        Rows by decreasing similarity; equally similar voxels in the order of rows.
    cosine : array of float32, (V, n)
        Cosine of the angle between the channel weights of the two voxels.
    """
    n = min(n, len(channels) - 1) if channels.shape[1] else 0
    length = np.linalg.norm(channels, axis=1, keepdims=True)
    unit = np.divide(channels, length, out=np.zeros_like(channels, dtype=np.float32), where=length > 0)
    rows, cosines = np.zeros((len(unit), n), dtype=np.int64), np.zeros((len(unit), n), dtype=np.float32)
    depth = -(-len(unit) // _LANES)
    alike = np.full((min(_PART, len(unit)), depth * _LANES), -np.inf, dtype=np.float32)
    for start in range(0, len(unit) if n else 0, _PART):
        stop = min(start + _PART, len(unit))
        part = alike[: stop - start]
        np.matmul(unit[start:stop], unit.T, out=part[:, : len(unit)])
        part[np.arange(stop - start), np.arange(start, stop)] = -np.inf  # not itself
        lane = _largest(part.reshape(-1, depth, _LANES).max(axis=1), n)  # the n largest are in these
        at = (lane[:, :, None] + _LANES * np.arange(depth)).reshape(len(part), -1)
        near = np.sort(np.take_along_axis(at, _largest(np.take_along_axis(part, at, axis=1), n), axis=1), axis=1)
        value = np.take_along_axis(part, near, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        rows[start:stop] = np.take_along_axis(near, order, axis=1)
        cosines[start:stop] = np.take_along_axis(value, order, axis=1)
    return rows, cosines


def _largest(values: Floats, n: int) -> npt.NDArray[np.int64]:
    """Return the columns (P, n) of the largest values of each row, in any order."""
    return np.argpartition(-values, n - 1, axis=1)[:, :n]


def similar_arrays(channels: Floats) -> dict[str, Any]:
    """Return the most similar voxels for the page's script: their rows, and the cosines in units of 1/10000."""
    row, cosine = similar_voxels(channels)
    return {"row": packed(row, "u2"), "cosine": packed(np.rint(1e4 * cosine), "i2")}


def shared_columns(tables: Sequence["pd.DataFrame"], columns: "list[list[str]]") -> list[str]:
    """Return the names of columns that have values in any of the tables, in order of first occurrence."""
    names = list(dict.fromkeys(name for found in columns for name in found))
    return [name for name in names if any(name in t and t[name].notna().any() for t in tables)]
