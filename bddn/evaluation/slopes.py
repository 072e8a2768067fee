"""The hierarchy slope of a run, or of several fits of one brain: intervals that are kept apart, and tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import keys_of
from bddn.errors import MismatchError, RunError, SpecError
from bddn.evaluation.calibration.calibration import corrected_in_words, line_of, read_calibration
from bddn.evaluation.contrast.rivals import SEEDS, check_different
from bddn.files import atomic
from bddn.identity import Identity
from bddn.machine.settings import own_settings
from bddn.run.folder import ENSEMBLE, WEIGHT, Run, read_run, without_nan
from bddn.run.inputs import environment
from bddn.run.not_found import not_found
from bddn.stats.average import average
from bddn.stats.hierarchy import IDEAL_DEPTH, Line
from bddn.stats.slope_nulls import N_MAPS, Null, null_of_layers, null_of_maps
from bddn.text import listed, word

FOLDER, NUMBERS, TABLE = "hierarchy", "hierarchy.json", "hierarchy.csv"
LEAST_REFITS = 3


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of the slope: `over` 'blocks', 'images' or 'seeds'; `n` blocks or fits; `how` it was computed."""

    over: str
    low: float
    high: float
    n: int
    how: str


@dataclass(frozen=True)
class Hierarchy:
    """The hierarchy of one brain through one network.

    Attributes
    ----------
    ideal : dict of str to float
        Ideal depth of each ROI.
    slope, b0, b1 : float
        Of the depths that were averaged over fits that use each training image once.
    rois : list of dict
        `roi`, `ideal`, mean `depth` and number of voxels of each ROI.
    n_runs, n_voxels : int
    intervals : list of Interval
    tests : dict of str to Null
        'layers' and 'maps'; see `bddn.stats.slope_nulls`.
    calibration : dict or None
        Content of `calibration.json` of the first run.
    notes : list of str
        What is missing, and the command that makes it; fits that had not converged.
    about : dict
        Digests and versions.
    """

    ideal: dict[str, float]
    slope: float
    b0: float
    b1: float
    rois: list[dict[str, Any]]
    n_runs: int
    n_voxels: int
    intervals: list[Interval]
    tests: dict[str, Null]
    calibration: dict[str, Any] | None
    notes: list[str]
    about: dict[str, Any]

    def table(self) -> pd.DataFrame:
        """Return all numbers as rows of `quantity`, `value`, `low`, `high`, `level`, `p`, `n` and `how`."""
        rows: list[dict[str, Any]] = [
            {"quantity": name, "value": getattr(self, name), "n": self.n_voxels} for name in ("slope", "b0", "b1")
        ]
        rows += [
            {"quantity": f"slope over {one.over}", "value": self.slope, "low": one.low, "high": one.high}
            | {"level": 0.95, "n": one.n, "how": one.how}
            for one in self.intervals
        ]
        if self.calibration is not None:
            corrected = self.calibration["corrected"]
            for level, (low, high) in corrected["intervals"].items():
                rows.append({"quantity": "corrected slope", "value": corrected["slope"], "low": low, "high": high})
                rows[-1] |= {"level": int(level) / 100, "n": self.calibration["n_brains"], "how": "calibration"}
        for name, null in self.tests.items():
            rows.append({"quantity": f"slope against other {name}", "value": self.slope, "low": null.low})
            rows[-1] |= {"high": null.high, "level": 0.95, "p": null.p, "n": null.n}
            rows[-1]["how"] = "the interval is that of the null hypothesis"
        for one in self.rois:
            rows.append({"quantity": f"depth of {one['roi']}", "value": one["depth"], "n": one["n_voxels"]})
        columns = ("quantity", "value", "low", "high", "level", "p", "n", "how")
        return pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})


def ordered_rois(text: str | None) -> dict[str, float]:
    """Return ROIs with their ideal depths: 'V1,V2,V4' at equal steps from 0 to 1, or 'V1=0,V2=0.3,V4=1';
    the paper's for None.

    Raises
    ------
    SpecError
        If there are fewer than two, one twice, or not all of them have a depth from 0 to 1.
    """
    if text is None:
        return dict(IDEAL_DEPTH)
    names, values = list[str](), list[float]()
    for part in listed(text):
        name, _, value = part.partition("=")
        names.append(name.strip())
        try:
            values += [float(value)] if value else []
        except ValueError:
            values.append(np.nan)
    depths = values if values else np.linspace(0, 1, len(names)).tolist()
    right = len(depths) == len(names) and all(0 <= value <= 1 for value in depths) and len(set(depths)) > 1
    if len(set(names)) < max(2, len(names)) or not all(names) or not right:
        raise SpecError(
            "--rois",
            expected="at least two different ROIs from early to late, e.g. V1,V2,V4, or each with its ideal depth from "
            "0 to 1, e.g. V1=0,V2=0.3,V4=1",
            got=repr(text),
            fix="Correct --rois.",
        )
    return dict(zip(names, depths, strict=True))


@own_settings()
def hierarchy_of(runs: Sequence[Run], ideal: Mapping[str, float]) -> Hierarchy:
    """Compute the hierarchy slope of fits of one brain through one network.

    Parameters
    ----------
    runs : sequence of Run
        One fit, or several that differ in seed and bootstrap only.
    ideal : mapping of str to float
        Ideal depth of each ROI.

    Raises
    ------
    MismatchError
        If the runs differ in anything else.
    DataError
        If a fit is given twice.
    RunError
        If one of the ROIs has no voxel with evidence.
    """
    check_refits(runs)
    fits = [fit for run in runs for fit in single_fits(run)]
    check_different(fits)
    whole = whole_fits(runs)
    first, layers = whole[0], whole[0].layers
    voxels = voxels_of(runs)
    line = line_of(replace(first, voxels=voxels), ideal, len(whole))
    depth = voxels["depth"].to_numpy(np.float64)
    weights = voxels[[WEIGHT + layer for layer in layers]].to_numpy(np.float64)
    slope, b0 = line.fit(depth[line.row])
    keys = voxels.loc[line.row, keys_of(voxels)]
    slopes = _slopes(fits, line, keys)
    intervals, notes = _intervals(slope, line, depth[line.row], slopes)
    calibration = read_calibration(first, ideal)
    if calibration is None:
        notes.append(
            f"The slope is not corrected for the shrinkage of depth by the fit: 'bddn calibrate {word(first.folder)} "
            "--cache CACHE --data DATA' plants known slopes."
        )
    late = sum((fit.metrics.get("convergence") or {}).get("converged") is False for fit in fits)
    if said := next((said for fit in fits if (said := not_found(fit).get("layer"))), None):
        notes.append(f"No finding: {said[0].lower()}{said[1:]} So the slope says nothing about the brain.")
    if late:
        which = "The fit has" if len(fits) == 1 else f"{late} of {len(fits)} fits have"
        notes.append(f"Not converged: {which} not converged, so that slopes may change with more epochs.")
    return Hierarchy(
        dict(ideal),
        slope,
        b0,
        slope + b0,
        [
            {"roi": roi, "ideal": at, "depth": float(depth[line.row[here]].mean()), "n_voxels": int(here.sum())}
            for (roi, at), here in ((item, line.roi == k) for k, item in enumerate(ideal.items()))
            if here.any()
        ],
        len(fits),
        len(line.row),
        intervals,
        {"layers": null_of_layers(line, weights), "maps": null_of_maps(line, voxels)},
        calibration,
        notes,
        {
            "runs": [str(run.folder) for run in runs],
            "cache_digest": first.about["cache"]["digest"],
            "run_digests": [Identity(run.about).digest() for run in runs],
            "settings": {"n_maps": N_MAPS, "least_refits": LEAST_REFITS},
            "versions": environment("cpu"),
        },
    )


def single_fits(run: Run) -> list[Run]:
    """Return the fits of an ensemble, or the run itself."""
    return [read_run(run.folder / fit) for fit in run.about[ENSEMBLE]["fits"]] if ENSEMBLE in run.about else [run]


def whole_fits(runs: Sequence[Run]) -> list[Run]:
    """Return the fits that use each training image once; all fits if each is of a bootstrap."""
    return [run for run in runs if run.metrics.get("bootstrap") is None] or list(runs)


def voxels_of(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the table of voxels of the fits that use each training image once: of one fit, or the average."""
    whole = whole_fits(runs)
    return whole[0].voxels if len(whole) == 1 else average([run.voxels for run in whole], whole[0].layers)


def shared_by_refits(run: Run) -> Identity:
    """Return what fits of one brain through one network with one spec share: all but their seeds."""
    fit = {name: value for name, value in run.about["fit"].items() if name not in SEEDS}
    return Identity({"cache": {"digest": run.about["cache"]["digest"]}, "data": run.about["data"], "fit": fit})


def check_refits(runs: Sequence[Run]) -> None:
    """Refuse runs that are not fits of one brain through one network with one spec.

    Raises
    ------
    MismatchError
    """

    first = shared_by_refits(runs[0])
    for run in runs[1:]:
        if different := first.differences(shared_by_refits(run)):
            raise MismatchError(
                run.folder,
                expected=f"a fit of the same cache and data as '{runs[0].folder}', with another seed or bootstrap",
                got=f"a run that differs in: {'; '.join(different)}",
                fix="Give the runs of one brain and one network; 'bddn compare' compares networks.",
            )


def free_folder(runs: Sequence[Run], ideal: Mapping[str, float], out: Path | None) -> Path:
    """Return the folder for a hierarchy: `out`, or `hierarchy`, `hierarchy_2` and so on in the folder of the first run.

    That of other ROIs or runs is left as it is; the same one is replaced.

    Raises
    ------
    RunError
        If `out` has a hierarchy of other ROIs or runs.
    """
    asked = {"ideal": dict(ideal), "run_digests": [Identity(run.about).digest() for run in runs]}
    folder, n = out or runs[0].folder / FOLDER, 1
    while _asked(folder / NUMBERS) not in (None, asked):
        if out is not None:
            raise RunError(
                f"--out {out}",
                expected="a new folder, or a hierarchy of the same ROIs and runs",
                got=f"'{NUMBERS}' of other ROIs or runs",
                fix="Nothing was written. Give another --out.",
            )
        folder, n = runs[0].folder / f"{FOLDER}_{n + 1}", n + 1
    return folder


def _asked(path: Path) -> dict[str, Any] | None:
    """Return the ROIs and runs of a hierarchy; None if there is none, {} if the file is damaged."""
    try:
        found = atomic.read_object(path)
        return {name: found[name] for name in ("ideal", "run_digests")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError):
        return {}


def write_hierarchy(found: Hierarchy, out: Path) -> None:
    """Write the numbers into a folder of `free_folder`."""
    summary = {
        **{name: getattr(found, name) for name in ("slope", "b0", "b1", "rois", "n_runs", "n_voxels")},
        "ideal": found.ideal,
        "intervals": {one.over: vars(one) for one in found.intervals},
        "tests": {name: vars(null) for name, null in found.tests.items()},
        "corrected": None if found.calibration is None else found.calibration["corrected"],
        "notes": found.notes,
        **found.about,
    }
    atomic.write_csv(out / TABLE, found.table())
    atomic.write_json(out / NUMBERS, without_nan(summary))


def sentences(found: Hierarchy) -> list[str]:
    """Return the tests, the corrected slope and the notes in words."""
    layers, maps = found.tests["layers"], found.tests["maps"]
    orders = f"{'all ' if layers.exact else ''}{layers.n:,} orders of the layers"
    said = [
        f"Against {orders}: p = {_p(layers)}.",
        f"Against {maps.n:,} maps that are as smooth but have nothing to do with ROIs: p = {_p(maps)}.",
    ]
    if found.calibration is not None:
        words = corrected_in_words(found.calibration)
        said.append(f"{words[0].upper()}{words[1:]}.")
    return said + found.notes


def _p(null: Null) -> str:
    return f"{null.p:.4f}" if null.p > 1 / (null.n + 1) or null.exact else f"{null.p:.4f}, the smallest possible"


def _slopes(runs: Sequence[Run], line: Line, keys: pd.DataFrame) -> pd.DataFrame:
    """Return the `slope` of each run over the same voxels, with its `seed` and `bootstrap`."""
    rows, on = [], [*keys]
    for run in runs:
        depth = keys.merge(run.voxels[[*on, "depth"]], on=on, how="left")["depth"]
        slope = line.fit(depth.to_numpy(np.float64))[0]
        drawn = run.metrics.get("bootstrap")
        rows.append({"seed": run.metrics["seed"], "bootstrap": np.nan if drawn is None else drawn, "slope": slope})
    return pd.DataFrame(rows)


def _intervals(
    slope: float, line: Line, depth: npt.NDArray[np.float64], slopes: pd.DataFrame
) -> tuple[list[Interval], list[str]]:
    """Return the intervals that are known, and words for those that are not."""
    found, notes = list[Interval](), list[str]()
    blocks = line.jackknife(depth)
    if blocks is None:
        notes.append("No interval over voxels: it needs at least two ROIs in more than one block of cortex.")
    else:
        how = "jackknife over blocks of cortex: one ROI of one hemisphere is left out at a time"
        found.append(Interval("blocks", *blocks, len(np.unique(line.part)), how))
    drawn = slopes[slopes["bootstrap"].notna()].groupby("seed")["slope"]
    n, freedom = int(drawn.size().sum()), int((drawn.size() - 1).sum())
    if freedom >= LEAST_REFITS - 1:
        sd = float(np.sqrt((drawn.var() * (drawn.size() - 1)).sum() / freedom))
        found.append(_of_deviation("images", slope, sd, freedom, n, "bootstraps of the training images, of one seed"))
    else:
        notes.append(
            "No interval over images: it needs fits of at least 3 bootstraps of one seed, which "
            "'bddn fit-many CACHE --data DATA --out OUT --bootstraps 0-19' makes."
        )
    whole = slopes[slopes["bootstrap"].isna()]
    means = whole["slope"] if len(whole) >= LEAST_REFITS else slopes.groupby("seed")["slope"].mean()
    if len(means) >= LEAST_REFITS:
        how = "fits of other seeds, which set the initial weights and the split"
        if whole.empty:
            how = "fits that differ in seed and in resampled training images"
        found.append(_of_deviation("seeds", slope, float(means.std()), len(means) - 1, len(means), how))
    else:
        notes.append(
            "No interval over seeds: it needs fits of at least 3 seeds, which "
            "'bddn fit-many CACHE --data DATA --out OUT --seeds 0-4' makes."
        )
    return found, notes


def _of_deviation(over: str, slope: float, deviation: float, freedom: int, n: int, of: str) -> Interval:
    from scipy.stats import t

    reach = float(t.ppf(0.975, freedom)) * deviation
    return Interval(over, slope - reach, slope + reach, n, f"slope ± t · standard deviation over {of}: of a single fit")
