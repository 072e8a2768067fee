"""Colour legends: layers by confidence as a field of colours, and bars for scores and scales."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from bddn.maps.colors import Ramp, layer_rgb
from bddn.maps.surfaces import Ints

_MOST_NAMES = 26
_ROOM = 100  # letters of layer names that fit side by side
_LONGEST = 12  # letters of a layer name
_NEAR_TOP = 0.8
_LABEL, _TICK = 8.0, 7.0


def layer_legend(ax: Axes, layers: Sequence[str], top: float, counts: Ints) -> None:
    """Draw the field of colours, layers across and confidence up, and how many voxels chose each layer.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    layers : sequence of str, (L,)
        Names, early to late.
    top : float
        The confidence of full brightness.
    counts : array of int, (L,)
        Voxels whose highest weight is on each layer.
    """
    n, rows = len(layers), 64
    sure, layer = np.meshgrid((np.arange(rows) + 0.5) / rows * top, np.arange(n), indexing="ij")
    ax.imshow(
        layer_rgb(layer, sure, n, top),
        extent=(-0.5, n - 0.5, 0.0, top),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    ticks = [t for t in MaxNLocator(3).tick_values(0.0, top) if 0.0 <= t < _NEAR_TOP * top]
    more = "≥ " if top < 1.0 else ""
    ax.set_yticks([*ticks, top], [*(f"{t:g}" for t in ticks), f"{more}{top:g}"])
    ax.set_ylabel("confidence", fontsize=_LABEL)
    every = int(np.ceil(n / _MOST_NAMES))
    shown = list(range(0, n, every))
    shared, own = split_names(layers)
    names = [_shorten(own[i]) for i in shown]
    slanted = max((len(name) for name in names), default=0) * len(names) > _ROOM
    ax.set_xticks(shown, names)
    if shared:
        at, by, side = ((1.0, 0.0), (4, -2), "left") if slanted else ((0.0, 0.0), (-4, -6), "right")
        style: dict[str, Any] = {"ha": side, "va": "top", "fontsize": _TICK}
        ax.annotate(shared, at, by, xycoords="axes fraction", textcoords="offset points", **style)
    if n <= _MOST_NAMES:
        ax.text(n - 0.42, top * 1.04, "of voxels", ha="left", va="bottom", fontsize=6.0, color="#444444")
    ax.tick_params(labelsize=_TICK, length=2, width=0.5)
    if slanted:
        for label in ax.get_xticklabels():
            label.set(rotation=40, ha="right", fontsize=_TICK - 1, rotation_mode="anchor")
    total = max(int(counts.sum()), 1)
    for i in range(n if n <= _MOST_NAMES else 0):
        ax.text(i, top * 1.04, _percent(counts[i] / total), ha="center", va="bottom", fontsize=6.0, color="#444444")
    for spine in ax.spines.values():
        spine.set_linewidth(0.5)


@dataclass(frozen=True)
class Bar:
    """What a colour bar says.

    Attributes
    ----------
    ramp : Ramp
        The colours and the numbers at their ends.
    label : str
        What the numbers are.
    ends : tuple of str, optional
        Words for the low and the high end.
    """

    ramp: Ramp
    label: str
    ends: tuple[str, str] | None = None


def bar_legend(ax: Axes, bar: Bar, beyond: tuple[bool, bool]) -> None:
    """Draw a colour bar.

    Parameters
    ----------
    ax : Axes
        Where to draw; the bar fills it.
    bar : Bar
        Its colours and words.
    beyond : tuple of bool
        Whether there are numbers below the low end and above the high end; they get an arrow.
    """
    below, above = beyond
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]
    mappable = ScalarMappable(norm=Normalize(bar.ramp.low, bar.ramp.high), cmap=bar.ramp.cmap)
    drawn = ax.figure.colorbar(mappable, cax=ax, orientation="horizontal", extend=extend, extendfrac=0.03)
    drawn.outline.set_linewidth(0.5)
    drawn.set_label(bar.label, fontsize=_LABEL)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ax.tick_params(labelsize=_TICK, length=2, width=0.5)
    if bar.ends is not None:
        ax.text(-0.06, 0.5, bar.ends[0], transform=ax.transAxes, ha="right", va="center", fontsize=_LABEL + 1)
        ax.text(1.06, 0.5, bar.ends[1], transform=ax.transAxes, ha="left", va="center", fontsize=_LABEL + 1)


def split_names(layers: Sequence[str]) -> tuple[str, list[str]]:
    """What all layer names share, and what is each one's own.

    Parameters
    ----------
    layers : sequence of str, (L,)
        Names of the layers.

    Returns
    -------
    str
        Such as 'block.' for block.0, block.1 and so on; with stars for what is not shared where it is not only at the
        end: '*.resnet_*@t25'; '' for a single layer or if nothing is shared.
    list of str, (L,)
        Such as '0', '1' and so on; 'down_0.0' for down_0.resnet_0@t25.
    """
    if len(set(layers)) < 2:
        return "", list(layers)
    steps = {name.partition("@")[1:] for name in layers}  # of a diffusion network
    end = "".join(steps.pop()) if len(steps) == 1 else ""
    names = [name.removesuffix(end) for name in layers]
    low, high = min(names), max(names)  # what these two share, all share
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    start = low[: max(low.rfind(mark, 0, same) for mark in "._-/@") + 1]
    kinds = {re.sub(r"^.*\.([a-z_]+)\d+(@.*)?$", r".\1", name[len(start) :]) for name in names}
    kind = kinds.pop() if len(kinds) == 1 and low[len(start) :].count(".") else ""
    own = [name[len(start) :].replace(kind, ".") if kind else name[len(start) :] for name in names]
    return (f"{start}*{kind}*{end}" if kind else f"{start}*{end}" if end else start), own


def _shorten(name: str) -> str:
    """Both ends of a name that is too long for the legend."""
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[: half - 1]}…{name[-half:]}"


def _percent(share: float) -> str:
    """A share as a percentage of at most two digits."""
    if share == 0:
        return "0"
    text = f"{100 * share:.0f}%"
    return "<1%" if text == "0%" else text
