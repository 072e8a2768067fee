"""One label for each voxel, from masks of ROIs that may overlap."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.object_]
Mask = npt.NDArray[np.bool_]


def label_by_smallest(masks: Iterable[tuple[str, int, Mask]], n: int) -> Labels:
    """Return the label (n,) of each voxel, or ''. In several ROIs, it is that of the smallest.

    Parameters
    ----------
    masks : iterable of (str, int, array of bool (n,))
        Name of each ROI, number of all its voxels, and which of the n voxels are in it.
    n : int
    """
    found = np.full(n, "", object)
    for name, _, inside in sorted(masks, key=lambda one: (-one[1], one[0])):
        found[inside] = name
    return found
