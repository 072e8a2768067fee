"""Convert a map to pycortex, which is an optional package."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.errors import DataError
from bddn.figures.painting import SurfaceMap
from bddn.maps.map import Map

if TYPE_CHECKING:
    import pandas as pd


def to_pycortex(kind: Map, voxels: "pd.DataFrame", subject: str = "fsaverage") -> Any:
    """Convert a map to pycortex data with the same colours, for `cortex.quickshow` and `cortex.webshow`.

    Parameters
    ----------
    kind : Map
        A map of `bddn.maps.kinds`, for example from `run_maps(run.voxels, run.layers)`.
    voxels : DataFrame, one row per voxel
        On a surface, in the row order of the map.
    subject : str
        The name of fsaverage7 in pycortex.

    Returns
    -------
    cortex.VertexRGB
        Colours of 2 × 163,842 vertices, left hemisphere first; transparent without a voxel.

    Raises
    ------
    DataError
        If pycortex is not installed, or the voxels are points.
    """
    try:
        cortex: Any = import_module("cortex")
    except ImportError as error:
        raise DataError(
            "pycortex",
            expected="an installed package",
            got=str(error),
            fix="Install pycortex, or draw with 'bddn maps', which does not need it.",
        ) from error
    cortex_map = SurfaceMap.of(kind, voxels, "fsaverage7")
    rgb = np.concatenate([cortex_map.vertex_rgb(hemi) for hemi in HEMISPHERES])
    bare = np.isnan(rgb).any(axis=1)
    red, green, blue = np.rint(255 * np.where(bare[:, None], 0.0, rgb)).astype(np.uint8).T
    alpha = np.where(bare, 0, 255).astype(np.uint8)
    return cortex.VertexRGB(red, green, blue, subject, alpha=alpha, description=kind.heading)
