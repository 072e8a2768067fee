"""What a network forgets of the brain: the run of a network before and after it was trained further.

Both runs are fitted to the same data with the same test images and the same seed. Further runs of the network before,
with other seeds, say how far two fits differ that should not.

Shape letters: N voxels, L layers, M test images.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.fsaverage import HEMISPHERES
from bddn.cortex.places import on_spheres
from bddn.errors import DataError
from bddn.evaluation.check.comparison import patches
from bddn.evaluation.contrast.rivals import SEEDS, Rivals, check_same_test
from bddn.evaluation.contrast.tables import SLOPE, Compared, compare_models, groups_of
from bddn.evaluation.kept_responses import read_held_out
from bddn.evaluation.layer_similarity import compare_layers
from bddn.evaluation.matching import cache_of_run
from bddn.identity import Identity
from bddn.machine.settings import own_settings
from bddn.run.folder import Run
from bddn.run.not_found import no_layer
from bddn.stats.evidence import FDR, evident, q_values
from bddn.stats.hierarchy import hierarchy_slope
from bddn.stats.representations import N_NEIGHBOURS, chance_overlap
from bddn.stats.rewiring import Distance, distance, seed_distances, voxel_p_values
from bddn.stats.scores import ALL, robust_mean
from bddn.store.reader import Cache

BEFORE, AFTER = "before", "after"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Forgetting:
    """A network before and after it was trained further.

    Attributes
    ----------
    voxels : DataFrame, N rows
        Scores, depths and layers before and after, with tests of their differences.
    rois : DataFrame
        One row per ROI, and one for all voxels.
    layers : DataFrame, L rows
        How similar a layer is to itself before, and which share of the voxels selects it.
    numbers : dict
        The summary, as in `forgetting.json`; NaN where a number is not known.
    """

    voxels: pd.DataFrame
    rois: pd.DataFrame
    layers: pd.DataFrame
    numbers: dict[str, Any]


@own_settings()
def forgetting(
    before: Run,
    after: Run,
    *,
    before_cache: Cache | None = None,
    after_cache: Cache | None = None,
    noise: Sequence[Run] = (),
) -> Forgetting:
    """Compare the brain scores, layer maps and tokens of a network before and after it was trained further.

    Parameters
    ----------
    before, after : Run
        Scored runs with the same data, test images and layers.
    before_cache, after_cache : Cache, optional
        Those of the two runs. Without both, tokens are not compared.
    noise : sequence of Run
        Scored runs of the network before, which differ from `before` only in their seeds. Without one, nothing is said
        about how far fits differ by chance.

    Raises
    ------
    BddnError
        If a run was not scored, runs have other data, test images or layers, or a cache is not that of its run.
    """
    check_runs(before, after, noise)
    compared = compare_models([Rivals(BEFORE, {BEFORE: (before,), AFTER: (after,)})])
    layers, tokens = pd.DataFrame({"layer": before.layers}), None
    if before_cache is not None and after_cache is not None:
        layers, tokens = _tokens(
            cache_of_run(before, [before_cache]), cache_of_run(after, [after_cache]), before.layers
        )
    known = np.all([evident(run.voxels) for run in (before, after, *noise)], axis=0)
    moved = np.abs(_depth(after) - _depth(before))
    seeds = seed_distances([_depth(run) for run in (before, *noise)])
    voxels = _voxels(compared, before, after, moved, seeds, known)
    rois, whole = _rois(compared, before.voxels, moved, seeds, known)
    everywhere = rois[rois["roi"] == ALL].to_dict("records")[0]
    scores = {str(row["model"]): row for row in compared.table_2.to_dict("records")}
    numbers = {
        "score": {
            **{
                f"{model}{end}": float(scores[model][f"r2{end}"])
                for model in (BEFORE, AFTER)
                for end in ("", "_low", "_high")
            },
            **{name.removeprefix("r2_"): everywhere[name] for name in ("r2_difference", "r2_low", "r2_high", "p")},
            **{name: int(everywhere[name]) for name in ("n_better", "n_worse", "n_voxels")},
            "n_images": len(read_held_out(before).ids),
            "noise": [_score(run) - _score(before) for run in noise],
        },
        "slope": {
            BEFORE: _slope(before),
            AFTER: _slope(after),
            "noise": [(_slope(run) or {}).get("slope", np.nan) for run in noise],
        },
        "rewiring": {
            "distance": whole.moved,
            "noise": whole.noise,
            "ratio": whole.ratio,
            "ratio_low": whole.low,
            "ratio_high": whole.high,
            "p": whole.p,
            "n_voxels": int(known.sum()),
            "n_moved": int((voxels["depth_q"] <= FDR).sum()) if noise else None,
            "not_learned": no_layer((before, after, *noise)),
            "same_layer": _share(known, (voxels["layer_before"] == voxels["layer_after"]).to_numpy()),
        },
        "representation": tokens,
    }
    for model in (BEFORE, AFTER):
        selects = voxels[f"layer_{model}"].to_numpy()
        layers[f"selected_{model}"] = [_share(known, selects == name) for name in layers["layer"]]
    return Forgetting(voxels, rois, layers, numbers)


def _tokens(before: Cache, after: Cache, layers: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return how similar each layer is to itself before, and the means over layers."""
    table, n_images = compare_layers(before, after, layers)
    return table, {
        "n_images": n_images,
        "n_neighbours": N_NEIGHBOURS,
        "chance": chance_overlap(n_images),
        "cka": float(np.fmin(table["cka_local"], table["cka_global"]).mean()),
        "neighbours": float(table["neighbours"].mean()),
    }


def check_runs(before: Run, after: Run, noise: Sequence[Run]) -> None:
    """Check that runs differ in the network alone, and those of `noise` from `before` in their seeds alone.

    Raises
    ------
    DataError
    """
    check_same_test([before, after, *noise])
    for run in (after, *noise):
        if run.layers != before.layers:
            raise DataError(
                run.folder,
                expected=f"the layers of {before.folder}: {', '.join(before.layers)}",
                got=f"a run with layers {', '.join(run.layers)}",
                fix="Fit both with the same 'layers'.",
            )
        settings = [{k: v for k, v in one.about["fit"].items() if k not in SEEDS} for one in (before, run)]
        if different := Identity(settings[0]).differences(Identity(settings[1])):
            raise DataError(
                run.folder,
                expected=f"the settings of the fit of {before.folder}, because their effects are not those of training",
                got=f"a run that differs in: {'; '.join(different)}",
                fix="Fit both with the same --spec.",
            )
    for run in noise:
        if run.about["cache"]["digest"] != before.about["cache"]["digest"]:
            raise DataError(
                run.folder,
                expected=f"another seed of {before.folder}, fitted to the same cache",
                got="a run that was fitted to another cache",
                fix="Give runs of the network before it was trained further.",
            )


def _voxels(
    compared: Compared, before: Run, after: Run, moved: Floats, seeds: Floats, known: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """Return one row per voxel. Voxels without evidence in one of the runs have no test of depth."""
    table = compared.voxels.drop(columns=["subject", "first", "second", "depth_low", "depth_high", "evident"])
    table.columns = [str(name).replace("_first", f"_{BEFORE}").replace("_second", f"_{AFTER}") for name in table]
    p, q = np.full(len(table), np.nan), np.full(len(table), np.nan)
    if known.any() and len(seeds):
        p[known] = voxel_p_values(moved[known], seeds[:, known])
        q[known] = q_values(p[known])
    own = {f"layer_{name}": run.voxels["layer_argmax"].to_numpy() for name, run in ((BEFORE, before), (AFTER, after))}
    noise = seeds.mean(axis=0) if len(seeds) else np.full(len(table), np.nan)
    return table.assign(depth_noise=noise, depth_p=p, depth_q=q, **own, evident=known)


def _rois(
    compared: Compared, voxels: pd.DataFrame, moved: Floats, seeds: Floats, known: npt.NDArray[np.bool_]
) -> tuple[pd.DataFrame, Distance]:
    """Return one row per ROI, and how far all voxels moved."""
    is_left = (voxels["hemi"] == HEMISPHERES[0]).to_numpy()
    patch = patches(is_left, on_spheres(voxels))
    found = {
        roi: distance(moved[mask & known], seeds[:, mask & known], patch[mask & known])
        for roi, mask in groups_of(voxels).items()
    }
    table = compared.rois.drop(columns=["subject", "first", "second"])
    table.columns = [str(name).replace("_first", f"_{BEFORE}").replace("_second", f"_{AFTER}") for name in table]
    rows = [{f"distance_{name}": value for name, value in asdict(found[roi]).items()} for roi in table["roi"]]
    words = {"distance_moved": "distance", "distance_low": "distance_ratio_low", "distance_high": "distance_ratio_high"}
    return table.join(pd.DataFrame(rows).rename(columns=words)), found[ALL]


def _depth(run: Run) -> Floats:
    return run.voxels["depth"].to_numpy(dtype=np.float64)


def _score(run: Run) -> float:
    return robust_mean(run.voxels["r2_test"].to_numpy(dtype=np.float64))


def _slope(run: Run) -> dict[str, float] | None:
    found = hierarchy_slope(run.voxels)
    return None if found is None else {name: float(found.get(name, np.nan)) for name in SLOPE}


def _share(known: npt.NDArray[np.bool_], where: npt.NDArray[np.bool_]) -> float:
    return float(where[known].mean()) if known.any() else float("nan")
