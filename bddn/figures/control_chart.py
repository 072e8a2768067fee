"""A chart of the scores of controls, one panel per region."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bddn.evaluation.controls.table import FIT
from bddn.figures.panels import INK, WIDTH_IN
from bddn.maps.style import own_style
from bddn.stats.scores import ALL

PER_ROW = 5
ROW_IN, BAR_IN = 0.75, 0.19  # height of a row of panels without its bars, and of a bar
OF_FIT, OF_CONTROL = "#c8442f", "#8a93a0"


@own_style()
def draw_controls(table: pd.DataFrame, path: Path, title: str) -> None:
    """Write a chart: expected mean R² of every control as a bar with its 95 % interval, in one panel per region.

    Parameters
    ----------
    table : DataFrame
        Result of `evaluation.controls.table`; controls that are not available are not drawn.
    path : Path
        A file of a format of matplotlib.
    title : str
    """
    known = table[table["reason"] == ""]
    names, regions = known["control"].unique().tolist(), known["region"].unique().tolist()
    n_rows = -(-len(regions) // PER_ROW)
    height = 0.6 + n_rows * (ROW_IN + BAR_IN * len(names))
    figure = Figure(figsize=(WIDTH_IN, height), dpi=150, layout="constrained")
    axes = figure.subplots(n_rows, min(PER_ROW, len(regions)), sharex=True, sharey=True, squeeze=False)
    at = range(len(names))
    for ax in axes.flat[len(regions) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(0, len(regions) - axes.shape[1]) : len(regions)]:  # the lowest of each column
        ax.tick_params(labelbottom=True)
    for ax, region in zip(axes.flat, regions, strict=False):
        rows = known[known["region"] == region].set_index("control").loc[names]
        colours = [OF_FIT if name == FIT else OF_CONTROL for name in names]
        ax.barh(at, rows["r2_expected"], height=0.7, color=colours)
        ax.hlines(at, rows["r2_low"], rows["r2_high"], color=INK, linewidth=0.8)
        ax.axvline(rows.loc[FIT, "r2_expected"], color=OF_FIT, linewidth=0.8, linestyle=":")
        ax.set_title("all voxels" if region == ALL else region, fontsize=8, color=INK)
        ax.tick_params(labelsize=7, length=2, colors=INK)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_yticks(at, names)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("mean R² expected on very many test images, with its 95 % interval", fontsize=8, color=INK)
    figure.suptitle(title, fontsize=9, color=INK)
    figure.savefig(path, metadata={"Software": None} if path.suffix == ".png" else None)
