"""The kinds of maps that there are; `column_map` shows any column of the voxel table, without new code.

Maps of selections show only voxels with evidence, if the table has a test of it (see `stats.evidence`): what a voxel
without evidence selects is chance. Maps of scores and of data show all voxels, because they are the evidence.

Shape letters: N voxels, k numbers of a voxel, L layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import Floats
from bddn.errors import DataError
from bddn.maps import colors, ramps
from bddn.maps.colors import Palette
from bddn.maps.legends import Classes, LayerField, Wheel
from bddn.maps.map import Map, class_map, class_rgb, ramp_map, stem
from bddn.maps.ramps import Ramp
from bddn.maps.voxel_table import check_voxels, evidence_mask, layer_index, numbers, selected
from bddn.stats.evidence import evident, is_tested
from bddn.stats.fit_intervals import LEVEL
from bddn.stats.hierarchy import depth_spread

if TYPE_CHECKING:
    import pandas as pd

Strength = Literal["confidence", "sharpness in depth"]
STRENGTHS: Mapping[str, str] = {
    "confidence": "1 - entropy / log L",
    "sharpness in depth": "1 - 2 SD of the depth of the selected layers, which does not depend on their number",
}
"""What the brightness of a layer map shows, and its formula."""


def confidence_top(tables: "Sequence[pd.DataFrame]") -> float:
    """Return the lowest confidence with full brightness of the layer maps of several tables; see `ramps`."""
    return ramps.confidence_top(np.concatenate([selected(table, "confidence") for table in tables]))


def layer_map(
    voxels: "pd.DataFrame",
    layers: Sequence[str],
    top: float | None = None,
    palette: Palette = "hue",
    strength: Strength = "confidence",
) -> Map:
    """Return the map of the layer with the highest weight, and of the confidence of this selection.

    Parameters
    ----------
    voxels : DataFrame, one row per voxel
    layers : sequence of str, (L,)
        Names of the layers, from early to late.
    top : float, optional
        Lowest confidence with full brightness; by default the 95th percentile.
    palette : str
        'hue', or 'safe' for readers with colour blindness.
    strength : str
        What the brightness shows: 'confidence', or 'sharpness in depth', which compares networks with different numbers
        of layers; see `sharpness`.
    """
    index = layer_index(voxels, layers).astype(np.float64)
    confidence = numbers(voxels, "confidence") if strength == "confidence" else sharpness(voxels, layers)
    index = np.where((index < 0) | np.isnan(confidence), np.nan, index)
    chosen = np.isfinite(index) & evident(voxels)
    if len(layers) > 1:  # of equal weights, as where the settings fixed the layer, none is the highest
        chosen &= np.ptp(np.column_stack([numbers(voxels, f"weight_{layer}") for layer in layers]), axis=1) > 0
    counts = np.bincount(index[chosen].astype(np.int64), minlength=len(layers)) if chosen.any() else np.zeros(0, int)
    full = ramps.confidence_top(confidence[evident(voxels)]) if top is None else top

    def rgb(values: Floats) -> npt.NDArray[np.float64]:
        code = np.where(np.isnan(values[:, 0]), -1, np.nan_to_num(values[:, 0])).astype(np.int64)
        return colors.layer_rgb(code, values[:, 1], len(layers), full, palette)

    shown_as = {"hue": "brightness", "safe": "strength"}[palette]
    weights = {f"weight_{layer}": voxels[f"weight_{layer}"].to_numpy() for layer in layers}
    return Map(
        "layer_map",
        f"Layer map: colour is the layer with the highest weight, early to late; {shown_as} is the {strength}, "
        f"{STRENGTHS[strength]}",
        np.column_stack([index, confidence]),
        rgb,
        LayerField(tuple(layers), full, tuple(counts.tolist()), palette, strength),
        {
            "layer_argmax": voxels["layer_argmax"].to_numpy(),
            "layer_index": index,
            "confidence": numbers(voxels, "confidence"),
            **({} if strength == "confidence" else {"sharpness_in_depth": confidence}),
            "depth": numbers(voxels, "depth"),
            **weights,
        },
        len(layers),
        evidence_mask(voxels),
    )


def sharpness(voxels: "pd.DataFrame", layers: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return 1 - 2 · the standard deviation of depth under each voxel's layer weights: 1 for one layer alone, 0 for the
    first and the last in equal parts, for any number of layers."""
    weights = np.column_stack([numbers(voxels, f"weight_{layer}") for layer in layers])
    return np.asarray(1 - 2 * depth_spread(weights))


def weight_maps(voxels: "pd.DataFrame", layers: Sequence[str]) -> list[Map]:
    """Return one map per layer of its weights, all with the same colours."""
    ramp = ramps.sequential_ramp(np.concatenate([selected(voxels, f"weight_{layer}") for layer in layers]))
    found = []
    for layer in layers:
        name = f"weight_{layer}"
        table = {name: numbers(voxels, name)}
        found.append(
            ramp_map(name, f"Weight of layer {layer}", table, ramp, "layer weight", evident=evidence_mask(voxels))
        )
    return found


def score_map(voxels: "pd.DataFrame", top: float | None = None) -> Map:
    """Return the map of the brain score on the test images; `top` is the score at the upper end of the colours."""
    score = numbers(voxels, "r2_test")
    return ramp_map(
        "score_map",
        "Score map: brain score R² on the test images",
        {"r2_test": score, "r2_val": numbers(voxels, "r2_val")},
        ramps.sequential_ramp(score, top),
        "brain score R² on the test images (raw, no noise ceiling)",
    )


def relative_map(voxels: "pd.DataFrame", best: Floats, models: Sequence[str], bottom: float | None = None) -> Map:
    """Return the map of each voxel's score minus the score `best` (N,) of the best of the given `models`."""
    below = numbers(voxels, "r2_test") - np.asarray(best, dtype=np.float64)
    ramp = ramps.shortfall_ramp(below, bottom)
    heading = f"Relative score: R² minus that of the best of {len(models)} models at each voxel"
    return ramp_map("relative_map", heading, {"r2_below_best": below}, ramp, "R² minus the best model's R²")


def scale_map(voxels: "pd.DataFrame") -> Map:
    """Return the map of the scale: whether a voxel reads local or global tokens."""
    scale = numbers(voxels, "scale")
    return ramp_map(
        "scale_map",
        "Scale map: whether a voxel reads a place in the image (local) or the image as a whole (global)",
        {"scale": scale},
        ramps.scale_ramp(selected(voxels, "scale")),
        "scale selector (0 local token, 1 global token)",
        ("local", "global"),
        evidence_mask(voxels),
    )


def place_map(voxels: "pd.DataFrame", palette: Palette = "hue") -> Map:
    """Return the map of the place in the image that a voxel reads."""
    x, y = numbers(voxels, "x"), numbers(voxels, "y")
    reach = ramps.place_reach(np.column_stack([selected(voxels, "x"), selected(voxels, "y")]))
    return Map(
        "place_map",
        "Place map: the place in the image that a voxel reads",
        np.column_stack([x, y]),
        lambda v: colors.place_rgb(v, reach, palette),
        Wheel(reach, palette),
        {"x": x, "y": y},
        evident=evidence_mask(voxels),
    )


_SELECTIONS = {"layer_argmax", "depth", "depth_spread", "confidence", "agreement", "x", "y", "scale", "size"}
_PARTS = {
    **dict.fromkeys(("layer_map", "layer_argmax", "depth", "depth_spread", "depth_width", "confidence"), "layer"),
    **dict.fromkeys(("place_map", "x", "y"), "place"),
    **dict.fromkeys(("scale_map", "scale"), "scale"),
}
_COLUMNS = {
    "ceiling": ("Noise ceiling: the largest R² that the responses' noise leaves", "noise ceiling, R²"),
    "agreement": ("Agreement: share of pairs of runs that select the same layer", "agreement"),
    "size": (
        "Size map: how large a part of the image a voxel reads around its place",
        "size of the receptive field (tokens, standard deviation of the blur)",
    ),
}
"""Headings of the maps of some columns, and labels of their legends."""

MAX_WIDTH = 0.5
"""Width of an interval of depth above which too little is known to draw the depth: half of all layers."""


def column_map(voxels: "pd.DataFrame", column: str) -> Map:
    """Return the map of any column. Numbers get a colormap that fits their range, text becomes classes.

    Columns of selections show only voxels with evidence.

    Raises
    ------
    DataError
        If the column does not exist.
    """
    if column not in voxels.columns:
        raise DataError(
            "voxel table",
            expected=f"a column '{column}'",
            got=f"columns {', '.join(map(str, voxels.columns))}",
            fix="Give one of these columns.",
        )
    of = column.removesuffix("_sd").removesuffix("_low").removesuffix("_high")
    is_selection = of in _SELECTIONS or column.startswith("weight_")
    mask = evidence_mask(voxels) if is_selection else None
    if voxels[column].dtype.kind in "OSUT" or str(voxels[column].dtype) in {"str", "string"}:
        return class_map(column, voxels[column].fillna("").astype(str).to_numpy(dtype=object), mask)
    values = numbers(voxels, column)
    title, label = _COLUMNS.get(column, (f"'{column}'", column))
    seen = values if mask is None else values[mask]
    ramp = ramps.diverging_ramp(seen) if np.nanmin(seen, initial=0.0) < 0 else ramps.sequential_ramp(seen)
    return ramp_map(stem(column), title, {column: values}, ramp, label, evident=mask)


def part_of(name: str) -> str:
    """Return the part of the selection that the map of this name shows: 'layer', 'place' or 'scale'; '' for others."""
    of = name.removesuffix("_sd").removesuffix("_low").removesuffix("_high")
    return "layer" if name.startswith("weight_") else _PARTS.get(of, "")


def interval_maps(voxels: "pd.DataFrame") -> list[Map]:
    """Return the map of depth and that of the width of its interval, of the average of several fits.

    Both are grey cortex where the interval is wider than `MAX_WIDTH`.
    """
    low, high = numbers(voxels, "depth_low"), numbers(voxels, "depth_high")
    width = np.where(high - low <= MAX_WIDTH, high - low, np.nan)
    table = {"depth": numbers(voxels, "depth"), "depth_low": low, "depth_high": high, "depth_width": high - low}
    known = np.where(np.isnan(width), np.nan, table["depth"])
    depth = ramp_map(
        "depth",
        f"Depth of the selected layers; grey where its {LEVEL:.0%} interval is wider than {MAX_WIDTH:g}",
        {"depth": known},
        Ramp("viridis", 0.0, 1.0),
        "depth (0 first layer, 1 last layer)",
        evident=evidence_mask(voxels),
    )
    widths = ramp_map(
        "depth_width",
        f"Width of the {LEVEL:.0%} interval of depth; grey where it is wider than {MAX_WIDTH:g}",
        {"depth_width": width},
        Ramp("cividis_r", 0.0, MAX_WIDTH),
        f"width of the {LEVEL:.0%} interval of depth, which runs from 0 to 1",
        evident=evidence_mask(voxels),
    )
    return [replace(depth, table=table), replace(widths, table=table)]


def difference_maps(
    minuends: "Sequence[pd.DataFrame]", subtrahend: "pd.DataFrame", column: str, label: str
) -> list[Map]:
    """Return the maps of a column of some runs minus the same column of another run on the same voxels, row by row, all
    with the same colours.

    The difference of a selection shows only voxels with evidence in both runs.
    """
    found, shown = [], []
    for minuend in minuends:
        values = numbers(minuend, column) - numbers(subtrahend, column)
        is_masked = column in _SELECTIONS and (is_tested(minuend) or is_tested(subtrahend))
        mask = evident(minuend) & evident(subtrahend) if is_masked else None
        shown.append(values if mask is None else values[mask])
        found.append((values, mask))
    ramp = ramps.diverging_ramp(np.concatenate(shown))
    name, words = f"difference_{stem(column)}", f"Difference: {label}"
    return [
        ramp_map(name, words, {f"{column}_difference": values}, ramp, label, evident=mask) for values, mask in found
    ]


def contrast_maps(
    tables: "Sequence[pd.DataFrame]", column: str, label: str, mask: str, hatched: str, about: str
) -> list[Map]:
    """Return one map of a difference for each table, all with the same colours: white at 0.

    Parameters
    ----------
    tables : sequence of DataFrame, one row per voxel
    column : str
        The difference.
    label : str
        Its name in the legend.
    mask : str
        Column of bool; the other voxels are hatched.
    hatched : str
        What the hatching means, for the legend.
    about : str
        A sentence that says which voxels are not hatched, for captions.
    """
    shown = [numbers(table, column)[table[mask].to_numpy()] for table in tables]
    every = np.concatenate(shown if any(map(len, shown)) else [numbers(table, column) for table in tables])
    ramp = ramps.diverging_ramp(every)
    found = []
    for table in tables:
        kind = ramp_map(column, label, {column: numbers(table, column)}, ramp, label, evident=table[mask].to_numpy())
        found.append(replace(kind, hatched=hatched, about_hatched=about))
    return found


def response_maps(voxels: "pd.DataFrame", responses: npt.NDArray[np.floating], names: Sequence[str]) -> list[Map]:
    """Return one map per row of the responses (n, N) to `n` named images, all with the same colours."""
    ramp = ramps.diverging_ramp(responses[:, evident(voxels)])
    return [
        ramp_map(
            f"response_{row:05d}",
            f"Predicted response to {name}",
            {"response": values.astype(np.float64)},
            ramp,
            "predicted response (unit of the measured ones)",
            evident=evidence_mask(voxels),
        )
        for row, (name, values) in enumerate(zip(names, responses, strict=True))
    ]


def cluster_map(labels: npt.NDArray[np.integer], what: str) -> Map:
    """Return the map of voxel clusters. `labels` (N,) are counted from 0, and are -1 for voxels without evidence;
    `what` describes the clustering."""
    n = int(labels.max(initial=0)) + 1
    counts = tuple(np.bincount(labels[labels >= 0], minlength=n).tolist())
    palette = colors.class_colours(n)
    return Map(
        "cluster_map",
        f"Channel clusters: voxels that read similar channels ({what})",
        np.where(labels < 0, np.nan, labels)[:, None],
        lambda v: class_rgb(v, palette),
        Classes(tuple(str(i + 1) for i in range(n)), palette, counts, "cluster"),
        {"cluster": labels + 1},
        n,
        labels >= 0 if (labels < 0).any() else None,
    )


def run_maps(voxels: "pd.DataFrame", layers: Sequence[str], palette: Palette = "hue") -> list[Map]:
    """Return the maps of every run: layer, score, scale, place; size, intervals of depth and noise ceiling if known.

    Raises
    ------
    DataError
        If a column is missing, there is no voxel, or a hemisphere, vertex or layer is invalid.
    """
    check_voxels(voxels, layers)
    maps = [layer_map(voxels, layers, None, palette), score_map(voxels), scale_map(voxels), place_map(voxels, palette)]
    if "size" in voxels:
        maps.append(column_map(voxels, "size"))
    if "depth_low" in voxels:
        maps += interval_maps(voxels)
    if "ceiling" in voxels and np.isfinite(numbers(voxels, "ceiling")).any():
        maps.append(column_map(voxels, "ceiling"))
    return maps
