"""The moving strips below the maps of the learning film: the loss, and the share of voxels of each layer.

Shape letters: F frames, V voxels shown, L layers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bddn.figures.panels import INK, axes_at
from bddn.maps.colors import Palette, layer_rgb
from bddn.maps.legends import LayerField

if TYPE_CHECKING:
    from bddn.encoder.learning import Learning

BOTTOM_IN, HEIGHT_IN = 0.74, 1.08
"""Position of the strips, above the text below their axes."""

_LOSS_LEFT_IN, _LOSS_WIDTH_IN = 0.72, 3.90
_LAYERS_LEFT_IN, _LAYERS_WIDTH_IN, _FIELD_IN, _GAP_IN = 5.72, 3.55, 0.46, 0.12
_FAINT, _LABEL, _TICK = "#c8c8c8", 8.0, 7.0
_TICKS = 5


class Strip(Protocol):
    """A part of the film that changes in each frame."""

    moving: list[Artist]
    """The artists that change, in drawing order."""

    def show(self, frame: int) -> None:
        """Update the artists to a frame."""


class LossStrip:
    """The loss over the frames, and a step counter.

    Parameters
    ----------
    figure : Figure
        Of 10 inches width.
    learning : Learning
    """

    def __init__(self, figure: Figure, learning: "Learning") -> None:
        self._step, self._loss = learning.step, learning.loss
        n = len(self._step)
        ax = axes_at(figure, _LOSS_LEFT_IN, BOTTOM_IN, _LOSS_WIDTH_IN, HEIGHT_IN - 0.22)
        ax.plot(np.arange(n), self._loss, color=_FAINT, linewidth=1.0)
        (self._line,) = ax.plot([], [], color=INK, linewidth=1.2)
        (self._dot,) = ax.plot([], [], "o", color=INK, markersize=3.5, clip_on=False)
        ticks = round_steps(int(self._step[-1]))
        ax.set_xticks(np.interp(ticks, self._step, np.arange(n)), [f"{step:,}" for step in ticks])
        ax.set_xlim(-0.01 * n, n - 1)
        ax.yaxis.set_major_locator(MaxNLocator(3))
        ax.set_ylabel("loss", fontsize=_LABEL)
        ax.set_xlabel("step", fontsize=_LABEL, labelpad=1)
        ax.tick_params(labelsize=_TICK, length=2, width=0.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_linewidth(0.5)
        self._counter = ax.text(
            0.0, 1.10, "", transform=ax.transAxes, fontsize=10, fontweight="bold", color=INK, va="bottom"
        )
        self.moving: list[Artist] = [self._line, self._dot, self._counter]

    def show(self, frame: int) -> None:
        """Show the loss until a frame."""
        so_far = np.arange(frame + 1)
        self._line.set_data(so_far, self._loss[: frame + 1])
        self._dot.set_data(so_far[-1:], self._loss[frame : frame + 1])
        self._counter.set_text(f"step {self._step[frame]:,} of {self._step[-1]:,}")


def round_steps(last: int) -> list[int]:
    """Return round numbers of steps from 0 to at most `last`, for the ticks of the axis."""
    found = MaxNLocator(_TICKS, integer=True, steps=[1, 2, 2.5, 5, 10]).tick_values(0, last)
    return [int(step) for step in found if 0 <= step <= last]


class LayerStrip:
    """The legend of layers and confidence, and above it the share of voxels of each layer, weighted by confidence.

    Parameters
    ----------
    figure : Figure
        Of 10 inches width.
    learning : Learning
    layers : sequence of str, (L,)
        Names of the layers, from early to late.
    top : float
        Lowest confidence with full brightness.
    palette : str
    """

    def __init__(
        self, figure: Figure, learning: "Learning", layers: Sequence[str], top: float, palette: Palette
    ) -> None:
        self._n, self._top, self._palette, self._learning = len(layers), top, palette, learning
        field = axes_at(figure, _LAYERS_LEFT_IN, BOTTOM_IN, _LAYERS_WIDTH_IN, _FIELD_IN)
        LayerField(tuple(layers), top, (0,) * self._n, palette).draw(field)
        for text in [text for text in field.texts if text.get_position()[1] > top]:
            text.remove()  # because these shares do not change with the frames
        bottom = BOTTOM_IN + _FIELD_IN + _GAP_IN
        ax = axes_at(figure, _LAYERS_LEFT_IN, bottom, _LAYERS_WIDTH_IN, BOTTOM_IN + HEIGHT_IN - bottom)
        highest = max(self._shares(k)[0].max() for k in range(len(learning.step)))
        ax.set_xlim(*field.get_xlim())
        ax.set_ylim(0.0, 1.05 * highest or 1.0)
        ax.set_xticks([])
        ax.yaxis.set_major_locator(MaxNLocator(2))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_ylabel("voxels", fontsize=_LABEL)
        for one in (field, ax):
            one.yaxis.set_label_coords(-0.14, 0.5)
        ax.tick_params(labelsize=_TICK, length=2, width=0.5)
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        ax.spines["left"].set_linewidth(0.5)
        self._bars = ax.bar(np.arange(self._n), np.zeros(self._n), width=1.0, linewidth=0)
        self.moving: list[Artist] = list(self._bars)

    def show(self, frame: int) -> None:
        """Show the shares of a frame."""
        share, confidence = self._shares(frame)
        rgb = layer_rgb(np.arange(self._n), confidence, self._n, self._top, self._palette)
        for k, bar in enumerate(self._bars):
            bar.set_height(share[k])
            bar.set_facecolor(rgb[k])

    def _shares(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return for each layer (L,) the share of voxels, weighted by confidence, and their mean confidence."""
        layer, confidence = self._learning.layer[frame], self._learning.confidence[frame] / 255.0
        counted = np.bincount(layer, confidence, self._n)
        return counted / max(len(layer), 1), counted / np.maximum(np.bincount(layer, minlength=self._n), 1)
