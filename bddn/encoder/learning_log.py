"""The log of a fit's learning: which frames there are, and how they are taken; `encoder.learning` has their fields."""

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
STEPS_OF_A_FRAME = 6  # at least, in between: where all voxels are shown, a frame costs a seventh of a step
PART_VOXELS = 1024  # looked at by one thread at a time
_LOSSES = "losses_since"


def frame_steps(n_steps: int) -> npt.NDArray[np.int32]:
    """After how many steps the selectors are looked at: densely at first, where most is learned.

    Parameters
    ----------
    n_steps : int
        Steps of the whole fit.

    Returns
    -------
    array of int32, (F,)
        Rising from 0 to `n_steps` as the power 3/2 of the frame's number. A long fit has 120 frames, one of fewer than
        720 steps a frame for each six of them, but not fewer than 60, and one of fewer than 60 steps all of them.
    """
    last = min(n_steps, max(FEWEST_FRAMES, min(MOST_FRAMES, n_steps // STEPS_OF_A_FRAME)) - 1)
    return np.array([max(k, isqrt(n_steps**2 * k**3 // last**3)) for k in range(last + 1)], np.int32)


class Log:
    """Takes the frames of a fit.

    Parameters
    ----------
    voxels : array of int, (V,)
        Rows of the voxels to look at, maybe none.
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
        """Of the steps since the last frame."""

    def is_due(self, step: int) -> bool:
        """Whether there is a frame after this many steps."""
        return step in self._frame

    def look(self, model: FactorTopy, step: int) -> None:
        """Take the frame that is due after this many steps; a device is waited for."""

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
        """All there is to go on from, by name."""
        return _tensors(self.learning) | {_LOSSES: torch.tensor(self.losses, dtype=torch.float64)}

    def load(self, state: Mapping[str, Tensor], place: Path) -> None:
        """Go on from a state.

        Raises
        ------
        RunError
            Where it is not one of this fit; `place` is what to name.
        """
        mine = self.state()
        if {name: (v.dtype, v.shape) for name, v in state.items() if name != _LOSSES} != {
            name: (v.dtype, v.shape) for name, v in mine.items() if name != _LOSSES
        }:
            raise RunError(
                place,
                expected="the state of this fit, with what the same voxels selected",
                got="one with other voxels, or without them",
                fix="Delete this file, and the fit starts anew.",
            )
        for name, value in _tensors(self.learning).items():
            value.copy_(state[name])
        self.losses = state[_LOSSES].tolist()


def _tensors(learning: Learning) -> dict[str, Tensor]:
    """The arrays as tensors that share their memory."""
    return {name: torch.from_numpy(value) for name, value in vars(learning).items()}


def _byte(share: npt.NDArray[Any]) -> Bytes:
    return np.asarray(np.rint(255 * np.clip(share, 0, 1)), np.uint8)
