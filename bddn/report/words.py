"""The text of a page that depends on its runs: the numbers under the title, what is drawn, and the methods."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bddn.cortex.places import NEAR_MM, space_of
from bddn.figures.methods import methods
from bddn.report.shown import Shown
from bddn.report.voxels import drawn_rows
from bddn.run.folder import ENSEMBLE
from bddn.run.not_found import fixed_part, not_found
from bddn.stats.audit import shared_noise, warnings
from bddn.stats.evidence import evident, in_words, is_tested
from bddn.text import shorten


def facts(shown: Shown) -> list[tuple[str, str]]:
    """Return the few numbers under the title of a run, as (name, value)."""
    run = shown.run
    hierarchy = run.metrics["hierarchy"]
    return [
        ("mean brain score R²", "unknown" if run.metrics["r2_test"] is None else f"{run.metrics['r2_test']:.3f}"),
        *([("hierarchy slope", _slope(hierarchy))] if hierarchy else []),
        ("voxels", f"{len(run.voxels):,}"),
        *([("with evidence", f"{int(evident(run.voxels).sum()):,}")] if is_tested(run.voxels) else []),
        ("layers", f"{len(run.layers)}"),
        ("images", f"{sum(shown.split.values()):,}"),
    ]


def drawn(runs: Sequence[Shown]) -> str:
    """Return a sentence that says which voxels the page draws."""
    parts = []
    for shown in runs:
        n, total = len(np.unique(drawn_rows(shown.run.voxels))), len(shown.run.voxels)
        parts.append(f"{n:,} of {total:,} voxels" + (f" of {shown.label}" if len(runs) > 1 else ""))
    which = "those at the vertices of fsaverage5, the first 10,242 of the 163,842 of fsaverage7 in each hemisphere."
    if any(space_of(shown.run.voxels) == "native surface" for shown in runs):
        which = (
            "those at the vertices of fsaverage5; each of its vertices shows the nearest voxel of a native surface, at "
            f"most {NEAR_MM:g} mm away on the registered sphere."
        )
    rest = "Tables, means and colour ranges are also those of the others. Grey is cortex without data, darker in sulci."
    return f"Drawn: {', '.join(parts)}, {which} {rest}"


def evidence(runs: Sequence[Shown]) -> str:
    """Return sentences that say for each run how many voxels have no evidence, and how the page shows them."""
    said = [_of(shown, runs) + in_words(shown.run.voxels) for shown in runs]
    if any(not evident(shown.run.voxels).all() for shown in runs):
        said.append("Maps of selections show these in one grey, and means of selections leave them out.")
    levels = {shown.run.metrics[ENSEMBLE]["level"] for shown in runs if ENSEMBLE in shown.run.metrics}
    said += [f"Brackets beside a selection are its {level:.0%} interval over the fits." for level in sorted(levels)]
    return " ".join(said)


def responses(runs: Sequence[Shown]) -> str:
    """Return sentences that say whether the page contains responses to test images, and under which terms."""
    scored = [shown for shown in runs if shown.held_out is not None]
    if not scored:
        return (
            "This page does not contain responses to single test images: 'bddn score RUN --cache CACHE --data DATA' "
            "keeps them, and pages that are written afterwards show them."
        )
    terms = " ".join(dict.fromkeys(methods(shown.run).terms for shown in scored))
    return f"This page contains measured responses to single test images. Before you pass it on: {terms}"


def doubts(runs: Sequence[Shown]) -> list[str]:
    """Return a sentence for each finding of the fits that limits what their maps show."""
    return [_of(shown, runs) + sentence for shown in runs for sentence in (*_failures(shown), *_audit(shown))]


def health(runs: Sequence[Shown]) -> str:
    """Return sentences on what was checked in the fits and found in order, or was not checked."""
    said = []
    for shown in runs:
        metrics, fine = shown.run.metrics, []
        if metrics.get("layer_audit") is None:
            fine.append("similarity and size of layers were not measured")
        elif not _audit(shown):
            fine.append("no two layers carry the same information")
        found = _convergence(shown)
        if None in found:
            fine.append("convergence was not recorded")
        elif all(one["converged"] for one in found if one):
            fine.append("the selectors had stopped moving before the end")
        if not metrics.get("saturated_selectors"):
            fine.append("no selector is saturated")
        if fine:
            said.append(_of(shown, runs) + _sentence("; ".join(fine) + "."))
    return " ".join(said)


def _failures(shown: Shown) -> list[str]:
    """Return sentences on selectors that saturated or had not stopped moving."""
    metrics, said = shown.run.metrics, []
    dead = metrics.get("saturated_selectors") or []
    if dead:
        said.append(f"Saturated selectors, whose values are meaningless: {', '.join(dead)}.")
    if (part := fixed_part(shown.run)) is not None:
        said.append(not_found(shown.run)[part])
    if (unread := metrics.get("unread_layers")) and "layer" not in dead and evident(shown.run.voxels).any():
        said.append(
            f"No voxel reads {shorten(unread)}: another layer that predicts almost as well may have taken the place."
        )
    limited = shown.run.about.get("fit", {}).get("shared_noise") == "limited"
    if limited and (noise := shared_noise(metrics.get("components"))) is not None:
        said.append(f"{noise[0].upper()}{noise[1:]}")
    found = _convergence(shown)
    moved = [one for one in found if one and not one["converged"]]
    if moved and len(found) > 1:
        said.append(f"The selectors of {len(moved)} of {len(found)} fits had not converged.")
    elif moved:
        how = (
            f"in the last quarter of the steps, {moved[0]['layer_changed']:.0%} of the voxels changed their layer, and "
            f"places moved by {moved[0]['place_moved']:.2f} on average"
        )
        end = ", and the regularizer acted until the end" if moved[0]["regularized"] else ""
        said.append(f"The selectors had not converged: {how}{end}. Depth and place may change with more epochs.")
    return said


def _convergence(shown: Shown) -> list[dict[str, Any] | None]:
    """Return what the fit recorded of its convergence, or the fits of an ensemble; None if it is unknown."""
    metrics = shown.run.metrics
    return [fit.get("convergence") for fit in metrics.get(ENSEMBLE, {"fits": [metrics]})["fits"]]


def _audit(shown: Shown) -> list[str]:
    """Return the sentences of the audit of layers."""
    found = shown.run.metrics.get("layer_audit")
    scaled = shown.run.about.get("fit", {}).get("features") == "whitened"
    return [] if found is None else [_sentence(said) for said in warnings(found, scaled)]


def _slope(hierarchy: Mapping[str, float]) -> str:
    interval = f" [{hierarchy['slope_low']:.2f}, {hierarchy['slope_high']:.2f}]" if "slope_low" in hierarchy else ""
    return f"{hierarchy['slope']:.2f}{interval}".replace("-", "−")


def _of(shown: Shown, runs: Sequence[Shown]) -> str:
    return f"{shown.label}: " if len(runs) > 1 else ""


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
