"""A made-up log of learning, where the left patch of cortex turns to the early layer and the right one to the late
one; and GIF files, read again."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageSequence

from bddn.cortex.surfaces import surface
from bddn.encoder.learning import Learning

LAYERS = ("early", "middle", "late")
N_FRAMES = 5


def voxels() -> pd.DataFrame:
    """A table of voxels with those of two posterior patches, and some that fsaverage5 lacks."""
    parts = []
    for hemi, centre, roi in (("lh", 5271, "V1v"), ("rh", 5560, "EBA")):
        points = surface(hemi).inflated
        near = np.flatnonzero(np.linalg.norm(points - points[centre], axis=1) < 40)
        vertex = np.concatenate([near, [50_000, 60_000]])
        parts.append(pd.DataFrame({"hemi": hemi, "vertex": vertex, "roi": roi, "confidence": 0.8}))
    return pd.concat(parts, ignore_index=True)


def learned(table: pd.DataFrame, n_frames: int = N_FRAMES) -> Learning:
    """Confidence grows from 0 to 0.8 over the frames."""
    voxel = np.flatnonzero(table["vertex"] < 10_242).astype(np.int32)
    late = (table["hemi"].to_numpy()[voxel] == "rh").astype(np.uint8) * 2
    sure = np.rint(np.linspace(0, 0.8 * 255, n_frames)).astype(np.uint8)
    shape = (n_frames, len(voxel))
    return Learning(
        step=(np.arange(n_frames, dtype=np.int32) ** 2),
        voxel=voxel,
        layer=np.broadcast_to(late, shape).copy(),
        confidence=np.broadcast_to(sure[:, None], shape).copy(),
        place=np.full((*shape, 2), 128, np.uint8),
        scale=np.full(shape, 128, np.uint8),
        loss=np.append(np.float32(np.nan), np.linspace(0.6, 0.4, n_frames - 1, dtype=np.float32)),
    )


def read_gif(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """The frames of a GIF, (rows, columns, 3), and for how many ms each is shown."""
    with Image.open(path) as image:
        found = [(np.asarray(f.convert("RGB")), f.info["duration"]) for f in ImageSequence.Iterator(image)]
    return [picture for picture, _ in found], [duration for _, duration in found]
