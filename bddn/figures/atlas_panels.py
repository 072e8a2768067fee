"""The panels of the atlas of a diffusion network: its blocks and time-steps on cortex, and their weights in regions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from bddn.figures.grid import CortexPanel, Panel, Part
from bddn.figures.panels import axes_at
from bddn.figures.raster import Box
from bddn.files.atomic import write_csv
from bddn.maps import ramps
from bddn.maps.atlas import Atlas, atlas_map, name_axes
from bddn.maps.colors import Palette
from bddn.maps.kinds import layer_map
from bddn.maps.legends import Bar
from bddn.maps.ramps import Ramp
from bddn.maps.style import colour_map
from bddn.stats.evidence import evident
from bddn.stats.scores import ROIS, in_roi

_LEFT_IN, _BELOW_IN = 0.35, 0.5  # for the names of steps and blocks
_STEP_IN, _LEAST_IN, _MOST_IN = 0.14, 0.7, 2.0  # height of a step, and of a panel
_LEAST_VOXELS = 4
_PER_ROW = 3


@dataclass(frozen=True, eq=False)
class WeightPanel:
    """A panel with the mean weight (B, S) of every block and step over some voxels; NaN where there is no layer."""

    title: str
    weights: npt.NDArray[np.float64]
    atlas: Atlas
    ramp: Ramp

    @property
    def legend(self) -> Bar:
        return Bar(self.ramp, "mean layer weight of the voxels with evidence")

    def height(self, width: float, crop: Part) -> float:
        return float(np.clip(_STEP_IN * len(self.atlas.steps), _LEAST_IN, _MOST_IN)) + _BELOW_IN

    def draw(self, figure: Figure, place: Box, crop: Part, dpi: int) -> None:
        left, bottom, width, height = place
        ax = axes_at(figure, left + _LEFT_IN, bottom + _BELOW_IN, width - _LEFT_IN, height - _BELOW_IN)
        shown = colour_map(self.ramp.cmap)
        ax.imshow(self.weights.T, cmap=shown, vmin=self.ramp.low, vmax=self.ramp.high, aspect="auto")
        name_axes(ax, self.atlas)

    def write(self, stem: Path) -> Path:
        """Write the weights to STEM.csv, one row per block, one column per step; return its path."""
        path = stem.with_name(f"{stem.name}.csv")
        table = pd.DataFrame(self.weights, index=pd.Index(self.atlas.blocks, name="block"), columns=self.atlas.steps)
        write_csv(path, table, index=True, float_format="%.7g")
        return path


def atlas_rows(name: str, voxels: pd.DataFrame, layers: Sequence[str], palette: Palette) -> list[list[Panel]]:
    """Return the rows of panels of one voxel table.

    Parameters
    ----------
    name : str
        Of the run.
    voxels : DataFrame, one row per voxel
    layers : sequence of str
        Blocks at steps, early to late.
    palette : str

    Raises
    ------
    SpecError
        If the layers are not several blocks at several steps.
    """
    atlas = Atlas.of(layers)
    weights, shown = atlas.weights(voxels, layers), evident(voxels)
    blocks, steps = atlas.alone(voxels, layers, "blocks"), atlas.alone(voxels, layers, "steps")
    maps: list[Panel] = [
        CortexPanel(f"{name}: block and time-step", atlas_map(voxels, layers, atlas, palette), voxels),
        CortexPanel("blocks alone", layer_map(blocks, atlas.blocks, None, palette), blocks),
        CortexPanel("time-steps alone", layer_map(steps, atlas.steps, None, palette), steps),
    ]
    where = {"all": shown, **{roi: np.asarray(in_roi(voxels, roi)) & shown for roi in ROIS}}
    means = {
        f"{region}, {mask.sum():,} voxels": np.where(atlas.cells < 0, np.nan, weights[mask].mean(0))
        for region, mask in where.items()
        if mask.sum() >= _LEAST_VOXELS
    }
    ramp = ramps.sequential_ramp(np.concatenate([[0.0], *(mean.ravel() for mean in means.values())]))
    grids: list[Panel] = [WeightPanel(title, mean, atlas, ramp) for title, mean in means.items()]
    return [maps, *(grids[i : i + _PER_ROW] for i in range(0, len(grids), _PER_ROW))]
