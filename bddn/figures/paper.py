"""The panels of the paper's figures 2 to 9, from runs; and the kinds of sheets that they are made of.

Every function takes runs and gives a `Sheet`, which `grid.draw_grid` draws with its numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bddn.errors import DataError, SpecError
from bddn.figures.grid import Cortex, Panel, Picture, Places
from bddn.maps import ramps
from bddn.maps.average import average
from bddn.maps.colors import Palette
from bddn.maps.kinds import cluster_map, difference_map, layer_map, relative_map, score_map, weight_maps
from bddn.run import Run, labels, read_channels
from bddn.stats.channels import channel_clusters, channel_images
from bddn.stats.scores import ROIS, in_roi

if TYPE_CHECKING:
    import pandas as pd

ROW = 3  # maps side by side
WEIGHTS_ROW = 4
CLUSTERS = 20
CHANNEL_ROW = 6  # of which the first is the picture


@dataclass(frozen=True, eq=False)
class Sheet:
    """What a figure is made of: its first lines, and rows of panels."""

    title: str
    heading: str
    rows: list[list[Panel]]


@dataclass(frozen=True, eq=False)
class Seen:
    """Pictures as a run's network sees them.

    `pictures` n × (H, W, 3) uint8 for people, and `aligned` (L, n, h, w, D), as `bddn.predict.aligned_local` gives.
    """

    run: Run
    channels: npt.NDArray[np.float32]
    pictures: Sequence[npt.NDArray[np.uint8]]
    aligned: npt.NDArray[np.float32]


def short_labels(runs: Sequence[Run]) -> list[str]:
    """Short names for several runs: the parts of their folders' paths in which they differ."""
    parts = [label.split("/") for label in labels([run.folder for run in runs])]
    while len(runs) > 1 and all(len(p) > 1 for p in parts) and len({p[-1] for p in parts}) == 1:
        parts = [p[:-1] for p in parts]
    return ["/".join(p) for p in parts]


def layer_maps(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Layer maps side by side, with the average first where several runs have the same layers and other data."""
    panels: list[Panel] = []
    same = len({run.layers for run in runs}) == 1
    top = ramps.confidence_top(np.concatenate([run.voxels["confidence"] for run in runs]))
    if same and len({run.about["data"]["voxels_sha256"] for run in runs}) > 1:
        mean = average([run.voxels for run in runs], runs[0].layers)
        panels.append(Cortex(f"average of {len(runs)}", layer_map(mean, runs[0].layers, top, palette), mean))
    for run, name in zip(runs, short_labels(runs), strict=True):
        panels.append(Cortex(name, layer_map(run.voxels, run.layers, top, palette), run.voxels))
    return Sheet("Layer maps", _LAYER_WORDS, _in_rows(panels, ROW))


def topology(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Figure 3: the layer map with and without the topological constraint, every layer's weight, and places."""
    panels: list[Panel] = []
    names = {"topological": "with topological constraint", "free": "without", "unfactorized": "not factorized"}
    top = ramps.confidence_top(runs[0].voxels["confidence"])
    for run in runs:
        kind = layer_map(run.voxels, run.layers, top, palette)
        panels.append(Cortex(names[run.about["fit"]["selection"]], kind, run.voxels))
    first = runs[0]
    panels.append(Places("places in the image", layer_map(first.voxels, first.layers, top, palette), first.voxels))
    weights: list[Panel] = [
        Cortex(layer, kind, first.voxels)
        for layer, kind in zip(first.layers, weight_maps(first.voxels, first.layers), strict=True)
    ]
    heading = "Layer maps; where voxels look in the image, coloured by layer; and the weight of every layer"
    return Sheet(
        f"Selection: {short_labels(runs)[0]}", heading, [*_in_rows(panels, ROW), *_in_rows(weights, WEIGHTS_ROW)]
    )


def scores(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Figure 4: the score of every model, and how far it is below the best one at each voxel."""
    _check_same_voxels(runs)
    all_scores = np.stack([run.voxels["r2_test"].to_numpy(dtype=np.float64) for run in runs])
    best, top = np.nanmax(all_scores, axis=0), ramps.score_ramp(all_scores.ravel()).high
    bottom = ramps.shortfall_ramp((all_scores - best).ravel()).low
    names = short_labels(runs)
    rows: list[list[Panel]] = []
    for run, name in zip(runs, names, strict=True):
        row: list[Panel] = [Cortex(f"{name}: R²", score_map(run.voxels, top), run.voxels)]
        if len(runs) > 1:
            row.append(Cortex(f"{name}: below the best", relative_map(run.voxels, best, names, bottom), run.voxels))
        rows.append(row)
    heading = "Brain score on the test images"
    if len(runs) > 1:
        heading += f", and relative to the best of {len(runs)} models at each voxel"
    return Sheet("Brain scores", heading, rows)


def change(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Figure 7: layer maps before and after, and what changed in depth and score."""
    if len(runs) != 2 or runs[0].layers != runs[1].layers:
        raise SpecError(
            "runs of this figure",
            expected="two with the same layers, before and after",
            got=f"{len(runs)}" if len(runs) != 2 else "two with other layers",
            fix="Give the run before and the run after.",
        )
    _check_same_voxels(runs)
    before, after = (run.voxels for run in runs)
    top = ramps.confidence_top(np.concatenate([before["confidence"], after["confidence"]]))
    layers = runs[0].layers
    first: list[Panel] = [
        Cortex(name, layer_map(table, layers, top, palette), table)
        for name, table in zip(short_labels(runs), (before, after), strict=True)
    ]
    second: list[Panel] = [
        Cortex("change of depth", difference_map(after, before, "depth", "depth after minus before"), before),
        Cortex("change of score", difference_map(after, before, "r2_test", "R² after minus before"), before),
    ]
    return Sheet("Before and after", _LAYER_WORDS, [first, second])


def clusters(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Figure 8: voxels clustered by their channels."""
    found = [channel_clusters(read_channels(run), CLUSTERS) for run in runs]
    panels: list[Panel] = [
        Cortex(name, cluster_map(label, "k-means, then Ward linkage"), run.voxels)
        for run, name, label in zip(runs, short_labels(runs), found, strict=True)
    ]
    words = f"Voxels with similar channel vectors, in {CLUSTERS} clusters; colours are those of one network alone"
    return Sheet("Channel clusters", words, _in_rows(panels, min(ROW, 2)))


def channels(seen: Sequence[Seen]) -> Sheet:
    """Figures 2 and 9: pictures in the three main channels of each ROI, by run and picture.

    Raises
    ------
    DataError
        Where a run has no voxel of a visual ROI.
    """
    rows: list[list[Panel]] = []
    for one, name in zip(seen, short_labels([one.run for one in seen]), strict=True):
        voxels = one.run.voxels
        weights = voxels[[f"weight_{layer}" for layer in one.run.layers]].to_numpy(dtype=np.float32)
        shown: dict[str, npt.NDArray[np.float32]] = {}
        for roi in ROIS:
            mine = np.asarray(in_roi(voxels, roi))
            if mine.sum() > 3 and len(shown) < CHANNEL_ROW - 1:
                shown[roi] = channel_images(one.aligned, one.channels[mine], weights[mine])
        if not shown:
            raise DataError(
                one.run.folder,
                expected=f"voxels of an ROI among {', '.join(ROIS)}",
                got="none",
                fix="Use a dataset with ROI masks.",
            )
        for i, picture in enumerate(one.pictures):
            row: list[Panel] = [Picture(name if len(seen) > 1 else "picture", picture)]
            row += [Picture(roi if i == 0 else "", images[i]) for roi, images in shown.items()]
            rows.append(row)
    heading = (
        "Each picture, and what an ROI reads of it: its voxels' first three principal channels as red, green, blue"
    )
    return Sheet("Channels", heading, rows)


FIGURES: Mapping[str, tuple[str, Callable[[Sequence[Run], Palette], Sheet]]] = {
    "layers": ("layer maps of runs side by side, with their average over subjects", layer_maps),
    "selection": ("layer maps of ablations, places, and every layer's weight", topology),
    "scores": ("scores of models, and relative to the best", scores),
    "change": ("layer maps before and after, with differences", change),
    "clusters": ("voxels clustered by channels", clusters),
    "figure3": ("the paper's figure 3: selection", topology),
    "figure4": ("the paper's figure 4: scores", scores),
    "figure5": ("the paper's figure 5: layers of subjects and sizes", layer_maps),
    "figure6": ("the paper's figure 6: layers and time-steps of diffusion", layer_maps),
    "figure7": ("the paper's figure 7: change", change),
    "figure8": ("the paper's figure 8: clusters", clusters),
}
"""Figures of runs alone, by name, with what they show."""

WITH_PICTURES: Mapping[str, str] = {
    "channels": "pictures in the channels of ROIs",
    "figure2": "the paper's figure 2: channels",
    "figure9": "the paper's figure 9: channels of several runs",
}
"""Figures that need --images and the network."""

_LAYER_WORDS = (
    "Colour is the layer with the highest weight, early to late; strength is the confidence, 1 - entropy / log L"
)


def _in_rows(panels: Sequence[Panel], n: int) -> list[list[Panel]]:
    n_rows = -(-len(panels) // n)
    even = -(-len(panels) // n_rows)
    return [list(panels[i : i + even]) for i in range(0, len(panels), even)]


def _check_same_voxels(runs: Sequence[Run]) -> None:
    """Differences are taken row by row."""
    first = _who(runs[0].voxels)
    for run in runs[1:]:
        if not _who(run.voxels).equals(first):
            raise DataError(
                run.folder,
                expected=f"the {len(first)} voxels of {runs[0].folder}",
                got=f"{len(run.voxels)} voxels, not the same",
                fix="Compare runs of one subject.",
            )


def _who(voxels: "pd.DataFrame") -> "pd.DataFrame":
    return voxels[["hemi", "vertex"]].reset_index(drop=True)
