"""The table of controls: scores of all of them by region, and where the fit does not beat them.

Shape letters: N voxels, G regions, M test images.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.stats.evidence import evident
from bddn.stats.region_scores import interval
from bddn.stats.scores import ALL

FIT = "fit"
BETTER, WORSE, UNKNOWN = "fit better", "control better", "no difference shown"


@dataclass(frozen=True)
class Outcome:
    """What one control gave.

    Attributes
    ----------
    voxels : DataFrame, N rows
        With `r2_test` and `q_test`.
    scores : array of float64, (G, 1 + M)
        Result of `stats.region_scores`.
    slope : float, optional
        Hierarchy slope; None where layers are not selected, or an ROI has no voxel with evidence.
    seconds : float
    note : str
        What was reduced, or ''.
    """

    voxels: pd.DataFrame
    scores: npt.NDArray[np.float64]
    slope: float | None
    seconds: float
    note: str = ""


def control_table(
    outcomes: Mapping[str, Outcome], regions: Mapping[str, npt.NDArray[np.bool_]], missing: Mapping[str, str]
) -> pd.DataFrame:
    """Return one row per control and region; a control that is not available has one row, with its `reason`.

    Parameters
    ----------
    outcomes : mapping of str to Outcome
        One of them is the fit.
    regions : mapping of str to mask
        In the order of the scores.
    missing : mapping of str to str
        Reasons, by control.

    Returns
    -------
    DataFrame
        `control`, `region`, `n_voxels` (with a score), `n_evident`; `r2`, robust mean of R² on the test
        images; `r2_expected`, the mean that is expected on very many images, with its 95 % interval `r2_low` to
        `r2_high`; `difference`, `difference_low`, `difference_high`: the fit's mean less the
        control's; `verdict`; `slope` and `seconds` of the control as a whole; `note`; `reason`.
    """
    rows, of_fit = [], outcomes[FIT].scores
    for name, found in outcomes.items():
        has_score, has_evidence = np.isfinite(found.voxels["r2_test"].to_numpy()), evident(found.voxels)
        apart = of_fit - found.scores if name != FIT else np.full_like(of_fit, np.nan)
        ends, ends_apart = interval(found.scores), interval(apart)
        for k, (region, mask) in enumerate(regions.items()):
            low, high = ends_apart[0][k], ends_apart[1][k]
            rows.append(
                {
                    "control": name,
                    "region": region,
                    "n_voxels": int((mask & has_score).sum()),
                    "n_evident": int((mask & has_evidence).sum()),
                    "r2": found.scores[k, 0],
                    "r2_expected": found.scores[k, 1:].mean(),
                    "r2_low": ends[0][k],
                    "r2_high": ends[1][k],
                    "difference": apart[k, 0],
                    "difference_low": low,
                    "difference_high": high,
                    "verdict": "" if name == FIT else BETTER if low > 0 else WORSE if high < 0 else UNKNOWN,
                    "slope": np.nan if found.slope is None else found.slope,
                    "seconds": found.seconds,
                    "note": found.note,
                    "reason": "",
                }
            )
    rows += [
        {"control": name, "region": ALL, "verdict": "", "note": "", "reason": reason}
        for name, reason in missing.items()
    ]
    return pd.DataFrame(rows).astype({"n_voxels": "Int64", "n_evident": "Int64"})


def sentences(table: pd.DataFrame) -> list[str]:
    """Return for every control one sentence that says where the fit does not predict more."""
    said = []
    for name, rows in table[table["control"] != FIT].groupby("control", sort=False):
        if rows["reason"].iloc[0]:
            said.append(f"{name}: not available, because {rows['reason'].iloc[0]}.")
            continue
        better, worse, unknown = (rows[rows["verdict"] == verdict] for verdict in (BETTER, WORSE, UNKNOWN))
        if len(better) == len(rows):
            where = "in all voxels" if len(rows) == 1 else "in all voxels and in each ROI"
            said.append(f"{name}: FactorTopy predicts more {where}.")
            continue
        lost = ", ".join(f"{_region(row)} ({_difference(row)})" for _, row in worse.iterrows())
        parts = [f"FactorTopy predicts less than the control in {lost}"] if lost else []
        parts += [f"no difference is shown in {', '.join(_region(row) for _, row in unknown.iterrows())}"] * bool(
            len(unknown)
        )
        said.append(f"{name}: {'; '.join(parts)}.")
    return said


def to_text(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return one row of text per control, for printing."""
    regions: list[str] = table["region"].unique().tolist()
    found = []
    for name, rows in table.groupby("control", sort=False):
        first, means = rows.iloc[0], rows.set_index("region")["r2"]
        gone = bool(first["reason"])
        found.append(
            {
                "control": str(name),
                "R²": "not available" if gone else f"{first['r2']:.3f}",
                "many images": ""
                if gone
                else f"{first['r2_expected']:.3f} [{first['r2_low']:.3f}, {first['r2_high']:.3f}]",
                "fit - control": "" if gone or name == FIT else _difference(first),
                **{roi: f"{means[roi]:.3f}" if roi in means.index else "" for roi in regions if roi != ALL},
                "evident": "" if gone else f"{first['n_evident']} of {first['n_voxels']}",
                "slope": "-" if pd.isna(first["slope"]) else f"{first['slope']:.2f}",
                "s": "" if gone else f"{first['seconds']:.0f}",
            }
        )
    return found


def _region(row: "pd.Series[str]") -> str:
    return "all voxels" if row["region"] == ALL else str(row["region"])


def _difference(row: "pd.Series[float]") -> str:
    return f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
