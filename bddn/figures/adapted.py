"""Figure 7 of the paper with examples of the images: layer maps before and after fine-tuning, and differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.figures.grid import CortexPanel, ImagePanel, Panel
from bddn.figures.paper import Sheet, layer_heading
from bddn.maps.kinds import confidence_top, contrast_maps, layer_map, score_map
from bddn.run import Run
from bddn.stats.evidence import FDR

RGB = npt.NDArray[np.uint8]

GAP = 12  # white pixels between examples


@dataclass(frozen=True, eq=False)
class Adapted:
    """A network after fine-tuning: the name of the image set, its `run`, the table `voxels` of
    `bddn.evaluation.forgetting.forgetting.Forgetting`, and `examples`, images (S, S, 3) of the set."""

    name: str
    run: Run
    voxels: pd.DataFrame
    examples: Sequence[RGB]


def adapted(before: Run, after: Sequence[Adapted], title: str) -> Sheet:
    """Return a sheet with layer map and score before, and a row for each image set: examples, the layer map after, and
    the differences of score and depth, hatched where no difference was found.

    Parameters
    ----------
    before : Run
    after : sequence of Adapted
    title : str
    """
    layers, tables = before.layers, [one.voxels for one in after]
    top = confidence_top([before.voxels, *(one.run.voxels for one in after)])
    about = f"Differences are shown where the false discovery rate is at most {FDR:g}"
    tested = [
        table.assign(worse=table["q"] <= FDR, moved=(table["depth_q"] <= FDR) & table["evident"]) for table in tables
    ]
    scores = contrast_maps(
        tested, "r2_difference", "R² after minus before", "worse", "no difference found", f"{about}."
    )
    depths = contrast_maps(
        tested,
        "depth_difference",
        "depth after minus before",
        "moved",
        "no difference found",
        f"{about} that a voxel moved no farther than between two seeds of the network before.",
    )
    first: list[Panel] = [
        CortexPanel("layer map before", layer_map(before.voxels, layers, top), before.voxels),
        CortexPanel("R² before", score_map(before.voxels), before.voxels),
    ]
    rows = [first]
    for one, score, depth in zip(after, scores, depths, strict=True):
        own: list[Panel] = [
            ImagePanel(one.name, contact_sheet(one.examples)),
            CortexPanel("layer map after", layer_map(one.run.voxels, layers, top), one.run.voxels),
            CortexPanel("change of R²", score, one.voxels),
            CortexPanel("change of depth", depth, one.voxels),
        ]
        rows.append(own)
    return Sheet(title, layer_heading("confidence"), rows)


def contact_sheet(images: Sequence[RGB]) -> RGB:
    """Return images (S, S, 3) of one size side by side, two in each row, with white between them."""
    size, n_rows = len(images[0]), -(-len(images) // 2)
    sheet = np.full((n_rows * (size + GAP) - GAP, 2 * size + GAP, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (size + GAP) * (i // 2), (size + GAP) * (i % 2)
        sheet[top : top + size, left : left + size] = image
    return sheet
