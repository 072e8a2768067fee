"""The voxels of a run that a page draws: who they are, all their numbers, their names, and who reads alike."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES_FSAVERAGE5
from bddn.maps.voxel_table import layer_index
from bddn.report.packing import packed

if TYPE_CHECKING:
    import pandas as pd

SIMILAR = 8
"""How many of the most similar voxels a page names."""
_PART = 1024  # voxels compared with all others at a time; another number changes last bits of their products
_LANES = 512  # into which the others are dealt: the largest of each lane tells which lanes to look into

Floats = npt.NDArray[np.floating]


def drawn_rows(voxels: "pd.DataFrame") -> npt.NDArray[np.int64]:
    """Rows of the voxels that have a place on fsaverage5, by nesting of the vertices' numbers."""
    return np.flatnonzero(voxels["vertex"].to_numpy() < N_VERTICES_FSAVERAGE5)


def number_columns(voxels: "pd.DataFrame") -> list[str]:
    """Names of the columns of numbers, besides the vertex."""
    return [str(name) for name in voxels.select_dtypes("number").columns if name != "vertex"]


def word_columns(voxels: "pd.DataFrame") -> list[str]:
    """Names of the columns of words, besides the hemisphere and the layer."""
    found = voxels.select_dtypes(include=["object", "string", "category"]).columns
    return [str(name) for name in found if name not in {"hemi", "layer_argmax"}]


def voxel_arrays(voxels: "pd.DataFrame", layers: Sequence[str]) -> dict[str, Any]:
    """What the page's script knows of a run's voxels.

    Parameters
    ----------
    voxels : DataFrame, one row per voxel
        Those that are drawn.
    layers : sequence of str, (L,)
        Early to late.

    Returns
    -------
    dict
        `side` (V,) 0 for left; `vertex` (V,); `layer` (V,), the one with the highest weight, L for none; `numbers`,
        every column of numbers in single precision; `words`, every column of words as `names` and the `code` (V,) of
        each voxel's name.
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
        "numbers": numbers,
        "words": words,
    }


def similar_voxels(channels: Floats, n: int = SIMILAR) -> tuple[npt.NDArray[np.int64], Floats]:
    """For every voxel those whose channel weights point the same way.

    Parameters
    ----------
    channels : array of float, (V, D)
        Channel weights. A voxel of zeros is like no other.
    n : int
        How many; fewer where there are not as many others.

    Returns
    -------
    row : array of int64, (V, n)
        The most similar first; equally similar ones in the order of rows.
    cosine : array of float32, (V, n)
        Of the angle between the two voxels' channel weights.
    """
    n = min(n, len(channels) - 1)
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
    """Columns (P, n) of the largest values of each row, in any order."""
    return np.argpartition(-values, n - 1, axis=1)[:, :n]


def similar_arrays(channels: Floats) -> dict[str, Any]:
    """The most similar voxels for the page's script: their rows, and the cosine in ten-thousandths."""
    row, cosine = similar_voxels(channels)
    return {"row": packed(row, "u2"), "cosine": packed(np.rint(1e4 * cosine), "i2")}


def shared_columns(tables: Sequence["pd.DataFrame"], columns: "list[list[str]]") -> list[str]:
    """Names of columns of any of some tables, in the order in which they come first, without those that are empty."""
    names = list(dict.fromkeys(name for found in columns for name in found))
    return [name for name in names if any(name in t and t[name].notna().any() for t in tables)]
