"""The table of all runs, one row per run, and its summary."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.files import atomic
from bddn.run import Run
from bddn.run.folder import NOISE_SEED, VOXELS, WEIGHT, about_data, network_digest
from bddn.stats.between_subjects import LayerMaps, agreement_between, overlap_of_rois
from bddn.stats.hierarchy import depth_spread
from bddn.stats.scores import ROIS
from bddn.stats.truth import worse_hemisphere

Row = dict[str, Any]

NAME = "results"
FIRST = ("cache", "subject", "trials", "seed", "bootstrap", "r2_test", "r2_val", "slope", "b0", "b1", "n_voxels")
LAST = ("n_voxels_without_score", "n_without_evidence", "best_epoch", "saturated", "cache_digest", "seconds", "folder")
SUMMED = {"r2_test": "R²", "slope": "slope"}  # with standard deviations
SHARED = {
    "agreement": "agreement",
    "agreement_halves": "agreement of halves",
    "agreement_subjects": "between subjects",
    "overlap": "overlap of ROIs",
    "overlap_subjects": "overlap between subjects",
}  # see `add_agreement`; names in the printed table
MEANS = ("confidence", "depth_spread", *SHARED)
ALL, DRAWN, HALF = "all", "bootstrap", "half"


def row_of(folder: str, run: Run) -> Row:
    """Return the results of a run as one table row; None for unknown values.

    Parameters
    ----------
    folder : str
        The run folder relative to the folder of all runs: CACHE/SUBJECT/RUN.
    run : Run
    """
    cache, subject, _ = folder.split("/")
    metrics = run.metrics
    hierarchy = metrics["hierarchy"] or {}
    weights = run.voxels[[WEIGHT + layer for layer in run.layers]].to_numpy(dtype=np.float64)
    return {
        "cache": cache,
        "subject": subject,
        "trials": about_data(run)["trials"],
        **{name: metrics[name] for name in ("seed", "bootstrap", "r2_test", "r2_val")},
        HALF: metrics.get(HALF),
        **{name: hierarchy.get(name) for name in ("slope", "b0", "b1")},
        "confidence": float(run.voxels["confidence"].mean()),
        "depth_spread": float(depth_spread(weights).mean()),
        **{
            f"r2_test_{roi}": of.get("mean") for roi, of in ({roi: {} for roi in ROIS} | metrics["roi_r2_test"]).items()
        },
        **{f"truth_{name}": value for name, value in worse_hemisphere(run.truth or {}).items()},
        **{name: metrics[name] for name in ("n_voxels", "n_voxels_without_score", "best_epoch")},
        "n_without_evidence": metrics.get("n_without_evidence"),  # unknown in runs of version 0.2.0
        "saturated": ", ".join(metrics["saturated_selectors"]),
        **{name: metrics[name] for name in ("cache_digest", "seconds")},
        **_noise_of(run),
        "folder": folder,
    }


def table_of(rows: Iterable[Row]) -> pd.DataFrame:
    """Return a table sorted by cache, subject, seed, bootstrap and half. Empty columns between the first and the last
    ones are dropped."""
    table = pd.DataFrame(list(rows))
    if table.empty:
        return pd.DataFrame(columns=[*FIRST, *LAST])
    between = [name for name in table if name not in (*FIRST, *LAST) and table[name].notna().any()]
    table = table[[*FIRST, *between, *LAST]]
    texts = ["cache", "subject", "trials", "saturated", "cache_digest", "network", "folder"]
    numbers = table.columns.difference(texts)
    counts = {"seed", "bootstrap", HALF, "best_epoch", NOISE_SEED}
    counts |= {name for name in numbers if name.startswith(("n_", "truth_n_"))}
    kinds = {name: "Int64" if name in counts else "float64" for name in numbers}
    order = ["cache", "subject", "seed", "bootstrap", *([HALF] if HALF in table else [])]
    return table.astype(kinds).sort_values(order, na_position="first", ignore_index=True)


def write(table: pd.DataFrame, out: Path) -> None:
    """Replace results.parquet and results.csv in `out`."""
    atomic.write_table(out / f"{NAME}.parquet", table, index=False)
    atomic.write_csv(out / f"{NAME}.csv", table)


def add_agreement(rows: Iterable[Row], out: Path) -> None:
    """Add to each row how its layer map agrees with those of other runs; None for what there is no other run for.

    `agreement` is the share of the other runs of the same cache and subject that select the same layer, averaged over
    voxels. With several subjects of a cache, `agreement_subjects` is that of runs of other subjects at the same vertex,
    and `overlap` and `overlap_subjects` compare layers by ROI; see `bddn.stats.between_subjects`. A fit of one half of
    the training images is only compared with that of the other half, in `agreement_halves`.
    """
    caches: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        caches.setdefault(row["cache"], {}).setdefault(row["subject"], []).append(row)
    for subjects in caches.values():
        number, maps = dict[str, int](), list[LayerMaps]()
        for group in subjects.values():
            _add_halves([row for row in group if row.get(HALF) is not None], out)
        whole = [[row for row in group if row.get(HALF) is None] for group in subjects.values()]
        whole = [group for group in whole if group]
        for group in whole:
            chosen = np.stack([_selected(out / row["folder"], number) for row in group])
            counts = np.stack([(chosen == k).sum(0) for k in range(len(number))])
            for row, own in zip(group, chosen, strict=True):
                others = np.take_along_axis(counts, own[None].astype(np.intp), 0)[0] - 1
                row["agreement"] = float(others.mean() / (len(group) - 1)) if len(group) > 1 else None
            if len(whole) > 1:
                maps.append(LayerMaps(pd.read_parquet(out / group[0]["folder"] / VOXELS), chosen))
        if maps:
            agreement, overlaps = agreement_between(maps, len(number)), overlap_of_rois(maps, len(number))
            for group, between, (within, of_others) in zip(whole, agreement, overlaps, strict=True):
                for k, row in enumerate(group):
                    row |= {"agreement_subjects": between[k], "overlap": within[k], "overlap_subjects": of_others[k]}


def _add_halves(rows: Sequence[Row], out: Path) -> None:
    """Add to the two fits of the halves of each seed the share of voxels in which they select the same layer."""
    by_seed: dict[int, list[Row]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(row)
    for pair in (pair for pair in by_seed.values() if len(pair) > 1):
        number = dict[str, int]()
        one, other = (_selected(out / row["folder"], number) for row in pair)
        for row in pair:
            row["agreement_halves"] = float((one == other).mean())


def _selected(folder: Path, number: dict[str, int]) -> npt.NDArray[np.int16]:
    """Return the number of the selected layer of each voxel of a run; layers that have none yet get one."""
    code, names = pd.factorize(pd.read_parquet(folder / VOXELS, columns=["layer_argmax"])["layer_argmax"])
    return np.array([number.setdefault(str(name), len(number)) for name in names], np.int16)[code]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Summarize runs by cache, subject and images: `all`, each training image once; `bootstrap`; or `half` of them.

    Returns
    -------
    DataFrame
        With columns `cache`, `subject`, `trials` (what a response is), `images`, `n`, the number of runs, and for
        `r2_test` and `slope` the mean, the standard deviation over seeds `…_sd_seeds` (of a seed's mean over its
        bootstraps; a seed sets the initial weights and, without `split_seed`, the split), and over the bootstraps of
        one seed `…_sd_bootstraps` (the root of the mean variance over seeds); with halves, over those of one seed
        `…_sd_halves`. Means of `confidence`, `depth_spread` and the columns of `add_agreement`. NaN for unknown values.
        Caches that differ only in the noise in their latents have one more row, whose `…_sd_noise` is the standard
        deviation over their means.
    """
    table = table.assign(images=np.where(table["bootstrap"].isna(), ALL, DRAWN))
    if HALF in table:
        table["images"] = table["images"].where(table[HALF].isna(), HALF)
    by = ["cache", "subject", "trials", "images"]
    groups = table.groupby(by, sort=True)
    seeds = table.groupby([*by, "seed"])
    columns: dict[str, Any] = {"n": groups.size()}
    for name in SUMMED:
        columns |= {
            name: groups[name].mean(),
            f"{name}_sd_seeds": seeds[name].mean().groupby(by).std(),
            f"{name}_sd_bootstraps": np.sqrt(seeds[name].var().groupby(by).mean()),
        }
    columns |= {name: groups[name].mean() for name in MEANS if name in table}
    found = pd.DataFrame(columns).reset_index()
    if HALF in table:
        for name in SUMMED:
            drawn, is_half = found[f"{name}_sd_bootstraps"], found["images"] == HALF
            found[f"{name}_sd_halves"], found[f"{name}_sd_bootstraps"] = drawn.where(is_half), drawn.mask(is_half)
    return pd.concat([found, *_over_noise(table)], ignore_index=True) if NOISE_SEED in table else found


def to_text(found: pd.DataFrame) -> list[dict[str, str]]:
    """Return a summary as rows of text, e.g. 'R²': '0.131 ± 0.002 (seeds) ± 0.004 (bootstraps)'.

    Subjects of single trials and of averages over repetitions have R² in columns of their own. Columns that
    compare subjects are left out if nothing is known.
    """
    kinds = list(dict.fromkeys(found["trials"]))
    shared = {
        name: words
        for name, words in SHARED.items()
        if name == "agreement" or (name in found and found[name].notna().any())
    }

    def text(row: Mapping[Any, Any], name: str, digits: int) -> str:
        if pd.isna(row.get(name)):
            return "-"
        spreads = {kind: row.get(f"{name}_sd_{kind}") for kind in ("seeds", "bootstraps", "halves", "noise")}
        told = "".join(f" ± {sd:.{digits}f} ({kind})" for kind, sd in spreads.items() if not pd.isna(sd))
        return f"{row[name]:.{digits}f}{told}"

    return [
        {
            "cache": str(row["cache"]),
            "subject": str(row["subject"]),
            "images": str(row["images"]),
            **{
                f"R² ({kind})" if len(kinds) > 1 else "R²": text(row, "r2_test", 3) if row["trials"] == kind else ""
                for kind in kinds
            },
            "slope": text(row, "slope", 2),
            **{words: text(row, name, 2) for name, words in shared.items()},
            "confidence": text(row, "confidence", 2),
            "depth spread": text(row, "depth_spread", 2),
            "n": str(row["n"]),
        }
        for row in found.to_dict("records")
    ]


def _noise_of(run: Run) -> Row:
    """Return the seed of the noise in the latents of a run's cache, and its network; None without noise."""
    seed = (run.about["cache"].get("backbone") or {}).get(NOISE_SEED)
    return {NOISE_SEED: seed, "network": None if seed is None else network_digest(run)}


def _over_noise(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Return one table of one row for each group of caches that differ only in the noise in their latents."""
    found = []
    for (_, subject, trials, images), runs in table.groupby(["network", "subject", "trials", "images"], sort=True):
        seeds = runs.groupby(NOISE_SEED)
        if len(seeds) > 1:
            row: Row = {"cache": f"{len(seeds)} noise seeds: {', '.join(runs['cache'].drop_duplicates())}"}
            row |= {"subject": subject, "trials": trials, "images": images, "n": len(runs)}
            for name in SUMMED:
                row |= {name: seeds[name].mean().mean(), f"{name}_sd_noise": seeds[name].mean().std()}
            row |= {name: runs[name].mean() for name in MEANS if name in runs}
            found.append(pd.DataFrame([row]))
    return found
