"""The page: one file that holds the drawing library, the surfaces, all numbers and the words about them.

Nothing in it asks for anything outside it, and a policy in its head forbids the browser to: only the two scripts whose
hashes the policy names may run, the page's own and NiiVue, which is read from the installed nilearn.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from bddn import __version__
from bddn.files.atomic import replace_file
from bddn.files.output import check_file
from bddn.report import tables, words
from bddn.report.charts import charts
from bddn.report.library import niivue_script, niivue_version
from bddn.report.markup import joined
from bddn.report.payload import contents
from bddn.report.provenance import links, provenance
from bddn.report.shown import Shown, read_shown

_SCRIPTS = (
    "dom.js",
    "data.js",
    "state.js",
    "colours.js",
    "shape.js",
    "view.js",
    "brain.js",
    "pick.js",
    "overlay.js",
    "film.js",
    "legend.js",
    "plots.js",
    "card.js",
    "controls.js",
    "tables.js",
    "page.js",
)
_FEW = 4  # runs whose tables find room beside each other


@dataclass(frozen=True)
class Page:
    """A page that was written."""

    path: Path
    n_bytes: int


def write_report(folders: Sequence[Path], out: Path | None = None) -> Page:
    """Write the page of a run, or of several side by side.

    Parameters
    ----------
    folders : sequence of Path
        Run folders, 1 to 12.
    out : Path, optional
        The file, replaced in one step if it exists; by default `report.html` in the run's folder, or `comparison.html`
        beside the first run's.

    Returns
    -------
    Page

    Raises
    ------
    BddnError
        Where a run is missing, incomplete or damaged, or the drawing library is not installed.
    """
    if out is not None:
        check_file(out)
    runs = read_shown(folders)
    default = folders[0] / "report.html" if len(runs) == 1 else folders[0].resolve().parent / "comparison.html"
    path = default if out is None else out
    file = check_file(path)
    page = render(runs, path).encode("utf-8", "backslashreplace")
    replace_file(file, lambda aside: aside.write_bytes(page))
    return Page(path, len(page))


def render(runs: Sequence[Shown], path: Path) -> str:
    """The page of some runs.

    Parameters
    ----------
    runs : sequence of Shown
    path : Path
        Where it will lie, for its links.
    """
    library, style, script = niivue_script(), _read("page.css"), _own_script()
    data = contents(runs, len(library))
    policy = (
        f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    first = runs[0]
    one = len(runs) == 1
    return Template(_read("page.html")).substitute(
        policy=policy,
        style=style,
        title=joined([first.title if one else f"{len(runs)} brain-to-network maps compared"]),
        kind="Brain-to-network map" if one else "Brain-to-network maps, side by side",
        layout="one" if one else "several" if len(runs) <= _FEW else "several many",
        facts=words.facts(runs),
        tiles=joined(words.tile(k, shown, one) for k, shown in enumerate(runs)),
        cards=joined(words.card(k, shown, one) for k, shown in enumerate(runs)),
        drawn=words.drawn(runs),
        regions=tables.regions(runs),
        hierarchy=tables.hierarchy(runs),
        charts=charts(runs),
        depths=tables.depths(runs),
        truth=tables.truth(runs),
        methods=words.methods(runs),
        provenance=provenance(runs),
        links=links(runs, path),
        versions=joined([f"Written by bddn {__version__}; drawn by NiiVue {niivue_version(library)} (BSD 2-Clause)."]),
        data=data,
        library=library,
        script=script,
    )


def _own_script() -> str:
    return "\n".join(_read(name) for name in _SCRIPTS)


def _read(name: str) -> str:
    return (files("bddn.report") / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """How a policy names a script or a style of the page."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
