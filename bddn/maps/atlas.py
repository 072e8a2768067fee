"""Maps of the layers of a diffusion network, which are blocks at time-steps: both together, and each alone.

Shape letters: N voxels, L layers, B blocks, S steps.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from bddn.errors import SpecError
from bddn.maps.colors import Palette, layer_ramp, place_rgb
from bddn.maps.legends import Classes, percent, split_names
from bddn.maps.map import Map, class_rgb
from bddn.maps.voxel_table import evidence_mask, layer_index, numbers
from bddn.stats.evidence import evident
from bddn.stats.hierarchy import confidence, depth

if TYPE_CHECKING:
    import pandas as pd

LAYER = re.compile(r"(.+)@t(\d+)")
PALE, DARK = 0.55, 0.55  # share of white at the image, and brightness at noise
_MAX_ROWS, _MAX_COLUMNS = 12, 40  # names of steps, and of blocks
_LUMA, _DARK_BELOW = np.array([0.30, 0.59, 0.11]), 0.5


@dataclass(frozen=True, eq=False)
class Atlas:
    """Blocks and steps of layers.

    Attributes
    ----------
    blocks : tuple of str, (B,)
        Early to late.
    steps : tuple of str, (S,)
        From the image to noise: t1, …
    cells : array of int, (B, S)
        Index of the layer of each block and step; -1 where there is none.
    """

    blocks: tuple[str, ...]
    steps: tuple[str, ...]
    cells: npt.NDArray[np.int64]

    @classmethod
    def of(cls, layers: Sequence[str]) -> "Atlas":
        """Return the atlas of layers named BLOCK@tSTEP.

        Raises
        ------
        SpecError
            If they are not several blocks at several steps.
        """
        found = [match.groups() for layer in layers if (match := LAYER.fullmatch(layer))]
        steps = sorted({int(step) for _, step in found})
        blocks = _merged([[block for block, step in found if int(step) == each] for each in steps])
        if len(found) < len(layers) or len(blocks) < 2 or len(steps) < 2:
            shown = f"{layers[0]} … {layers[-1]}" if len(layers) > 2 else ", ".join(layers)
            raise SpecError(
                "the layers of this run",
                expected="several blocks of a diffusion network at several steps, BLOCK@tSTEP",
                got=f"{len(layers)}: {shown}",
                fix="Fit a cache of both, as of cache_specs/sd_grid.yaml, or draw the figure 'layers'.",
            )
        cells = np.full((len(blocks), len(steps)), -1)
        for i, (block, step) in enumerate(found):
            cells[blocks.index(block), steps.index(int(step))] = i
        return cls(tuple(blocks), tuple(f"t{step}" for step in steps), cells)

    def weights(self, voxels: "pd.DataFrame", layers: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the layer weights of a voxel table as (N, B, S); 0 where there is no layer."""
        flat = np.column_stack([*(numbers(voxels, f"weight_{layer}") for layer in layers), np.zeros(len(voxels))])
        return np.asarray(flat[:, self.cells])

    def alone(self, voxels: "pd.DataFrame", layers: Sequence[str], of: Literal["blocks", "steps"]) -> "pd.DataFrame":
        """Return a voxel table whose layers are the blocks or the steps alone.

        A weight is the mean over the layers of a block or step, of which all then sum to 1. So a block that is stored
        at more steps than others has no advantage; if all are stored at all steps, it is the sum.
        """
        weights, axis = self.weights(voxels, layers), 2 if of == "blocks" else 1
        mean = weights.sum(axis) / (self.cells >= 0).sum(axis - 1)
        return _table(voxels, self.blocks if of == "blocks" else self.steps, mean / mean.sum(1, keepdims=True))


def _table(voxels: "pd.DataFrame", names: Sequence[str], weights: npt.NDArray[np.float64]) -> "pd.DataFrame":
    """Return a voxel table whose layers are these names with these weights (N, n)."""
    kept = voxels.drop(columns=[name for name in voxels if str(name).startswith("weight_")])
    return kept.assign(
        layer_argmax=np.array(list(names), dtype=object)[weights.argmax(1)],
        depth=depth(weights),
        confidence=confidence(weights),
        **{f"weight_{name}": weights[:, i] for i, name in enumerate(names)},
    )


@dataclass(frozen=True, eq=False)
class AtlasField(Classes):
    """The legend of an atlas map: blocks from left to right, steps downwards, and the share of voxels of each layer."""

    atlas: Atlas

    width_in, height_in = 7.0, 1.15

    def draw(self, ax: Axes) -> None:
        """Draw the legend on these axes."""
        cells = self.atlas.cells.T
        field = np.concatenate([np.asarray(self.colours), np.ones((1, 3))])[cells]  # white where there is no layer
        ax.imshow(field, aspect="auto", interpolation="nearest")
        shared = name_axes(ax, self.atlas)
        style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top", "fontsize": 6}
        ax.annotate(shared, (1, 0), (3, -3), **style)
        ax.annotate("share of voxels", (1, 1), (3, 0), **style)
        total = max(sum(self.counts), 1)
        if self.counts and cells.shape[0] <= _MAX_ROWS and cells.shape[1] <= _MAX_COLUMNS:
            for (row, column), layer in np.ndenumerate(cells):
                if layer >= 0:
                    bright = field[row, column] @ _LUMA > _DARK_BELOW
                    style = {"ha": "center", "va": "center", "fontsize": 5.5, "color": "black" if bright else "white"}
                    ax.text(column, row, percent(self.counts[layer] / total), **style)


def name_axes(ax: Axes, atlas: Atlas) -> str:
    """Write the names of blocks below axes whose x is the number of a block and y that of a step, and of steps beside
    them. Return the part of the names that all blocks share, which is not written."""
    shared, own = split_names(atlas.blocks)
    blocks = range(0, len(own), -(-len(own) // _MAX_COLUMNS))
    ax.set_xticks(list(blocks), [own[i] for i in blocks], rotation=40, ha="right", rotation_mode="anchor")
    steps = range(0, len(atlas.steps), -(-len(atlas.steps) // _MAX_ROWS))
    ax.set_yticks(list(steps), [atlas.steps[i] for i in steps])
    ax.tick_params(labelsize=6, length=2, width=0.5)
    ax.annotate("image", (0, 1), (-3, 3), xycoords="axes fraction", textcoords="offset points", ha="right", fontsize=6)
    ax.annotate("noise", (0, 0), (-3, -8), xycoords="axes fraction", textcoords="offset points", ha="right", fontsize=6)
    for spine in ax.spines.values():
        spine.set_linewidth(0.5)
    return shared


def atlas_map(voxels: "pd.DataFrame", layers: Sequence[str], atlas: Atlas, palette: Palette = "hue") -> Map:
    """Return the map of the block and the step of each voxel's layer with the highest weight.

    With 'hue', the block is the hue, and the step goes from pale (image) to dark (noise). With 'safe', blocks are blue
    to yellow, and steps light to dark.
    """
    index = layer_index(voxels, layers)
    chosen = np.where(index < 0, np.nan, index.astype(np.float64))
    counts = np.bincount(index[(index >= 0) & evident(voxels)], minlength=len(layers))
    colours = np.full((len(layers), 3), np.nan)
    blocks, steps = np.nonzero(atlas.cells >= 0)
    colours[atlas.cells[blocks, steps]] = atlas_rgb(blocks, steps, len(atlas.blocks), len(atlas.steps), palette)
    return Map(
        "atlas_map",
        "Atlas: colour is the block and the time-step with the highest weight",
        chosen[:, None],
        lambda v: class_rgb(v, colours),
        AtlasField(tuple(layers), colours, tuple(counts.tolist()), "block and time-step", atlas),
        {
            "layer_argmax": voxels["layer_argmax"].to_numpy(),
            "layer_index": chosen,
            "confidence": numbers(voxels, "confidence"),
            **{f"weight_{layer}": numbers(voxels, f"weight_{layer}") for layer in layers},
        },
        len(layers),
        evidence_mask(voxels),
    )


def atlas_rgb(
    block: npt.ArrayLike, step: npt.ArrayLike, n_blocks: int, n_steps: int, palette: Palette = "hue"
) -> npt.NDArray[np.float64]:
    """Return the colours (n, 3) of blocks and steps, each counted from 0 (n,): sRGB, 0 to 1."""
    down = np.asarray(step, dtype=np.float64) / max(n_steps - 1, 1)
    if palette == "safe":
        across = np.asarray(block, dtype=np.float64) / max(n_blocks - 1, 1)
        return place_rgb(np.column_stack([2 * across - 1, 2 * down - 1]), 1.0, "safe")
    full = layer_ramp(n_blocks)[np.asarray(block, dtype=np.int64)]
    white = PALE * np.clip(1 - 2 * down, 0, 1)[:, None]
    bright = 1 - (1 - DARK) * np.clip(2 * down - 1, 0, 1)[:, None]
    return np.asarray((full * (1 - white) + white) * bright)


def _merged(of_steps: Sequence[Sequence[str]]) -> list[str]:
    """Return the blocks of all steps in the order in which they run, which is their order in each step; [] if the steps
    contradict each other."""
    after: dict[str, set[str]] = {block: set() for blocks in of_steps for block in blocks}
    for blocks in of_steps:
        for before, block in pairwise(blocks):
            after[block].add(before)
    try:
        return list(TopologicalSorter(after).static_order())
    except CycleError:
        return []
