"""Expected forgetting, with the evidence that it rests on: networks whose slope before and loss after are known.

The claim under question: a network with a larger hierarchy slope loses less of its brain score when it is fine-tuned.
A number is given for another network only if the evidence shows an association of slope and loss: p ≤ 0.05 over the
orders of more than four networks, and no single network decides it. Else the slope is not known to say anything about
the loss, and a number would pretend that it does.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bddn.errors import DataError
from bddn.evaluation.contrast.published import PUBLISHED
from bddn.evaluation.diagnosis.claims import Claim, Read, number
from bddn.evaluation.forgetting.association_words import LEAST_NETWORKS, in_words
from bddn.evaluation.forgetting.experiment import CLAIM, OUTCOMES, networks_of, read_experiment
from bddn.stats.association import LEVEL, Association, associate

PAPER = "Yang, Gee and Shi, Brain Decodes Deep Nets, CVPR 2024"


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
    def association(self) -> Association:
        """How the loss goes with the slope."""
        names = self.networks["network"].tolist()
        return associate(self.networks["slope"].to_numpy(), self.networks["loss"].to_numpy(), names)

    @property
    def is_informative(self) -> bool:
        """Whether the evidence shows that slope and loss go together, and no single network decides that."""
        found = self.association
        return found.n > LEAST_NETWORKS and found.is_significant and found.is_stable

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


def of_experiment(path: Path) -> Evidence:
    """Read the networks of an experiment of the user; see `bddn.evaluation.forgetting.experiment`.

    Raises
    ------
    DataError
        If the file is no experiment, or has no network with slope and scores.
    """
    found, notes = networks_of(read_experiment(path))
    if found.empty:
        raise DataError(
            path,
            expected="networks with a slope and scores",
            got=" ".join(notes) or "no row",
            fix="Give the experiment.csv that 'python pipelines/hierarchy_and_forgetting.py' writes.",
        )
    networks = found.rename(columns={CLAIM: "slope", "brain_loss": "loss", "n_rows": "n"})
    return Evidence(
        str(path),
        f"{path}: {int(networks['n'].sum())} fine-tunings of {len(networks)} networks",
        networks[["network", "slope", "loss", "n"]],
        " ".join(["It holds for networks, image sets, brains and fits like those of the experiment.", *notes]),
    )


def association_claim(evidence: Evidence) -> Claim:
    """Return the claim on whether the slope predicts the loss of brain score, by some evidence."""
    found = evidence.association
    r = found.pearson
    said = " ".join(in_words(found, OUTCOMES["brain_loss"])).replace("-", "−")
    said = said[0].upper() + said[1:]
    if not evidence.is_informative:
        reach = ""
        if found.n > 2 and np.isfinite(r.r):
            _, low, high = evidence.expected(float(evidence.networks["slope"].mean()))
            reach = f"The loss of a network of mean slope could be predicted only to ± {(high - low) / 2:.3f}, so "
        said += f" {reach or 'So '}no number is given for other networks."
    known = np.isfinite(r.low)
    return Claim(
        "slope and forgetting",
        said,
        r.r if np.isfinite(r.r) else None,
        r.low if known else None,
        r.high if known else None,
        f"95 %, over {found.n} networks (Fisher's z)" if known else "none: too few networks",
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
            expected="a forgetting.json of one step of 'python pipelines/finetuning.py'",
            got=f"{type(error).__name__}: {error}",
            fix="Give OUT/NETWORK/SET/step_N/forgetting.json; or the experiment.csv of 'python "
            "pipelines/hierarchy_and_forgetting.py'.",
        ) from error
    return found
