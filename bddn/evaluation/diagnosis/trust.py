"""What the fits of one network say about themselves: whether they can be trusted, and how well they predict."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from bddn.errors import RunError
from bddn.evaluation.check import opinion
from bddn.evaluation.diagnosis.claims import Claim, Read, listed
from bddn.evaluation.kept_responses import FOLDER as SCORE
from bddn.evaluation.scoring import BOTH, SUMMARY
from bddn.run.folder import METRICS, VOXELS
from bddn.stats.evidence import FDR, evident, is_tested
from bddn.stats.scores import ALL, robust_mean
from bddn.text import word


def trust(read: Read) -> list[Claim]:
    """Return the claims on convergence, saturation, evidence and brain score."""
    return [*_fit(read), *_scores(read)]


def _fit(read: Read) -> Iterator[Claim]:
    """Yield whether the fits can be trusted."""
    fits = read.fits
    known = [fit.metrics["convergence"] for fit in fits if fit.metrics.get("convergence")]
    source = f"{read.file(METRICS)}, convergence"
    if known:
        late = [one for one in known if not one["converged"]]
        said = f"The selectors of {'the fit' if len(known) == 1 else f'all {len(known)} fits'} had converged."
        if late:
            said = (
                f"The selectors of {len(late)} of {len(known)} fits had not converged: "
                if len(known) > 1
                else ("The selectors had not converged: ")
            )
            said += (
                f"in the last quarter of the steps, {late[0]['layer_changed']:.0%} of the voxels changed their layer. "
                "Depth may change with more epochs."
            )
        limits = "A fit that has converged can have converged to a wrong map; 'bddn check' tells."
        yield Claim(
            "fits not converged", said, len(late), None, None, "none: a count of fits", source, limits, bool(late)
        )
    dead = sorted({name for fit in fits for name in fit.metrics.get("saturated_selectors") or ()})
    if dead:
        yield Claim(
            "saturated selectors",
            f"Saturated selectors, whose values are meaningless: {listed(dead)}."
            + (" So nothing is known about layers." if "layer" in dead else ""),
            len(dead),
            None,
            None,
            "none: a count of selectors",
            f"{read.file(METRICS)}, saturated_selectors",
            "It does not tell what another regularizer would find.",
            True,
        )
    path = read.runs[0].folder / "check" / opinion.NUMBERS
    if path.is_file():
        try:
            checked: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            score, said, passed = checked["score"] or {}, str(checked["sentence"]), bool(checked["passed"])
            value, low, high = (score.get(name) for name in ("value", "low", "high"))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise RunError(
                path,
                expected="the numbers that 'bddn check' writes",
                got=f"{type(error).__name__}: {error}",
                fix=f"Delete it, and run 'bddn check {word(read.runs[0].folder)} --cache CACHE --data DATA'.",
            ) from error
        yield Claim(
            "second opinion",
            said,
            value,
            low,
            high,
            "95 %, over patches of cortex: R² over that of brute force",
            f"{path}; 'bddn check' wrote it",
            "Ridge regressions by layer and window judge a sample of the voxels.",
            not passed,
        )


def _scores(read: Read) -> Iterator[Claim]:
    """Yield the share of voxels with evidence, and the brain score."""
    n, total = int(evident(read.voxels).sum()), len(read.voxels)
    if is_tested(read.voxels):
        yield Claim(
            "voxels with evidence",
            f"{n / total:.0%} of the voxels, {n:,} of {total:,}, are predicted better than by chance.",
            n / total,
            None,
            None,
            f"none: by a false discovery rate of {FDR:.0%} among those that are called so",
            f"{read.file(VOXELS)}, q_test ≤ {FDR:g}",
            "A voxel without evidence may be noisy, or the test images too few. It is not proof that the network has "
            "nothing to say about it.",
            n < total / 2,
        )
    yield _brain_score(read)


def _brain_score(read: Read) -> Claim:
    first, summary = read.runs[0], read.runs[0].folder / SCORE / f"{SUMMARY}.csv"
    of_first = " of the first fit" if len(read.runs) > 1 else ""
    if summary.is_file():
        rows = pd.read_csv(summary)
        row = rows[(rows["roi"] == ALL) & (rows["hemi"] == BOTH) & (rows["voxels"] == ALL)].to_dict("records")[0]
        value, low, high = (float(row[name]) for name in ("r2_expected", "r2_low_95", "r2_high_95"))
        known = bool(np.isfinite([low, high]).all())
        return Claim(
            "brain score",
            f"The mean brain score R²{of_first} is {value:.3f}, over all {int(row['n']):,} voxels on very many images.",
            value,
            low if known else None,
            high if known else None,
            f"95 %, over {int(row['n_images'])} test images" if known else "none: too few test images",
            f"{summary}, r2_expected; 'bddn score' wrote it",
            "Raw R²: noise in the data lowers it. Only scores on the same data can be compared.",
        )
    value = robust_mean(first.voxels["r2_test"].to_numpy(np.float64))
    return Claim(
        "brain score",
        f"The mean brain score R²{of_first} is {value:.3f}, over all {len(first.voxels):,} voxels on its test images.",
        value,
        None,
        None,
        "none: the run was not scored",
        f"{first.folder / VOXELS}, r2_test",
        "Raw R²: noise in the data lowers it. Only scores on the same data can be compared.",
    )
