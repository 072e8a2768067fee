"""The maps of a page, and their colours as tables for lookup by the page's script.

Colours and their ranges come from `maps.kinds` for all runs of a page together, so that one colour has the same meaning
in each run.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bddn.maps import kinds
from bddn.maps.legends import Bar, Classes, Wheel
from bddn.maps.map import Map
from bddn.report.packing import packed
from bddn.report.voxels import number_columns, shared_columns, word_columns
from bddn.stats.evidence import is_tested

if TYPE_CHECKING:
    import pandas as pd

RAMP_STEPS = 256  # as in a colour map of matplotlib
CONFIDENCE_STEPS = 64
PLACE_STEPS = 65

_TITLES = {
    "r2_val": "Brain score, validation images",
    "ceiling": "Noise ceiling",
    "depth": "Depth of the layers",
    "r2_test": "Brain score",
    "r2_test_single": "Brain score of single fits, mean",
    "x": "Place, to the right",
    "y": "Place, down",
    "scale": "Scale",
    "size": "Size of the field",
    "confidence": "Confidence of the layer",
    "agreement": "Agreement of runs on the layer",
    "p_test": "Evidence, p",
    "q_test": "Evidence, q",
    "roi": "Region",
}
_HEADINGS = {
    "r2_val": "Brain score R² on the validation images, which chose the epoch, and in `polish` the penalties",
    "depth": "Depth: the mean of the layers, weighted; 0 is the first layer and 1 the last",
    "confidence": "Confidence: how sharp the choice of the layer is, 1 - entropy / log L",
    "roi": "The region of each voxel",
    "p_test": "Evidence: the p-value of the brain score on the test images, against chance",
    "q_test": "Evidence: the smallest false discovery rate at which the voxel has it; it has none above 0.05",
}
_ENDS = {
    "_low": "lower end of its interval",
    "_high": "upper end of its interval",
    "_sd": "standard deviation over fits",
}
_OWN = {"r2_test", "scale", "x", "y", "size", "depth_width"}  # columns with their own maps


def choices(tables: Sequence["pd.DataFrame"], layers: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return all maps of a page.

    Parameters
    ----------
    tables : sequence of DataFrame
        One per run, with all voxels.
    layers : sequence of sequence of str
        Names of each run's layers, early to late.

    Returns
    -------
    list of dict
        Each with `name`, `title`, `heading`, `group`; `kind`, 'layer', 'ramp', 'place' or 'class'; the `columns` of
        voxels that it shows; `selection`, whether voxels without evidence are left out; `lookup`, its colours (one
        table per run for kind 'layer'); and texts of its legend.
    """
    import pandas as pd

    together = pd.concat(_alike(tables), ignore_index=True)
    top = kinds.confidence_top(tables)
    of_layers = [kinds.layer_map(table, names, top) for table, names in zip(tables, layers, strict=True)]
    names = list(dict.fromkeys(name for run in layers for name in run))
    weights = dict(zip(names, kinds.weight_maps(together, names), strict=True))
    taken = _OWN | {f"weight_{name}" for name in names}
    numbers = shared_columns(tables, [number_columns(table) for table in tables])
    words = shared_columns(tables, [word_columns(table) for table in tables])
    return [
        _layer_choice(of_layers, top),
        _choice(kinds.score_map(together), ["r2_test"], "Brain score", ""),
        _choice(kinds.scale_map(together), ["scale"], "Scale, local to global", ""),
        _choice(kinds.place_map(together), ["x", "y"], "Place in the image", ""),
        *(
            [_choice(kinds.column_map(together, "size"), ["size"], "Size of the field", "")]
            if "size" in together
            else []
        ),
        *(
            [_choice(kinds.interval_maps(together)[1], ["depth_width"], "Interval of depth", "")]
            if "depth_low" in together
            else []
        ),
        *(_choice(m, [f"weight_{n}"], f"Weight of {n}", "Layer weights") for n, m in weights.items()),
        *(_column_choice(together, name, "Further numbers") for name in numbers if name not in taken),
        *(_column_choice(together, name, "Regions") for name in words if (together[name].fillna("") != "").any()),
    ]


def _alike(tables: Sequence["pd.DataFrame"]) -> list["pd.DataFrame"]:
    """Return the tables; if one has a test of evidence, the others get one that all their voxels pass."""
    tested = any(is_tested(table) for table in tables)
    return [table.assign(q_test=0.0) if tested and not is_tested(table) else table for table in tables]


def _column_choice(table: "pd.DataFrame", column: str, group: str) -> dict[str, Any]:
    kind = kinds.column_map(table, column)
    found = _choice(kind, [column], _title(column), group)
    is_end = any(column.endswith(suffix) for suffix in _ENDS)
    return found | {"name": column, "heading": _HEADINGS.get(column, _title(column) if is_end else kind.heading)}


def _title(column: str) -> str:
    """Return the title of the map of a column, also of the ends of an interval."""
    for suffix, words in _ENDS.items():
        if column.endswith(suffix):
            return f"{_title(column.removesuffix(suffix))}, {words}"
    return _TITLES.get(column, column)


def _layer_choice(of_runs: Sequence[Map], top: float) -> dict[str, Any]:
    sure = np.linspace(0.0, top, CONFIDENCE_STEPS)
    lookups = []
    for kind in of_runs:
        layer, confidence = np.meshgrid(np.arange(kind.classes), sure, indexing="ij")
        lookups.append(packed(_bytes(kind, layer, confidence).reshape(kind.classes, CONFIDENCE_STEPS, 3), "u1"))
    return {
        "name": "layer_map",
        "title": "Layer",
        "heading": of_runs[0].heading,
        "group": "",
        "kind": "layer",
        "columns": ["confidence"],
        "selection": any(kind.evident is not None for kind in of_runs),
        "lookup": lookups,
        "top": top,
    }


def _choice(kind: Map, columns: list[str], title: str, group: str) -> dict[str, Any]:
    legend = kind.legend
    found: dict[str, Any] = {"name": kind.name, "title": title, "heading": kind.heading, "group": group}
    found |= {"columns": columns, "selection": kind.evident is not None}
    if isinstance(legend, Bar):
        low, high = legend.ramp.low, legend.ramp.high
        at = low + (np.arange(RAMP_STEPS) + 0.5) / RAMP_STEPS * (high - low)
        return found | {
            "kind": "ramp",
            "lookup": packed(_bytes(kind, at), "u1"),
            "low": low,
            "high": high,
            "label": legend.label,
            "ends": list(legend.ends or ()),
            "beyond": list(legend.beyond),
        }
    if isinstance(legend, Wheel):
        axis = np.linspace(-legend.reach, legend.reach, PLACE_STEPS)  # colours are constant farther out
        y, x = np.meshgrid(axis, axis, indexing="ij")
        lookup = _bytes(kind, x, y).reshape(PLACE_STEPS, PLACE_STEPS, 3)
        return found | {"kind": "place", "lookup": packed(lookup, "u1"), "reach": legend.reach}
    assert isinstance(legend, Classes), legend
    return found | {
        "kind": "class",
        "lookup": packed(_bytes(kind, np.arange(kind.classes)), "u1"),
        "names": list(legend.names),
    }


def _bytes(kind: Map, *numbers: np.ndarray) -> np.ndarray:
    """Return the colours (n, 3), 0 to 255, of numbers in a map."""
    return np.rint(255 * kind.rgb(np.column_stack([n.ravel().astype(np.float64) for n in numbers])))
