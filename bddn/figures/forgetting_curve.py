"""A figure of forgetting along fine-tuning: brain score, old task, new task, and similarity of tokens, by step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bddn.figures.panels import INK, WIDTH_IN, axes_at, new_page, write_at
from bddn.figures.single import DPI, save, write_caption
from bddn.maps.style import own_style

COLOURS = ("#c2410c", "#1a5a8a", "#5b7f2b", "#7a4b94", "#8d97a1")  # of image sets
PALE = "#dce0e4"
HEAD_IN, ROW_IN, PANEL_IN, LEFT_IN, APART_IN, ABOVE_IN, FOOT_IN = 0.72, 2.35, 1.5, 0.55, 2.42, 0.5, 0.1
WIDE_IN = 1.52
LABEL = 7.0
APART = 0.085  # least distance of two labels, as a share of the height of a panel


@dataclass(frozen=True)
class Course:
    """One quantity: its column, with columns `…_low` and `…_high` where an interval is known, and how it is drawn."""

    column: str
    title: str
    dashed: str = ""  # a second column in the same panel, drawn dashed
    share: bool = False  # whether it runs from 0 to 1


COURSES = (
    Course("r2", "brain score, mean R²"),
    Course("old_kept", "old task: kept head (–), new probe (--)", "old_new", share=True),
    Course("accuracy", "new task: held-out accuracy", share=True),
    Course("cka", "tokens: linear CKA with step 0", share=True),
)


@own_style()
def draw_curves(table: pd.DataFrame, stem: Path, title: str) -> list[Path]:
    """Draw a row of panels for each network, with a line for each image set.

    Parameters
    ----------
    table : DataFrame
        One row per network, image set and step: `network`, `images`, `step`, and the columns of `COURSES`. `r2_noise`
        is the difference of R² of another seed of the network before. What is empty is not drawn.
    stem : Path
        Path of the files without a suffix: STEM.png and the caption STEM.txt. Existing files are replaced.
    title : str

    Returns
    -------
    list of Path
    """
    networks, sets = (table[name].drop_duplicates().tolist() for name in ("network", "images"))
    colours = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(sets)}
    tall = HEAD_IN + ROW_IN * len(networks) + FOOT_IN
    figure = new_page(tall, DPI)
    heading = "95 % intervals over test images; grey: other seeds of the encoder on the network before"
    write_at(figure, WIDTH_IN / 2, -0.1, title, fontsize=13, fontweight="bold")
    write_at(figure, WIDTH_IN / 2, -0.38, heading, fontsize=8.5, color="#333333")
    for row, network in enumerate(networks):
        own, top = table[table["network"] == network], HEAD_IN + row * ROW_IN
        write_at(figure, 0.12, -top, network, ha="left", fontsize=9.5, fontweight="bold")
        for k, course in enumerate(COURSES):
            ax = axes_at(figure, LEFT_IN + k * APART_IN, tall - top - ABOVE_IN - PANEL_IN, WIDE_IN, PANEL_IN)
            _draw(ax, own, course, colours, row == len(networks) - 1)
    caption = (
        f"{title}. {heading}. From left to right: mean R² on the test images; accuracy on the old task of the probe "
        "that was fitted before fine-tuning (solid) and of a new probe on the new features (dashed); accuracy on "
        "held-out images of the new task; linear CKA between the tokens before and after, mean over layers. Step 0 is "
        "the network before."
    )
    return [*save(figure, stem, ("png",), DPI), write_caption(caption, stem)]


def _draw(ax: Axes, table: pd.DataFrame, course: Course, colours: dict[str, str], lowest: bool) -> None:
    ends: list[tuple[float, str, str]] = []
    if course.column == "r2" and table["r2_noise"].notna().any():
        start = table.loc[table["step"] == 0, "r2"].iloc[0]
        reach = table["r2_noise"].abs().max()
        ax.axhspan(start - reach, start + reach, color=PALE, linewidth=0, zorder=0)
    for name, of in table.groupby("images", sort=False):
        for column, style in ((course.column, "-"), (course.dashed, (0, (3, 2)))):
            if not column or of[column].isna().all():
                continue
            points = of[["step", column]].dropna().sort_values("step")
            colour = colours[str(name)]
            ax.plot(points["step"], points[column], color=colour, linewidth=1.4, linestyle=style, zorder=2)
            if f"{column}_low" in of and style == "-":
                low, high = (of.sort_values("step")[f"{column}_{end}"] for end in ("low", "high"))
                ax.fill_between(of["step"].sort_values(), low, high, color=colour, alpha=0.14, linewidth=0, zorder=1)
            ax.plot(
                points["step"],
                points[column],
                "o",
                color=colour,
                markersize=3,
                markeredgewidth=0,
                zorder=3,
                clip_on=False,
            )
            if style == "-":
                ends.append((float(points[column].iloc[-1]), str(name), colour))
    ax.set_title(course.title, fontsize=LABEL + 0.5, color=INK, loc="left")
    ax.set_xlim(0, table["step"].max() or 1)
    if course.share:
        low = np.nanmin([table[c].min() for c in (course.column, course.dashed) if c] or [0.0])
        ax.set_ylim(min(0.5, low - 0.05) if np.isfinite(low) else 0, 1.02)
    else:
        ax.margins(y=0.12)
    if not ends:
        ax.text(
            0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", va="center", fontsize=LABEL, color="#888888"
        )
    _write_ends(ax, ends)
    ax.tick_params(labelsize=LABEL, length=2.5, colors="#444444")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_linewidth(0.6)
    ax.locator_params(nbins=4)
    if lowest:
        ax.set_xlabel("steps of fine-tuning", fontsize=LABEL, color=INK)


def _write_ends(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write the names of lines at their ends, apart from each other."""
    bottom, top = ax.get_ylim()
    last = -np.inf
    for value, name, colour in sorted(ends):
        last = max((value - bottom) / (top - bottom), last + APART)
        ax.text(1.04, last, name, transform=ax.transAxes, color=colour, fontsize=LABEL, va="center", clip_on=False)
