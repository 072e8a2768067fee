"""The provenance of a page's numbers: data, cache, settings, versions, and the files of the run."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bddn.report.shown import Shown

_PARTS = {
    "data": "Data",
    "cache": "Feature cache",
    "fit": "Fit settings",
    "environment": "Software and machine of the fit",
}
_FILES = {
    "voxels.parquet": "all numbers of all voxels",
    "metrics.json": "scores, hierarchy, every epoch",
    "run.json": "what was fitted on what",
    "split.json": "which images trained, validated and tested",
    "encoder.safetensors": "the fitted encoder",
    "learning.safetensors": "how its selectors learned",
    "score/summary.csv": "scores by region, with intervals and noise ceilings",
    "score/voxels.parquet": "scores of all voxels, with intervals",
    "truth.json": "how close it came to the planted truth",
}
_MAPS = {".png", ".svg", ".pdf", ".csv", ".gii", ".txt", ".md", ".gif", ".mp4"}


@dataclass(frozen=True)
class Part:
    """A table of facts: names, each with its value in every run ('–' if it has none)."""

    title: str
    is_open: bool
    labels: list[str]
    rows: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Files:
    """Links to the files of a run: `described` as name, link and text; `maps` as name and link."""

    described: list[tuple[str, str, str]]
    maps: list[tuple[str, str]]


def provenance(runs: Sequence[Shown]) -> list[Part]:
    """Return the tables of data, cache, settings and versions, with one column per run."""
    parts = []
    for key, title in _PARTS.items():
        found = [dict(_flat(_facts(shown)[key])) for shown in runs]
        names = dict.fromkeys(name for facts in found for name in facts)
        rows = [(name, [facts.get(name, "–") for facts in found]) for name in names]
        parts.append(Part(title, key == "data", [shown.label for shown in runs], rows))
    return parts


def _facts(shown: Shown) -> dict[str, Any]:
    """Return the content of `run.json`, with sizes of the split and results of the fit."""
    about, metrics = shown.run.about, shown.run.metrics
    return {
        "data": {
            "source": metrics["title"],
            **about.get("data", {}),
            **{f"n_{part}": n for part, n in shown.split.items()},
        },
        "cache": about.get("cache", {}),
        "fit": {
            "layers": about.get("layers", []),
            **{key: value for key, value in about.get("fit", {}).items() if key != "layers"},
            **{key: metrics[key] for key in ("best_epoch", "saturated_selectors", "seconds") if key in metrics},
        },
        "environment": about.get("environment", {}),
    }


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested values as dotted names and text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value)) or "none"
    elif isinstance(value, float):
        yield name, f"{value:.6g}"
    else:
        yield name, "none" if value is None else str(value)


def files(shown: Shown, page: Path) -> Files:
    """Return the existing files of a run, with links relative to the page."""
    folder = shown.run.folder
    described = [
        (name, _link(folder / name, page), words) for name, words in _FILES.items() if (folder / name).is_file()
    ]
    maps = folder / "maps"
    drawn = sorted(p for p in maps.iterdir() if p.suffix in _MAPS and p.is_file()) if maps.is_dir() else []
    return Files(described, [(path.name, _link(path, page)) for path in drawn])


def _link(path: Path, page: Path) -> str:
    return quote(os.fsencode(Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()))
