"""The words of a page that come from its runs: the few numbers under the title, what is drawn, and the methods."""

from collections.abc import Sequence

from bddn.errors import RunError
from bddn.figures.methods import methods as methods_of
from bddn.report.markup import Html, element, joined
from bddn.report.prose import prose
from bddn.report.shown import Shown
from bddn.report.voxels import drawn_rows


def facts(runs: Sequence[Shown]) -> Html:
    """The few numbers under the title of a run; of several, what each is."""
    if len(runs) > 1:
        rows = [element("li", None, element("b", None, shown.label), f" {shown.title}") for shown in runs]
        return element("ul", {"class": "runs"}, *rows)
    run = runs[0].run
    hierarchy = run.metrics["hierarchy"]
    numbers = [
        ("mean brain score R²", "unknown" if run.metrics["r2_test"] is None else f"{run.metrics['r2_test']:.3f}"),
        *([("hierarchy slope", f"{hierarchy['slope']:.2f}")] if hierarchy else []),
        ("voxels", f"{len(run.voxels):,}"),
        ("layers", f"{len(run.layers)}"),
        ("images", f"{sum(runs[0].split.values()):,}"),
    ]
    return element(
        "dl",
        {"class": "summary"},
        *(element("div", None, element("dt", None, name), element("dd", None, value)) for name, value in numbers),
    )


def tile(k: int, shown: Shown, one: bool) -> Html:
    """Where a brain stands: it takes the pointer and the keys; the script draws behind it and on it."""
    words = "Brain" if one else f"Brain of {shown.label}"
    inner = element(
        "div",
        {"class": "view", "tabindex": "0", "role": "application", "aria-label": words, "aria-describedby": "keys"},
    )
    return element("div", {"class": "tile", "data-run": k}, *([] if one else [element("h3", None, shown.label)]), inner)


def card(k: int, shown: Shown, one: bool) -> Html:
    """Where the numbers of a voxel stand."""
    head = [] if one else [element("h3", None, shown.label)]
    return element("div", {"class": "card", "data-run": k}, *head, element("div", {"class": "numbers"}))


def drawn(runs: Sequence[Shown]) -> Html:
    """Which voxels the page draws, in a sentence."""
    parts = []
    for shown in runs:
        n, total = len(drawn_rows(shown.run.voxels)), len(shown.run.voxels)
        parts.append(f"{n:,} of {total:,} voxels" + (f" of {shown.label}" if len(runs) > 1 else ""))
    which = "those at the vertices of fsaverage5, the first 10,242 of the 163,842 of fsaverage7 in each hemisphere."
    rest = "Tables, means and colour ranges are those of all voxels. Grey is cortex without data, darker in sulci."
    return joined([f"Drawn: {', '.join(parts)}, {which} {rest}"])


def methods(runs: Sequence[Shown]) -> Html:
    """What each run did, for a paper's Methods section.

    Raises
    ------
    RunError
        Where a run does not say what was fitted on what.
    """
    parts = []
    for shown in runs:
        try:
            text = methods_of(shown.run)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise RunError(
                shown.run.folder / "run.json",
                expected="what was fitted on what, as 'bddn fit' writes it",
                got=f"one that lacks {error}",
                fix="Fit again with this version of bddn.",
            ) from error
        if len(runs) > 1:
            parts.append(element("details", None, element("summary", None, shown.label), prose(text)))
        else:
            parts.append(prose(text))
    return joined(parts)
