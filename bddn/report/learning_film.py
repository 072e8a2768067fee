"""The film of a run's learning, as the page's slider shows it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.encoder.learning import Learning
from bddn.report.packing import packed

VOXEL_BYTES = 5  # layer, confidence, place and scale of a voxel in a frame
MIN_FRAMES = 8
"""Fewer are no film."""


def film(learning: Learning, rows: npt.NDArray[np.integer], max_bytes: int) -> dict[str, Any] | None:
    """The frames of the voxels that a page draws.

    Parameters
    ----------
    learning : Learning
        As `bddn.run.read_learning` gives it.
    rows : array of int, (V,)
        Rows of the table of voxels that the page draws. Voxels that were not looked at while learning keep still.
    max_bytes : int
        What the frames may take. Where there are more, evenly many are left out; the first and the last stay.

    Returns
    -------
    dict or None
        `step` and `loss` (a number or null) by frame; `frames`, how many were logged; `drawn`, the places among the
        page's V voxels of the film's W voxels; `layer` (F, W), `confidence` (F, W), `place` (F, W, 2) and `scale`
        (F, W) as in the file. None where there are no voxels, or too few frames find room.
    """
    at = {int(row): k for k, row in enumerate(learning.voxel)}
    drawn = np.array([k for k, row in enumerate(rows) if int(row) in at], dtype=np.int64)
    seen = np.array([at[int(rows[k])] for k in drawn], dtype=np.int64)
    n_frames = len(learning.step)
    wide = int(learning.layer.max(initial=0)) > np.iinfo(np.uint8).max
    room = max_bytes // max((VOXEL_BYTES + wide) * len(drawn), 1)
    if not len(drawn) or min(n_frames, room) < min(MIN_FRAMES, n_frames):
        return None
    kept = np.unique(np.linspace(0, n_frames - 1, min(n_frames, room)).round().astype(np.int64))
    some = np.ix_(kept, seen)
    return {
        "step": learning.step[kept].tolist(),
        "loss": [round(float(x), 6) if np.isfinite(x) else None for x in learning.loss[kept]],
        "frames": n_frames,
        "drawn": packed(drawn, "u2"),
        "layer": packed(learning.layer[some], "u2" if wide else "u1"),
        "confidence": packed(learning.confidence[some], "u1"),
        "place": packed(learning.place[some], "u1"),
        "scale": packed(learning.scale[some], "u1"),
    }
