"""The page: one file with the drawing library, the surfaces, all numbers and the text.

The page loads nothing from outside, and a policy in its head forbids the browser to do so. Only the two scripts whose
hashes the policy names may run: the page's own and NiiVue, which is read from the installed nilearn.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from bddn import __version__
from bddn.data import Dataset
from bddn.figures.methods import methods
from bddn.files.atomic import replace_file
from bddn.files.output import check_file
from bddn.report import tables, words
from bddn.report.charts import hierarchy_chart
from bddn.report.library import niivue_script, niivue_version
from bddn.report.payload import contents
from bddn.report.provenance import files as files_of
from bddn.report.provenance import provenance
from bddn.report.shown import Shown, read_shown

_SCRIPTS = (
    "dom.js",
    "data.js",
    "state.js",
    "best.js",
    "colours.js",
    "shape.js",
    "view.js",
    "brain.js",
    "pick.js",
    "overlay.js",
    "film.js",
    "legend.js",
    "plots.js",
    "answers.js",
    "card.js",
    "controls.js",
    "permalink.js",
    "tables.js",
    "page.js",
)
_FEW = 4  # largest number of runs whose tables fit beside each other


@dataclass(frozen=True)
class Page:
    """A written page."""

    path: Path
    n_bytes: int


def write_report(
    folders: Sequence[Path], out: Path | None = None, datasets: Sequence[Dataset] = (), responses: bool = True
) -> Page:
    """Write the page of one run, or of several side by side.

    Parameters
    ----------
    folders : sequence of Path
        Run folders, 1 to 12.
    out : Path, optional
        The file, replaced atomically if it exists; by default `report.html` in the run's folder, or `comparison.html`
        beside the first run's.
    datasets : sequence of Dataset
        The data of the runs, for small pictures of test images. They are shown if the terms of the data allow it.
    responses : bool
        Whether the page contains the responses to the test images of runs that were scored.

    Returns
    -------
    Page

    Raises
    ------
    BddnError
        If a run is missing, incomplete or damaged, datasets are given and those of a run are not among them, or the
        drawing library is not installed.
    """
    if out is not None:
        check_file(out)
    runs = read_shown(folders, datasets, responses)
    default = folders[0] / "report.html" if len(runs) == 1 else folders[0].resolve().parent / "comparison.html"
    path = default if out is None else out
    file = check_file(path)
    pieces = render(runs, path)
    replace_file(file, lambda aside: _write(pieces, aside))
    return Page(path, file.stat().st_size)


def templates() -> Environment:
    """Return the templates of `web/`. They escape all text of a run, so only the templates contain markup."""
    made = Environment(
        loader=PackageLoader("bddn.report", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"words": tables.words, "exact": repr}
    made.tests["known"] = tables.is_known
    return made


def render(runs: Sequence[Shown], path: Path) -> Iterator[str]:
    """Yield the page of some runs, in pieces.

    Parameters
    ----------
    runs : sequence of Shown
    path : Path
        Path of the page, for its links.
    """
    library, style, script = niivue_script(), web_file("page.css"), _own_script()
    data = contents(runs, len(library))
    policy = (
        f"default-src 'none'; script-src {policy_hash(library)} {policy_hash(script)}; style-src {policy_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    one = len(runs) == 1
    return (
        templates()
        .get_template("page.html")
        .generate(
            policy=policy,
            style=style,
            title=runs[0].title if one else f"{len(runs)} brain-to-network maps compared",
            one=one,
            few=len(runs) <= _FEW,
            runs=[
                {
                    "label": shown.label,
                    "title": shown.title,
                    "facts": words.facts(shown),
                    "chart": hierarchy_chart(shown),
                    "methods": methods(shown.run),
                    "files": files_of(shown, path),
                }
                for shown in runs
            ],
            drawn=words.drawn(runs),
            evidence=words.evidence(runs),
            responses=words.responses(runs),
            doubts=words.doubts(runs),
            health=words.health(runs),
            regions=tables.regions(runs),
            hierarchy=tables.hierarchy(runs),
            depths=tables.depths(runs),
            truth=tables.truth(runs),
            provenance=provenance(runs),
            bddn=__version__,
            niivue=niivue_version(library),
            data=data,
            library=library,
            script=script,
        )
    )


def _write(pieces: Iterator[str], path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(piece.encode("utf-8", "backslashreplace") for piece in pieces)


def _own_script() -> str:
    return "\n".join(web_file(name) for name in _SCRIPTS)


def web_file(name: str) -> str:
    """Return the text of a file of `web/`."""
    return (files("bddn.report") / "web" / name).read_text(encoding="utf-8")


def policy_hash(text: str) -> str:
    """Return the name of a script or a style in a policy."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
