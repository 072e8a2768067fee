"""Scores of a run on its test images: of every voxel, and of every ROI and hemisphere with intervals.

`score/` in the run folder contains `voxels.parquet`, one row per voxel in the order of the run's table, and
`summary.csv` and `summary.json`, one row per ROI, hemisphere and set of voxels. The JSON file also describes every
column, and names settings, inputs and versions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import place_columns, place_words, sides
from bddn.data.covariates import Effects
from bddn.evaluation.kept_responses import FOLDER, HeldOut, about_scored
from bddn.files import atomic
from bddn.machine.settings import own_settings
from bddn.run.covariate_file import read_effects
from bddn.run.folder import Run, about_data, without_nan
from bddn.run.inputs import environment
from bddn.stats.blocks import voxel_blocks
from bddn.stats.evidence import FDR, evident, is_tested
from bddn.stats.jackknife import MIN_IMAGES, N_DRAWS, intervals, r2_interval, r2_without_each
from bddn.stats.region_scores import RegionSums
from bddn.stats.scores import ALL, LEAST_R2, challenge_score, normalised, r2_and_r, robust_mean, roi_masks

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

VOXELS, SUMMARY = "voxels.parquet", "summary"
RELIABLE = 0.1  # noise ceiling from which a voxel is reliable
LEVELS = (0.9, 0.95)
VOXEL_LEVEL = 0.95
BOTH, EVIDENT = "both", "evident"
NO_CEILING = "not available: the data have no noise ceilings"
NO_TEST = "not available: a run of version 0.2.0 has no test of evidence"
NO_INTERVAL = f"not available: fewer than {MIN_IMAGES} test images"
CHOSEN = "not available: the test images that score these voxels have chosen them, which raises their mean"

COLUMNS = {
    "hemi": "hemisphere: lh or rh",
    "vertex": "number of the vertex on fsaverage7",
    "roi": "ROI, or empty",
    "trials": "what a response is: averaged (over the repetitions of an image), single (a trial), or unknown",
    "n_images": "number of test images",
    "r2": "R² on the test images, raw: 1 - Σ(y - ŷ)² / Σ(y - ȳ)²; empty for constant responses",
    "r2_low": "lower end of the 95 % interval of R² on very many images, by a jackknife over test images",
    "r2_high": "upper end of this interval",
    "r": "Pearson's correlation of measured and predicted responses",
    "ceiling": "noise ceiling: explainable share of the variance, 0 to 1; empty if unknown",
    "r2_normalised": "R² / ceiling; not bounded; empty if the ceiling is 0 or unknown",
    "challenge_score": "Algonauts 2023 challenge: min(1, max(r, 0)² / ceiling); empty if the ceiling is 0 or unknown",
    "reliable": f"whether the ceiling is known and at least {RELIABLE}",
    "evident": f"whether the voxel has evidence of a score above chance: q_test of the run at most {FDR}",
}
OF_COVARIATES = {  # of a fit that took the part of covariates out of the responses, whose r2 and r are without it
    "r2_whole": "R² of the whole prediction, by image and covariates, of the measured responses",
    "r2_images": "R² of the images alone, of the measured responses; r2_normalised and challenge_score are of these",
}
SUMMARY_COLUMNS = {
    "roi": "ROI, both hemispheres' labels by all atlases; 'all' for all voxels",
    "hemi": "lh, rh or both",
    "voxels": "which voxels: all, reliable (ceiling known and at least the stated level) or evident",
    "trials": COLUMNS["trials"],
    "n_images": COLUMNS["n_images"],
    "n": "number of voxels with a score, over which r2_mean and r2_median are",
    "r2_mean": "mean R²; scores below -1 count as -1",
    "r2_expected": "mean R² expected on very many images: r2_mean without its bias of about -(1 - R²) / n_images; "
    "empty for evident voxels, which the same test images have chosen",
    "r2_low_90": "lower end of the 90 % interval of r2_expected, by a bootstrap over test images",
    "r2_high_90": "upper end of this interval",
    "r2_low_95": "lower end of the 95 % interval of r2_expected",
    "r2_high_95": "upper end of this interval",
    "r2_median": "median R²",
    "n_without_score": "voxels with constant responses, which are left out",
    "n_below": "voxels with R² below -1, which count as -1",
    "n_ceiling_0": "voxels with a ceiling of 0, which all columns below leave out",
    "n_ceiling_unknown": "voxels with an unknown ceiling, which all columns below leave out",
    "ceiling_mean": "mean noise ceiling",
    "normalised_mean": "mean of R² / ceiling over voxels; values below -1 count as -1",
    "ratio_of_means": "mean R² over mean ceiling; less noisy than normalised_mean where ceilings are low",
    "n_above_1": "voxels with R² / ceiling above 1, which noise alone can cause",
    "challenge_score": "mean challenge score of the voxels with a correlation; times 100 in the challenge's percent",
    "n_challenge": "number of these voxels",
}


@dataclass(frozen=True)
class Scored:
    """Scores of a run.

    Attributes
    ----------
    trials : str
        What a response is; see `bddn.data.dataset.About`.
    n_images, n_responses : int
        Number of test images, and of responses to them, over which R² and r are.
    voxels : DataFrame, N rows
        With `COLUMNS`; `evident` is missing if the run has no test.
    summary : DataFrame
        With `SUMMARY_COLUMNS`, one row per ROI, hemisphere and set of voxels that is not empty.
    not_available : dict
        What cannot be known of these data, each with its reason.
    """

    trials: str
    n_images: int
    n_responses: int
    voxels: pd.DataFrame
    summary: pd.DataFrame
    not_available: dict[str, str]


@dataclass(frozen=True)
class Group:
    """Some voxels of one ROI and hemisphere."""

    roi: str
    hemi: str
    voxels: str
    mask: Mask


@own_settings()
def score_run(run: Run, held_out: HeldOut) -> Scored:
    """Score a run on its measured and predicted responses, which are read once, in blocks of voxels.

    Parameters
    ----------
    run : Run
    held_out : HeldOut
        Of this run.
    """
    trials, n_images, n_responses = str(about_data(run)["trials"]), len(held_out.ids), len(held_out.measured)
    table = run.voxels[[*place_columns(run.voxels), "roi"]].assign(trials=trials, n_images=n_images)
    ceiling = run.voxels.get("ceiling", pd.Series(np.nan, run.voxels.index)).to_numpy(np.float64)
    masks = {"reliable": ceiling >= RELIABLE}
    if is_tested(run.voxels):
        masks[EVIDENT] = evident(run.voxels)
    groups = list(_groups(run.voxels, masks))
    scores, of_groups = _scores(held_out, [group.mask for group in groups])
    table[["r2", "r2_low", "r2_high", "r"]] = scores.T
    r2, r = scores[0], scores[3]
    effects = read_effects(run)
    if effects is not None:
        table["r2_whole"], r2, r = with_covariates(held_out, effects)
        table["r2_images"] = r2
    table = table.assign(
        ceiling=ceiling,
        r2_normalised=normalised(r2, ceiling),
        challenge_score=challenge_score(r, ceiling),
        **masks,
    )
    not_available = {"intervals of evident voxels": CHOSEN} if is_tested(run.voxels) else {"evident": NO_TEST}
    if np.isnan(ceiling).all():
        needing = ("ceiling", "r2_normalised", "challenge_score", "reliable")
        not_available |= dict.fromkeys(needing, NO_CEILING)
    if n_images < MIN_IMAGES:
        not_available["intervals"] = NO_INTERVAL
    chosen = [group.voxels == EVIDENT for group in groups]
    for values in of_groups[1:]:
        values[chosen] = np.nan
    columns = [*SUMMARY_COLUMNS, *(f"{name}_mean" for name in OF_COVARIATES if name in table)]
    rows = [_row(group, table, *values) for group, values in zip(groups, zip(*of_groups, strict=True), strict=True)]
    return Scored(trials, n_images, n_responses, table, pd.DataFrame(rows, columns=columns), not_available)


def write_scores(found: Scored, run: Run, leaks: dict[str, Any]) -> None:
    """Write the scores into the folder `score/` of the run; existing files are replaced.

    `leaks` says what the audit of the split found, as `bddn.evaluation.leaks.auditing.refuse_leaks` returns it.
    """
    folder = run.folder / FOLDER
    more = OF_COVARIATES if "r2_whole" in found.voxels else {}
    about = {
        "title": run.metrics["title"],
        "trials": found.trials,
        "n_images": found.n_images,
        **({} if found.n_responses == found.n_images else {"n_responses": found.n_responses}),
        "not_available": found.not_available,
        "leaks": leaks,
        "settings": {
            "reliable_ceiling": RELIABLE,
            "least_r2": LEAST_R2,
            "false_discovery_rate": FDR,
            "draws": N_DRAWS,
            "min_images_of_an_interval": MIN_IMAGES,
        },
        "inputs": {
            **about_scored(run.folder),
            "cache_digest": run.about["cache"]["digest"],
            "data": run.about["data"],
        },
        "versions": environment("cpu"),
        "columns": {
            f"{SUMMARY}.csv": SUMMARY_COLUMNS | {f"{name}_mean": f"mean of {name}" for name in more},
            VOXELS: COLUMNS | place_words(found.voxels) | more,
        },
    }
    text = found.summary.to_csv(index=False, lineterminator="\n")
    atomic.write_table(folder / VOXELS, found.voxels, index=False)
    atomic.write_text(folder / f"{SUMMARY}.csv", text)
    atomic.write_json(folder / f"{SUMMARY}.json", without_nan({**about, "rows": found.summary.to_dict("records")}))


def _groups(voxels: pd.DataFrame, masks: dict[str, Mask]) -> Iterator[Group]:
    """Yield the groups that have voxels: all voxels and each ROI, by hemisphere and set of voxels."""
    every = np.ones(len(voxels), np.bool_)
    parts = {BOTH: every, **{side: mask for side, mask in sides(voxels).items() if side != ALL}}
    for roi, inside in roi_masks(voxels).items():
        for side, of_side in parts.items():
            here = inside & of_side
            for name, chosen in {ALL: every, **masks}.items():
                if (mask := here & chosen).any():
                    yield Group(roi, side, name, mask)


def _scores(held_out: HeldOut, masks: Sequence[Mask]) -> tuple[Floats, tuple[Floats, Floats, Floats]]:
    """Return R², its interval and r of every voxel, (4, N), and for the groups of the masks (G, N) the mean R² (G,),
    the mean that is expected on very many images (G,), and its intervals (G, K, 2)."""
    n_voxels = held_out.measured.shape[1]
    scores, sums = np.empty((4, n_voxels)), RegionSums(masks, len(held_out.ids))
    for some in voxel_blocks(n_voxels):
        measured, predicted = held_out.measured[:, some], held_out.predicted[:, some]
        r2, r = r2_and_r(measured, predicted)
        each = r2_without_each(measured, predicted, held_out.image_of)
        scores[:, some] = r2, *r2_interval(r2, each, VOXEL_LEVEL), r
        sums.add(some, r2, each)
    mean, pseudo = sums.means()
    return scores, (mean, pseudo.mean(0), intervals(pseudo, LEVELS).transpose(2, 0, 1))


def with_covariates(held_out: HeldOut, effects: Effects) -> tuple[Floats, Floats, Floats]:
    """Return, of the measured responses, R² (N,) of the whole prediction, and R² and r (N,) of the images alone."""
    assert held_out.covariates is not None
    n_voxels = held_out.measured.shape[1]
    whole, r2, r = np.empty((3, n_voxels))
    for some in voxel_blocks(n_voxels):
        part = effects.of_voxels(some).part(held_out.covariates)
        measured, predicted = held_out.measured[:, some] + part, held_out.predicted[:, some]
        whole[some] = r2_and_r(measured, predicted + part)[0]
        r2[some], r[some] = r2_and_r(measured, predicted)
    return whole, r2, r


def _row(group: Group, table: pd.DataFrame, mean: float, expected: float, ends: Floats) -> dict[str, Any]:
    """Return the row of a group in the summary."""
    of = table[group.mask]
    r2, ceiling = of["r2"].to_numpy(), of["ceiling"].to_numpy()
    known = (ceiling > 0) & np.isfinite(r2)
    of_images = of["r2_images" if "r2_images" in of else "r2"].to_numpy()
    challenge, ratios = of["challenge_score"].dropna(), of["r2_normalised"].to_numpy()[known]
    of_ceiling = float(ceiling[known].mean()) if known.any() else np.nan
    return {
        "roi": group.roi,
        "hemi": group.hemi,
        "voxels": group.voxels,
        **{name: of[name].iloc[0] for name in ("trials", "n_images")},
        "n": int(np.isfinite(r2).sum()),
        "r2_mean": mean,
        "r2_expected": expected,
        **{
            f"r2_{end}_{100 * level:.0f}": float(ends[k, side])
            for k, level in enumerate(LEVELS)
            for side, end in enumerate(("low", "high"))
        },
        "r2_median": float(np.nanmedian(r2)) if np.isfinite(r2).any() else np.nan,
        "n_without_score": int(np.isnan(r2).sum()),
        "n_below": int((r2 < LEAST_R2).sum()),
        "n_ceiling_0": int((ceiling == 0).sum()),
        "n_ceiling_unknown": int(np.isnan(ceiling).sum()),
        "ceiling_mean": of_ceiling,
        "normalised_mean": robust_mean(ratios),
        "ratio_of_means": robust_mean(of_images[known]) / of_ceiling if known.any() else np.nan,
        "n_above_1": int((ratios > 1).sum()),
        "challenge_score": float(challenge.mean()) if len(challenge) else np.nan,
        "n_challenge": len(challenge),
        **{f"{name}_mean": robust_mean(of[name].to_numpy()) for name in OF_COVARIATES if name in of},
    }
