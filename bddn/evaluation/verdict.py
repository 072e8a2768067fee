"""The verdict on a run in one sentence."""

from collections.abc import Sequence

from bddn.evaluation.check.comparison import Comparison
from bddn.stats.agreement import Estimate
from bddn.text import joined

NAMES = {"depth": "depth", "x": "horizontal place", "y": "vertical place", "scale": "scale"}
MIN_SCORE = 0.9  # of brute force's R²; a fit that predicts less has not ended


def is_low(score: Estimate | None) -> bool:
    """Return whether a run surely predicts less than brute force."""
    return score is not None and score.high < MIN_SCORE


def sentence(comparisons: Sequence[Comparison], score: Estimate | None) -> str:
    """Return what a reader must know first: what is wrong, or that all agrees; then what cannot be judged.

    Parameters
    ----------
    comparisons : sequence of Comparison
    score : Estimate, optional
        R² of the run over that of brute force.
    """
    wrong = []
    if some := _named(comparisons, "disagrees", with_r=True):
        wrong.append(f"{joined(some)} {_verb(some, 'disagrees', 'disagree')} with brute force")
    if some := _named(comparisons, "constant"):
        wrong.append(f"{joined(some)} {_verb(some, 'is', 'are')} the same everywhere, as after a failed fit")
    if is_low(score):
        wrong.append(f"the run predicts only {score} times as much as brute force, as after a fit that is too short")
    said = []
    if wrong:
        said.append(f"Do not trust this run: {'; '.join(wrong)}.")
    elif some := _named(comparisons, "agrees"):
        more = "" if score is None else f", and the run predicts {score} times as much"
        said.append(f"{joined(some).capitalize()} {_verb(some, 'agrees', 'agree')} with brute force{more}.")
    if some := _named(comparisons, "differs", with_r=True):
        said.append(f"{joined(some).capitalize()} {_verb(some, 'differs', 'differ')}, at little cost in prediction.")
    if some := _named(comparisons, "flat"):
        said.append(
            f"By brute force, {joined(some)} {_verb(some, 'is', 'are')} nearly the same everywhere, so it cannot judge "
            f"{_verb(some, 'this', 'these')}."
        )
    if some := _named(comparisons, "fixed"):
        said.append(
            f"The settings of the fit fixed {joined(some)}, which therefore {_verb(some, 'is', 'are')} no finding."
        )
    if some := _named(comparisons, "unknown"):
        said.append(f"Brute force cannot judge {joined(some)}.")
    return " ".join(said)


def _named(comparisons: Sequence[Comparison], verdict: str, with_r: bool = False) -> list[str]:
    """Return the names of the parts with a verdict; with the hemisphere unless both have it."""
    found: dict[str, list[Comparison]] = {}
    for one in comparisons:
        if one.verdict == verdict:
            found.setdefault(one.part, []).append(one)
    words = []
    for part, sides in found.items():
        about = [f"{one.hemi} r {one.r.value:.2f}" if with_r and one.r is not None else one.hemi for one in sides]
        words.append(f"{NAMES[part]} ({', '.join(about)})" if with_r or len(sides) == 1 else NAMES[part])
    return words


def _verb(words: Sequence[str], singular: str, plural: str) -> str:
    return singular if len(words) == 1 else plural
