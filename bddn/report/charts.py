"""The drawing of a run's hierarchy: mean depth of regions against the ideal one, and the line that is fitted."""

from collections.abc import Sequence

from bddn.report.markup import Html, element, joined
from bddn.report.shown import Shown
from bddn.stats.hierarchy import IDEAL_DEPTH
from bddn.stats.scores import in_roi

_SIZE, _LEFT, _BOTTOM, _TOP = 200.0, 46.0, 34.0, 10.0
_NAMES_APART = 11.0


def hierarchy_chart(shown: Shown, title: str) -> Html:
    """The drawing as SVG; nothing where a region has no voxel.

    Parameters
    ----------
    shown : Shown
    title : str
        Of the drawing, for those who hear it.
    """
    found = shown.run.metrics["hierarchy"]
    if not found:
        return Html("")
    depths = {roi: float(shown.run.voxels.loc[in_roi(shown.run.voxels, roi), "depth"].mean()) for roi in IDEAL_DEPTH}
    slope, b0 = found["slope"], found["b0"]
    label = f"{title}: mean depth by region, " + ", ".join(f"{roi} {value:.2f}" for roi, value in depths.items())
    parts = [
        *_axes(),
        _line(0, 0, 1, 1, "ideal"),
        _line(*_clipped(slope, b0), "fit"),
        *(element("circle", {"cx": _x(IDEAL_DEPTH[roi]), "cy": _y(v), "r": 3.2}) for roi, v in depths.items()),
        *_names([(roi, IDEAL_DEPTH[roi], value) for roi, value in depths.items()]),
    ]
    box = f"0 0 {_LEFT + _SIZE + 34:g} {_TOP + _SIZE + _BOTTOM:g}"
    return element("svg", {"viewBox": box, "class": "chart", "role": "img", "aria-label": label}, *parts)


def _axes() -> list[Html]:
    grey = {"class": "axis"}
    return [
        element("rect", {"x": _LEFT, "y": _TOP, "width": _SIZE, "height": _SIZE, "class": "frame"}),
        *(
            element("text", {"x": _x(v), "y": _y(0) + 14, "text-anchor": "middle"} | grey, f"{v:g}")
            for v in (0, 0.5, 1)
        ),
        *(
            element("text", {"x": _LEFT - 5, "y": _y(v) + 3.5, "text-anchor": "end"} | grey, f"{v:g}")
            for v in (0, 0.5, 1)
        ),
        element("text", {"x": _x(0.5), "y": _y(0) + 29, "text-anchor": "middle"} | grey, "ideal depth"),
        element(
            "text",
            {"x": 0, "y": 0, "text-anchor": "middle", "transform": f"translate(11 {_y(0.5):g}) rotate(-90)"} | grey,
            "mean depth",
        ),
    ]


def _names(points: Sequence[tuple[str, float, float]]) -> list[Html]:
    """Names beside their points; where two would meet, the lower one is moved down."""
    made, last = [], {0.0: -99.0}
    for name, ideal, value in sorted(points, key=lambda p: -p[2]):
        y = max(_y(value) + 3.5, last.get(ideal, -99.0) + _NAMES_APART)
        last[ideal] = y
        made.append(element("text", {"x": _x(ideal) + 6, "y": f"{y:.1f}"}, name))
    return made


def _clipped(slope: float, b0: float) -> tuple[float, float, float, float]:
    """The ends of a line within the frame."""
    ends = [0.0, 1.0]
    if slope:
        ends = sorted(min(max(t, 0.0), 1.0) for t in (-b0 / slope, (1.0 - b0) / slope))
    (a, b) = ends
    return a, slope * a + b0, b, slope * b + b0


def _line(x0: float, y0: float, x1: float, y1: float, kind: str) -> Html:
    return element("line", {"x1": _x(x0), "y1": _y(y0), "x2": _x(x1), "y2": _y(y1), "class": kind})


def _x(share: float) -> float:
    return round(_LEFT + share * _SIZE, 1)


def _y(share: float) -> float:
    return round(_TOP + (1 - share) * _SIZE, 1)


def charts(runs: Sequence[Shown]) -> Html:
    """One drawing per run, side by side."""
    made = [(shown, hierarchy_chart(shown, shown.label)) for shown in runs]
    return joined(
        element("figure", None, chart, *([element("figcaption", None, shown.label)] if len(runs) > 1 else []))
        for shown, chart in made
        if chart
    )
