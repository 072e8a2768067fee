"""Legends of maps: layers and confidence, numbers (colour bar), places in the image, classes, and no evidence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from bddn.cortex.fsaverage import Floats
from bddn.maps.colors import HATCHING, Palette, layer_rgb, place_rgb
from bddn.maps.ramps import Ramp
from bddn.maps.style import colour_map
from bddn.text import both_ends

MARKS = "._-/@"  # where names of layers are cut
_MAX_NAMES = 26
_MAX_ROW_CHARS = 100  # characters of all layer names that fit side by side
_MAX_NAME_CHARS = 12  # characters of one layer name
_MAX_SHARED_CHARS = 24  # characters of the common part beside the legend
_SLANT_DEGREES, _FOR_SLANTED_IN = 30, 0.14
_NEAR_TOP = 0.8
_CLASSES_PER_ROW = 12
_LABEL, _TICK = 8.0, 7.0


@dataclass(frozen=True)
class LayerField:
    """The legend of a layer map: layers from left to right, confidence upwards, and the share of voxels of each layer.

    Attributes
    ----------
    layers : tuple of str, (L,)
        Names of the layers, from early to late.
    top : float
        Lowest confidence with full brightness.
    counts : tuple of int, (L,) or ()
        Number of voxels whose highest weight is on each layer; () to draw no shares.
    palette : str
    strength : str
        Name of what the brightness shows.
    """

    layers: tuple[str, ...]
    top: float
    counts: tuple[int, ...]
    palette: Palette = "hue"
    strength: str = "confidence"

    width_in = 7.0

    @property
    def height_in(self) -> float:
        """Height in inches; slanted names need some of it."""
        return 0.60 - _FOR_SLANTED_IN * self._slanted

    @property
    def key(self) -> object:
        """Legends with the same key are drawn only once in a figure."""
        return self.layers, self.top, self.palette, self.strength

    @property
    def _named(self) -> range:
        """The layers whose names are written: all, or every second and so on."""
        return range(0, len(self.layers), -(-len(self.layers) // _MAX_NAMES))

    @property
    def _slanted(self) -> bool:
        """Whether the names are too long to be written side by side."""
        own = split_names(self.layers)[1]
        longest = max((len(both_ends(own[i], _MAX_NAME_CHARS)) for i in self._named), default=0)
        return longest * len(self._named) > _MAX_ROW_CHARS

    def draw(self, ax: Axes) -> None:
        """Draw the legend on these axes."""
        layers, top = self.layers, self.top
        n, rows = len(layers), 64
        confidence, layer = np.meshgrid((np.arange(rows) + 0.5) / rows * top, np.arange(n), indexing="ij")
        ax.imshow(
            layer_rgb(layer, confidence, n, top, self.palette),
            extent=(-0.5, n - 0.5, 0.0, top),
            origin="lower",
            aspect="auto",
            interpolation="nearest",
        )
        ticks = [t for t in MaxNLocator(3).tick_values(0.0, top) if 0.0 <= t < _NEAR_TOP * top]
        more = "≥ " if top < 1.0 else ""
        ax.set_yticks([*ticks, top], [*(f"{t:g}" for t in ticks), f"{more}{top:g}"])
        ax.set_ylabel(self.strength, fontsize=_LABEL)
        shared, own = split_names(layers)
        slanted = self._slanted
        ax.set_xticks(list(self._named), [both_ends(own[i], _MAX_NAME_CHARS) for i in self._named])
        if shared:
            at, by, side = ((1.0, 0.0), (4, -2), "left") if slanted else ((0.0, 0.0), (-4, -6), "right")
            style: dict[str, Any] = {"ha": side, "va": "top", "fontsize": _TICK}
            ax.annotate(
                both_ends(shared, _MAX_SHARED_CHARS),
                at,
                by,
                xycoords="axes fraction",
                textcoords="offset points",
                **style,
            )
        if n <= _MAX_NAMES and self.counts:
            ax.text(n - 0.42, top * 1.04, "of voxels", ha="left", va="bottom", fontsize=6.0, color="#444444")
        ax.tick_params(labelsize=_TICK, length=2, width=0.5)
        if slanted:
            for label in ax.get_xticklabels():
                label.set(rotation=_SLANT_DEGREES, ha="right", fontsize=_TICK - 1, rotation_mode="anchor")
        total = max(sum(self.counts), 1)
        for i in range(n if n <= _MAX_NAMES and self.counts else 0):
            ax.text(
                i, top * 1.04, percent(self.counts[i] / total), ha="center", va="bottom", fontsize=6.0, color="#444444"
            )
        for spine in ax.spines.values():
            spine.set_linewidth(0.5)


@dataclass(frozen=True)
class Bar:
    """A colour bar.

    Attributes
    ----------
    ramp : Ramp
        The colormap and the numbers at its ends.
    label : str
        Description of the numbers.
    ends : tuple of str, optional
        Labels of the low and the high end.
    beyond : tuple of bool
        Whether numbers lie below the low end and above the high end; these ends get an arrow.
    """

    ramp: Ramp
    label: str
    ends: tuple[str, str] | None = None
    beyond: tuple[bool, bool] = (False, False)

    width_in, height_in = 5.0, 0.17

    @property
    def key(self) -> object:
        """Legends with the same key are drawn only once in a figure."""
        return self.ramp, self.label

    def draw(self, ax: Axes) -> None:
        """Draw the legend on these axes."""
        extends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
        mappable = ScalarMappable(norm=Normalize(self.ramp.low, self.ramp.high), cmap=colour_map(self.ramp.cmap))
        drawn = ax.figure.colorbar(
            mappable, cax=ax, orientation="horizontal", extend=extends[self.beyond], extendfrac=0.03
        )
        drawn.outline.set_linewidth(0.5)
        drawn.set_label(self.label, fontsize=_LABEL)
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        ax.tick_params(labelsize=_TICK, length=2, width=0.5)
        if self.ends is not None:
            ax.text(-0.06, 0.5, self.ends[0], transform=ax.transAxes, ha="right", va="center", fontsize=_LABEL + 1)
            ax.text(1.06, 0.5, self.ends[1], transform=ax.transAxes, ha="left", va="center", fontsize=_LABEL + 1)


@dataclass(frozen=True)
class Wheel:
    """The legend of a place map: the area of the image with the colour of every place.

    Attributes
    ----------
    reach : float
        Distance from the centre with full strength.
    palette : str
    """

    reach: float
    palette: Palette = "hue"

    width_in, height_in = 0.80, 0.80

    @property
    def key(self) -> object:
        """Legends with the same key are drawn only once in a figure."""
        return self.reach, self.palette

    def draw(self, ax: Axes) -> None:
        """Draw the legend on these square axes."""
        at = (np.arange(96) + 0.5) / 48 - 1
        x, y = np.meshgrid(at, at)
        rgb = place_rgb(np.column_stack([x.ravel(), y.ravel()]), self.reach, self.palette).reshape(96, 96, 3)
        ax.imshow(rgb, extent=(-1.0, 1.0, 1.0, -1.0), interpolation="bilinear", aspect="equal")
        for value, word in ((-1, "left"), (1, "right")):
            ax.annotate(
                word,
                (value, 0),
                (4 * value, 0),
                textcoords="offset points",
                ha="left" if value > 0 else "right",
                va="center",
                fontsize=_TICK,
                annotation_clip=False,
            )
        for value, word in ((-1, "top of the image"), (1, "bottom")):
            ax.annotate(
                word,
                (0, value),
                (0, -4 * value),
                textcoords="offset points",
                ha="center",
                va="bottom" if value < 0 else "top",
                fontsize=_TICK,
                annotation_clip=False,
            )
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_linewidth(0.5)


@dataclass(frozen=True, eq=False)
class Classes:
    """The legend of classes: colour patches with names and shares of voxels.

    Attributes
    ----------
    names : tuple of str, (n,)
    colours : array of float, (n, 3)
        sRGB, 0 to 1.
    counts : tuple of int, (n,) or ()
        Number of voxels of each class; () to draw no shares.
    label : str
        Description of the classes.
    """

    names: tuple[str, ...]
    colours: Floats
    counts: tuple[int, ...]
    label: str

    width_in, height_in = 7.6, 0.75

    @property
    def key(self) -> object:
        """Legends with the same key are drawn only once in a figure."""
        return self.names, self.label

    def draw(self, ax: Axes) -> None:
        """Draw the legend on these axes."""
        n = len(self.names)
        rows = 1 if n <= _CLASSES_PER_ROW else 2 if n <= 2 * _CLASSES_PER_ROW else 3
        columns = -(-n // rows)
        for i, name in enumerate(self.names):
            row, column = divmod(i, columns)
            ax.add_patch(Rectangle((column + 0.06, rows - row - 0.55), 0.88, 0.4, color=self.colours[i], linewidth=0))
            share = f"  {percent(self.counts[i] / max(sum(self.counts), 1))}" if self.counts else ""
            text = both_ends(name, _MAX_NAME_CHARS) + share
            ax.text(column + 0.5, rows - row - 0.6, text, ha="center", va="top", fontsize=6.0)
        ax.set_xlim(0, columns)
        ax.set_ylim(-0.1, rows)
        ax.set_axis_off()
        ax.text(
            0.5,
            1.0,
            self.label + (" (share of voxels)" if self.counts else ""),
            transform=ax.transAxes,
            ha="center",
            va="bottom",
            fontsize=_LABEL,
        )


@dataclass(frozen=True)
class NoEvidence:
    """The legend of the voxels without evidence: a patch, hatched or of one grey, and words below it."""

    words: str = "no evidence"
    hatched: bool = True

    width_in, height_in = 1.0, 0.12

    @property
    def key(self) -> object:
        """Legends with the same key are drawn only once in a figure."""
        return self.words

    def draw(self, ax: Axes) -> None:
        """Draw the legend on these axes."""
        rows, columns = np.indices((36, 108))
        grey = np.where(((rows + columns) % 12 < 5) | (not self.hatched), *HATCHING)
        ax.imshow(np.repeat(grey[..., None], 3, axis=2), extent=(0.32, 0.68, 0.0, 1.0), aspect="auto")
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.set_axis_off()
        ax.text(0.5, -0.2, self.words, ha="center", va="top", fontsize=_TICK)


def split_names(layers: Sequence[str]) -> tuple[str, list[str]]:
    """Split layer names into the common part and the part of each name.

    Parameters
    ----------
    layers : sequence of str, (L,)
        Names of the layers.

    Returns
    -------
    str
        The common part, e.g. 'block.' for block.0, block.1 and so on. Stars stand for the parts that differ, unless
        these are only at the end: '*.resnet_*@t25'. It is '' for a single layer or if nothing is common.
    list of str, (L,)
        The parts that differ, e.g. '0', '1' and so on; 'down_0.0' for down_0.resnet_0@t25.
    """
    if len(set(layers)) < 2:
        return "", list(layers)
    steps = {name.partition("@")[1:] for name in layers}  # time-steps of a diffusion network
    end = "".join(steps.pop()) if len(steps) == 1 else ""
    names = [name.removesuffix(end) for name in layers]
    low, high = min(names), max(names)  # a prefix of the first and the last name is a prefix of all
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    start = low[: max(low.rfind(mark, 0, same) for mark in MARKS) + 1]
    kinds = {re.sub(r"^.*\.([a-z_]+)\d+(@.*)?$", r".\1", name[len(start) :]) for name in names}
    kind = kinds.pop() if len(kinds) == 1 and low[len(start) :].count(".") else ""
    own = [name[len(start) :].replace(kind, ".") if kind else name[len(start) :] for name in names]
    if last := _common_end(own):
        own, end = [name.removesuffix(last) for name in own], last + end
    return (f"{start}*{kind}*{end}" if kind else f"{start}*{end}" if end else start), own


def _common_end(names: Sequence[str]) -> str:
    """Return the end that all names share, from a mark on, such as '.mlp_out'; '' if a name would have nothing left."""
    first = names[0]
    ends = [first[i:] for i, letter in enumerate(first) if i and letter in MARKS]
    return next((end for end in ends if all(name.endswith(end) and name != end for name in names)), "")


def percent(share: float) -> str:
    """Return a share as a rounded percentage, e.g. '12%'."""
    if share == 0:
        return "0"
    text = f"{100 * share:.0f}%"
    return "<1%" if text == "0%" else text
