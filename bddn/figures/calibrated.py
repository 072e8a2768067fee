"""A figure of a calibration: planted against recovered slopes, and the error of the depth of single voxels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bddn.figures.panels import WIDTH_IN, axes_at, new_page, write_at
from bddn.figures.single import DPI, save, write_caption
from bddn.maps.style import own_style
from bddn.stats.calibration_line import CalibrationLine

HEIGHT_IN, SIDE_IN = 4.75, 3.45
LEFT_IN, APART_IN, BOTTOM_IN = 0.85, 4.95, 0.6
INK, PALE, RUN = "#26323f", "#c7d4e0", "#c2410c"
LABEL = 8.5


@own_style()
def draw_calibration(found: Mapping[str, Any], stem: Path, title: str) -> list[Path]:
    """Draw the content of `calibration.json`.

    Parameters
    ----------
    found : mapping
    stem : Path
        Path of the files without a suffix: STEM.png and the caption STEM.txt. Existing files are replaced.
    title : str

    Returns
    -------
    list of Path
    """
    figure = new_page(HEIGHT_IN, DPI)
    write_at(figure, WIDTH_IN / 2, -0.08, title, fontsize=13, fontweight="bold")
    low, high = found["corrected"]["intervals"]["90"]
    heading = (
        f"Slope {found['slope']:.2f}, corrected {found['corrected']['slope']:.2f} (90 % interval {low:.2f} to "
        f"{high:.2f}), from {found['n_brains']} planted brains"
    )
    write_at(figure, WIDTH_IN / 2, -0.36, heading, fontsize=LABEL, color="#333333")
    _slopes(axes_at(figure, LEFT_IN, BOTTOM_IN, SIDE_IN, SIDE_IN), found)
    _depths(axes_at(figure, LEFT_IN + APART_IN, BOTTOM_IN, SIDE_IN, SIDE_IN), found)
    caption = (
        f"{title}. {heading}. Left: hierarchy slopes of planted brains, and what fits like this one recover of them; "
        "the line, and the range that holds 90 % of further brains. Dotted: equality. Orange: the run, and the "
        "corrected slope with its 90 % interval. Right: planted depth of single voxels by the depth that was "
        "recovered; means, and ranges that hold 90 % of the voxels."
    )
    return [*save(figure, stem, ("png",), DPI), write_caption(caption, stem)]


def _slopes(ax: Axes, found: Mapping[str, Any]) -> None:
    from scipy.stats import t

    curve, corrected = found["curve"], found["corrected"]
    line = CalibrationLine.of(curve["planted"], curve["recovered"])
    low, high = corrected["intervals"]["90"]
    values = [*line.planted, *line.recovered, low, high, found["slope"]]
    start, stop = min(values) - 0.08, max(values) + 0.08
    x = np.linspace(start, stop, 200)
    reach = t.ppf(0.95, len(line.planted) - 2) * line.error(x)
    middle = line.gain * x + line.offset
    ax.fill_between(x, middle - reach, middle + reach, color=PALE, alpha=0.6, linewidth=0)
    ax.plot([start, stop], [start, stop], color="#888888", linewidth=0.8, linestyle=":")
    ax.plot(x, middle, color=INK, linewidth=1.2)
    ax.plot(line.planted, line.recovered, "o", color=INK, markersize=4.5, markeredgewidth=0)
    ax.plot([start, corrected["slope"]], [found["slope"]] * 2, color=RUN, linewidth=1)
    ax.plot([corrected["slope"]] * 2, [found["slope"], start], color=RUN, linewidth=1)
    ax.plot([low, high], [start + 0.02] * 2, color=RUN, linewidth=3, solid_capstyle="butt")
    _frame(ax, start, stop, "planted slope", "recovered slope")


def _depths(ax: Axes, found: Mapping[str, Any]) -> None:
    ax.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=":")
    for one in found["depth"]["by_recovered"]:
        if one["mean_error"] is not None:
            at = (one["from"] + one["to"]) / 2
            ax.plot(
                [at] * 2, [at + one["error_05"], at + one["error_95"]], color=PALE, linewidth=7, solid_capstyle="butt"
            )
            ax.plot(at, at + one["mean_error"], "o", color=INK, markersize=4.5, markeredgewidth=0)
    _frame(ax, 0, 1, "recovered depth of a voxel (0 first layer, 1 last)", "planted depth")


def _frame(ax: Axes, start: float, stop: float, x: str, y: str) -> None:
    ax.set_xlim(start, stop)
    ax.set_ylim(start, stop)
    ax.set_xlabel(x, fontsize=LABEL)
    ax.set_ylabel(y, fontsize=LABEL)
    ax.tick_params(labelsize=LABEL - 1, length=3, color="#555555")
    ax.spines[["top", "right"]].set_visible(False)
