"""Drift: whether a network that was trained further reads out differently from its parent, beyond the noise of seeds.

Three numbers are compared: the mean brain score, the hierarchy slope, and how far voxels moved along depth. Seeds of
the parent tell how far each of them changes by another fit alone. The p-values are corrected for their number (Holm),
so that the chance of a false alarm is at most 5 % in all.

Shape letters: N voxels, M test images, P fits of the parent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.places import on_spheres, place_columns
from bddn.evaluation.check.comparison import patches
from bddn.evaluation.contrast.contrast import contrast
from bddn.evaluation.diagnosis.claims import number
from bddn.evaluation.forgetting.forgetting import check_runs
from bddn.evaluation.kept_responses import read_held_out
from bddn.identity import Identity
from bddn.run.folder import Run
from bddn.run.not_found import no_layer
from bddn.stats import paired
from bddn.stats.evidence import FDR, evident, q_values
from bddn.stats.hierarchy import Line
from bddn.stats.paired import Spread
from bddn.stats.rewiring import distance, seed_distances
from bddn.stats.scores import ALL

Floats = npt.NDArray[np.float64]

ALARM = 0.05
"""Chance of a false alarm."""
PARENT, CHILD = "parent", "run"


@dataclass(frozen=True)
class Test:
    """A comparison of the run with its parent.

    Attributes
    ----------
    name : str
        'brain score', 'hierarchy slope' or 'depth'.
    change : float or None
        Run minus parent; of depth, the mean |Δdepth| over that between seeds of the parent.
    low, high : float or None
        95 % interval.
    p, p_corrected : float or None
        None if it cannot be judged.
    how : str
        What the interval is over; or why there is no test.
    """

    name: str
    change: float | None
    low: float | None
    high: float | None
    p: float | None
    p_corrected: float | None
    how: str

    @property
    def is_drift(self) -> bool:
        """Whether this changed beyond noise."""
        return self.p_corrected is not None and self.p_corrected <= ALARM


@dataclass(frozen=True)
class Drift:
    """A run and its parent.

    Attributes
    ----------
    parent, run : str
        Their folders.
    seeds : tuple of str
        Folders of the further seeds of the parent.
    tests : tuple of Test
    voxels : DataFrame, N rows
        `hemi`, `vertex`, labels, `r2_difference` with `p` and `q`, `depth_difference`, and `evident` in all runs.
    about : dict
        Digests of the runs, and settings.
    """

    parent: str
    run: str
    seeds: tuple[str, ...]
    tests: tuple[Test, ...]
    voxels: pd.DataFrame
    about: dict[str, Any]

    @property
    def is_drift(self) -> bool:
        """Whether anything changed beyond noise."""
        return any(test.is_drift for test in self.tests)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        by = {test.name: test for test in self.tests}
        said = [
            _in_words(by[name]) for name in by if by[name].is_drift or (not self.is_drift and by[name].p is not None)
        ]
        if not self.seeds:
            beyond = "Drift, or another seed" if self.is_drift else "No drift beyond the noise of test images"
            end = "What another seed alone changes is not known: give seeds of the parent with --noise."
        else:
            beyond = f"{'Drift' if self.is_drift else 'No drift'} beyond the noise of {len(self.seeds) + 1} seeds"
            end = ""
        return f"{beyond}: {'; '.join(said) or 'nothing could be judged'}. {end}".strip()

    def to_dict(self) -> dict[str, Any]:
        """Return the content for JSON."""
        q = self.voxels["q"] <= FDR
        return {
            "is_drift": self.is_drift,
            "exit_code": int(self.is_drift),
            "verdict": self.verdict,
            "parent": self.parent,
            "run": self.run,
            "seeds_of_parent": list(self.seeds),
            "tests": [asdict(test) | {"is_drift": test.is_drift} for test in self.tests],
            "n_voxels": len(self.voxels),
            "n_worse": int((q & (self.voxels["r2_difference"] < 0)).sum()),
            "n_better": int((q & (self.voxels["r2_difference"] > 0)).sum()),
            "n_evident": int(self.voxels["evident"].sum()),
            "settings": {"false_alarm": ALARM, "false_discovery_rate": FDR, "correction": "Holm"},
            **self.about,
        }


def drift(child: Sequence[Run], parent: Run, seeds: Sequence[Run], ideal: Mapping[str, float]) -> Drift:
    """Compare a run that was trained further with its parent.

    Parameters
    ----------
    child : sequence of Run
        One fit of the network after, or several seeds.
    parent : Run
    seeds : sequence of Run
        Further seeds of the parent. Without them, only test images are known as noise, and only the score is judged.
    ideal : mapping of str to float
        Ideal depth of each ROI of the slope.

    Raises
    ------
    BddnError
        If a run was not scored, or runs have other data, test images, layers or settings of the fit.
    """
    before = [parent, *seeds]
    for run in child:
        check_runs(parent, run, seeds)
    held = {PARENT: [*map(read_held_out, before)], CHILD: [*map(read_held_out, child)]}
    first = parent.voxels
    found = contrast(held, {ALL: np.ones(len(first), np.bool_)})
    images = np.nan_to_num(found.values[1] - found.values[0])
    by_seed = _of_seeds(*(np.asarray(one[:, 0], np.float64) for one in found.fits))
    depths = [[run.voxels["depth"].to_numpy(np.float64) for run in runs] for runs in (before, child)]
    known = np.all([evident(run.voxels) for run in (*before, *child)], axis=0)
    unread = no_layer((*before, *child))
    tests = [_score(images, by_seed)]
    if unread is None:
        tests += [_slope(first, known, depths, ideal), _moved(first, known, depths)]
    else:
        tests += [_unknown(name, unread) for name in ("hierarchy slope", "depth")]
    pair = found.differences[0]
    text = first.select_dtypes(include=["object", "string"]).drop(columns=["layer_argmax"], errors="ignore")
    voxels = text.assign(
        **{name: first[name] for name in place_columns(first) if name not in text},
        r2_difference=pair.r2,
        p=pair.p,
        q=q_values(pair.p),
        depth_difference=np.mean(depths[1], axis=0) - np.mean(depths[0], axis=0),
        evident=known,
    )
    digests = {
        name: [Identity(run.about).digest() for run in runs] for name, runs in ((PARENT, before), (CHILD, child))
    }
    return Drift(
        str(parent.folder),
        ", ".join(str(run.folder) for run in child),
        tuple(str(run.folder) for run in seeds),
        _corrected(tests),
        voxels,
        {"n_images": found.n_images, "run_digests": digests},
    )


def _score(images: Floats, seeds: Spread | None) -> Test:
    """Test the mean brain score, from the differences of pseudo-values of the images, (M, 1)."""
    spread = paired.together([paired.over(images), *([] if seeds is None else [seeds])])
    mean, reach = float(images.mean()), float(spread.reach()[0])
    p = float(paired.p_values(images.mean(axis=0), spread, len(images), paired.null_p_values(images, 0))[0])
    how = f"{len(images)} test images" + (", not over seeds" if seeds is None else " and seeds")
    return Test("brain score", mean, mean - reach, mean + reach, p, None, f"95 %, over {how}")


def _slope(
    voxels: pd.DataFrame, known: npt.NDArray[np.bool_], depths: list[list[Floats]], ideal: Mapping[str, float]
) -> Test:
    """Test the slope over the voxels that have evidence in all runs."""

    line = Line.of(voxels.assign(p_test=0.0, q_test=np.where(known, 0.0, 1.0)), ideal)
    if line is None:
        return _unknown("hierarchy slope", "one of the ROIs has no voxel with evidence in all runs")
    slopes = [np.array([line.fit(depth[line.row])[0] for depth in own]) for own in depths]
    spread = _of_seeds(*slopes)
    if spread is None:
        return _unknown("hierarchy slope", "its noise is that of seeds, which are not given")
    change, reach = float(slopes[1].mean() - slopes[0].mean()), float(spread.reach())
    return Test("hierarchy slope", change, change - reach, change + reach, _p(change, spread), None, "95 %, over seeds")


def _moved(voxels: pd.DataFrame, known: npt.NDArray[np.bool_], depths: list[list[Floats]]) -> Test:
    """Test how far voxels moved along depth, against the distance between seeds."""
    patch = patches((voxels["hemi"] == HEMISPHERES[0]).to_numpy(), on_spheres(voxels))[known]
    moved = np.mean([np.abs(after - before) for before in depths[0] for after in depths[1]], axis=0)
    found = distance(moved[known], seed_distances(depths[0])[:, known], patch)
    if np.isnan(found.p):
        why = (
            "its noise is that of seeds, which are not given" if len(depths[0]) < 2 else "too few voxels with evidence"
        )
        return _unknown("depth", why)
    return Test("depth", found.ratio, found.low, found.high, found.p, None, "95 %, over patches of cortex")


def _unknown(name: str, why: str) -> Test:
    return Test(name, None, None, None, None, None, f"not judged: {why[0].lower()}{why[1:].removesuffix('.')}")


def _of_seeds(parent: Floats, child: Floats) -> Spread | None:
    """Return the spread of the difference of the means of a number over fits of the parent and of the run, which have
    the same variance; None if there is one fit of each."""
    freedom = len(parent) + len(child) - 2
    if freedom < 1:
        return None
    squares = np.square(parent - parent.mean()).sum() + np.square(child - child.mean()).sum()
    error = np.sqrt(squares / freedom * (1 / len(parent) + 1 / len(child)))
    return Spread(np.asarray([error])[0], np.asarray(float(freedom)))


def _p(change: float, spread: Spread) -> float:
    from scipy.special import stdtr

    if spread.error == 0:
        return float(change == 0)
    return float(2 * stdtr(float(spread.df), -abs(change) / float(spread.error)))


def _corrected(tests: Sequence[Test]) -> tuple[Test, ...]:
    """Return the tests with p-values corrected for their number (Holm, Scandinavian Journal of Statistics 1979)."""
    judged = sorted((test for test in tests if test.p is not None), key=lambda test: test.p or 0.0)
    corrected, last = dict[str, float](), 0.0
    for k, test in enumerate(judged):
        last = max(last, min(1.0, (len(judged) - k) * (test.p or 0.0)))
        corrected[test.name] = last
    return tuple(Test(**{**asdict(test), "p_corrected": corrected.get(test.name)}) for test in tests)


def _in_words(test: Test) -> str:
    assert test.change is not None
    assert test.low is not None
    assert test.high is not None
    if test.name == "depth":
        ends = f"[{number(test.low)}, {number(test.high)}]"
        return f"voxels moved {number(test.change)} {ends} times as far along depth as between seeds"
    digits, what = (4, "mean brain score R²") if test.name == "brain score" else (2, test.name)
    ends = f"[{number(test.low, digits)}, {number(test.high, digits)}]"
    return f"the {what} changed by {'+' if test.change > 0 else ''}{number(test.change, digits)} {ends}"
