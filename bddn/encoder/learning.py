"""The learning log: what some voxels selected, recorded at several steps of a fit.

The file `learning.safetensors` of a run holds F frames of the V voxels that figures show:

- `step` (F,) int32: steps taken before the frame, from 0 to the last step.
- `voxel` (V,) int32: rows of `voxels.parquet`.
- `layer` (F, V) uint8, or uint16 where there are more than 256 layers: index of the layer with the highest weight.
- `confidence` (F, V) uint8: 1 - entropy / log L of the layer weights, 255 times.
- `place` (F, V, 2) uint8: x and y, 0 for -1 and 255 for 1; y grows downwards.
- `scale` (F, V) uint8: 255 times the scale.
- `loss` (F,) float32: mean loss of the steps since the previous frame; NaN in the first frame.

Its header names the layers, early to late, and contains the SHA-256 of all arrays.

These are the selectors during training. The encoder of a run is that of the epoch with the best validation score, which
may be an earlier one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bddn.encoder import saved
from bddn.errors import RunError

FORMAT = 1
_FIX = "Fit again with another --out, or remove the run folder and fit again."

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Learning:
    """The arrays of `learning.safetensors`; the docstring of this module describes them."""

    step: npt.NDArray[np.int32]
    voxel: npt.NDArray[np.int32]
    layer: npt.NDArray[np.uint8 | np.uint16]
    confidence: Bytes
    place: Bytes
    scale: Bytes
    loss: npt.NDArray[np.float32]


def save(learning: Learning, layers: Sequence[str], path: Path) -> None:
    """Write `learning.safetensors`."""
    saved.save_checked(vars(learning), {"format": FORMAT, "layers": list(layers)}, path)


def load(path: Path) -> tuple[Learning, tuple[str, ...]]:
    """Read `learning.safetensors`; return its arrays and the names of the layers.

    Raises
    ------
    RunError
        If the file is damaged or is not a learning log.
    """
    arrays, about = saved.load_checked(path, "a learning log of 'bddn fit'", _FIX)
    if about.get("format") != FORMAT:
        raise RunError(path, expected=f"format {FORMAT}", got=f"format {about.get('format')!r}", fix=_FIX)
    return Learning(**arrays), tuple(about["layers"])
