"""Where the numbers of a page come from: what was fitted on what, with which versions, and the files of the run."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bddn.report.markup import Html, element, joined
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
    "truth.json": "how close it came to the planted truth",
}
_MAPS = {".png", ".svg", ".pdf", ".csv", ".gii", ".txt", ".md", ".gif", ".mp4"}


def provenance(runs: Sequence[Shown]) -> Html:
    """What was fitted on what, a column for each run; where runs differ, it is marked."""
    return joined(
        _part(title, {shown.label: dict(_flat(_facts(shown)[key])) for shown in runs}, is_open=key == "data")
        for key, title in _PARTS.items()
    )


def _facts(shown: Shown) -> dict[str, Any]:
    """What `run.json` says, with the sizes of the split and how the fit went."""
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
    """Nested values as dotted names and words."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value)) or "none"
    elif isinstance(value, float):
        yield name, f"{value:.6g}"
    else:
        yield name, "none" if value is None else str(value)


def _part(title: str, facts: Mapping[str, Mapping[str, str]], is_open: bool) -> Html:
    names = list(dict.fromkeys(name for found in facts.values() for name in found))
    rows = []
    for name in names:
        values = [found.get(name, "–") for found in facts.values()]
        differ = len(set(values)) > 1
        mark = [element("span", {"class": "differs"}, " differs")] if differ else []
        rows.append(
            element(
                "tr",
                {"class": "differ" if differ else None},
                element("th", {"scope": "row"}, name, *mark),
                *(element("td", None, value) for value in values),
            )
        )
    several = len(facts) > 1
    heads = [element("th", {"scope": "col"}, "Field"), *(element("th", {"scope": "col"}, label) for label in facts)]
    table = element(
        "table",
        {"class": "facts"},
        element("caption", {"class": "hidden"}, title),
        *([element("thead", None, element("tr", None, *heads))] if several else []),
        element("tbody", None, *rows),
    )
    scroll = element("div", {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": title}, table)
    return element("details", {"open": is_open}, element("summary", None, title), scroll)


def links(runs: Sequence[Shown], page: Path) -> Html:
    """Links to the files of the runs, relative to the page."""
    return joined(_links(shown, page, len(runs) > 1) for shown in runs)


def _links(shown: Shown, page: Path, named: bool) -> Html:
    folder = shown.run.folder
    files = [(folder / name, words) for name, words in _FILES.items() if (folder / name).is_file()]
    maps = folder / "maps"
    drawn = sorted(p for p in maps.iterdir() if p.suffix in _MAPS and p.is_file()) if maps.is_dir() else []
    items = [element("li", None, _link(path, page, path.name), f" – {words}") for path, words in files]
    if drawn:
        inner = [element("li", None, _link(path, page, path.name)) for path in drawn]
        summary = element("summary", None, f"maps/, {len(drawn)} files: pictures, tables and GIFTI")
        items.append(element("li", None, element("details", None, summary, element("ul", None, *inner))))
    head = [element("h3", None, shown.label)] if named else []
    return joined([*head, element("ul", {"class": "files"}, *items)])


def _link(path: Path, page: Path, text: str) -> Html:
    way = Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()
    return element("a", {"href": quote(os.fsencode(way))}, text)
