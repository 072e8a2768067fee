"""Calibrate the hierarchy slope and the depth of a run: plant known ones into its own cache, and see what is recovered.

Fits shrink depth towards the middle, so slopes are too small. Brains that are like that of the run (see `brains_like`)
but have a known slope are simulated on the run's cache and fitted as the run was. The line through planted and
recovered slopes corrects the run's slope; what single voxels recover tells the error of depth.

The folder `calibration/` of a run keeps `calibration.json`, and `brains.csv` with one row per brain; see `refits` for
the fits.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.errors import RunError
from bddn.evaluation.calibration.brains_like import Brain, BrainsLike
from bddn.files import atomic
from bddn.run import Run
from bddn.run.folder import without_nan
from bddn.run.not_found import no_layer
from bddn.stats.calibration_line import LEAST_BRAINS, CalibrationLine
from bddn.stats.evidence import evident
from bddn.stats.hierarchy import Line, missing_rois
from bddn.stats.scores import named_rois
from bddn.text import word

Floats = npt.NDArray[np.float64]

FOLDER, NUMBERS, TABLE = "calibration", "calibration.json", "brains.csv"
FIRST_SIGNAL = 1.25
"""Explained variance of the first brain over the R² of the run; the first fit tells the right one."""
SIGNALS = (1.0, 8.0)
LEAST_R2 = 0.002
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """What was recovered of known slopes and depths.

    Attributes
    ----------
    brains : DataFrame, one row per brain
        `brain`, `planted` and `recovered` slope, `r2` on the voxels with evidence, `depth_rmse`, `depth_bias`,
        `converged`, `saturated`, `folder`, and `used`: fits with a saturated layer selector, which the run has not, are
        left out if at least 4 others remain.
    line : CalibrationLine
    slope : float
        That of the run.
    bounds : (float, float)
        The slopes that are possible with depths from 0 to 1.
    depth : dict
        Of the depth of single voxels; see `depth_errors`.
    about : dict
        Settings, digests and versions.
    """

    brains: pd.DataFrame
    line: CalibrationLine
    slope: float
    bounds: tuple[float, float]
    depth: dict[str, Any]
    about: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `calibration.json`."""
        corrected = self.line.corrected(self.slope, self.bounds)
        intervals = {f"{round(100 * level)}": list(found) for level, found in corrected.intervals.items()}
        return {
            "slope": self.slope,
            "corrected": {"slope": corrected.value, "intervals": intervals},
            "curve": {
                **{name: getattr(self.line, name) for name in ("gain", "offset", "scatter")},
                "planted": self.line.planted.tolist(),
                "recovered": self.line.recovered.tolist(),
            },
            "bounds": list(self.bounds),
            "depth": self.depth,
            "n_brains": int(self.brains["used"].sum()),
            "n_left_out": int((~self.brains["used"]).sum()),
            "n_saturated": int((self.brains["used"] & self.brains["saturated"]).sum()),
            "n_not_converged": int((~self.brains["converged"]).sum()),
            **self.about,
        }


@dataclass(frozen=True)
class Refit:
    """A fit of a planted brain: its table of voxels, its name, whether it converged, and whether its layer selector is
    saturated, so that all voxels select one layer."""

    voxels: pd.DataFrame
    converged: bool
    saturated: bool
    name: str


def calibrate(like: BrainsLike, refit: Callable[[Brain, float], Refit], n_brains: int) -> Calibration:
    """Fit brains with known slopes that are like that of a run.

    Parameters
    ----------
    like : BrainsLike
    refit : callable
        Fits a brain whose signal has this size, as the run was fitted.
    n_brains : int
        At least 4. One more is fitted first, which tells how large the signal must be.
    """
    assert n_brains >= LEAST_BRAINS
    run, line = like.run, like.line
    first = refit(like.brain(0, FIRST_SIGNAL), FIRST_SIGNAL)
    wanted, got = (max(like.mean_score(one.voxels), LEAST_R2) for one in (run, first))
    signal = round(float(np.clip(FIRST_SIGNAL * wanted / got, *SIGNALS)), 3)
    rows, depths = list[dict[str, Any]](), list[Floats]()
    for number in range(1, n_brains + 1):
        print(f"brain {number}/{n_brains}", file=sys.stderr, flush=True)  # noqa: T201
        brain = like.brain(number, signal)
        fitted = refit(brain, signal)
        depths.append(_depths(brain, fitted, run))
        rows.append(_row(brain, fitted, like, *depths[-1]))
    table = pd.DataFrame(rows)
    like_the_run = ~table["saturated"].to_numpy()
    if like_the_run.sum() < LEAST_BRAINS:
        like_the_run = np.ones(len(table), bool)
    depths = [one for one, used in zip(depths, like_the_run, strict=True) if used]
    return Calibration(
        table.assign(used=like_the_run),
        CalibrationLine.of(*table.loc[like_the_run, ["planted", "recovered"]].to_numpy(np.float64).T),
        line.fit(run.voxels["depth"].to_numpy(np.float64)[line.row])[0],
        like.bounds,
        depth_errors(*np.concatenate(depths, axis=1)),
        {
            "rois": dict(like.ideal),
            "signal": {"share_of_r2": signal, "mean": float(like.signal(signal)[line.row].mean()), "how": _how(run)},
            "settings": like.settings,
            "run_converged": (run.metrics.get("convergence") or {}).get("converged"),
        },
    )


def write_calibration(found: Calibration, out: Path) -> None:
    """Write the numbers into a folder; existing files are replaced."""
    atomic.write_csv(out / TABLE, found.brains)
    atomic.write_json(out / NUMBERS, without_nan(found.to_dict()))


def line_of(run: Run, ideal: Mapping[str, float], n_fits: int = 1) -> Line:
    """Return the voxels of a hierarchy of a run, or of the average of several fits, which has the folder of the first.

    Raises
    ------
    RunError
        If one of the ROIs has no voxel with evidence.
    """
    line = Line.of(run.voxels, ideal)
    if line is None:
        missing = missing_rois(run.voxels, ideal)
        known = ", ".join(named_rois(run.voxels)) or "none"
        where = f" in the average of {n_fits} fits, which combines their p-values" if n_fits > 1 else ""
        raise RunError(
            run.folder,
            expected=f"voxels with evidence in each of the ROIs {', '.join(ideal)}",
            got=f"none in {', '.join(missing)}{where}" if missing else f"voxels of one ideal depth only{where}",
            fix=f"Give other --rois; those of this run are: {known}.",
        )
    return line


def refuse_no_layer(run: Run) -> None:
    """Refuse a run that did not find the layer of its voxels: its slope says nothing about the true one.

    Raises
    ------
    RunError
    """
    if why := no_layer([run]):
        raise RunError(
            run.folder,
            expected="a run whose voxels select different layers",
            got=f"another. {why.removesuffix('.')}",
            fix="Fit several layers, and do not fix the layer.",
        )
    if "layer" in run.metrics.get("saturated_selectors", ()):
        raise RunError(
            run.folder,
            expected="a run whose voxels select different layers",
            got="a saturated layer selector",
            fix="Fit again with a larger regularizer, more regularizer_steps or a smaller learning_rate.",
        )


def read_calibration(run: Run, ideal: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the content of `calibration.json` of a run for these ROIs; None if there is none.

    Raises
    ------
    RunError
        If the file is damaged.
    """
    path = run.folder / FOLDER / NUMBERS
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found if found["rois"] == dict(ideal) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            path,
            expected="the numbers that 'bddn calibrate' writes",
            got=f"{type(error).__name__}: {error}",
            fix=f"Delete it, and run 'bddn calibrate {word(run.folder)} --cache CACHE --data DATA'.",
        ) from error


def depth_errors(planted: Floats, recovered: Floats) -> dict[str, Any]:
    """Return what is known of the error of the depth of single voxels.

    Parameters
    ----------
    planted, recovered : array of float64, (k,)
        Of voxels of all brains, those that have evidence in the run.

    Returns
    -------
    dict
        `n_voxels`; `rmse`; `bias`, the mean of recovered minus planted; `gain` and `offset` of recovered = gain ·
        planted + offset; and `by_recovered`, for equal ranges `from` `to` of the recovered depth: `n`, mean and
        standard deviation of planted minus recovered (`mean_error`, `sd_error`), and its quantiles `error_05` and
        `error_95`. None where there are fewer than 20 voxels.
    """
    error = planted - recovered
    gain, offset = np.polyfit(planted, recovered, 1)
    edges = np.linspace(0, 1, BINS + 1)
    at = np.clip(np.digitize(recovered, edges) - 1, 0, BINS - 1)
    ranges = []
    for k in range(BINS):
        here = error[at == k]
        known = len(here) >= 20
        low, high = np.percentile(here, (5, 95)) if known else (None, None)
        ranges.append(
            {
                "from": float(edges[k].round(6)),
                "to": float(edges[k + 1].round(6)),
                "n": len(here),
                "mean_error": float(here.mean()) if known else None,
                "sd_error": float(here.std(ddof=1)) if known else None,
                "error_05": None if low is None else float(low),
                "error_95": None if high is None else float(high),
            }
        )
    return {
        "n_voxels": len(error),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "bias": float(-error.mean()),
        "gain": float(gain),
        "offset": float(offset),
        "by_recovered": ranges,
    }


def _row(brain: Brain, fitted: Refit, like: BrainsLike, planted: Floats, found: Floats) -> dict[str, Any]:
    recovered = fitted.voxels["depth"].to_numpy(np.float64)
    return {
        "brain": brain.number,
        "planted": brain.slope,
        "recovered": like.line.fit(recovered[like.line.row])[0],
        "r2": like.mean_score(fitted.voxels),
        "depth_rmse": float(np.sqrt(np.square(found - planted).mean())),
        "depth_bias": float((found - planted).mean()),
        "converged": fitted.converged,
        "saturated": fitted.saturated,
        "folder": fitted.name,
    }


def _depths(brain: Brain, fitted: Refit, run: Run) -> Floats:
    """Return planted and recovered depth, (2, k), of the voxels that have evidence in the run."""
    where = evident(run.voxels)
    return np.stack([brain.maps["depth"].to_numpy(np.float64), fitted.voxels["depth"].to_numpy(np.float64)])[:, where]


def _how(run: Run) -> str:
    known = "ceiling" in run.voxels and bool(np.isfinite(run.voxels["ceiling"]).any())
    least = "at most the noise ceiling of the data" if known else "the data have no noise ceilings"
    return f"so large that a fit reaches the R² of the run; by voxel in proportion to the R² of its neighbours; {least}"


def corrected_in_words(found: Mapping[str, Any]) -> str:
    """Return a sentence on a corrected slope, for the content of `calibration.json`."""
    low, high = found["corrected"]["intervals"]["90"]
    curve = found["curve"]
    about = ""
    if found["n_left_out"]:
        about = f"; {found['n_left_out']} with a saturated layer selector are left out"
    elif saturated := found.get("n_saturated", 0):
        about = f"; the layer selector of {saturated} is saturated, but fewer than {LEAST_BRAINS} are left without them"
    return (
        f"corrected slope {found['corrected']['slope']:.2f} (90 % interval {low:.2f} to {high:.2f}), because fits like "
        f"this one recover {curve['gain']:.2f} of a planted slope, {'minus' if curve['offset'] < 0 else 'plus'} "
        f"{abs(curve['offset']):.2f}, give or take {curve['scatter']:.2f} ({found['n_brains']} brains{about})"
    )
