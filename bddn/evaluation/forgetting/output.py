"""Write what a network forgot into a folder, read it, and tell it in sentences."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bddn.evaluation.contrast import contrast
from bddn.evaluation.contrast.output import write_csv
from bddn.evaluation.forgetting.forgetting import Forgetting
from bddn.evaluation.kept_responses import about_scored
from bddn.evaluation.layer_similarity import N_IMAGES
from bddn.files import atomic
from bddn.run.folder import Run, without_nan
from bddn.run.inputs import environment
from bddn.stats import paired, rewiring
from bddn.stats.evidence import FDR

NUMBERS, VOXELS, ROIS, LAYERS = "forgetting.json", "voxels.parquet", "rois.csv", "layers.csv"
SETTINGS: dict[str, Any] = {
    "interval": paired.COVERED,
    "false_discovery_rate": FDR,
    "seed": contrast.SEED,
    "sampled_voxels": contrast.SAMPLED_VOXELS,
    "signs_of_patches": rewiring.N_SIGNS,
    "most_compared_images": N_IMAGES,
}
COLUMNS: Mapping[str, str] = {
    "hemi": "hemisphere: lh or rh",
    "vertex": "number of the vertex on fsaverage7",
    "r2_before": "R² on the test images before; r2_after: after",
    "r2_difference": "R² after minus before, with its 95 % interval r2_low to r2_high over test images",
    "p": "two-sided p-value of r2_difference; q: false discovery rate over voxels",
    "depth_before": "depth of the selected layers before, 0 first to 1 last; depth_after: after",
    "depth_difference": "depth after minus before",
    "depth_noise": "mean |difference of depth| between seeds of the network before; empty with one seed",
    "depth_p": "share of these distances, of all voxels, that are at least |depth_difference|; depth_q: false "
    "discovery rate; empty without evidence in all runs, or with one seed",
    "layer_before": "layer with the highest weight before; layer_after: after",
    "evident": "whether all runs predict this voxel better than chance",
}


def write_forgetting(found: Forgetting, before: Run, after: Run, noise: Sequence[Run], folder: Path) -> dict[str, Any]:
    """Write `voxels.parquet`, `rois.csv`, `layers.csv`, and last `forgetting.json`, which is returned.

    Existing files are replaced.
    """
    atomic.write_table(folder / VOXELS, found.voxels, index=False)
    write_csv(folder / ROIS, found.rois)
    write_csv(folder / LAYERS, found.layers)
    about: dict[str, Any] = {
        **found.numbers,
        "sentences": sentences(found.numbers),
        "settings": SETTINGS,
        "runs": _about_runs(before, after, noise),
        "versions": environment("cpu"),
        "columns": dict(COLUMNS),
    }
    known: dict[str, Any] = without_nan(about)
    atomic.write_json(folder / NUMBERS, known)
    return known


def read_forgetting(folder: Path, before: Run, after: Run, noise: Sequence[Run]) -> dict[str, Any] | None:
    """Return `forgetting.json` of a folder if it is about these runs, with these settings and versions, or None."""
    try:
        found: dict[str, Any] = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    now = {"settings": SETTINGS, "runs": _about_runs(before, after, noise), "versions": environment("cpu")}
    is_current = isinstance(found, dict) and all(found.get(name) == value for name, value in now.items())
    return found if is_current and (folder / VOXELS).is_file() else None


def sentences(numbers: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know: score, depth, tokens, and what the intervals contain."""
    score, moved, tokens = (numbers[part] for part in ("score", "rewiring", "representation"))
    said = [
        f"The mean R² over {score['n_voxels']:,} voxels is {score['before']:.4f} before and {score['after']:.4f} "
        f"after: {score['difference']:+.4f} [{score['low']:+.4f}, {score['high']:+.4f}], p = {score['p']:.2g}; "
        f"{score['n_worse']:,} voxels are predicted worse and {score['n_better']:,} better (false discovery rate "
        f"{FDR:g}). Interval and p-value are about test images and these fits."
    ]
    if score["noise"]:
        apart = ", ".join(f"{value:+.4f}" for value in score["noise"])
        said.append(f"Other seeds of the network before differ from it by {apart}.")
    if moved.get("not_learned"):
        said.append(f"Nothing is known of depth: {moved['not_learned'][0].lower()}{moved['not_learned'][1:]}")
    elif moved["n_voxels"] and moved["n_moved"] is not None:
        said.append(
            f"The {moved['n_voxels']:,} voxels with evidence moved by {moved['distance']:.3f} of the depth on average; "
            f"between seeds of the network before it is {moved['noise']:.3f}: "
            + _ratio(moved)
            + f"; {moved['n_moved']:,} of them moved farther than voxels do between seeds (false discovery rate "
            f"{FDR:g})."
        )
    elif moved["n_voxels"]:
        said.append(
            f"The {moved['n_voxels']:,} voxels with evidence moved by {moved['distance']:.3f} of the depth on average. "
            "What seeds alone do is not known: give a second seed of the network before."
        )
    else:
        said.append("No voxel has evidence in all runs, so nothing can be said about depth.")
    if tokens is not None:
        said.append(
            f"Tokens before and after, on {tokens['n_images']:,} images, means over layers: linear CKA "
            f"{tokens['cka']:.3f}, common neighbours {tokens['neighbours']:.3f} (chance {tokens['chance']:.3f})."
        )
    return said


def _ratio(moved: Mapping[str, Any]) -> str:
    if moved["noise"] == 0:
        return "seeds do not change it, so that there is no ratio"
    if moved["ratio_low"] is None or moved["ratio_low"] != moved["ratio_low"]:  # NaN
        return "too few patches of cortex for an interval"
    low, high = moved["ratio_low"], moved["ratio_high"]
    return f"{moved['ratio']:.2f} times as far [{low:.2f}, {high:.2f}], p = {moved['p']:.2g}"


def _about_runs(before: Run, after: Run, noise: Sequence[Run]) -> dict[str, Any]:
    return {"before": _about(before), "after": _about(after), "noise": [_about(run) for run in noise]}


def _about(run: Run) -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "cache_digest": run.about["cache"]["digest"],
        "seed": run.about["fit"]["seed"],
        **about_scored(run.folder),
    }
