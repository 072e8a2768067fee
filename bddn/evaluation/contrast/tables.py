"""The tables of a comparison: voxels, ROIs, Tables 1 and 2 of the paper, and the best of so many models.

All are tidy: one row per subject, model or pair of models, and ROI. Subjects are averaged in rows whose subject is
`MEAN`, with the standard deviation over subjects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import place_columns
from bddn.evaluation.contrast.contrast import SEED, Contrast, Difference, contrast
from bddn.evaluation.contrast.rivals import Rivals
from bddn.evaluation.kept_responses import read_held_out
from bddn.run.folder import WEIGHT, Run
from bddn.run.not_found import no_layer
from bddn.stats import paired
from bddn.stats.average import average, like
from bddn.stats.best_model import TABLE_1, root_mean_square, root_sum_squared
from bddn.stats.evidence import FDR, evident, q_values
from bddn.stats.fit_intervals import RANGES, interval
from bddn.stats.hierarchy import depth_spread, hierarchy_slope
from bddn.stats.jackknife import MIN_IMAGES, intervals
from bddn.stats.paired import Spread
from bddn.stats.scores import ALL, LEAST_R2, in_roi, labels_of, robust_mean, roi_masks

Floats = npt.NDArray[np.float64]
Row = dict[str, Any]
Groups = Mapping[str, npt.NDArray[np.bool_]]

MAX, HONEST, MEAN = "max", "max, chosen on other images", "mean"
SLOPE = ("slope", "slope_low", "slope_high", "b0", "b1")
KEYS = ("subject", "first", "second", "model", "roi", "n_models")  # columns that name a row


@dataclass(frozen=True)
class Compared:
    """The tables of a comparison; `voxels` has a row per subject, pair of models and voxel."""

    voxels: pd.DataFrame
    rois: pd.DataFrame
    table_1: pd.DataFrame
    table_2: pd.DataFrame
    best: pd.DataFrame


def compare_models(subjects: Sequence[Rivals]) -> Compared:
    """Compare all models on each subject, and average the subjects.

    Raises
    ------
    RunError
        If a run was not scored.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    held = [{name: [*map(read_held_out, fits)] for name, fits in rivals.models.items()} for rivals in subjects]
    for rivals, models in zip(subjects, held, strict=True):
        own = [_voxels_of(fits) for fits in rivals.models.values()]
        groups = groups_of(own[0])
        contrasted = contrast(models, groups)
        tables = {
            "voxels": _voxel_rows(contrasted, own),
            "rois": _roi_rows(contrasted, groups, own),
            "table_1": _table_1_rows(contrasted, groups),
            "table_2": _table_2_rows(contrasted, groups, own, rivals),
            "best": _best_rows(contrasted),
        }
        for name, table in tables.items():
            table.insert(0, "subject", rivals.subject)
            found.setdefault(name, []).append(table)
    averaged = {
        name: tables if name == "voxels" else [*tables, *_over_subjects(tables)] for name, tables in found.items()
    }
    return Compared(**{name: pd.concat(tables, ignore_index=True) for name, tables in averaged.items()})


def groups_of(voxels: pd.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """Return masks (N,) of all voxels, of every ROI with voxels, and of the pooled ROIs of Table 1."""
    pooled = {name: np.any([in_roi(voxels, roi) for roi in rois], axis=0) for name, rois in TABLE_1.items()}
    return {**roi_masks(voxels), **{name: mask for name, mask in pooled.items() if mask.any()}}


def _voxels_of(fits: Sequence[Run]) -> pd.DataFrame:
    """Return the voxel table of a model, in the order of its first run: of one fit, or the average of several.

    `depth_spread` is the mean over fits, because the spread of averaged weights also has the differences of fits in it.
    Several fits give `depth_low` and `depth_high`, as in an ensemble (see `bddn.stats.fit_intervals`). Depth is NaN
    where the settings fixed the layer, or there is only one.
    """
    if no_layer(fits):
        return fits[0].voxels.assign(depth=np.nan, depth_spread=np.nan)
    spread = np.mean([_spread(run) for run in fits], axis=0)
    if len(fits) == 1:
        return fits[0].voxels.assign(depth_spread=spread)
    in_order = like(fits[0].voxels, average([run.voxels for run in fits], fits[0].layers))
    depths, softness = np.stack([run.voxels["depth"] for run in fits]), in_order["depth_spread"].to_numpy(np.float64)
    low, high = interval(depths.astype(np.float64), softness, RANGES["depth"])
    return in_order.assign(depth_spread=spread, depth_low=low, depth_high=high)


def _spread(run: Run) -> Floats:
    weights = run.voxels[[WEIGHT + layer for layer in run.layers]].to_numpy(dtype=np.float64)
    return np.asarray(depth_spread(weights), dtype=np.float64)


def _voxel_rows(found: Contrast, own: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one row per pair and voxel."""
    text = labels_of(own[0])
    tables = []
    for pair in found.differences:
        first, second = own[pair.first], own[pair.second]
        depth, reach = second["depth"].to_numpy() - first["depth"].to_numpy(), _depth_reach(first, second)
        columns: dict[str, Any] = {
            "first": found.models[pair.first],
            "second": found.models[pair.second],
            **{name: own[0][name].to_numpy() for name in place_columns(own[0])},
            **{str(name): text[name].to_numpy() for name in text},
            "r2_first": found.r2[pair.first],
            "r2_second": found.r2[pair.second],
            "r2_difference": pair.r2,
            "r2_low": pair.low,
            "r2_high": pair.high,
            "p": pair.p,
            "q": q_values(pair.p),
            "depth_first": first["depth"].to_numpy(),
            "depth_second": second["depth"].to_numpy(),
            "depth_difference": depth,
            "depth_low": depth - reach,
            "depth_high": depth + reach,
            "depth_spread_first": first["depth_spread"].to_numpy(),
            "depth_spread_second": second["depth_spread"].to_numpy(),
            "evident": evident(first) & evident(second),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _depth_reach(*models: pd.DataFrame) -> Floats:
    """Return half the width of the interval of a difference of depth, whose two errors are independent; NaN where one
    of the models has one fit and is no ensemble."""
    if not all("depth_low" in one for one in models):
        return np.full(len(models[0]), np.nan)
    columns = [one[["depth", "depth_low", "depth_high"]].to_numpy(np.float64).T for one in models]
    reach = np.stack([np.maximum(depth - low, high - depth) for depth, low, high in columns])
    return np.asarray(np.sqrt(np.square(reach).sum(axis=0)))


def _roi_rows(found: Contrast, groups: Groups, own: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the differences of the mean R² of every ROI, with their tests over images."""
    rows: list[Row] = []
    for pair in found.differences:
        difference, spread, p = group_differences(found, pair)
        q_of_voxel, reach = q_values(pair.p), spread.reach() if found.n_images >= MIN_IMAGES else spread.error * np.nan
        effect = difference / np.sqrt(found.n_images) / np.where(spread.error > 0, spread.error, np.inf)
        change = own[pair.second]["depth"].to_numpy() - own[pair.first]["depth"].to_numpy()
        both = evident(own[pair.first]) & evident(own[pair.second])
        for g, (roi, mask) in enumerate(groups.items()):
            rows.append(
                {
                    "first": found.models[pair.first],
                    "second": found.models[pair.second],
                    "roi": roi,
                    "n_voxels": int((mask & np.isfinite(pair.r2)).sum()),
                    "r2_first": float(found.means[pair.first, g]),
                    "r2_second": float(found.means[pair.second, g]),
                    "r2_difference": float(found.means[pair.second, g] - found.means[pair.first, g]),
                    "r2_low": float(difference[g] - reach[g]),
                    "r2_high": float(difference[g] + reach[g]),
                    "effect": float(effect[g]),
                    "p": float(p[g]),
                    "n_better": int((mask & (q_of_voxel <= FDR) & (pair.r2 > 0)).sum()),
                    "n_worse": int((mask & (q_of_voxel <= FDR) & (pair.r2 < 0)).sum()),
                    "depth_difference": float(change[mask & both].mean()) if (mask & both).any() else np.nan,
                }
            )
    table = pd.DataFrame(rows)
    table.insert(list(table).index("p") + 1, "q", q_values(table["p"].to_numpy()))
    return table


def group_differences(found: Contrast, pair: Difference) -> tuple[Floats, Spread, Floats]:
    """Return the difference of the mean R² of all groups, its spread, and its two-sided p-values, (G,) each."""
    d = np.nan_to_num(found.values[pair.second] - found.values[pair.first])
    spreads, fits = [paired.over(d)], [found.fits[k] for k in (pair.first, pair.second)]
    if all(len(one) > 1 for one in fits):
        spreads += [paired.over(one) for one in fits]
    difference, spread = d.mean(axis=0), paired.together(spreads)
    return difference, spread, paired.p_values(difference, spread, len(d), paired.null_p_values(d, SEED))


def _table_1_rows(found: Contrast, groups: Groups) -> pd.DataFrame:
    """Return the scores of the "max" model and the differences of each model to it."""
    level = (paired.COVERED,)
    ends = np.stack([intervals(values, level)[0] for values in found.values])
    ends_of_square = np.stack([intervals(values, level)[0] for values in found.square_values])
    rows: list[Row] = []
    for g, (roi, mask) in enumerate(groups.items()):
        inside = mask & np.isfinite(found.best)
        if not inside.any():
            continue
        best = np.maximum(found.best[inside], LEAST_R2)
        about: Row = {"roi": roi, "n_voxels": int(inside.sum())}
        rows.append({**about, "model": MAX, "r2": float(best.mean())})
        for k, name in enumerate((*found.models, HONEST)):
            low, high = ends[k, :, g].tolist()
            row: Row = {**about, "model": name, "r2": float(found.means[k, g]), "r2_low": low, "r2_high": high}
            if k < len(found.models):
                score = np.maximum(found.r2[k, inside], LEAST_R2)
                squares = np.array([found.square_values[k, :, g].mean(), *ends_of_square[k, :, g]])
                corrected, low, high = np.sqrt(np.maximum(squares, 0)).tolist()
                row["root_sum_squared"] = root_sum_squared(best, score)
                row["root_mean_square"] = root_mean_square(best, score)
                row |= {"root_mean_square_low": low, "root_mean_square_high": high}
                row["root_mean_square_corrected"] = corrected
            rows.append(row)
    return pd.DataFrame(rows)


def _table_2_rows(found: Contrast, groups: Groups, own: Sequence[pd.DataFrame], rivals: Rivals) -> pd.DataFrame:
    """Return for each model its mean R², hierarchy slope, b0 and b1, and the spread of depth."""
    rows: list[Row] = []
    at = list(groups).index(ALL)
    low, high = intervals(found.values[:, :, at].T, (paired.COVERED,))[0]
    for k, (name, fits) in enumerate(rivals.models.items()):
        tables = [] if no_layer(fits) else [own[k], *(run.voxels for run in fits)]
        slope, *of_fits = [hierarchy_slope(table) or {} for table in tables] or [{}]
        rows.append(
            {
                "model": name,
                "n_layers": len(fits[0].layers),
                "n_fits": len(fits),
                "r2": float(found.means[k, at]),
                "r2_low": float(low[k]),
                "r2_high": float(high[k]),
                "r2_sd_fits": float(found.fits[k][:, at].std(ddof=1)) if len(fits) > 1 else np.nan,
                **{name: slope.get(name, np.nan) for name in SLOPE},
                "slope_sd_fits": float(np.std([one.get("slope", np.nan) for one in of_fits], ddof=1))
                if len(of_fits) > 1
                else np.nan,
                "depth_spread": robust_mean(own[k].loc[evident(own[k]), "depth_spread"].to_numpy()),
            }
        )
    return pd.DataFrame(rows)


def _best_rows(found: Contrast) -> pd.DataFrame:
    """Return the mean R² of the best of 1, 2, … models, chosen by the same images and by other images."""
    same, other = found.by_number.T
    numbers = np.arange(1, len(found.models) + 1)
    return pd.DataFrame({"n_models": numbers, "r2_same_images": same, "r2_other_images": other, "bias": same - other})


def _over_subjects(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Return the mean over subjects of the numbers, with standard deviations `…_sd`; [] for one subject.

    Each is over the subjects that have the number; `n_subjects` have the row. Intervals `…_low` and `…_high` are those
    of the mean over subjects (t distribution). Counts are sums. p-values are left out, because they are about the
    images of one subject.
    """
    if len(tables) < 2:
        return []
    from scipy.stats import t

    every = pd.concat(tables, ignore_index=True)
    columns = [str(name) for name in every]
    keys = [name for name in columns if name in KEYS and name != "subject"]
    counts = [name for name in columns if name.startswith("n_") and name not in KEYS and name != "n_layers"]
    left_out = {*keys, *counts, "subject", "p", "q", "effect"}
    numbers = [name for name in columns if name not in left_out and not name.endswith(("_low", "_high", "_sd_fits"))]
    groups = every.groupby(keys, sort=False)
    mean, sd, n = groups[numbers].mean(), groups[numbers].std(), groups[numbers].count()
    out = mean.join(sd.add_suffix("_sd")).join(groups[counts].sum()).assign(n_subjects=groups.size())
    for name in numbers:
        short = name.removesuffix("_difference")
        if f"{short}_low" in every:
            reach = t.ppf((1 + paired.COVERED) / 2, n[name] - 1) * sd[name] / np.sqrt(n[name])
            out[f"{short}_low"], out[f"{short}_high"] = mean[name] - reach, mean[name] + reach
    return [out.reset_index().assign(subject=f"{MEAN} of {len(tables)} subjects")]
