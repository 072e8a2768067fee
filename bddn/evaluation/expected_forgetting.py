"""Expected forgetting, with the evidence that it rests on: networks whose slope before and loss after are known.

The claim under question: a network with a larger hierarchy slope loses less of its brain score when it is fine-tuned.
Evidence is a table of networks; the network is the unit, so several image sets and seeds of a network are averaged. A
number is given for another network only if the correlation of slope and loss is surely not 0 (95 % interval). Else the
slope is not known to say anything about the loss, and a number would pretend that it does.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bddn.errors import DataError
from bddn.evaluation.claims import Claim, Read, number
from bddn.evaluation.published import PUBLISHED

CSV_COLUMNS = ("network", "slope_before", "r2_before", "r2_after")
LEVEL = 0.95
PAPER = "Yang, Gee and Shi, Brain Decodes Deep Nets, CVPR 2024"
LEAST_NETWORKS = 4  # for an interval of a correlation


@dataclass(frozen=True)
class Evidence:
    """Networks whose slope and loss are known.

    Attributes
    ----------
    name : str
        'published', or the file.
    source : str
    networks : DataFrame
        One row per network: `network`, `slope` before, `loss` of brain score R² by fine-tuning, `n` losses averaged.
    limits : str
        What this evidence cannot tell.
    """

    name: str
    source: str
    networks: pd.DataFrame
    limits: str

    @property
    def correlation(self) -> tuple[float, float, float] | None:
        """Pearson's correlation of slope and loss with its 95 % interval (Fisher's z); None if there are fewer than 4
        networks, or all have the same slope or loss."""
        from scipy.stats import pearsonr

        slope, loss = (self.networks[name].to_numpy(np.float64) for name in ("slope", "loss"))
        if len(slope) < LEAST_NETWORKS or np.ptp(slope) == 0 or np.ptp(loss) == 0:
            return None
        found = pearsonr(slope, loss)
        interval = found.confidence_interval(LEVEL)
        return float(found.statistic), float(interval.low), float(interval.high)

    @property
    def is_informative(self) -> bool:
        """Whether the interval of the correlation does not contain 0."""
        found = self.correlation
        return found is not None and (found[1] > 0 or found[2] < 0)

    def expected(self, slope: float) -> tuple[float, float, float]:
        """Return the loss that is expected of one more network with this slope, and its 95 % prediction interval."""
        from scipy.stats import t

        x, y = (self.networks[name].to_numpy(np.float64) for name in ("slope", "loss"))
        gain, offset = np.polyfit(x, y, 1)
        freedom, away = len(x) - 2, x - x.mean()
        error = np.sqrt(np.square(y - gain * x - offset).sum() / freedom)
        reach = t.ppf((1 + LEVEL) / 2, freedom) * error
        reach *= np.sqrt(1 + 1 / len(x) + (slope - x.mean()) ** 2 / (away @ away))
        value = gain * slope + offset
        return float(value), float(value - reach), float(value + reach)


def published() -> Evidence:
    """Return the four networks whose loss the paper printed, with their slopes (Tables 2 and 3)."""
    table_3, slopes = PUBLISHED[3], PUBLISHED[2]["slope"]
    loss = table_3["original"] - table_3[["isic", "eurosat"]].mean(axis=1)
    networks = pd.DataFrame(
        {"network": table_3.index, "slope": slopes[table_3.index].to_numpy(), "loss": loss.to_numpy(), "n": 2}
    )
    return Evidence(
        "published",
        f"{PAPER}, Table 2 (slopes) and Table 3 (R² before and after fine-tuning on ISIC and EuroSAT)",
        networks,
        "Four networks, printed without intervals; Table 3 does not name their sizes, so their slopes are those of the "
        "rows of Table 2 with the same R². The networks also differ in training, data and architecture. R² is that of "
        "single trials of NSD.",
    )


def read_experiment(path: Path) -> Evidence:
    """Read the networks of an experiment of the user: a CSV file with one row per network, image set and seed.

    Raises
    ------
    DataError
        If the file lacks a column, or has fewer than two networks with all numbers.
    """
    fix = "Give the experiment.csv that 'python pipelines/hierarchy_and_forgetting.py' writes."
    wanted = f"a CSV file with the columns {', '.join(CSV_COLUMNS)}"
    try:
        table = pd.read_csv(path)
        rows = table[list(CSV_COLUMNS)].astype(dict.fromkeys(CSV_COLUMNS[1:], np.float64))
    except (ValueError, KeyError, UnicodeDecodeError) as error:
        raise DataError(path, expected=wanted, got=f"{type(error).__name__}: {error}", fix=fix) from error
    known = rows[np.isfinite(rows[list(CSV_COLUMNS[1:])].to_numpy()).all(axis=1)].dropna(subset=["network"])
    lost = known.assign(network=known["network"].astype(str), loss=known["r2_before"] - known["r2_after"])
    networks = lost.groupby("network", sort=False).agg(
        slope=("slope_before", "mean"), loss=("loss", "mean"), n=("loss", "size")
    )
    if len(networks) < 2:
        got = f"{len(networks)} of {rows['network'].nunique()} networks with slope and scores"
        raise DataError(path, expected="two networks or more", got=got, fix=fix)
    left_out = len(rows) - len(known)
    return Evidence(
        str(path),
        f"{path}: {len(known)} fine-tunings of {len(networks)} networks"
        + (f"; {left_out} without slope or score are left out" if left_out else ""),
        networks.reset_index(),
        "It holds for networks, image sets, brains and fits like those of the experiment.",
    )


def association(evidence: Evidence) -> Claim:
    """Return the claim on whether the slope predicts the loss of brain score, by some evidence."""
    n, found = len(evidence.networks), evidence.correlation
    r, low, high = (None, None, None) if found is None else found
    if found is None:
        said = f"{_count(n)} networks are too few, or too much alike, to tell whether the slope predicts forgetting."
    elif evidence.is_informative:
        less = "less" if found[0] < 0 else "more"
        said = f"In {n} networks, those with a larger slope lost {less} brain score: correlation {number(found[0])}."
    else:
        _, reach_low, reach_high = evidence.expected(float(evidence.networks["slope"].mean()))
        vague = ", and almost any value is possible" if found[2] - found[1] > 1 else ""
        said = (
            f"{_count(n)} networks do not tell whether the slope predicts forgetting: the correlation of slope and "
            f"loss of R² is {number(found[0])}{vague}. For a network of mean slope, the loss could be predicted only "
            f"to ± {(reach_high - reach_low) / 2:.3f}, so no number is given."
        )
    return Claim(
        "slope and forgetting",
        said,
        r,
        low,
        high,
        f"95 %, over {n} networks (Fisher's z)" if found else "none: too few networks",
        evidence.source,
        evidence.limits,
        not evidence.is_informative,
    )


def expectations(read: Read, evidence: Sequence[Evidence]) -> list[Claim]:
    """Return what a network is expected to lose, by each evidence that tells something."""
    found = read.hierarchy
    if found is None:
        return []
    claims = []
    for one in evidence:
        if not one.is_informative:
            continue
        value, low, high = one.expected(found.slope)
        x = one.networks["slope"]
        beyond = (
            ""
            if x.min() <= found.slope <= x.max()
            else (f" Its slope lies outside those of the evidence, {number(x.min())} to {number(x.max())}.")
        )
        claims.append(
            Claim(
                "expected forgetting",
                f"Fine-tuning is expected to cost {value:.3f} of its mean brain score R².{beyond}",
                value,
                low,
                high,
                f"95 % prediction interval, from {len(one.networks)} networks",
                one.source,
                f"{one.limits} The error of the network's own slope is not in the interval.",
                bool(beyond),
            )
        )
    return claims


@dataclass(frozen=True)
class Measured:
    """A measured forgetting: the content of a `forgetting.json`, and its path."""

    path: Path
    numbers: dict[str, Any]

    @property
    def cache_digest(self) -> str:
        """Digest of the cache of the network before."""
        return str(self.numbers["runs"]["before"]["cache_digest"])

    def claim(self) -> Claim:
        """Return what was measured, as a claim."""
        score, moved = self.numbers["score"], self.numbers["rewiring"]
        ratio = moved.get("ratio")
        return Claim(
            "measured forgetting",
            f"Trained further, it changed its mean brain score R² by {number(score['difference'], 3)}"
            + (f", and voxels moved {ratio:.1f} times as far along depth as between seeds." if ratio else "."),
            score["difference"],
            score["low"],
            score["high"],
            "95 %, over test images",
            f"{self.path}; after: {self.numbers['runs']['after']['folder']}",
            "It is one fine-tuning of one network. Other images, settings or seeds may change it more, or less.",
            score["high"] < 0,
        )


def read_measured(path: Path) -> Measured:
    """Read a `forgetting.json`.

    Raises
    ------
    DataError
        If it is no such file.
    """
    try:
        found = Measured(path, json.loads(path.read_text(encoding="utf-8")))
        _ = found.cache_digest, found.claim()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            path,
            expected="a forgetting.json of 'python pipelines/finetuning.py'",
            got=f"{type(error).__name__}: {error}",
            fix="Give a forgetting.json, or the experiment.csv of 'python pipelines/hierarchy_and_forgetting.py'.",
        ) from error
    return found


def _count(n: int) -> str:
    return {2: "Two", 3: "Three", 4: "Four"}.get(n, f"{n}")
