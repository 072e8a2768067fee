"""A figure of an experiment over networks: what they forget against their hierarchy slope, and its rivals."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from bddn.evaluation.forgetting.experiment import CLAIM, KNOWN_AFTER, OUTCOMES, PREDICTORS, Experiment, with_outcomes
from bddn.figures.panels import INK, WIDTH_IN, axes_at, new_page, write_at
from bddn.figures.single import DPI, save, write_caption
from bddn.maps.style import own_style
from bddn.stats.association import Association
from bddn.text import count

LEFT_IN, APART_IN, SIDE_IN, TOP_IN = 1.95, 2.7, 2.15, 0.98
FOREST_IN, ROW_IN = 0.55, 0.19  # from the scatter to the correlations, and height of one of them
OF_SLOPE, OF_RIVAL, PALE, ROWS = "#c2410c", "#52606d", "#e6ebf0", "#9fb0c0"
LABEL = 7.5

Floats = npt.NDArray[np.float64]


@own_style()
def draw_experiment(found: Experiment, table: pd.DataFrame, stem: Path, title: str) -> list[Path]:
    """Draw what networks forget.

    Parameters
    ----------
    found : Experiment
    table : DataFrame
        Its rows, which are drawn as small points.
    stem : Path
        Path of the files without a suffix: STEM.png and the caption STEM.txt. Existing files are replaced.
    title : str

    Returns
    -------
    list of Path
    """
    names = found.networks["network"].tolist()
    forest = ROW_IN * len(PREDICTORS) + 0.45
    key = 0.16 * (-(-len(names) // 4)) + 0.12
    height = TOP_IN + SIDE_IN + FOREST_IN + forest + key
    figure = new_page(height, DPI)
    write_at(figure, WIDTH_IN / 2, -0.08, title, fontsize=12, fontweight="bold")
    rows = with_outcomes(table)
    heading = (
        f"{len(names)} networks, the units of all tests; small points are their {len(rows)} fine-tunings on "
        f"{count(rows['task'].nunique(), 'image set')}"
    )
    write_at(figure, WIDTH_IN / 2, -0.34, heading, fontsize=LABEL + 1, color="#333333")
    bottom = height - TOP_IN - SIDE_IN
    for k, outcome in enumerate(OUTCOMES):
        at = LEFT_IN + k * APART_IN
        _scatter(axes_at(figure, at, bottom, SIDE_IN, SIDE_IN), found, rows, outcome)
        here = found.associations[found.associations["outcome"] == outcome].set_index("predictor")
        size = ROW_IN * len(PREDICTORS)
        _correlations(axes_at(figure, at, bottom - FOREST_IN - size, SIDE_IN, size), here, k == 0)
    for k, name in enumerate(names):
        column, row = k % 4, k // 4
        text = f"{k + 1}  {name}"
        write_at(figure, 0.5 + 2.35 * column, key - 0.02 - 0.16 * row, text, fontsize=LABEL, ha="left")
    caption = (
        f"{title}. {heading}. Above: means of the networks (numbers), the least-squares line, and the range of lines "
        "that a test on orders of the networks does not reject (95 %). Below: Pearson's correlation of each predictor "
        "with the outcome, with its 95 % interval (Fisher's z, for normal values). Predictors in italics are known "
        "only after the fine-tuning."
    )
    return [*save(figure, stem, ("png",), DPI), write_caption(caption, stem)]


def _scatter(ax: Axes, found: Experiment, rows: pd.DataFrame, outcome: str) -> None:
    networks, one = found.networks, found.claims[outcome]
    x, y = networks[CLAIM].to_numpy(np.float64), networks[outcome].to_numpy(np.float64)
    kept = rows[rows["network"].isin(networks["network"])]
    ax.plot(kept[CLAIM], kept[outcome], "o", color=ROWS, markersize=2, markeredgewidth=0, zorder=1)
    _bare(ax)
    r = one.pearson
    interval = f" [{r.low:.2f}, {r.high:.2f}]" if np.isfinite(r.low) else ""  # unknown with 3 networks
    told = "not defined" if np.isnan(r.r) else f"r = {r.r:.2f}{interval}, p = {r.p:.2g}, n = {one.n}"
    ax.set_title(f"{OUTCOMES[outcome]}\n{told.replace('-', '−')}", fontsize=LABEL, color=INK, linespacing=1.4)
    ax.set_xlabel(PREDICTORS[CLAIM], fontsize=LABEL)
    if not np.isfinite(y).any():
        return
    values_x, values_y = np.append(kept[CLAIM], x), np.append(kept[outcome], y)
    low, high = np.nanmin(values_x), np.nanmax(values_x)
    margin = 0.08 * max(high - low, 1e-3)
    ends = np.array([low - margin, high + margin])
    bottom, top = np.nanmin(values_y), np.nanmax(values_y)
    room = 0.1 * max(top - bottom, 1e-6)
    _line(ax, one, x, y, ends)
    ax.axhline(0, color="#888888", linewidth=0.6, linestyle=":", zorder=0)
    for k, (at, value) in enumerate(zip(x, y, strict=True)):
        ax.plot(at, value, "o", color=OF_SLOPE, markersize=9, markeredgecolor="white", markeredgewidth=0.8, zorder=3)
        ax.text(at, value, f"{k + 1}", fontsize=6.5, color="white", ha="center", va="center_baseline", zorder=4)
    ax.set_xlim(*ends)
    ax.set_ylim(bottom - room, top + room)


def _line(ax: Axes, one: Association, x: Floats, y: Floats, ends: Floats) -> None:
    """Draw the least-squares line, and the lines of its interval, all through the mean."""
    if np.isnan(one.change):
        return
    known = np.isfinite(x) & np.isfinite(y)
    at = np.linspace(ends[0], ends[1], 60)
    away, middle = at - x[known].mean(), y[known].mean()
    if np.isfinite([one.change_low, one.change_high]).all():
        edges = middle + np.outer([one.change_low, one.change_high], away)
        ax.fill_between(at, edges.min(0), edges.max(0), color=PALE, linewidth=0, zorder=0)
    ax.plot(at, middle + one.change * away, color=INK, linewidth=1, zorder=2)


def _correlations(ax: Axes, rows: pd.DataFrame, is_first: bool) -> None:
    """Draw the correlation of each predictor with its interval."""
    ax.axvline(0, color="#888888", linewidth=0.6, linestyle=":")
    for k, name in enumerate(PREDICTORS):
        row, colour = rows.loc[name], OF_SLOPE if name == CLAIM else OF_RIVAL
        if np.isfinite(row["r"]):
            ax.plot([row["r_low"], row["r_high"]], [k, k], color=colour, linewidth=1.2)
            ax.plot(row["r"], k, "o", color=colour, markersize=4, markeredgewidth=0)
    ax.set_yticks(range(len(PREDICTORS)), list(PREDICTORS.values()) if is_first else [])
    for label, name in zip(ax.get_yticklabels(), PREDICTORS, strict=False):
        label.set_fontstyle("italic" if name in KNOWN_AFTER else "normal")
    ax.set_ylim(len(PREDICTORS) - 0.5, -0.5)
    ax.set_xlim(-1.05, 1.05)
    ax.set_xlabel("correlation with the outcome", fontsize=LABEL)
    _bare(ax)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _bare(ax: Axes) -> None:
    ax.tick_params(labelsize=LABEL - 1, length=3, color="#555555")
    ax.spines[["top", "right"]].set_visible(False)
