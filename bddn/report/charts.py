"""The chart of a run's hierarchy: mean depth of regions against ideal depth, and the fitted line.

Its axes are in `web/parts.html`: the frame extends from (46, 10) to (246, 210), with depth 0 at its lower left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bddn.report.shown import Shown
from bddn.stats.hierarchy import IDEAL_DEPTH

_SIZE, _LEFT, _TOP = 200.0, 46.0, 10.0
_NAMES_APART = 11.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """A drawing, in its own units: `words`, a description for screen readers; `lines` as kind and (x1, y1, x2, y2);
    `points`; and `names` with their positions."""

    words: str
    lines: list[tuple[str, tuple[float, float, float, float]]]
    points: list[Point]
    names: list[tuple[str, float, str]]


def hierarchy_chart(shown: Shown) -> Chart | None:
    """Return the chart of a run; None if a region has no voxel."""
    found = shown.run.metrics["hierarchy"]
    if not found:
        return None
    depths = [(roi, ideal, float(shown.proven(roi)["depth"].mean())) for roi, ideal in IDEAL_DEPTH.items()]
    return depth_chart(shown.label, depths, found["slope"], found["b0"])


def depth_chart(label: str, depths: Sequence[tuple[str, float, float]], slope: float, b0: float) -> Chart:
    """Return the chart of some ROIs, each with its ideal and its mean depth, and of a line."""
    return Chart(
        f"{label}: mean depth by region, " + ", ".join(f"{roi} {value:.2f}" for roi, _, value in depths),
        [("ideal", _line(0, 0, 1, 1)), ("fit", _line(*_clipped(slope, b0)))],
        [(_x(ideal), _y(value)) for _, ideal, value in depths],
        _names(depths),
    )


def _names(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, str]]:
    """Return names beside their points; if two overlap, the lower one is moved down."""
    made, last = [], {0.0: -99.0}
    for name, ideal, value in sorted(points, key=lambda p: -p[2]):
        y = max(_y(value) + 3.5, last.get(ideal, -99.0) + _NAMES_APART)
        last[ideal] = y
        made.append((name, _x(ideal) + 6, f"{y:.1f}"))
    return made


def _clipped(slope: float, b0: float) -> tuple[float, float, float, float]:
    """Return the ends of a line within the frame."""
    ends = [0.0, 1.0]
    if slope:
        ends = sorted(min(max(t, 0.0), 1.0) for t in (-b0 / slope, (1.0 - b0) / slope))
    (a, b) = ends
    return a, slope * a + b0, b, slope * b + b0


def _line(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
    return _x(x0), _y(y0), _x(x1), _y(y1)


def _x(share: float) -> float:
    return round(_LEFT + share * _SIZE, 1)


def _y(share: float) -> float:
    return round(_TOP + (1 - share) * _SIZE, 1)
