"""Error rates, power and coverage of `bddn compare` on simulated data: few here, `--true-size` keeps the table.

python -m pytest tests/bench/test_compare_levels.py --true-size -s
"""

from dataclasses import asdict
from typing import Any

import numpy as np

from bddn.evaluation.contrast.contrast import Contrast, contrast
from bddn.evaluation.contrast.tables import group_differences
from bddn.stats import paired
from bddn.stats.evidence import FDR, q_values
from bddn.stats.jackknife import intervals
from bench.report import keep
from bench.rivals import Kind, Simulated, simulate

KINDS = {
    "normal, 160 images": Kind(),
    "normal, 984 images": Kind(n_images=984),
    "normal, 40 images": Kind(n_images=40),
    "heavy tails, 40 images": Kind(n_images=40, noise="heavy"),
    "skewed": Kind(noise="skewed"),
    "shared noise, ceiling 0.15": Kind(shared=0.9, ceiling=0.15),
    "high ceiling, poor models": Kind(ceiling=0.7, wrong=0.8),
    "3 fits of each model": Kind(fits=3),
}
N_SETS, N_PLANTED, N_MODELS = 120, 60, 8


def levels(kind: Kind, n_sets: int) -> dict[str, Any]:
    """Two equally good models: how often something is found, and how often intervals contain the truth."""
    found: dict[str, list[float]] = {}
    for seed in range(n_sets):
        data, done = _compared(kind, 2, seed)
        pair, truth = done.differences[0], data.r2[1] - data.r2[0]
        _, _, p = group_differences(done, pair)
        q = q_values(pair.p)
        for name, value in {
            "voxels_at_5": (pair.p <= 0.05).mean(),
            "rois_at_5": (p <= 0.05).mean(),
            "sets_with_any_after_fdr": (q <= FDR).any(),
            "voxels_after_fdr": (q <= FDR).mean(),
            "voxels_covered": ((pair.low <= truth) & (truth <= pair.high)).mean(),
            "mean_r2_covered": _covered(done, data, 0),
        }.items():
            found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def power(kind: Kind, n_sets: int) -> dict[str, Any]:
    """The second model lacks a part of the signal in a third of the voxels: how many of them are found."""
    found: dict[str, list[float]] = {}
    for seed in range(n_sets):
        data, done = _compared(kind, 2, 1000 + seed, (1,))
        pair, truth = done.differences[0], data.r2[1] - data.r2[0]
        is_found = q_values(pair.p) <= FDR
        difference, spread, p = group_differences(done, pair)
        true, reach = truth.mean(), spread.reach()[0]
        for name, value in {
            "planted_difference": truth[data.lacking].mean(),
            "power": (is_found & (pair.r2 < 0))[data.lacking].mean(),
            "false_discoveries": (is_found & ~data.lacking).sum() / max(is_found.sum(), 1),
            "roi_power": p[0] <= 0.05,
            "voxels_covered": ((pair.low <= truth) & (truth <= pair.high)).mean(),
            "roi_covered": difference[0] - reach <= true <= difference[0] + reach,
        }.items():
            found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def best(kind: Kind, n_sets: int) -> dict[str, Any]:
    """The "max" of 8 models, of which half lack a part: its mean score, its true value, and differences to it."""
    found: dict[str, list[float]] = {}
    for seed in range(n_sets):
        data, done = _compared(kind, N_MODELS, 2000 + seed, range(N_MODELS // 2))
        true_best = data.r2.max(axis=0)
        true = np.sqrt(np.square(true_best - data.r2[0]).mean())
        low, high = np.sqrt(np.maximum(intervals(done.square_values[0], (paired.COVERED,))[0, :, 0], 0))
        for name, value in {
            "max": done.best.mean(),
            "true_max": true_best.mean(),
            "on_other_images": done.honest.mean(),
            "root_mean_square": np.sqrt(np.square(done.best - done.r2[0]).mean()),
            "true_root_mean_square": true,
            "unbiased": np.sqrt(max(done.square_values[0].mean(axis=0)[0], 0)),
            "covered": low <= true <= high,
            "of_a_best_model": np.sqrt(np.square(done.best - done.r2[-1]).mean()),
            "of_a_best_model_unbiased": np.sqrt(max(done.square_values[-1].mean(axis=0)[0], 0)),
        }.items():
            found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _compared(kind: Kind, n_models: int, seed: int, lacking: Any = ()) -> tuple[Simulated, Contrast]:
    data = simulate(kind, n_models, seed, lacking)
    thirds = np.arange(kind.n_voxels) * 3 // kind.n_voxels
    groups = {"all": np.ones(kind.n_voxels, np.bool_), **{str(i): thirds == i for i in range(3)}}
    return data, contrast(data.models, groups)


def _covered(done: Contrast, data: Simulated, model: int) -> float:
    low, high = intervals(done.values[model], (paired.COVERED,))[0, :, 0]
    return float(low <= data.r2[model].mean() <= high)


def test_levels(true_size: bool) -> None:
    n_sets, kinds = (N_SETS, KINDS) if true_size else (6, {"normal": Kind(n_voxels=120)})
    rows = {
        name: {"kind": asdict(kind), "null": levels(kind, n_sets), "planted": power(kind, min(n_sets, N_PLANTED))}
        for name, kind in kinds.items()
    }
    maximum = {name: best(kind, min(n_sets, N_PLANTED // 3)) for name, kind in list(kinds.items())[:2]}
    if true_size:
        keep(
            "compare_levels",
            {"what": "simulated models", "sets": n_sets, "planted_sets": N_PLANTED, "kinds": rows, "max": maximum},
        )
    for name, row in rows.items():
        null, planted = row["null"], row["planted"]
        assert null["rois_at_5"] <= (0.07 if true_size else 0.3), name
        assert null["voxels_at_5"] <= (0.07 if true_size else 0.1), name
        assert null["voxels_after_fdr"] <= (0.05 if true_size else 0.1), name
        assert planted["false_discoveries"] <= (0.05 if true_size else 0.1), name
        assert planted["roi_power"] > 0.5, name
        if row["kind"]["n_images"] > 500:
            assert planted["power"] > 0.9, name
    for name, one in maximum.items():
        assert abs(one["on_other_images"] - one["true_max"]) < one["max"] - one["true_max"], name
