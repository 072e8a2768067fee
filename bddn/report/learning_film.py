"""The learning film of a run, for the page's slider."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.encoder.learning import Learning
from bddn.report.packing import packed

VOXEL_BYTES = 5  # layer, confidence, place and scale of a voxel in a frame
MIN_FRAMES = 8
"""Smallest number of frames of a film."""


def film(learning: Learning, rows: npt.NDArray[np.integer], max_bytes: int) -> dict[str, Any] | None:
    """Return the frames of the drawn voxels.

    Parameters
    ----------
    learning : Learning
        Result of `bddn.run.read_learning`.
    rows : array of int, (V,)
        Rows of the drawn voxels in the table of voxels. Voxels without a learning log do not change in the film.
    max_bytes : int
        Limit of the size. Above it, frames are left out at equal intervals; the first and the last stay.

    Returns
    -------
    dict or None
        `step` and `loss` (a number or null) by frame; `frames`, the number of logged frames; `drawn`, the indices of
        the film's W voxels among the page's V voxels; `layer` (F, W), `confidence` (F, W), `place` (F, W, 2) and
        `scale` (F, W) as in the file. None if there are no voxels, or the limit allows too few frames.
    """
    at = {int(row): k for k, row in enumerate(learning.voxel)}
    drawn = np.array([k for k, row in enumerate(rows) if int(row) in at], dtype=np.int64)
    logged = np.array([at[int(rows[k])] for k in drawn], dtype=np.int64)
    n_frames = len(learning.step)
    wide = int(learning.layer.max(initial=0)) > np.iinfo(np.uint8).max
    room = max_bytes // max((VOXEL_BYTES + wide) * len(drawn), 1)
    if not len(drawn) or min(n_frames, room) < min(MIN_FRAMES, n_frames):
        return None
    kept = np.unique(np.linspace(0, n_frames - 1, min(n_frames, room)).round().astype(np.int64))
    cut = np.ix_(kept, logged)
    return {
        "step": learning.step[kept].tolist(),
        "loss": [round(float(x), 6) if np.isfinite(x) else None for x in learning.loss[kept]],
        "frames": n_frames,
        "drawn": packed(drawn, "u2"),
        "layer": packed(learning.layer[cut], "u2" if wide else "u1"),
        "confidence": packed(learning.confidence[cut], "u1"),
        "place": packed(learning.place[cut], "u1"),
        "scale": packed(learning.scale[cut], "u1"),
    }
