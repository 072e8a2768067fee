"""The tables of a page: scores by region, hierarchy, and recovery of a planted truth. The page's script sorts them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bddn.report.shown import Shown
from bddn.stats.evidence import is_tested
from bddn.stats.hierarchy import IDEAL_DEPTH
from bddn.stats.scores import ROIS
from bddn.stats.truth import worse_hemisphere

Cell = str | float | int | None
"""A cell of a table: text, a number (sorted as a number), or None for an empty cell."""

_TRUTH = {
    **{
        f"{part}_{name}": f"{words}, {what}"
        for part, words in {"depth": "depth", "x": "place x", "y": "place y", "scale": "scale"}.items()
        for name, what in {"r": "correlation", "slope": "slope of found on planted", "rmse": "RMSE"}.items()
    },
    "size_r": "size, correlation",
    "r2_over_ceiling": "mean score over mean ceiling",
    "mean_ceiling": "mean ceiling",
    "n_voxels": "voxels",
    "n_near": "voxels for place",
}
_OF_SLOPE = {
    "slope": "Slope",
    "slope_low": "from",
    "slope_high": "to",
    "b0": "b0",
    "b1": "b1",
    "n_voxels": "Voxels",
}
_OF_REGION = {"depth": "Depth", "confidence": "Confidence", "scale": "Scale", "size": "Size"}


@dataclass(frozen=True)
class Table:
    """A sortable table: `heads`, and `rows` with as many cells, of which the first is the name of the row."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether it contains numbers."""
        return [any(isinstance(row[k], int | float) for row in self.rows) for k in range(len(self.heads))]


def regions(runs: Sequence[Shown]) -> Table:
    """Return mean scores by region; for a single run also means of what its voxels select."""
    if len(runs) > 1:
        found = {roi: None for shown in runs for roi in shown.run.metrics["roi_r2_test"]}
        names = [*(roi for roi in ROIS if roi in found), *(roi for roi in found if roi not in ROIS)]
        scores = [[shown.run.metrics["roi_r2_test"].get(roi, {}).get("mean") for shown in runs] for roi in names]
        rows = [[roi, *found] for roi, found in zip(names, scores, strict=True)]
        return Table("Mean brain score R² by region, test images", ["Region", *(shown.label for shown in runs)], rows)
    run, tested = runs[0].run, is_tested(runs[0].run.voxels)
    means = {name: head for name, head in _OF_REGION.items() if name in run.voxels}
    rows = []
    for roi, of in run.metrics["roi_r2_test"].items():
        proven = runs[0].proven(roi)
        selected = (float(proven[name].mean()) for name in means)
        rows.append([roi, of["n_voxels"], of["mean"], *([len(proven)] if tested else []), *selected])
    heads = ["Region", "Voxels", "Score R²", *(["Evident"] if tested else []), *means.values()]
    which = ", over all voxels; what voxels select, over those with evidence" if tested else ""
    return Table(f"Means by region: scores on the test images{which}", heads, rows)


def hierarchy(runs: Sequence[Shown]) -> Table:
    """Return slope with its interval, b0 and b1 of each run, and the number of its voxels."""
    rows: list[list[Cell]] = []
    slopes = [shown.run.metrics["hierarchy"] or {} for shown in runs]
    known = any("slope_low" in found for found in slopes)  # runs of version 0.2.0 have no interval
    columns = {name: head for name, head in _OF_SLOPE.items() if known or not name.startswith("slope_")}
    for shown, found in zip(runs, slopes, strict=True):
        over = "voxels with evidence in these regions" if is_tested(shown.run.voxels) else "all voxels of these regions"
        first = [shown.label if len(runs) > 1 else over]
        rows.append([*first, *(found.get(name) for name in columns)])
    interval = ", with its 95 % interval" if known else ""
    caption = f"Slope of depth against the ideal of {', '.join(IDEAL_DEPTH)}{interval}"
    return Table(caption, ["Run" if len(runs) > 1 else "Over", *columns.values()], rows)


def depths(runs: Sequence[Shown]) -> Table:
    """Return the mean depth of the regions of the hierarchy, with their ideal depth."""
    rows: list[list[Cell]] = []
    for roi, ideal in IDEAL_DEPTH.items():
        found = [shown.proven(roi)["depth"] for shown in runs]
        if any(len(values) for values in found):
            rows.append([roi, ideal, *(float(values.mean()) if len(values) else None for values in found)])
    heads = ["Region", "Ideal", *(shown.label if len(runs) > 1 else "Found" for shown in runs)]
    return Table("Mean depth by region", heads, rows)


def truth(runs: Sequence[Shown]) -> Table | None:
    """Return the agreement with the planted truth; None if no run has one."""
    found = [worse_hemisphere(shown.run.truth or {}) for shown in runs]
    if not any(found):
        return None
    rows: list[list[Cell]] = [
        [words, *(one.get(name) for one in found)]
        for name, words in _TRUTH.items()
        if name != "size_r" or any(name in one for one in found)
    ]
    heads = ["Measure", *(shown.label if len(runs) > 1 else "Value" for shown in runs)]
    return Table("Recovered against planted, voxel by voxel, in the worse hemisphere", heads, rows)


def is_known(value: Cell) -> bool:
    """Return whether a cell contains a value."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def words(value: Cell) -> str:
    """Return a cell as text: integers with thousands separators, others with three decimals."""
    if isinstance(value, float):
        return f"{value:.3f}".replace("-", "−")
    return f"{value:,}" if isinstance(value, int) else str(value)
