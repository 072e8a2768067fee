"""A chart of the scores of controls, one panel per region."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bddn.evaluation.control_table import ALL, FIT
from bddn.figures.panels import INK, WIDTH_IN
from bddn.maps.style import own_style

PER_ROW = 5
ROW_IN, BAR_IN = 0.75, 0.19  # height of a row of panels without its bars, and of a bar
OF_FIT, OF_CONTROL = "#c8442f", "#8a93a0"


@own_style()
def draw_controls(table: pd.DataFrame, path: Path, title: str) -> None:
    """Write a chart: mean R² of every control as a bar with its 95 % interval, in one panel per region.

    Parameters
    ----------
    table : DataFrame
        Result of `evaluation.control_table`; controls that are not available are not drawn.
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
    for ax, region in zip(axes.flat, regions, strict=False):
        rows = known[known["region"] == region].set_index("control").loc[names]
        reach = [rows["r2"] - rows["r2_low"], rows["r2_high"] - rows["r2"]]
        colours = [OF_FIT if name == FIT else OF_CONTROL for name in names]
        ax.barh(at, rows["r2"], xerr=reach, height=0.7, color=colours, error_kw={"ecolor": INK, "elinewidth": 0.8})
        ax.axvline(rows.loc[FIT, "r2"], color=OF_FIT, linewidth=0.8, linestyle=":")
        ax.set_title("all voxels" if region == ALL else region, fontsize=8, color=INK)
        ax.tick_params(labelsize=7, length=2, colors=INK)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_yticks(at, names)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("mean R² on the test images, with 95 % interval over test images", fontsize=8, color=INK)
    figure.suptitle(title, fontsize=9, color=INK)
    figure.savefig(path, metadata={"Software": None} if path.suffix == ".png" else None)
