"""Compare the map of a run with that of brute force, part by part and hemisphere by hemisphere.

Brute force's selection of a part gains R² on the test images over chance: equal weights of all layers or windows. The
run's selection in its place loses some of this gain. A part disagrees if its correlation with brute force is low and
much of the gain is lost. If brute force does not agree with itself, or gains nothing, it cannot judge; nor can it where
its own map is nearly the same everywhere.

Shape letters: V sampled voxels, L layers, S sets (windows, then the global token).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.baselines.second_opinion import MIN_R2, SecondOpinion, spread_out
from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.places import place_columns, sides
from bddn.stats.agreement import FLAT, Estimate, correlation, ratio, repeatability, slope
from bddn.stats.scores import in_roi, reported_rois
from bddn.stats.truth import PARTS
from bddn.stream.order import Rows

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CHECK = "_check"  # suffix of the columns of brute force
N_PATCHES = 40  # of a hemisphere, which the bootstrap draws
MIN_VOXELS = 30  # in a hemisphere that is judged
MAX_SCALE = 0.7  # place is judged where brute force does not read global tokens alone
MIN_REPEAT = 0.7  # below it brute force does not agree with itself
MIN_R = 0.7  # below it a part does not agree
MIN_GAIN = 0.005  # of R²; below it brute force gains nothing
MIN_SPREAD = {"depth": 0.08, "x": 0.08, "y": 0.08, "scale": 0.03}
"""Standard deviation of brute force's map, below which it is nearly the same everywhere: a correlation says nothing."""
MIN_LOSS = 0.2  # of the gain, surely; softer weights than those of brute force lose some too


@dataclass(frozen=True)
class Comparison:
    """One part of the map in one hemisphere.

    Attributes
    ----------
    part, hemi : str
    n : int
        Number of judged voxels.
    r : Estimate
        Correlation of the run with brute force.
    slope : float
        Of the run on brute force.
    repeat : float
        Reliability of brute force, from two halves of the images.
    gain : Estimate
        Share of brute force's R² on the test images that its selection of this part gains over chance; None where this
        R² is not surely positive.
    loss : Estimate
        Share of this gain that is lost if the part is selected as in the run; None where nothing is gained.
    verdict : str
        'agrees', 'disagrees', 'differs' (at little cost), 'constant' (only in the run), 'flat' (by brute force),
        'fixed' (by the settings of the fit), or 'unknown'.

    Of fewer than `MIN_VOXELS` voxels, the numbers are None.
    """

    part: str
    hemi: str
    n: int
    r: Estimate | None
    slope: float | None
    repeat: float | None
    gain: Estimate | None
    loss: Estimate | None
    verdict: str


@dataclass(frozen=True)
class Compared:
    """A run beside brute force.

    Attributes
    ----------
    voxels : DataFrame, V rows
        `row` in the run's table, where it lies (`cortex.places`), `roi`, `judged`; `depth`, `x`, `y`, `scale` and
        `r2_test` of the run, and with the suffix `_check` those of brute force.
    comparisons : list of Comparison
    score : Estimate, optional
        R² of the run on the test images over that of brute force; None if too few voxels are judged, or if the latter
        is not surely positive.
    rois : DataFrame
        Means of both, one row per ROI.
    n_images : int
        Number of images that brute force used, without the test images.
    """

    voxels: pd.DataFrame
    comparisons: list[Comparison]
    score: Estimate | None
    rois: pd.DataFrame
    n_images: int


def compare(
    voxels: pd.DataFrame,
    layer_weights: Floats,
    opinion: SecondOpinion,
    coords_mm: npt.NDArray[np.float32],
    fixed: Sequence[str] = (),
) -> Compared:
    """Compare a run with a second opinion.

    Parameters
    ----------
    voxels : DataFrame, V rows
        Those rows of the run's table that the opinion is about.
    layer_weights : array, (V, L)
        Of the run.
    opinion : SecondOpinion
    coords_mm : array of float32, (V, 3)
        Those of `cortex.places.on_spheres`.
    fixed : sequence of str
        Those of 'depth', 'x', 'y' and 'scale' that the settings of the fit fixed.
    """
    voxels, answer = voxels.reset_index(drop=True), opinion.answer
    expected = ExpectedScore(opinion)
    table = voxels[[*place_columns(voxels), "roi", *PARTS, "r2_test"]].assign(
        **{f"{part}{CHECK}": getattr(answer, part) for part in PARTS}, **{f"r2_test{CHECK}": opinion.r2_test}
    )
    table.insert(0, "row", opinion.voxels)
    judged = np.isfinite(table[[*PARTS, "r2_test"]].to_numpy(np.float64)).all(1) & (opinion.r2 >= MIN_R2)
    table["judged"] = judged
    patch, comparisons = patches(table["hemi"].to_numpy() == HEMISPHERES[0], coords_mm), []
    for part in PARTS:
        selected = layer_weights if part == "depth" else table[part].to_numpy(np.float64)
        scores = expected.of_part(part, selected)
        for hemi, mask in sides(table).items():
            if not mask.any():  # a hemisphere that the data do not have
                continue
            where = judged & mask
            where &= (answer.scale < MAX_SCALE) | (part not in "xy")
            some = [one[where] for one in scores]
            found = _comparison(part, hemi, table[where], opinion, where, some, patch[where])
            comparisons.append(replace(found, verdict="fixed") if part in fixed else found)
    enough = judged.sum() >= MIN_VOXELS
    score = ratio(table["r2_test"].to_numpy()[judged], opinion.r2_test[judged], patch[judged]) if enough else None
    return Compared(table, comparisons, score, _by_roi(voxels, table), opinion.n_images)


class ExpectedScore:
    """Mean R² of a selection on the test images: of its layers, windows and scale; `answered` (V,) is brute force's."""

    def __init__(self, opinion: SecondOpinion) -> None:
        self._test, self._answer = opinion.test, opinion.answer
        self._centres = opinion.windows.centres.numpy().astype(np.float64)
        self.answered = self.of(self._answer.layer, self._answer.window, self._answer.scale)

    def of(self, layer: Floats, window: Floats, scale: Floats) -> Floats:
        """Return it (V,) for weights of layers (V, L) and of windows (V, S - 1), and scales (V,)."""
        local = np.einsum("lsv,vs->lv", self._test[:, :-1], window)
        return np.asarray(np.einsum("lv,vl->v", (1 - scale) * local + scale * self._test[:, -1], layer))

    def of_part(self, part: str, run: Floats) -> tuple[Floats, Floats, Floats]:
        """Return it (V,) with this part as in the run, as brute force answers, and by chance."""
        answer = self._answer
        if part == "depth":
            layers = (run, answer.layer, np.full_like(run, 1 / run.shape[1]))
            found = [self.of(layer, answer.window, answer.scale) for layer in layers]
        elif part == "scale":
            found = [
                self.of(answer.layer, answer.window, scale) for scale in (run, answer.scale, np.full_like(run, 0.5))
            ]
        else:
            own = {"x": answer.x, "y": answer.y}
            windows = [self._near(**own | {part: at}) for at in (run, own[part])]
            every = np.unique(self._centres[:, "xy".index(part)])
            windows.append(np.mean([self._near(**own | {part: np.full_like(run, at)}) for at in every], axis=0))
            found = [self.of(answer.layer, window, answer.scale) for window in windows]
        return found[0], found[1], found[2]

    def _near(self, x: Floats, y: Floats) -> Floats:
        """Return the weights (V, S - 1) of the windows around some places."""
        apart = 2 / np.sqrt(len(self._centres))
        square = np.square(np.stack([x, y], axis=1)[:, None] - self._centres).sum(2)
        weights = np.exp(-2 * (square - square.min(1, keepdims=True)) / apart**2)
        return np.asarray(weights / weights.sum(1, keepdims=True))


def _comparison(
    part: str,
    hemi: str,
    table: pd.DataFrame,
    opinion: SecondOpinion,
    where: Mask,
    scores: Sequence[Floats],
    patch: Rows,
) -> Comparison:
    """Return the comparison of some voxels; `scores` are those of `ExpectedScore.of_part`."""
    if len(table) < MIN_VOXELS:
        return Comparison(part, hemi, len(table), None, None, None, None, None, "unknown")
    run, theirs = (table[f"{part}{suffix}"].to_numpy(np.float64) for suffix in ("", CHECK))
    repeat = repeatability(*(getattr(half, part)[where] for half in opinion.halves))
    r, (of_run, of_answer, of_chance) = correlation(run, theirs, patch), scores
    gain = ratio(of_answer - of_chance, of_answer, patch)
    gains = gain is not None and gain.low >= MIN_GAIN
    loss = ratio(of_answer - of_run, of_answer - of_chance, patch) if gains else None  # of nothing, it is no number
    if repeat < MIN_REPEAT or loss is None:
        verdict = "unknown"
    elif theirs.std() < MIN_SPREAD[part]:
        verdict = "flat"
    elif run.std() < FLAT:
        verdict = "constant"
    elif r.value >= MIN_R:
        verdict = "agrees"
    else:
        verdict = "disagrees" if loss.low > MIN_LOSS else "differs"
    return Comparison(part, hemi, len(table), r, slope(run, theirs), repeat, gain, loss, verdict)


def patches(left: Mask, coords_mm: npt.NDArray[np.float32]) -> Rows:
    """Return the patch (V,) of each voxel: that of the nearest of some voxels that are spread evenly.

    Parameters
    ----------
    left : array of bool, (V,)
        Whether a voxel is in the left hemisphere; a patch is in one hemisphere.
    coords_mm : array of float32, (V, 3)
    """
    patch = np.empty(len(left), np.intp)
    for first, here in ((0, left), (N_PATCHES, ~left)):
        if here.any():
            at = coords_mm[here]
            centres = at[spread_out(at, N_PATCHES)]
            patch[here] = first + np.square(at[:, None] - centres).sum(2).argmin(1)
    return patch


def _by_roi(voxels: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for roi in reported_rois(voxels):
        part = table[in_roi(voxels, roi) & table["judged"].to_numpy()]
        if len(part):
            near = part[part[f"scale{CHECK}"] < MAX_SCALE]
            away = np.hypot(*(near[name] - near[f"{name}{CHECK}"] for name in "xy"))
            names = (f"{name}{suffix}" for name in ("depth", "scale", "r2_test") for suffix in ("", CHECK))
            means = {name: float(part[name].mean()) for name in names}
            rows.append({"roi": roi, "n_voxels": len(part), **means, "place_apart": float(away.mean())})
    return pd.DataFrame(rows)
