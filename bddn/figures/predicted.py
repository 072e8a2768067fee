"""Predicted responses beside the pictures that they are to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bddn.figures.grid import Cortex, Panel, Picture
from bddn.figures.paper import Sheet
from bddn.maps.kinds import response_maps

if TYPE_CHECKING:
    import pandas as pd

PAIRS = 2  # of a picture and its map in a row
SHARE = 0.55  # of a panel that a picture takes, so that it is about as tall as the maps
LONGEST_TITLE = 28


def predicted(
    voxels: "pd.DataFrame",
    responses: npt.NDArray[np.float32],
    pictures: Sequence[npt.NDArray[np.uint8]],
    names: Sequence[str],
) -> Sheet:
    """A sheet of pictures and the responses to them.

    Parameters
    ----------
    voxels : DataFrame, N rows
        Of the run.
    responses : array of float32, (n, N)
    pictures : sequence of array of uint8, n × (H, W, 3)
    names : sequence of str, (n,)
        Of the pictures.

    Returns
    -------
    Sheet
        All maps have the same colours.
    """
    panels: list[Panel] = []
    for image, name, kind in zip(pictures, names, response_maps(responses, names), strict=True):
        title = name if len(name) <= LONGEST_TITLE else f"{name[: LONGEST_TITLE - 1]}…"
        panels += [Picture(title, image, share=SHARE), Cortex("predicted response", kind, voxels)]
    rows = [panels[start : start + 2 * PAIRS] for start in range(0, len(panels), 2 * PAIRS)]
    return Sheet(
        "Predicted responses", "In the unit of the responses that the run was fitted to: blue below 0, red above", rows
    )
