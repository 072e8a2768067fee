"""The text of a page that depends on its runs: the numbers under the title, what is drawn, and the methods."""

from collections.abc import Sequence

from bddn.errors import RunError
from bddn.figures.methods import Methods
from bddn.figures.methods import methods as methods_of
from bddn.report.shown import Shown
from bddn.report.voxels import drawn_rows


def facts(shown: Shown) -> list[tuple[str, str]]:
    """Return the few numbers under the title of a run, as (name, value)."""
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
    """Return a sentence that says which voxels the page draws."""
    parts = []
    for shown in runs:
        n, total = len(drawn_rows(shown.run.voxels)), len(shown.run.voxels)
        parts.append(f"{n:,} of {total:,} voxels" + (f" of {shown.label}" if len(runs) > 1 else ""))
    which = "those at the vertices of fsaverage5, the first 10,242 of the 163,842 of fsaverage7 in each hemisphere."
    rest = "Tables, means and colour ranges are those of all voxels. Grey is cortex without data, darker in sulci."
    return f"Drawn: {', '.join(parts)}, {which} {rest}"


def methods(shown: Shown) -> Methods:
    """Return the text for a paper's Methods section.

    Raises
    ------
    RunError
        If the run lacks this information.
    """
    try:
        return methods_of(shown.run)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise RunError(
            shown.run.folder / "run.json",
            expected="data, cache and settings, as written by 'bddn fit'",
            got=f"a file without {error}",
            fix="Fit again with this version of bddn.",
        ) from error
