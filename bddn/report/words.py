"""The text of a page that depends on its runs: the numbers under the title, what is drawn, and the methods."""

from collections.abc import Sequence

from bddn.errors import RunError
from bddn.figures.methods import Methods
from bddn.figures.methods import methods as methods_of
from bddn.report.shown import Shown
from bddn.report.voxels import drawn_rows
from bddn.stats.evidence import evident, in_words, is_tested


def facts(shown: Shown) -> list[tuple[str, str]]:
    """Return the few numbers under the title of a run, as (name, value)."""
    run = shown.run
    hierarchy = run.metrics["hierarchy"]
    return [
        ("mean brain score R²", "unknown" if run.metrics["r2_test"] is None else f"{run.metrics['r2_test']:.3f}"),
        *([("hierarchy slope", f"{hierarchy['slope']:.2f}")] if hierarchy else []),
        ("voxels", f"{len(run.voxels):,}"),
        *([("with evidence", f"{int(evident(run.voxels).sum()):,}")] if is_tested(run.voxels) else []),
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
    rest = "Tables, means and colour ranges are also those of the others. Grey is cortex without data, darker in sulci."
    return f"Drawn: {', '.join(parts)}, {which} {rest}"


def evidence(runs: Sequence[Shown]) -> str:
    """Return sentences that say for each run how many voxels have no evidence, and how the page shows them."""
    said = [(f"{shown.label}: " if len(runs) > 1 else "") + in_words(shown.run.voxels) for shown in runs]
    if any(not evident(shown.run.voxels).all() for shown in runs):
        said.append("Maps of selections show these in one grey, and means of selections leave them out.")
    return " ".join(said)


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
