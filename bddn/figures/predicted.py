"""A figure of images and the predicted responses to them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bddn.figures.grid import CortexPanel, ImagePanel, Panel
from bddn.figures.paper import Sheet
from bddn.maps.kinds import response_maps

if TYPE_CHECKING:
    import pandas as pd

PAIRS_PER_ROW = 2  # pairs of an image and its map
IMAGE_SHARE = 0.55  # width of an image as a fraction of its panel, which makes it about as tall as the maps
MAX_TITLE_CHARS = 28


def predicted(
    voxels: "pd.DataFrame",
    responses: npt.NDArray[np.float32],
    pictures: Sequence[npt.NDArray[np.uint8]],
    names: Sequence[str],
) -> Sheet:
    """Return a sheet of images and maps of the responses to them.

    Parameters
    ----------
    voxels : DataFrame, N rows
        Voxel table of the run.
    responses : array of float32, (n, N)
    pictures : sequence of array of uint8, n × (H, W, 3)
    names : sequence of str, (n,)
        Names of the images.

    Returns
    -------
    Sheet
        All maps have the same colour ramp.
    """
    panels: list[Panel] = []
    for image, name, kind in zip(pictures, names, response_maps(voxels, responses, names), strict=True):
        title = name if len(name) <= MAX_TITLE_CHARS else f"{name[: MAX_TITLE_CHARS - 1]}…"
        panels += [ImagePanel(title, image, share=IMAGE_SHARE), CortexPanel("predicted response", kind, voxels)]
    rows = [panels[i : i + 2 * PAIRS_PER_ROW] for i in range(0, len(panels), 2 * PAIRS_PER_ROW)]
    return Sheet(
        "Predicted responses", "In the unit of the responses that the run was fitted to: blue below 0, red above", rows
    )
