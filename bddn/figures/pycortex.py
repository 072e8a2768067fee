"""A bridge to pycortex, for those who have it; nothing else here needs it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.errors import DataError
from bddn.figures.painting import OnCortex
from bddn.maps.kinds import Map

if TYPE_CHECKING:
    import pandas as pd


def to_pycortex(kind: Map, voxels: "pd.DataFrame", subject: str = "fsaverage") -> Any:
    """A map in its own colours as pycortex's data, ready for `cortex.quickshow` and `cortex.webshow`.

    Parameters
    ----------
    kind : Map
        One of `bddn.maps.kinds`, as of `run_maps(run.voxels, run.layers)`.
    voxels : DataFrame, one row per voxel
        With hemi and vertex, in the map's order of rows.
    subject : str
        pycortex's name of fsaverage7.

    Returns
    -------
    cortex.VertexRGB
        Of 2 × 163,842 vertices, left before right; transparent where no voxel is.

    Raises
    ------
    DataError
        If pycortex is not installed.
    """
    try:
        cortex: Any = import_module("cortex")
    except ImportError as error:
        raise DataError(
            "pycortex",
            expected="an installed package",
            got=str(error),
            fix="Install pycortex, or draw with 'bddn maps', which needs it not.",
        ) from error
    on = OnCortex.of(kind, voxels, "fsaverage7")
    rgb = np.concatenate([on.vertex_rgb(hemi) for hemi in HEMISPHERES])
    bare = np.isnan(rgb).any(axis=1)
    red, green, blue = np.rint(255 * np.where(bare[:, None], 0.0, rgb)).astype(np.uint8).T
    alpha = np.where(bare, 0, 255).astype(np.uint8)
    return cortex.VertexRGB(red, green, blue, subject, alpha=alpha, description=kind.heading)
