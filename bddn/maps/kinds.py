"""The kinds of maps: for each, which numbers of a voxel it shows, in which colours, under which legend.

A `Map` knows nothing of surfaces. Sheets, grids, films and pages draw any of them; numbers that a later analysis adds
to the table of voxels are drawn as a column, without new code.

Shape letters: N voxels, k numbers of a voxel, L layers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import Floats
from bddn.errors import DataError
from bddn.maps import colors, ramps
from bddn.maps.colors import Palette
from bddn.maps.legends import Bar, Classes, LayerField, Wheel
from bddn.maps.ramps import Ramp
from bddn.maps.voxel_table import check_voxels, layer_index

if TYPE_CHECKING:
    import pandas as pd

Legend = LayerField | Bar | Wheel | Classes
Column = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Map:
    """One map of a table of voxels.

    Attributes
    ----------
    name : str
        Stem of its files.
    heading : str
        What is drawn, in a sentence that a caption can begin with.
    values : array of float64, (N, k)
        The numbers that decide the colours. A voxel with NaN among them is bare cortex.
    rgb : callable
        Numbers (n, k) to colours (n, 3), sRGB 0 to 1; NaN where there is none.
    legend : Legend
        Draws itself on axes: `legend.draw(ax)`.
    table : mapping of str to array, (N,)
        The columns of its CSV file; those of numbers are in its GIFTI files too.
    classes : int
        Where above 0, the first number is a class from 0 to `classes` - 1, and classes are never mixed.
    """

    name: str
    heading: str
    values: npt.NDArray[np.float64]
    rgb: Callable[[Floats], npt.NDArray[np.float64]]
    legend: Legend
    table: Mapping[str, Column]
    classes: int = 0


def layer_map(voxels: "pd.DataFrame", layers: Sequence[str], top: float | None = None, palette: Palette = "hue") -> Map:
    """The layer with the highest weight, and how surely it has it.

    Parameters
    ----------
    voxels : DataFrame, one row per voxel
    layers : sequence of str, (L,)
        Early to late.
    top : float, optional
        Confidence of full brightness; by default the 95th percentile.
    palette : str
        'hue', or 'safe' for readers who see few hues.
    """
    index, sure = layer_index(voxels, layers).astype(np.float64), _numbers(voxels, "confidence")
    index = np.where((index < 0) | np.isnan(sure), np.nan, index)
    counts = np.bincount(index[np.isfinite(index)].astype(np.int64), minlength=len(layers))
    full = ramps.confidence_top(sure) if top is None else top

    def rgb(values: Floats) -> npt.NDArray[np.float64]:
        code = np.where(np.isnan(values[:, 0]), -1, np.nan_to_num(values[:, 0])).astype(np.int64)
        return colors.layer_rgb(code, values[:, 1], len(layers), full, palette)

    strength = {"hue": "brightness", "safe": "strength"}[palette]
    weights = {f"weight_{layer}": _column(voxels, f"weight_{layer}") for layer in layers}
    return Map(
        "layer_map",
        f"Layer map: colour is the layer with the highest weight, early to late; {strength} is the confidence, "
        "1 - entropy / log L",
        np.column_stack([index, sure]),
        rgb,
        LayerField(tuple(layers), full, tuple(counts.tolist()), palette),
        {
            "layer_argmax": _column(voxels, "layer_argmax"),
            "layer_index": index,
            "confidence": sure,
            "depth": _numbers(voxels, "depth"),
            **weights,
        },
        len(layers),
    )


def weight_maps(voxels: "pd.DataFrame", layers: Sequence[str]) -> list[Map]:
    """For every layer its weight, all in the same colours."""
    weights = {layer: _numbers(voxels, f"weight_{layer}") for layer in layers}
    ramp = ramps.sequential_ramp(np.concatenate(list(weights.values())))
    return [
        _ramp_map(f"weight_{layer}", f"Weight of layer {layer}", {f"weight_{layer}": values}, ramp, "layer weight")
        for layer, values in weights.items()
    ]


def score_map(voxels: "pd.DataFrame", top: float | None = None) -> Map:
    """The brain score on the test images; `top` is the score at the upper end of the colours."""
    score = _numbers(voxels, "r2_test")
    return _ramp_map(
        "score_map",
        "Score map: brain score R² on the test images",
        {"r2_test": score, "r2_val": _numbers(voxels, "r2_val")},
        ramps.score_ramp(score, top),
        "brain score R² on the test images (raw, no noise ceiling)",
    )


def relative_map(voxels: "pd.DataFrame", best: Floats, models: Sequence[str], bottom: float | None = None) -> Map:
    """How far the score of every voxel is below that of the best model, `best` (N,), among some `models`."""
    below = _numbers(voxels, "r2_test") - np.asarray(best, dtype=np.float64)
    ramp = ramps.shortfall_ramp(below, bottom)
    heading = f"Relative score: R² minus that of the best of {len(models)} models at each voxel"
    return _ramp_map("relative_map", heading, {"r2_below_best": below}, ramp, "R² minus the best model's R²")


def scale_map(voxels: "pd.DataFrame") -> Map:
    """Whether a voxel reads a place in the image or the image as a whole."""
    scale = _numbers(voxels, "scale")
    return _ramp_map(
        "scale_map",
        "Scale map: whether a voxel reads a place in the image (local) or the image as a whole (global)",
        {"scale": scale},
        ramps.scale_ramp(scale),
        "scale selector (0 local token, 1 global token)",
        ("local", "global"),
    )


def place_map(voxels: "pd.DataFrame", palette: Palette = "hue") -> Map:
    """Which place in the image a voxel reads."""
    x, y = _numbers(voxels, "x"), _numbers(voxels, "y")
    values = np.column_stack([x, y])
    reach = ramps.place_reach(values)
    return Map(
        "place_map",
        "Place map: the place in the image that a voxel reads",
        values,
        lambda v: colors.place_rgb(v, reach, palette),
        Wheel(reach, palette),
        {"x": x, "y": y},
    )


def column_map(voxels: "pd.DataFrame", column: str) -> Map:
    """Any column: numbers on a scale that suits them, words as classes.

    Raises
    ------
    DataError
        Where there is no such column.
    """
    if column not in voxels.columns:
        raise DataError(
            "table of voxels",
            expected=f"a column '{column}'",
            got=f"columns {', '.join(map(str, voxels.columns))}",
            fix="Name one of these.",
        )
    if voxels[column].dtype.kind in "OSUT" or str(voxels[column].dtype) in {"str", "string"}:
        return _word_map(column, voxels[column].fillna("").astype(str).to_numpy(dtype=object))
    values = _numbers(voxels, column)
    title = {"ceiling": "Noise ceiling: the largest R² that the responses' noise leaves"}.get(column, f"'{column}'")
    ramp = ramps.diverging_ramp(values) if np.nanmin(values, initial=0.0) < 0 else ramps.sequential_ramp(values)
    return _ramp_map(_stem(column), title, {column: values}, ramp, column)


def difference_map(
    minuend: "pd.DataFrame", subtrahend: "pd.DataFrame", column: str, words: str, reach: float | None = None
) -> Map:
    """One column minus that of another run on the same voxels, row by row."""
    values = _numbers(minuend, column) - _numbers(subtrahend, column)
    ramp = ramps.diverging_ramp(values, reach)
    return _ramp_map(
        f"difference_{_stem(column)}", f"Difference: {words}", {f"{column}_difference": values}, ramp, words
    )


def response_maps(responses: npt.NDArray[np.floating], names: Sequence[str]) -> list[Map]:
    """Responses (n, N) to `n` named pictures, all in the same colours."""
    ramp = ramps.diverging_ramp(responses)
    return [
        _ramp_map(
            f"response_{row:05d}",
            f"Predicted response to {name}",
            {"response": values.astype(np.float64)},
            ramp,
            "predicted response (unit of the measured ones)",
        )
        for row, (name, values) in enumerate(zip(names, responses, strict=True))
    ]


def cluster_map(labels: npt.NDArray[np.integer], what: str) -> Map:
    """Clusters of voxels, `labels` (N,) from 0."""
    n = int(labels.max()) + 1
    counts = tuple(np.bincount(labels, minlength=n).tolist())
    palette = colors.class_colours(n)
    return Map(
        "cluster_map",
        f"Channel clusters: voxels that read similar channels ({what})",
        labels.astype(np.float64)[:, None],
        lambda v: _of_classes(v, palette),
        Classes(tuple(str(i + 1) for i in range(n)), palette, counts, "cluster"),
        {"cluster": labels + 1},
        n,
    )


def run_maps(voxels: "pd.DataFrame", layers: Sequence[str], palette: Palette = "hue") -> list[Map]:
    """The maps that every run has: layer, score, scale, place, and the noise ceiling where it is known.

    Raises
    ------
    DataError
        If a column is missing, there is no voxel, or a hemisphere, vertex or layer is impossible.
    """
    check_voxels(voxels, layers)
    found = [layer_map(voxels, layers, None, palette), score_map(voxels), scale_map(voxels), place_map(voxels, palette)]
    if "ceiling" in voxels and np.isfinite(_numbers(voxels, "ceiling")).any():
        found.append(column_map(voxels, "ceiling"))
    return found


def _ramp_map(
    name: str,
    heading: str,
    table: Mapping[str, npt.NDArray[np.float64]],
    ramp: Ramp,
    label: str,
    ends: tuple[str, str] | None = None,
) -> Map:
    """A map of the first of some columns of numbers."""
    values = next(iter(table.values()))
    known = values[np.isfinite(values)]
    beyond = (bool((known < ramp.low).any()), bool((known > ramp.high).any()))
    return Map(name, heading, values[:, None], lambda v: ramp.rgb(v[:, 0]), Bar(ramp, label, ends, beyond), table)


def _word_map(column: str, words: Column) -> Map:
    names = sorted(set(words) - {""})
    number = {name: float(i) for i, name in enumerate(names)}
    values = np.array([number.get(word, np.nan) for word in words])
    palette = colors.class_colours(len(names))
    counts = tuple(int((words == name).sum()) for name in names)
    return Map(
        _stem(column),
        f"'{column}' by name",
        values[:, None],
        lambda v: _of_classes(v, palette),
        Classes(tuple(names), palette, counts, column),
        {column: words, f"{column}_number": values},
        len(names),
    )


def _of_classes(values: Floats, palette: Floats) -> npt.NDArray[np.float64]:
    none = np.isnan(values[:, 0]) | (values[:, 0] < 0)
    out = np.array(palette, dtype=np.float64)[np.where(none, 0, np.nan_to_num(values[:, 0])).astype(np.int64)]
    out[none] = np.nan
    return out


def _numbers(voxels: "pd.DataFrame", column: str) -> npt.NDArray[np.float64]:
    return voxels[column].to_numpy(dtype=np.float64)


def _column(voxels: "pd.DataFrame", column: str) -> Column:
    return voxels[column].to_numpy()


def _stem(column: str) -> str:
    """A file's name for a column of any name."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in column)
