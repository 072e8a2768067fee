"""The tables of fine-tuning: forgetting along the steps, and Table 3 of the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bddn.evaluation.contrast import published

COLUMNS: Mapping[str, str] = {
    "network": "name of the network",
    "images": "image set that it was fine-tuned on",
    "step": "step of fine-tuning; 0 is the network before",
    "r2": "brain score: mean R² over voxels, with its 95 % interval r2_low to r2_high over test images",
    "r2_difference": "change of the mean R² since step 0, with its 95 % interval, paired by test image, and its "
    "p-value r2_difference_p",
    "n_worse": "voxels that are predicted worse than at step 0 (false discovery rate 0.05); n_better: better",
    "r2_noise": "mean R² of another seed of the encoder at step 0, minus r2 at step 0; of several, the farthest",
    "slope": "hierarchy slope, with its 95 % interval over blocks of cortex",
    "distance": "mean |change of depth since step 0| of the voxels with evidence",
    "distance_noise": "the same between seeds of the encoder at step 0",
    "distance_ratio": "distance / distance_noise, with its 95 % interval, and one-sided p-value distance_p",
    "n_moved": "voxels that moved farther than between seeds (false discovery rate 0.05)",
    "cka": "linear CKA with step 0, mean over layers",
    "neighbours": "common nearest neighbours with step 0, mean over layers; neighbours_chance: expected by chance",
    "accuracy": "accuracy on held-out images of the new task, with its 95 % interval",
    "old_images": "image set of the old task",
    "old_before": "accuracy of the linear probe of step 0 on the old task",
    "old_kept": "accuracy of the same probe on the features of this step, with its 95 % interval",
    "old_new": "accuracy of a new probe of these features, with its 95 % interval",
}
ORIGINAL = "original"
KNOWN_SETS = ("isic", "eurosat")


@dataclass(frozen=True)
class Measured:
    """A network at one step of fine-tuning: `numbers` of `forgetting.json`, and `old`, the result of
    `bddn.evaluation.forgetting.old_task.accuracy_after`, if there is an old task."""

    step: int
    numbers: Mapping[str, Any]
    old: Mapping[str, Any] | None


def course(network: str, images: str, measured: Sequence[Measured], accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one network and image set, from step 0 on; columns are explained in `COLUMNS`.

    Parameters
    ----------
    network, images : str
    measured : sequence of Measured
    accuracy : DataFrame
        `bddn.finetune.Finetuned.accuracy`.
    """
    of_step = {int(row["step"]): row for row in accuracy.to_dict("records")}
    first, chance = measured[0].numbers, (measured[0].numbers["representation"] or {}).get("chance")
    trained = [one for one in measured if one.step]
    rows = [_before(first, chance), *map(_after, trained)]
    for row, one in zip(rows, (measured[0], *trained), strict=True):
        new, old = of_step.get(row["step"], {}), one.old or {}
        row |= {name: new.get(name) for name in ("accuracy", "accuracy_low", "accuracy_high")}
        row |= {"old_images": old.get("images"), "old_before": old.get("before")}
        for probe in ("kept", "new"):
            of = probe if row["step"] else "before"
            row |= {f"old_{probe}{end}": old.get(f"{of}{end}") for end in ("", "_low", "_high")}
    table = pd.DataFrame(rows).assign(network=network, images=images)
    return table[["network", "images", *(name for name in table if name not in ("network", "images"))]]


def table_3(courses: pd.DataFrame) -> pd.DataFrame:
    """Return Table 3 in long form, with the published values: R² of each network before, and after the last step on
    each image set.

    Parameters
    ----------
    courses : DataFrame
        All rows of `course`, of networks that have the names of their specs.
    """
    rows: list[dict[str, Any]] = []
    for network, of in courses.groupby("network", sort=False):
        shown = {ORIGINAL: of[of["step"] == 0].head(1)}
        for name, own in of.groupby("images", sort=False):
            column = known_set(str(name))
            shown[str(name) if column in shown else column] = own.tail(1)
        for column, row in shown.items():
            about = {"spec": str(network), "model": "fine-tuned", "column": column}
            value, low, high = row[["r2", "r2_low", "r2_high"]].to_numpy(float)[0].tolist()
            rows.append({**about, "value": value, "value_low": low, "value_high": high})
    return published.beside(rows, 3)


def known_set(name: str) -> str:
    """Return the column of Table 3 that an image set belongs to: that of the paper, or its own name."""
    return next((known for known in KNOWN_SETS if known in name.lower()), name)


def _before(numbers: Mapping[str, Any], chance: float | None) -> dict[str, Any]:
    score, slope = numbers["score"], numbers["slope"]["before"]
    return {
        **_row(0, slope, numbers),
        **{f"r2{end}": score[f"before{end}"] for end in ("", "_low", "_high")},
        **dict.fromkeys(("r2_difference", "r2_difference_low", "r2_difference_high"), 0.0),
        "r2_difference_p": 1.0,
        "n_worse": 0,
        "n_better": 0,
        "distance": 0.0,
        "distance_ratio": 0.0 if numbers["rewiring"]["noise"] else None,
        "n_moved": None if numbers["rewiring"]["n_moved"] is None else 0,
        **dict.fromkeys(("cka", "neighbours"), None if chance is None else 1.0),
        "neighbours_chance": chance,
    }


def _after(one: Measured) -> dict[str, Any]:
    score, moved, tokens = one.numbers["score"], one.numbers["rewiring"], one.numbers["representation"] or {}
    return {
        **_row(one.step, one.numbers["slope"]["after"], one.numbers),
        **{f"r2{end}": score[f"after{end}"] for end in ("", "_low", "_high")},
        "r2_difference": score["difference"],
        "r2_difference_low": score["low"],
        "r2_difference_high": score["high"],
        "r2_difference_p": score["p"],
        "n_worse": score["n_worse"],
        "n_better": score["n_better"],
        "distance": moved["distance"],
        **{f"distance_{name}": moved[name] for name in ("ratio", "ratio_low", "ratio_high", "p")},
        "n_moved": moved["n_moved"],
        "cka": tokens.get("cka"),
        "neighbours": tokens.get("neighbours"),
        "neighbours_chance": tokens.get("chance"),
    }


def _row(step: int, slope: Mapping[str, Any] | None, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of every step, in their order; those of this step are filled in by the caller."""
    ends = ("", "_low", "_high")
    noise = numbers["score"]["noise"]
    return {
        "step": step,
        **{f"r2{end}": None for end in ends},
        **{f"r2_difference{end}": None for end in (*ends, "_p")},
        "n_worse": None,
        "n_better": None,
        "r2_noise": max(noise, key=abs) if noise else None,
        **{f"slope{end}": (slope or {}).get(f"slope{end}") for end in ends},
        "distance": None,
        "distance_noise": numbers["rewiring"]["noise"],
        **{f"distance_{name}": None for name in ("ratio", "ratio_low", "ratio_high", "p")},
        "n_moved": None,
    }
