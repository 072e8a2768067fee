"""The figures 2 to 9 of the paper, made from runs.

Every function takes runs and returns a `Sheet`, which `grid.draw_grid` draws; it also writes the numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.errors import DataError, SpecError
from bddn.evaluation.contrast.rivals import check_same_test
from bddn.figures.atlas_panels import atlas_rows
from bddn.figures.grid import CortexPanel, ImagePanel, Panel, PlacePanel
from bddn.maps import ramps
from bddn.maps.colors import Palette
from bddn.maps.kinds import (
    STRENGTHS,
    Strength,
    cluster_map,
    column_map,
    confidence_top,
    difference_maps,
    layer_map,
    relative_map,
    score_map,
    sharpness,
    weight_maps,
)
from bddn.run import Run, labels, read_channels
from bddn.run.folder import network_digest
from bddn.stats.average import average, can_match
from bddn.stats.channels import channel_clusters, channel_images
from bddn.stats.evidence import evident
from bddn.stats.scores import ROIS, in_roi

MAPS_PER_ROW = 3
WEIGHTS_PER_ROW = 4
N_CLUSTERS = 20
PAPER_ROIS = ("V1", "V4", "FFA")  # of the paper's figures 2 and 9


@dataclass(frozen=True, eq=False)
class Sheet:
    """The content of a figure: title, heading, and rows of panels."""

    title: str
    heading: str
    rows: list[list[Panel]]


@dataclass(frozen=True, eq=False)
class ChannelInputs:
    """A run with n images: `pictures` (H, W, 3) uint8 to show, `aligned` features (L, n, h, w, D) from
    `bddn.predict.aligned_local`, and `channels` (N, D) from `bddn.predict.channel_vectors`.
    """

    run: Run
    channels: npt.NDArray[np.float32]
    pictures: Sequence[npt.NDArray[np.uint8]]
    aligned: npt.NDArray[np.float32]


def short_labels(runs: Sequence[Run]) -> list[str]:
    """Return short names of several runs: the parts of their folder paths that differ."""
    parts = [label.split("/") for label in labels([run.folder for run in runs])]
    while len(runs) > 1 and all(len(p) > 1 for p in parts) and len({p[-1] for p in parts}) == 1:
        parts = [p[:-1] for p in parts]
    return ["/".join(p) for p in parts]


def layer_maps(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Return layer maps side by side. Runs of one network come after their average and the agreement of their layers.

    If there are several subjects, the runs of each are averaged first, so that subjects count alike. Points without a
    place in common have no average.

    Brightness is the confidence; if the runs have different numbers of layers, it is the sharpness in depth.
    """
    panels: list[Panel] = []
    strength: Strength = "confidence" if len({len(run.layers) for run in runs}) == 1 else "sharpness in depth"
    shown = [
        run.voxels["confidence"] if strength == "confidence" else sharpness(run.voxels, run.layers) for run in runs
    ]
    top = ramps.confidence_top(np.concatenate([one[evident(run.voxels)] for one, run in zip(shown, runs, strict=True)]))
    heading, tables = layer_heading(strength), _tables_of_subjects(runs)
    if _are_one_network(runs) and can_match(tables):
        mean = average(tables, runs[0].layers)
        known = mean.loc[evident(mean), "agreement"].dropna()
        if len(known):
            heading += f". Mean agreement of {len(tables)} layer maps: {known.mean():.2f}"
        panels.append(CortexPanel(f"average of {len(tables)}", layer_map(mean, runs[0].layers, top, palette), mean))
        panels.append(CortexPanel("agreement of their layers", column_map(mean, "agreement"), mean))
    for run, name in zip(runs, short_labels(runs), strict=True):
        kind = layer_map(run.voxels, run.layers, top, palette, strength)
        panels.append(CortexPanel(name, kind, run.voxels))
    return Sheet("Layer maps", heading, _in_rows(panels, MAPS_PER_ROW))


def topology(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Return figure 3: layer maps with and without the topological constraint, places, and the weight of each layer."""
    panels: list[Panel] = []
    names = {"topological": "with topological constraint", "free": "without", "unfactorized": "not factorized"}
    top = confidence_top([runs[0].voxels])
    for run in runs:
        kind = layer_map(run.voxels, run.layers, top, palette)
        panels.append(CortexPanel(names[run.about["fit"]["selection"]], kind, run.voxels))
    first = runs[0]
    panels.append(PlacePanel("places in the image", layer_map(first.voxels, first.layers, top, palette), first.voxels))
    weights: list[Panel] = [
        CortexPanel(layer, kind, first.voxels)
        for layer, kind in zip(first.layers, weight_maps(first.voxels, first.layers), strict=True)
    ]
    heading = "Layer maps; where voxels look in the image, coloured by layer; and the weight of every layer"
    rows = [*_in_rows(panels, MAPS_PER_ROW), *_in_rows(weights, WEIGHTS_PER_ROW)]
    return Sheet(f"Selection: {short_labels(runs)[0]}", heading, rows)


def scores(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Return figure 4: the score of every model, and its difference from the best model at each voxel."""
    check_same_test(runs)
    all_scores = np.stack([run.voxels["r2_test"].to_numpy(dtype=np.float64) for run in runs])
    best, top = np.nanmax(all_scores, axis=0), ramps.sequential_ramp(all_scores.ravel()).high
    bottom = ramps.shortfall_ramp((all_scores - best).ravel()).low
    names = short_labels(runs)
    rows: list[list[Panel]] = []
    for run, name in zip(runs, names, strict=True):
        row: list[Panel] = [CortexPanel(f"{name}: R²", score_map(run.voxels, top), run.voxels)]
        if len(runs) > 1:
            relative = relative_map(run.voxels, best, names, bottom)
            row.append(CortexPanel(f"{name}: below the best", relative, run.voxels))
        rows.append(row)
    heading = "Brain score on the test images"
    if len(runs) > 1:
        heading += f", and relative to the best of {len(runs)} models at each voxel"
    return Sheet("Brain scores", heading, rows)


def change(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Return figure 7: layer maps before and after, and the changes of depth and score.

    The first run is before, and the others are after; of several, each has a row of its own.
    """
    if len(runs) < 2 or len({run.layers for run in runs}) > 1:
        raise SpecError(
            "runs of this figure",
            expected="two runs or more, with the same layers",
            got=f"{len(runs)}" if len(runs) < 2 else "runs with different layers",
            fix="Give first the run before, then the runs after.",
        )
    check_same_test(runs)
    tables, layers = [run.voxels for run in runs], runs[0].layers
    top = confidence_top(tables)
    maps: list[Panel] = [
        CortexPanel(name, layer_map(table, layers, top, palette), table)
        for name, table in zip(short_labels(runs), tables, strict=True)
    ]
    before, *after = tables
    depths = difference_maps(after, before, "depth", "depth after minus before")
    scores = difference_maps(after, before, "r2_test", "R² after minus before")
    changes: list[list[Panel]] = [
        [CortexPanel("change of depth", depth, before), CortexPanel("change of score", score, before)]
        for depth, score in zip(depths, scores, strict=True)
    ]
    rows = (
        [maps, *changes] if len(after) == 1 else [maps[:1], *([m, *c] for m, c in zip(maps[1:], changes, strict=True))]
    )
    return Sheet("Before and after", layer_heading("confidence"), rows)


def clusters(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Return figure 8: clusters of the voxels with evidence by their channel vectors."""
    cluster_of = [_clusters(run) for run in runs]
    panels: list[Panel] = [
        CortexPanel(name, cluster_map(label, "k-means, then Ward linkage"), run.voxels)
        for run, name, label in zip(runs, short_labels(runs), cluster_of, strict=True)
    ]
    heading = f"Voxels with similar channel vectors, in {N_CLUSTERS} clusters; colours are those of one network alone"
    return Sheet("Channel clusters", heading, _in_rows(panels, min(MAPS_PER_ROW, 2)))


def atlas(runs: Sequence[Run], palette: Palette) -> Sheet:
    """Return the blocks and time-steps of diffusion that voxels select, together and each alone, and their weights in
    regions. Runs of one network are averaged."""
    shown = [(name, run.voxels, run.layers) for name, run in zip(short_labels(runs), runs, strict=True)]
    if _are_one_network(runs):
        mean = average([run.voxels for run in runs], runs[0].layers)
        shown = [(f"average of {len(runs)}", mean, runs[0].layers)]
    rows = [row for name, table, layers in shown for row in atlas_rows(name, table, layers, palette)]
    heading = "The block and time-step that each voxel selects, together and each alone, and mean weights in regions"
    return Sheet("Blocks and time-steps", heading, rows)


def check_rois(rois: Sequence[str]) -> None:
    """Refuse unknown ROIs.

    Raises
    ------
    SpecError
    """
    if unknown := [roi for roi in rois if roi not in ROIS]:
        raise SpecError("--rois", expected=f"some of {', '.join(ROIS)}", got=", ".join(unknown), fix="Correct --rois.")


def channels(inputs: Sequence[ChannelInputs], rois: Sequence[str] = PAPER_ROIS) -> Sheet:
    """Return figures 2 and 9: images in the first three principal channels of each ROI, one row per run and image.

    Parameters
    ----------
    inputs : sequence of ChannelInputs
    rois : sequence of str
        Names in `bddn.stats.scores.ROIS`. Those with fewer than four voxels are left out.

    Raises
    ------
    DataError
        If a run has too few voxels in all of these ROIs.
    """
    rows: list[list[Panel]] = []
    for given, name in zip(inputs, short_labels([given.run for given in inputs]), strict=True):
        voxels = given.run.voxels
        weights = voxels[[f"weight_{layer}" for layer in given.run.layers]].to_numpy(dtype=np.float32)
        shown: dict[str, npt.NDArray[np.float32]] = {}
        for roi in rois:
            in_this_roi = in_roi(voxels, roi) & evident(voxels)
            if in_this_roi.sum() > 3:
                shown[roi] = channel_images(given.aligned, given.channels[in_this_roi], weights[in_this_roi])
        if not shown:
            raise DataError(
                given.run.folder,
                expected=f"more than three voxels with evidence in one of the ROIs {', '.join(rois)}",
                got="at most three in each",
                fix="Give other --rois, use a dataset with ROI masks, or give --all for voxels without evidence. "
                f"Known ROIs: {', '.join(ROIS)}.",
            )
        for i, picture in enumerate(given.pictures):
            row: list[Panel] = [ImagePanel(name if len(inputs) > 1 else "picture", picture)]
            row += [ImagePanel(roi if i == 0 else "", images[i]) for roi, images in shown.items()]
            rows.append(row)
    heading = (
        "Each picture, and what an ROI reads of it: its voxels' first three principal channels as red, green, blue"
    )
    return Sheet("Channels", heading, rows)


FIGURES: Mapping[str, tuple[str, Callable[[Sequence[Run], Palette], Sheet]]] = {
    "layers": ("layer maps of runs side by side, with their average over subjects", layer_maps),
    "selection": ("layer maps of ablations, places, and the weight of each layer", topology),
    "scores": ("scores of models, and their differences from the best model", scores),
    "change": ("layer maps before, and after one training or several, with differences", change),
    "clusters": ("voxels clustered by channels", clusters),
    "atlas": ("blocks by time-steps of diffusion: which of them voxels select", atlas),
    "figure3": ("the paper's figure 3: selection", topology),
    "figure4": ("the paper's figure 4: scores", scores),
    "figure5": ("the paper's figure 5: layers of subjects and sizes", layer_maps),
    "figure6": ("the paper's figure 6: layers and time-steps of diffusion", layer_maps),
    "figure7": ("the paper's figure 7: change", change),
    "figure8": ("the paper's figure 8: clusters", clusters),
}
"""Figures that need only runs: name, description and function."""

WITH_IMAGES: Mapping[str, str] = {
    "channels": "images in the channels of ROIs",
    "figure2": "the paper's figure 2: channels",
    "figure9": "the paper's figure 9: channels of several runs",
}
"""Figures that also need --images and the network: name and description."""


def layer_heading(shown: Strength) -> str:
    formula = STRENGTHS[shown]
    return f"Colour is the layer with the highest weight, early to late; strength is the {shown}, {formula}"


def _are_one_network(runs: Sequence[Run]) -> bool:
    """Return whether these are several runs with the same layers, of one cache, of different subjects, or of caches
    that differ only in the noise in their latents."""
    if len(runs) < 2 or len({run.layers for run in runs}) > 1:
        return False
    one_cache = len({run.about["cache"]["digest"] for run in runs}) == 1
    subjects = {run.about["data"]["voxels_sha256"] for run in runs}
    only_noise = len({network_digest(run) for run in runs}) == 1
    return one_cache or len(subjects) > 1 or only_noise


def _tables_of_subjects(runs: Sequence[Run]) -> list[pd.DataFrame]:
    """Return the voxels of each subject, averaged over its runs; those of each run if there is only one subject."""
    subjects: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        data = run.about["data"]
        subjects.setdefault((data["voxels_sha256"], data["responses_sha256"]), []).append(run)
    if len(subjects) == 1 or len({run.layers for run in runs}) > 1:
        return [run.voxels for run in runs]
    return [
        own[0].voxels if len(own) == 1 else average([run.voxels for run in own], own[0].layers)
        for own in subjects.values()
    ]


def _clusters(run: Run) -> npt.NDArray[np.int64]:
    """Return the cluster of each voxel; -1 for voxels without evidence."""
    has_evidence = evident(run.voxels)
    found = np.full(len(has_evidence), -1)
    if has_evidence.any():
        found[has_evidence] = channel_clusters(read_channels(run)[has_evidence], N_CLUSTERS)
    return found


def _in_rows(panels: Sequence[Panel], n: int) -> list[list[Panel]]:
    n_rows = -(-len(panels) // n)
    even = -(-len(panels) // n_rows)
    return [list(panels[i : i + even]) for i in range(0, len(panels), even)]
