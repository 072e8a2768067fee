"""The claim that networks with a larger hierarchy slope forget less, as an experiment over networks.

An experiment is a table with one row per network, image set and seed of a fine-tuning. Networks are the units: rows of
one network are averaged over seeds, then over image sets, because they tell nothing about other networks. Every network
must therefore have met the same image sets; those that have not are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bddn.errors import DataError
from bddn.files.checksum import file_sha256
from bddn.run.folder import without_nan
from bddn.run.inputs import environment
from bddn.stats.association import LEVEL, Association, associate, difference_of_correlations
from bddn.stats.evidence import q_values

NAMES = ("network", "task")
KEYS = (*NAMES, "seed")
COLUMNS: Mapping[str, str] = {
    "network": "name of the network",
    "task": "name of the image set",
    "seed": "seed of the fine-tuning and of the encoder",
    "slope_before": "hierarchy slope before fine-tuning, with its 95 % interval slope_low to slope_high over blocks of "
    "cortex; empty if an ROI has no voxel with evidence",
    "r2_before": "mean R² over voxels before; r2_after: after",
    "old_accuracy_before": "accuracy of a linear probe of the old task before; old_accuracy_after: of the same probe "
    "on the features after",
    "accuracy": "held-out accuracy of the new task after",
    "rewiring": "mean |difference of depth| of voxels before and after; rewiring_noise: between seeds of the network "
    "before",
    "cka": "linear CKA of tokens before and after, mean over layers",
    "neighbours": "share of common nearest neighbours of tokens before and after, mean over layers",
    "n_parameters": "weights of the network",
}
NUMBERS = ("slope_before", "r2_before", "r2_after", "old_accuracy_before", "old_accuracy_after", "accuracy", "rewiring",
           "rewiring_noise", "cka", "neighbours", "n_parameters")  # fmt: skip
CLAIM = "slope_before"
OUTCOMES: Mapping[str, str] = {
    "brain_loss": "loss of brain score",
    "old_loss": "loss of old-task accuracy",
    "rewired": "rewiring beyond seeds",
}
"""r2_before - r2_after, old_accuracy_before - old_accuracy_after, rewiring - rewiring_noise."""
PREDICTORS: Mapping[str, str] = {
    CLAIM: "hierarchy slope before",
    "r2_before": "brain score before",
    "old_accuracy_before": "old-task accuracy before",
    "log10_parameters": "log10 of the number of weights",
    "accuracy": "new-task accuracy after",
    "cka": "CKA of before and after",
    "neighbours": "common neighbours of before and after",
}
"""The claim's predictor and its rivals."""
KNOWN_AFTER = ("accuracy", "cka", "neighbours")
"""Rivals that are known only after the fine-tuning: they may explain forgetting, but cannot predict it."""


@dataclass(frozen=True)
class Experiment:
    """The associations of an experiment.

    Attributes
    ----------
    networks : DataFrame, n rows
        Means of each network: `network`, the predictors and the outcomes.
    associations : DataFrame, one row per outcome and predictor
        `n`, Pearson's `r` with `r_low`, `r_high`, `p`, and `q`, the false discovery rate over all rows; the same of
        ranks, `spearman`…; `change` of the outcome per unit of the predictor with its interval; `without_low` and
        `without_high`, the range of r without one network, and `without_most`, the network that matters most; for a
        rival, `ahead`, how much larger |r| of the slope is, with its interval.
    notes : list of str
        What is left out, and why.
    claims : dict of str to Association
        Those of the slope, by outcome.
    """

    networks: pd.DataFrame
    associations: pd.DataFrame
    notes: list[str]
    claims: dict[str, Association]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `association.json`, without files and versions."""
        found: dict[str, Any] = without_nan(
            {
                "n_networks": len(self.networks),
                "notes": self.notes,
                "networks": self.networks.to_dict("records"),
                "associations": self.associations.to_dict("records"),
                "claims": {name: one.to_dict() for name, one in self.claims.items()},
                "level": LEVEL,
            }
        )
        return found


def read_experiment(path: Path) -> pd.DataFrame:
    """Read an experiment: a CSV file with the columns of `COLUMNS`.

    Columns of numbers that are missing are NaN, except slope and scores. Every row needs a network and an image set.

    Raises
    ------
    DataError
        If it is no such file, a number is not one, or a network, image set and seed occur twice.
    """
    needed = (*KEYS, *NUMBERS[:3])
    fix = "Give the experiment.csv that 'python pipelines/hierarchy_and_forgetting.py' writes."
    try:
        data = path.read_bytes()
        table = pd.read_csv(BytesIO(data))
        got = f"no columns {', '.join(name for name in needed if name not in table)}"
        table = table[list(needed)].join(table.drop(columns=list(needed)))
        names = pd.read_csv(BytesIO(data), usecols=NAMES, dtype=str, keep_default_na=False)  # "NA" is a name too
        table[list(NAMES)] = names[list(NAMES)]
        for name in NUMBERS:
            table[name] = pd.to_numeric(table[name]) if name in table else np.nan
        twice = table[table.duplicated(list(KEYS))]
        got = "" if twice.empty else f"twice: {', '.join(str(value) for value in twice.iloc[0][list(KEYS)])}"
        nameless = np.flatnonzero((names == "").any(axis=1))
        got = f"no network or task in row {nameless[0] + 1}" if len(nameless) else got
    except (OSError, ValueError, KeyError) as error:
        got = got if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
    if got:
        wanted = "one row per network, task and seed with slope_before, r2_before and r2_after"
        raise DataError(path, expected=wanted, got=got, fix=fix)
    return table


def with_outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of an experiment with columns for `OUTCOMES`."""
    noise = table["rewiring_noise"]
    return table.assign(
        brain_loss=table["r2_before"] - table["r2_after"],
        old_loss=table["old_accuracy_before"] - table["old_accuracy_after"],
        rewired=table["rewiring"] - (noise if noise.notna().any() else 0.0),  # one seed tells nothing about noise
    )


def networks_of(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Average the rows of each network over seeds, then over image sets.

    Parameters
    ----------
    table : DataFrame
        See `COLUMNS`.

    Returns
    -------
    DataFrame
        One row per network with a slope and all image sets: `network`, `PREDICTORS`, `OUTCOMES`, `n_rows`, and
        `seed_sd`, the standard deviation of `brain_loss` over the seeds of an image set.
    list of str
        Which networks are left out, and why.
    """
    rows = with_outcomes(table).assign(log10_parameters=np.log10(table["n_parameters"].astype(np.float64)))
    names = [*PREDICTORS, *OUTCOMES]
    groups = rows.groupby(["network", "task"], sort=False)
    by_task = groups[names].mean()
    by_network = by_task.groupby("network", sort=False)
    found = by_network.mean().where(by_network.count() == by_network.size().to_numpy()[:, None])
    networks = rows.groupby("network", sort=False)
    found["n_rows"] = networks.size()
    found["seed_sd"] = np.sqrt(groups["brain_loss"].var().groupby("network", sort=False).mean())
    n_tasks, notes = rows["task"].nunique(), list[str]()
    lacking = n_tasks - networks["task"].nunique()
    unknown = rows[[CLAIM, "brain_loss"]].isna().any(axis=1).groupby(rows["network"], sort=False).sum()
    for name in found.index:
        if lacking[name]:
            notes.append(f"{name} is left out: it was not fine-tuned on {lacking[name]} of {n_tasks} image sets.")
        elif unknown[name]:
            total = found.loc[name, "n_rows"]
            notes.append(f"{name} is left out: {unknown[name]} of its {total} fine-tunings have no slope or no score.")
    return found[(lacking == 0) & (unknown == 0)].reset_index(), notes


def experiment(table: pd.DataFrame) -> Experiment:
    """Relate what networks forget to their hierarchy slope before, and to rival predictors.

    Parameters
    ----------
    table : DataFrame
        See `read_experiment`.
    """
    networks, notes = networks_of(table)
    names, claims, rows = networks["network"].tolist(), dict[str, Association](), []
    for outcome in OUTCOMES:
        y = networks[outcome].to_numpy(np.float64)
        for predictor in PREDICTORS:
            x = networks[predictor].to_numpy(np.float64)
            known = np.isfinite(x) & np.isfinite(y)
            one = associate(x[known], y[known], [name for name, is_known in zip(names, known, strict=True) if is_known])
            ahead = (np.nan,) * 3
            if predictor == CLAIM:
                claims[outcome] = one
            elif known.any():
                ahead = difference_of_correlations(networks[CLAIM].to_numpy(np.float64)[known], x[known], y[known])
            rows.append({"outcome": outcome, "predictor": predictor, **_row(one, ahead)})
    found = pd.DataFrame(rows)
    tested = found["p"].notna()
    found.loc[tested, "q"] = q_values(found.loc[tested, "p"].to_numpy())
    return Experiment(networks, found, notes, claims)


def about_experiment(path: Path) -> dict[str, Any]:
    """Return what the numbers come from: the file of an experiment, and versions."""
    return {"experiment_sha256": file_sha256(path), "columns": dict(COLUMNS), "versions": environment("cpu")}


def _row(one: Association, ahead: Sequence[float]) -> dict[str, Any]:
    without = np.array(list(one.without.values()))
    is_known = bool(np.isfinite(without).any())
    row: dict[str, Any] = {"n": one.n}
    for name, value in (("r", one.pearson), ("spearman", one.spearman)):
        row |= {name: value.r, f"{name}_low": value.low, f"{name}_high": value.high}
        row |= {"p": value.p, "q": np.nan} if name == "r" else {"spearman_p": value.p}
    return row | {
        "change": one.change,
        "change_low": one.change_low,
        "change_high": one.change_high,
        "without_low": float(np.nanmin(without)) if is_known else np.nan,
        "without_high": float(np.nanmax(without)) if is_known else np.nan,
        "without_most": one.matters_most or "",
        **dict(zip(("ahead", "ahead_low", "ahead_high"), ahead, strict=True)),
    }
