"""How often the intervals of an ensemble contain the truth, on planted brains of many kinds.

Ensembles are fitted to `CHOSEN_ON`, the brains on which the method of `stats.fit_intervals` was chosen, and to
`HELD_BACK`, on which it is reported. Each ensemble is a file; the same command goes on where it stopped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from bddn.encoder.brain_score import PREDICT_IMAGES
from bddn.machine.parallel import each, single_threaded_kernels
from bddn.run.folder import without_nan
from bddn.spec import FitSpec
from bddn.stats.evidence import FDR, Evidence, q_values
from bddn.stats.fit_intervals import RANGES, interval, interval_columns
from bddn.stats.scores import R2
from bench.report import keep
from bench.small_brains import RECIPE, SmallBrains, small_brains

N_FITS = 3
CHOSEN_ON = (100,)  # seeds of subjects, each of eight brains
HELD_BACK = (101, *range(7))
CEILINGS = (0.0, 0.15, 0.3, 0.45, 1.0)
PARTS = (*RANGES, "scale")
MAX_SCALE = 0.5  # above it the response hardly depends on the place

Floats = npt.NDArray[np.float64]


def ensemble(brains: SmallBrains, n_fits: int, epochs: int) -> dict[str, npt.NDArray[Any]]:
    """Fit an ensemble as `bddn ensemble --spec fast` does; return what its fits selected, and the scores.

    Returns
    -------
    dict of arrays
        `weights` (B, N, L), `depth`, `x`, `y`, `scale` and `r2` (B, N); of the averaged prediction, `r2_mean` and `p`
        (N,).
    """
    settings = RECIPE | {"epochs": epochs}
    found: dict[str, list[npt.NDArray[Any]]] = {}
    rows, predicted = brains.parts.test, []
    for k in range(n_fits):
        fitted = brains.fit(FitSpec(**settings | {"seed": k, "bootstrap": k}))
        chosen = fitted.selection
        weights, place = chosen.layer.numpy().astype(np.float64), chosen.place.numpy().astype(np.float64)
        one = {"weights": weights, "depth": weights @ np.linspace(0, 1, weights.shape[1])}
        scale = chosen.scale.numpy().astype(np.float64)
        one |= {"x": place[:, 0], "y": place[:, 1], "scale": scale, "r2": fitted.r2_test}
        for name, values in one.items():
            found.setdefault(name, []).append(values)
        with torch.no_grad(), single_threaded_kernels():
            reading, at = fitted.model.read(PREDICT_IMAGES), torch.from_numpy(rows)
            predicted.append(fitted.model.predict(brains.source.features.float(at), reading).numpy())
    r2, evidence, mean = R2(), Evidence(len(rows), 0), np.mean(predicted, axis=0)
    r2.add(brains.responses[rows], mean)
    evidence.add(brains.responses[rows], mean)
    scores = {"r2_mean": r2.score(), "p": evidence.p_values()}
    return {name: np.stack(values) for name, values in found.items()} | scores


def contained(fits: dict[str, npt.NDArray[Any]], truth: pd.DataFrame) -> pd.DataFrame:
    """Return one row per voxel with evidence and part: whether its interval has the truth, its width, and its ceiling.

    `percentiles` and `deviation` say the same of the 5th to the 95th percentile over fits, and of an interval from
    their standard deviation alone. Scale, which has no interval, is judged by the latter.
    """
    evident = np.concatenate([q_values(fits["p"][rows]) <= FDR for rows in truth.groupby("brain").indices.values()])
    columns = interval_columns({name: fits[name] for name in RANGES}, fits["weights"].mean(0))
    rows = []
    for part in PARTS:
        least, most = interval(fits[part], np.zeros(1), RANGES.get(part, (0.0, 1.0)))
        low, high = columns.get(f"{part}_low", least), columns.get(f"{part}_high", most)
        planted, (below, above) = truth[part].to_numpy(), np.percentile(fits[part], (5, 95), axis=0)
        judged = evident & ((truth["scale"] < MAX_SCALE).to_numpy() | (part not in "xy"))
        table = {
            "part": part,
            "brain": truth["brain"],
            "ceiling": truth["ceiling"],
            "inside": (low <= planted) & (planted <= high),
            "percentiles": (below <= planted) & (planted <= above),
            "deviation": (least <= planted) & (planted <= most),
            "width": high - low,
            "error": np.abs(fits[part].mean(0) - planted),
        }
        rows.append(pd.DataFrame(table)[judged])
    return pd.concat(rows, ignore_index=True)


def rates(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the coverage by part, pooled and by ceiling; `brains_5` and `brains_95` are percentiles over brains of
    at least 30 voxels."""
    out = []
    levels = pd.cut(found["ceiling"], CEILINGS, right=False).astype(str)
    for part in PARTS:
        of = found[found["part"] == part]
        for name, some in (("all", of), *of.groupby(levels[of.index])):
            by_brain = some.groupby("brain")["inside"].agg(["mean", "size"])
            by_brain = by_brain.loc[by_brain["size"] >= 30, "mean"]
            means = some[["inside", "percentiles", "deviation", "width", "error"]].mean()
            out.append(
                {"part": part, "ceiling": name, "voxels": len(some), "brains": int(some["brain"].nunique())}
                | {str(key): round(float(value), 3) for key, value in means.items()}
                | {
                    "brains_5": round(float(by_brain.quantile(0.05)), 3),
                    "brains_95": round(float(by_brain.quantile(0.95)), 3),
                }
            )
    return out


def run(folder: Path, seeds: Sequence[int], n_fits: int = N_FITS, epochs: int = RECIPE["epochs"]) -> pd.DataFrame:
    """Fit what is not yet in `folder`, and return `contained` of all brains of these subjects."""
    folder.mkdir(parents=True, exist_ok=True)

    def one(seed: int) -> pd.DataFrame:
        path, truth_path = folder / f"{seed}.npz", folder / f"{seed}.parquet"
        if not path.exists():
            brains = small_brains(seed)
            brains.truth.to_parquet(truth_path)
            np.savez(path, **ensemble(brains, n_fits, epochs))  # type: ignore[arg-type]  # no array is named allow_pickle
        with np.load(path) as fits:
            return contained(dict(fits), pd.read_parquet(truth_path))

    return pd.concat(each(one, seeds), ignore_index=True)


def scores(folder: Path, seeds: Sequence[int]) -> dict[str, float]:
    """Return mean R² over all voxels: of single fits, and of the averaged prediction."""
    found = []
    for seed in seeds:
        with np.load(folder / f"{seed}.npz") as fits:
            found.append([float(np.mean(fits[name])) for name in ("r2", "r2_mean")])
    return dict(zip(("single", "average"), np.mean(found, axis=0).tolist(), strict=True))


def report(folder: Path) -> None:
    """Fit what is not yet in `folder`, and keep the figures."""
    tables = {name: rates(run(folder, seeds)) for name, seeds in (("chosen_on", CHOSEN_ON), ("held_back", HELD_BACK))}
    keep(
        "depth_coverage",
        without_nan({"what": f"{N_FITS} fits of each brain", "r2": scores(folder, HELD_BACK), **tables}),
    )
