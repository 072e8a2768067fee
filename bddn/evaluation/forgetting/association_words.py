"""Sentences on what networks forget and why, which say how many networks they rest on."""

import numpy as np
import pandas as pd

from bddn.evaluation.forgetting.experiment import CLAIM, OUTCOMES, PREDICTORS, Experiment
from bddn.stats.association import Association, critical_r
from bddn.text import count

LEAST_NETWORKS = 4  # so few decide nothing


def in_words(one: Association, outcome: str, predictor: str = PREDICTORS[CLAIM]) -> list[str]:
    """Return what an association says, how sure that is, and what follows."""
    r, n = one.pearson, one.n
    if np.isnan(r.r):
        return [f"{outcome} and {predictor}: not defined, because {n} networks are too few, or all are alike."]
    counted = f"all {one.n_orders:,} orders" if one.is_exact else f"{one.n_orders:,} random orders"
    interval = "" if np.isnan(r.low) else f" [{r.low:.2f}, {r.high:.2f}]"
    without = np.array(list(one.without.values()))
    left = (
        ""
        if np.isnan(without).all()
        else f"; without any one network {np.nanmin(without):.2f} to {np.nanmax(without):.2f}"
    )
    said = f"{outcome} and {predictor}, {n} networks: r = {r.r:.2f}{interval}, p = {r.p:.2g} of {counted}{left}."
    return [said, _conclusion(one, outcome, predictor)]


def _conclusion(one: Association, outcome: str, predictor: str) -> str:
    r, n = one.pearson, one.n
    bound = f"so few can only show correlations beyond ±{critical_r(n):.2f}"
    if one.is_significant and n > LEAST_NETWORKS:
        more = "larger" if r.r > 0 else "smaller"
        said = f"In these networks, a larger {predictor} goes with a {more} {outcome}"
        if one.is_stable:
            return f"{said}; no single network decides that. Other networks may differ."
        return f"{said}, but that rests on {one.matters_most}: without it the sign changes."
    if n <= LEAST_NETWORKS:
        return f"{n} networks cannot decide: {bound}, and one network more or less may turn it round."
    return f"No association is shown, and none is excluded: {bound}."


def sentences(found: Experiment, table: pd.DataFrame) -> list[str]:
    """Return what an experiment says, and what it rests on.

    Parameters
    ----------
    found : Experiment
    table : DataFrame
        Its rows.
    """
    networks, rows = found.networks, found.associations
    n, n_tasks = len(networks), table["task"].nunique()
    n_seeds = table.groupby(["network", "task"]).size()
    least, most = n_seeds.min(), n_seeds.max()
    seeds = count(most, "seed") if least == most else f"{least} to {most} seeds"
    said = [
        f"This rests on {n} networks. Their {int(networks['n_rows'].sum())} fine-tunings ("
        f"{count(n_tasks, 'image set')}, {seeds}) are not more evidence about networks, so each network counts once, "
        "with its mean."
    ]
    for outcome, one in found.claims.items():
        said += in_words(one, OUTCOMES[outcome])
    for outcome, words in OUTCOMES.items():
        rivals = rows[(rows["outcome"] == outcome) & (rows["predictor"] != CLAIM) & rows["ahead_low"].notna()]
        if rivals.empty:
            continue
        better = [PREDICTORS[name] for name in rivals.loc[rivals["ahead_low"] > 0, "predictor"]]
        worse = [PREDICTORS[name] for name in rivals.loc[rivals["ahead_high"] < 0, "predictor"]]
        told = [f"goes with it more closely than {', '.join(better)}"] if better else []
        told += [f"less closely than {', '.join(worse)}"] if worse else []
        told = told or [f"cannot be told apart from any of {len(rivals)} rivals"]
        said.append(f"{words}: the slope {' and '.join(told)} (95 % intervals of the difference of |r|).")
    tested = int(rows["p"].notna().sum())
    said.append(f"p-values are those of single tests; q in the table is the false discovery rate over all {tested}.")
    return said
