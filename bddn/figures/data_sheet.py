"""A figure of a dataset: its ROIs, deviations and ceilings, and the images to which ROIs respond most and least."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bddn.data import Dataset, Stimuli
from bddn.data.dataset import TRIALS_IN_WORDS, about
from bddn.figures.grid import CortexPanel, ImagePanel, Panel
from bddn.figures.paper import Sheet
from bddn.maps import ramps
from bddn.maps.kinds import column_map
from bddn.maps.map import ramp_map, stem
from bddn.stats.preferred_images import Preferred

PER_ROW, SIDE, GAP = 3, 150, 6  # images of a montage; pixels
WHITE = 255


def data_sheet(dataset: Dataset, found: Preferred) -> Sheet:
    """Return a sheet: a row of maps of the data, and for each group of voxels its strongest images, the response of all
    cortex to them, and its weakest images.

    Parameters
    ----------
    dataset : Dataset
        Its images must be on this machine.
    found : Preferred

    Raises
    ------
    DataError
        If an image cannot be read.
    """
    voxels, stimuli = dataset.voxels(), dataset.stimuli
    words, spread = "standard deviation of responses", found.deviation
    deviation = ramp_map(
        "deviation", words, {"deviation": spread}, ramps.sequential_ramp(spread), f"{words} (their unit)"
    )
    rows: list[list[Panel]] = [[CortexPanel(words, deviation, voxels)]]
    if (voxels["roi"] != "").any():
        rows[0].insert(0, CortexPanel("ROIs", column_map(voxels, "roi"), voxels))
    if voxels["ceiling"].notna().any():
        rows[0].append(CortexPanel("noise ceiling", column_map(voxels, "ceiling"), voxels))
    ramp = ramps.diverging_ramp(np.concatenate([*found.contrasts.values()]))
    label = "response to the strongest minus the weakest images (standard deviations)"
    for name, contrast in found.contrasts.items():
        strongest, weakest = found.strongest[name], found.weakest[name]
        kind = ramp_map(stem(f"contrast_{name}"), f"{name}: {label}", {"contrast": contrast}, ramp, label)
        mean = found.table[name].to_numpy()
        rows.append(
            [
                ImagePanel(f"{name} responds most, {mean[strongest].mean():+.1f} s.d.", montage(stimuli, strongest)),
                CortexPanel("strongest minus weakest", kind, voxels),
                ImagePanel(f"{name} responds least, {mean[weakest].mean():+.1f} s.d.", montage(stimuli, weakest)),
            ]
        )
    heading = f"{len(stimuli):,} images, {len(voxels):,} voxels, {TRIALS_IN_WORDS[about(dataset).trials]}"
    return Sheet(f"Images and responses of {dataset.name}", heading, rows)


def montage(stimuli: Stimuli, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Return images on a white page, three in a row, each with its own ratio of sides: (H, W, 3) uint8."""
    lines = -(-len(rows) // PER_ROW)
    page = np.full((lines * (SIDE + GAP) - GAP, PER_ROW * (SIDE + GAP) - GAP, 3), WHITE, np.uint8)
    for k, row in enumerate(rows):
        image = stimuli.image(row)
        scale = SIDE / max(image.size)
        small = np.asarray(image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale)))))
        top = (k // PER_ROW) * (SIDE + GAP) + (SIDE - small.shape[0]) // 2
        left = (k % PER_ROW) * (SIDE + GAP) + (SIDE - small.shape[1]) // 2
        page[top : top + small.shape[0], left : left + small.shape[1]] = small
    return page
