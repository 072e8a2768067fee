"""The chart of a network's layers: which share of the voxels selects each, and where it lies on the hierarchy of ROIs;
and the scatter of networks whose slope and loss are known.

The axes of the layers are in `web/diagnosis.html`: shares from x = 78 to 158, places from x = 190 to 310.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bddn.maps.colors import layer_ramp
from bddn.stats.evidence import evident
from bddn.stats.layer_order import LayerOrder

_ROW, _TOP = 17.0, 26.0
_BAR_LEFT, _BAR_WIDE = 78.0, 80.0
_PLACE_LEFT, _PLACE_WIDE = 190.0, 120.0
_SCATTER_LEFT, _SCATTER_TOP, _SCATTER_WIDE, _SCATTER_TALL = 52.0, 12.0, 240.0, 170.0
_NAME_CHARACTERS = 12


@dataclass(frozen=True)
class LayerRow:
    """A layer: its name, baseline y, colour, share in words, width of its bar; x of its place and of the ends of the
    interval (None without a place); and whether it is out of order."""

    name: str
    y: float
    colour: str
    share: str
    wide: float
    place: float | None
    low: float
    high: float
    misplaced: bool


@dataclass(frozen=True)
class LayerChart:
    """A drawing of all layers, in its own units; `words` for screen readers; `marks` are ROIs with x and row."""

    words: str
    tall: float
    rows: list[LayerRow]
    marks: list[tuple[str, float, float]]


@dataclass(frozen=True)
class Scatter:
    """Networks in a plane of slope and loss: `points` with name, x, y and where the name stands; `ticks` of both axes;
    `now`, the slopes of other networks as name and x."""

    words: str
    points: list[tuple[str, float, float, str]]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    zero: float
    now: list[tuple[str, float]]


def layer_chart(
    label: str, voxels: pd.DataFrame, layers: Sequence[str], order: LayerOrder | None, ideal: Mapping[str, float]
) -> LayerChart:
    """Return the chart of the layers of a network, from the first at the top to the last."""
    chosen = voxels.loc[evident(voxels), "layer_argmax"]
    shares = [float((chosen == layer).mean()) if len(chosen) else 0.0 for layer in layers]
    wrong = set() if order is None else {one.layer for one in order.misplaced}
    top, colours = max([*shares, 1e-9]), layer_ramp(len(layers))
    rows = []
    for k, layer in enumerate(layers):
        place, low, high = (
            (np.nan,) * 3 if order is None else (float(v[k]) for v in (order.place, order.low, order.high))
        )
        rows.append(
            LayerRow(
                layer if len(layer) <= _NAME_CHARACTERS else f"…{layer[1 - _NAME_CHARACTERS :]}",
                _TOP + (k + 1) * _ROW - 5,
                "#" + "".join(f"{round(255 * value):02x}" for value in colours[k]),
                f"{shares[k]:.0%}",
                round(_BAR_WIDE * shares[k] / top, 1),
                None if np.isnan(place) else _x(place),
                _x(low),
                _x(high),
                k in wrong,
            )
        )
    marks, used = list[tuple[str, float, float]](), dict[float, str]()
    for roi, depth in ideal.items():
        used[depth] = f"{used[depth]}, {roi}" if depth in used else roi
    for depth, names in used.items():
        marks.append((names, _x(depth), _TOP - 8))
    said = ", ".join(f"{layer} {share:.0%}" for layer, share in zip(layers, shares, strict=True))
    out = "" if not wrong else f"; out of order: {', '.join(layers[k] for k in sorted(wrong))}"
    return LayerChart(
        f"{label}: share of voxels that select each layer: {said}{out}", _TOP + _ROW * len(layers) + 8, rows, marks
    )


def scatter(networks: pd.DataFrame, slopes: Mapping[str, float]) -> Scatter:
    """Return the scatter of networks (`network`, `slope`, `loss`), with the slopes of others below the axis."""
    x_of = _scale([*networks["slope"], *slopes.values(), 0.0], _SCATTER_LEFT, _SCATTER_WIDE)
    y_of = _scale([*networks["loss"], 0.0], _SCATTER_TOP + _SCATTER_TALL, -_SCATTER_TALL)
    points = []
    for row in networks.to_dict("records"):
        x = x_of(row["slope"])
        side = "end" if x > _SCATTER_LEFT + 0.6 * _SCATTER_WIDE else "start"
        points.append((str(row["network"]), x, y_of(row["loss"]), side))
    losses = ", ".join(f"{row['network']} {row['slope']:.2f} {row['loss']:.3f}" for row in networks.to_dict("records"))
    return Scatter(
        f"Slope before and loss of R²: {losses}",
        points,
        [(x_of(value), f"{value:g}") for value in _ticks([*networks["slope"], *slopes.values(), 0.0])],
        [(y_of(value), f"{value:g}") for value in _ticks([*networks["loss"], 0.0])],
        y_of(0.0),
        [(name, x_of(value)) for name, value in slopes.items()],
    )


def _scale(values: Sequence[float], start: float, length: float):  # type: ignore[no-untyped-def]
    ticks = _ticks(values)
    low, high = min(ticks[0], *values), max(ticks[-1], *values)
    return lambda value: round(start + length * (value - low) / (high - low), 1)


def _ticks(values: Sequence[float]) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    low, high = min(values), max(values)
    found = MaxNLocator(5).tick_values(low, high if high > low else low + 1.0)
    return [float(np.round(value, 10)) for value in found]


def _x(place: float) -> float:
    return 0.0 if np.isnan(place) else round(_PLACE_LEFT + float(np.clip(place, -0.08, 1.08)) * _PLACE_WIDE, 1)
