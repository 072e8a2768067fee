"""The words of a page that come from its runs: the few numbers under the title, what is drawn, and the methods."""

from collections.abc import Sequence

from bddn.errors import RunError
from bddn.figures.methods import Methods
from bddn.figures.methods import methods as methods_of
from bddn.report.shown import Shown
from bddn.report.voxels import drawn_rows


def facts(shown: Shown) -> list[tuple[str, str]]:
    """The few numbers under the title of a run, with their names."""
    run = shown.run
    hierarchy = run.metrics["hierarchy"]
    return [
        ("mean brain score R²", "unknown" if run.metrics["r2_test"] is None else f"{run.metrics['r2_test']:.3f}"),
        *([("hierarchy slope", f"{hierarchy['slope']:.2f}")] if hierarchy else []),
        ("voxels", f"{len(run.voxels):,}"),
        ("layers", f"{len(run.layers)}"),
        ("images", f"{sum(shown.split.values()):,}"),
    ]


def drawn(runs: Sequence[Shown]) -> str:
    """Which voxels the page draws, in a sentence."""
    parts = []
    for shown in runs:
        n, total = len(drawn_rows(shown.run.voxels)), len(shown.run.voxels)
        parts.append(f"{n:,} of {total:,} voxels" + (f" of {shown.label}" if len(runs) > 1 else ""))
    which = "those at the vertices of fsaverage5, the first 10,242 of the 163,842 of fsaverage7 in each hemisphere."
    rest = "Tables, means and colour ranges are those of all voxels. Grey is cortex without data, darker in sulci."
    return f"Drawn: {', '.join(parts)}, {which} {rest}"


def methods(shown: Shown) -> Methods:
    """What a run did, for a paper's Methods section.

    Raises
    ------
    RunError
        Where the run does not say what was fitted on what.
    """
    try:
        return methods_of(shown.run)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise RunError(
            shown.run.folder / "run.json",
            expected="what was fitted on what, as 'bddn fit' writes it",
            got=f"one that lacks {error}",
            fix="Fit again with this version of bddn.",
        ) from error
