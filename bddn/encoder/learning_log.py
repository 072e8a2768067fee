"""Recording of a fit's learning log: which frames it has, and how they are computed; see `encoder.learning`."""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.learning import Bytes, Learning
from bddn.errors import RunError
from bddn.machine.parallel import each_on
from bddn.stats.hierarchy import confidence
from bddn.stream.order import Rows

MOST_FRAMES, FEWEST_FRAMES = 120, 60
STEPS_OF_A_FRAME = 6  # least number of steps between frames: a frame of all voxels costs a seventh of a step
PART_VOXELS = 1024  # voxels that one thread records at a time
_LOSSES = "losses_since"


def frame_steps(n_steps: int) -> npt.NDArray[np.int32]:
    """Return the numbers of steps after which frames are recorded: densely at first, when most is learned.

    Parameters
    ----------
    n_steps : int
        Steps of the whole fit.

    Returns
    -------
    array of int32, (F,)
        Step numbers from 0 to `n_steps`, growing as the power 3/2 of the frame's number. A long fit has 120 frames. A
        fit of less than 720 steps has one frame per six steps, but at least 60; below 60 steps, each step has one.
    """
    last = min(n_steps, max(FEWEST_FRAMES, min(MOST_FRAMES, n_steps // STEPS_OF_A_FRAME)) - 1)
    return np.array([max(k, isqrt(n_steps**2 * k**3 // last**3)) for k in range(last + 1)], np.int32)


class LearningLog:
    """Records the frames of a fit.

    Parameters
    ----------
    voxels : array of int, (V,)
        Rows of the voxels to record; may be empty.
    n_steps : int
        Steps of the whole fit.
    n_layers : int
    device : device
        Of the model.
    """

    def __init__(self, voxels: Rows, n_steps: int, n_layers: int, device: torch.device) -> None:
        step, n = frame_steps(n_steps), len(voxels)
        self._frame = {int(s): k for k, s in enumerate(step)}
        self._parts = torch.from_numpy(np.asarray(voxels, np.int64)).to(device).split(PART_VOXELS) if n else ()
        self._device = device
        self.learning = Learning(
            step=step,
            voxel=np.asarray(voxels, np.int32),
            layer=np.zeros((len(step), n), np.uint8 if n_layers <= 256 else np.uint16),
            confidence=np.zeros((len(step), n), np.uint8),
            place=np.zeros((len(step), n, 2), np.uint8),
            scale=np.zeros((len(step), n), np.uint8),
            loss=np.full(len(step), np.nan, np.float32),
        )
        self.losses: list[float] = []
        """Losses of the steps since the last frame."""

    def is_due(self, step: int) -> bool:
        """Return whether a frame is due after this number of steps."""
        return step in self._frame

    def record(self, model: FactorTopy, step: int) -> None:
        """Record the frame that is due after this number of steps. This waits for the device."""

        def part(voxels: Tensor) -> tuple[npt.NDArray[np.float32], ...]:
            with torch.no_grad():
                selection = model.select(voxels)
            return selection.layer.cpu().numpy(), selection.place.cpu().numpy(), selection.scale.cpu().numpy()

        k, to = self._frame[step], self.learning
        if self._parts:
            found = zip(*each_on(self._device, part, self._parts), strict=True)
            layer, place, scale = (np.concatenate(parts) for parts in found)
            to.layer[k] = layer.argmax(1)
            to.confidence[k] = _byte(confidence(layer))
            to.place[k] = _byte((place + 1) / 2)
            to.scale[k] = _byte(scale)
        if self.losses:
            to.loss[k] = np.mean(self.losses)
        self.losses = []

    def state(self) -> dict[str, Tensor]:
        """Return the log's state by name, for a checkpoint."""
        return _tensors(self.learning) | {_LOSSES: torch.tensor(self.losses, dtype=torch.float64)}

    def load(self, state: Mapping[str, Tensor], place: Path) -> None:
        """Restore the state from a checkpoint.

        Raises
        ------
        RunError
            If the state belongs to another fit; the message names the file `place`.
        """
        mine = self.state()
        if {name: (v.dtype, v.shape) for name, v in state.items() if name != _LOSSES} != {
            name: (v.dtype, v.shape) for name, v in mine.items() if name != _LOSSES
        }:
            raise RunError(
                place,
                expected="a checkpoint of this fit, with a learning log of the same voxels",
                got="a learning log of other voxels, or none",
                fix="Delete this file and fit again.",
            )
        for name, value in _tensors(self.learning).items():
            value.copy_(state[name])
        self.losses = state[_LOSSES].tolist()


def _tensors(learning: Learning) -> dict[str, Tensor]:
    """Return the arrays as tensors that share their memory."""
    return {name: torch.from_numpy(value) for name, value in vars(learning).items()}


def _byte(share: npt.NDArray[Any]) -> Bytes:
    return np.asarray(np.rint(255 * np.clip(share, 0, 1)), np.uint8)
