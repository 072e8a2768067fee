"""What is not known of a network, why it matters, and the command that tells it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bddn.evaluation.check import opinion
from bddn.evaluation.diagnosis.claims import Claim, Read
from bddn.evaluation.kept_responses import FOLDER as SCORE
from bddn.evaluation.scoring import SUMMARY
from bddn.stats.evidence import is_tested
from bddn.stats.hierarchy import missing_rois
from bddn.stats.scores import named_rois
from bddn.text import shorten, word

SHOWN_ROIS = 8


@dataclass(frozen=True)
class Unknown:
    """Something that is not known: `what`, `why` it matters, and the `command` or step that tells it."""

    what: str
    why: str
    command: str


def unknowns(read: Read, fragile: Sequence[Claim]) -> list[Unknown]:
    """Return what the files of a network do not tell.

    Parameters
    ----------
    read : Read
    fragile : sequence of Claim
        What is known of its forgetting.
    """
    run, found = read.runs[0], []
    folder, by = run.folder, {one.over for one in read.hierarchy.intervals} if read.hierarchy else set()
    if read.hierarchy is None:
        names = named_rois(read.voxels)
        if names:
            missing = ", ".join(missing_rois(read.voxels, read.ideal))
            known = shorten(names, SHOWN_ROIS)
            found.append(
                Unknown(
                    "the hierarchy slope",
                    f"These ROIs have no voxel with evidence: {missing}. The run has {known}.",
                    f"bddn diagnose {word(folder)} --rois ROI,ROI,…",
                )
            )
        else:
            found.append(
                Unknown(
                    "the hierarchy slope",
                    "The data name no ROI, so nothing tells which voxels are early or late.",
                    "Add ROI masks to the data, then bddn extract and bddn fit",
                )
            )
    elif read.hierarchy.calibration is None:
        found.append(
            Unknown(
                "how much the fit shrinks the slope",
                "Selectors stay soft, so slopes are too small; how much depends on the data.",
                f"bddn calibrate {word(folder)} --cache CACHE --data DATA",
            )
        )
    if read.hierarchy is not None and "seeds" not in by:
        found.append(
            Unknown(
                "whether another seed gives the same map",
                "One fit is one draw. Three seeds or more give an interval.",
                "bddn fit-many CACHE --data DATA --out OUT --seeds 0-4 --split-seed 0",
            )
        )
    if "depth_low" not in read.voxels and "images" not in by:
        found.append(
            Unknown(
                "whether other training images give the same map",
                "An ensemble of resampled images gives every voxel an interval of depth.",
                "bddn ensemble CACHE --data DATA --out OUT --fits 20",
            )
        )
    if not (folder / SCORE / f"{SUMMARY}.csv").is_file():
        found.append(
            Unknown(
                "the interval of the brain score",
                "It needs the responses to the single test images.",
                f"bddn score {word(folder)} --cache CACHE --data DATA",
            )
        )
    if "ceiling" not in read.voxels or not np.isfinite(read.voxels["ceiling"].to_numpy(np.float64)).any():
        found.append(
            Unknown(
                "noise ceilings",
                "Without them, a low score may be the network's or the data's.",
                "Use data with repeated images or noise ceilings (docs/scores.md), then bddn score",
            )
        )
    if not is_tested(read.voxels):
        found.append(
            Unknown(
                "which voxels have evidence",
                "The run is of version 0.2.0, without a test. All voxels are used.",
                "bddn fit CACHE --data DATA --out OUT",
            )
        )
    if run.metrics.get("layer_audit") is None:
        found.append(
            Unknown(
                "whether layers are alike",
                "Which of two alike layers a voxel selects is chance.",
                "bddn cache info CACHE",
            )
        )
    if not (folder / "check" / opinion.NUMBERS).is_file():
        found.append(
            Unknown(
                "a second opinion",
                "A fit can converge to a wrong map. Brute force without gradients tells.",
                f"bddn check {word(folder)} --cache CACHE --data DATA",
            )
        )
    if not fragile:
        found.append(
            Unknown(
                "what it forgets when it is fine-tuned",
                "No evidence predicts it, and it was not measured on this network.",
                "python pipelines/finetuning.py (on this network), or python pipelines/hierarchy_and_forgetting.py (on "
                "many); then bddn diagnose … --evidence FILE",
            )
        )
    return found
