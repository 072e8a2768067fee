"""A planted brain in the layout of every kind of dataset, so that each reader is tested with a known truth.

A layout writes the brain into a new folder and returns the name of the dataset. Its vertices, images and ids are those
of the brain, in any order; its responses may be in another unit. A reader of another layout gets its entry here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.planted.subject import SUBJECT, Planted
from data import laion_tree, mosaic_tree
from data import nsd_tree as tree
from data.own_trees import Lab, make


def algonauts(brain: Planted, folder: Path) -> str:
    """The layout in which a brain is planted."""
    folder.mkdir()
    (folder / SUBJECT).symlink_to(brain.folder.absolute())
    return f"algonauts:{folder / SUBJECT}"


def nsd(brain: Planted, folder: Path) -> str:
    """Subject 2, whose sessions 1 and 3 show each image once, in other orders and units."""
    folder.mkdir()
    numbers = np.array([int(name.removeprefix("nsd-")) for name in brain.stimuli.ids])
    n = len(numbers)
    images = np.arange(1, 80_001).reshape(8, 10_000) % 73_000 + 1
    images[:, :1000] = np.arange(72_001, 73_001)
    images[1, 1000:] = np.setdiff1d(np.arange(1, 72_001), numbers + 1)[:9000]
    images[1, 1000 : 1000 + n] = numbers + 1  # the design counts from 1
    rng = np.random.default_rng(5)
    rows = [rng.permutation(n) for _ in range(40)]
    tree.write_design(folder, np.concatenate([1001 + of_session for of_session in rows]), images)
    voxels, responses = brain.voxels(), brain.responses()
    columns = {hemi: (voxels["hemi"] == hemi).to_numpy() for hemi in HEMISPHERES}
    vertices = {hemi: voxels.loc[columns[hemi], "vertex"].to_numpy() for hemi in HEMISPHERES}
    for session, gain, offset in ((1, 1.0, 0.5), (3, 3.0, -40.0)):
        found = responses[rows[session - 1]] * gain + offset
        for hemi in HEMISPHERES:
            tree.write_mgh(tree.betas_path(folder, hemi, session, 2), vertices[hemi], found[:, columns[hemi]])
    tree.write_mask(folder, vertices)
    pixels = {int(k): np.asarray(brain.stimuli.image(row)) for row, k in enumerate(numbers)}
    tree.write_images(tree.stimuli_path(folder), 73_000, pixels)
    return f"nsd:{folder},subject=2"


def own_data(kind: str) -> Callable[[Planted, Path], str]:
    """Own data as the documentation describes them; a kind of `own_trees.MAKERS` on the vertices of a mesh."""
    return lambda brain, folder: f"table:{make(folder, kind, lab_of(brain))}"


def lab_of(brain: Planted) -> Lab:
    """A brain as what a lab measured."""
    voxels, stimuli = brain.voxels(), brain.stimuli
    n_left = int((voxels["hemi"] == "lh").sum())
    pictures = dict(zip(stimuli.ids, stimuli.paths, strict=True))
    return Lab(pictures, brain.responses(), n_left, voxels["vertex"].to_numpy())


LAYOUTS: Mapping[str, Callable[[Planted, Path], str]] = {
    "algonauts": algonauts,
    "laion": laion_tree.planted,
    "mosaic": mosaic_tree.planted,
    "nsd": nsd,
    **{f"table-{kind}": own_data(kind) for kind in ("npy", "hdf5", "gifti")},
}
