"""How often the intervals of R² contain its value on very many images. Small here; `--true-size` keeps figures."""

from typing import Any

import numpy as np

from bddn.stats.jackknife import intervals, pseudo_values, r2_interval, r2_without_each
from bddn.stats.scores import r2_and_r, robust_mean
from bench.report import keep
from bench.simulated_encoders import KINDS, N_ROI, Floats, SimulatedEncoder

N_IMAGES = (60, 250, 1000)
N_BRAINS = 60
COVERED = 0.80, 0.97  # in which the share of intervals at 90 % must lie
MEASURES = ("mean_90", "mean_95", "roi_90", "roi_95", "voxel_95", "percentile_90", "bias", "expected_bias")


def one(kind: str, seed: int, n_images: int, percentile: bool = True) -> dict[str, float]:
    """Draw one brain and its test images, and return what its intervals contain, 1 or 0, and the errors of the mean."""
    brain = SimulatedEncoder(KINDS[kind], seed)
    y, predicted = brain.images(n_images)
    r2, without = r2_and_r(y, predicted)[0], r2_without_each(y, predicted)
    roi = slice(seed % (len(r2) - N_ROI), seed % (len(r2) - N_ROI) + N_ROI)
    true = np.array([brain.r2.mean(), brain.r2[roi].mean()])
    found = np.array([robust_mean(r2), robust_mean(r2[roi])])
    at_least = np.maximum(without, -1)
    pseudo = pseudo_values(found, np.stack([at_least.mean(1), at_least[:, roi].mean(1)], axis=1))
    ends = intervals(pseudo, (0.9, 0.95))
    held = (ends[:, 0] <= true) & (true <= ends[:, 1])  # (levels, mean or ROI)
    low, high = r2_interval(r2, without, 0.95)
    row = {
        f"{name}_{level}": float(held[k, i])
        for i, name in enumerate(("mean", "roi"))
        for k, level in ((0, 90), (1, 95))
    }
    row["voxel_95"] = float(((low <= brain.r2) & (brain.r2 <= high)).mean())
    row |= {"bias": float(found[0] - true[0]), "expected_bias": float(pseudo[:, 0].mean() - true[0])}
    if percentile:
        low, high = _percentile(y, predicted, seed)
        row["percentile_90"] = float(low <= true[0] <= high)
    return row


def coverage(kind: str, n_images: int, n_brains: int, percentile: bool = True) -> dict[str, Any]:
    """Return the shares of brains whose intervals contain the truth, and the mean errors of the mean R²."""
    rows = [one(kind, seed, n_images, percentile) for seed in range(n_brains)]
    shares = {name: float(np.mean([row[name] for row in rows])) for name in MEASURES if name in rows[0]}
    return {"brains": kind, "n_images": n_images, "n_brains": n_brains, **shares}


def _percentile(y: Floats, predicted: Floats, seed: int) -> Floats:
    """Return the 90 % interval of the mean R² by the percentile bootstrap, the textbook form."""
    n = len(y)
    draws = np.random.default_rng([seed, 12]).multinomial(n, np.full(n, 1 / n), 500).astype(np.float64)
    y, error = y - y.mean(0), np.square(y - predicted)
    total = draws @ np.square(y) - np.square(draws @ y) / n
    return np.asarray(np.quantile(np.maximum(1 - draws @ error / total, -1).mean(1), (0.05, 0.95)))


def test_intervals_contain_the_truth_as_often_as_they_say(true_size: bool) -> None:
    sizes, n_brains = (N_IMAGES, N_BRAINS) if true_size else ((60, 200), 60)
    rows = [coverage(kind, n_images, n_brains, true_size) for kind in KINDS for n_images in sizes]
    if true_size:
        keep("score_coverage", {"what": f"{n_brains} simulated brains of 200 correlated voxels", "rows": rows})
    for found in rows:
        for name in ("mean_90", "roi_90"):
            assert COVERED[0] <= found[name] <= COVERED[1], found
        assert 0.90 <= found["voxel_95"] <= 0.98, found
