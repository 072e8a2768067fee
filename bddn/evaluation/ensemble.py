"""An ensemble: fits of one cache and subject on one split, that differ in seed and in resampled training images.

Its folder is that of a run. `voxels.parquet` has the mean layer weights, places and scales, their intervals over fits,
and the scores of the averaged prediction; `metrics.json` has the scores of the single fits beside them. There is no
encoder: those of the fits are in their own folders, which `run.json` names.

Shape letters: B fits, N voxels, L layers.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import place_columns
from bddn.data import Dataset
from bddn.data.trials import response_ids
from bddn.errors import RunError
from bddn.evaluation.held_out import write_responses
from bddn.evaluation.kept_responses import ABOUT as ABOUT_RESPONSES
from bddn.evaluation.kept_responses import FOLDER as SCORE
from bddn.evaluation.kept_responses import about_responses
from bddn.evaluation.matching import cache_of_run, check_responses_of, dataset_of_run, parts_of_run
from bddn.files import atomic
from bddn.files.output import is_vacant, new_folder
from bddn.identity import Identity
from bddn.machine.parallel import n_threads
from bddn.machine.settings import own_settings
from bddn.many.plan import VARIED
from bddn.run.covariate_file import copy_effects, without_covariates
from bddn.run.encoders import load_encoders
from bddn.run.folder import (
    ABOUT,
    ENSEMBLE,
    METRICS,
    SPLIT,
    VOXELS,
    WEIGHT,
    Run,
    is_done,
    read_run,
    read_split,
    summary_of_scores,
    without_nan,
)
from bddn.run.not_found import no_layer
from bddn.spec import FitSpec
from bddn.stats.average import SPREAD, average, like
from bddn.stats.evidence import evident, q_values
from bddn.stats.fit_intervals import LEVEL, RANGES, interval_columns
from bddn.stats.scores import roi_scores, tested_scores
from bddn.stats.truth import compare_with_truth, covered
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed

SINGLE = "r2_test_single"  # column of the mean score of single fits


def fits_of(spec: FitSpec, n_fits: int) -> tuple[FitSpec, tuple[int, ...]]:
    """Return the spec that all fits share, on the split of `spec`, and their seeds, which are their bootstraps too."""
    return spec.model_copy(update={"split_seed": spec.seed_of_split}), tuple(range(spec.seed, spec.seed + n_fits))


def check_ensemble(out: Path, spec: FitSpec, n_fits: int) -> None:
    """Refuse, before any fit, a folder that contains another ensemble.

    Raises
    ------
    RunError
    """
    if is_vacant(out, ABOUT):
        return
    about = read_run(out).about
    found, fits = about.get(ENSEMBLE, {}).get("fits", []), Identity({"fit": about["fit"]})
    different = fits.differences(Identity({"fit": spec.to_dict()}))
    if len(found) != n_fits:
        different.append(f"fits {len(found)} → {n_fits}")
    if different:
        raise RunError(
            out,
            expected="a new folder, or the same ensemble",
            got=f"an ensemble that differs in: {'; '.join(different)}",
            fix=f"Nothing was written. Move '{out}' elsewhere; finished fits beside it are used again.",
        )


@own_settings()
def average_fits(folders: Sequence[Path], cache: Cache, dataset: Dataset, out: Path, spec: FitSpec) -> tuple[Run, bool]:
    """Average fits of one cache and subject on one split, and write the result as a run folder.

    Tokens of the test images are read once for all fits. The same fits give the same bytes.

    Parameters
    ----------
    folders : sequence of Path, (B,)
        Their run folders, at least two.
    cache : Cache
    dataset : Dataset
    out : Path
        A new folder, or the same ensemble.
    spec : FitSpec
        What the fits share.

    Returns
    -------
    run : Run
    fresh : bool
        False if the ensemble existed already.

    Raises
    ------
    RunError
        If the fits differ in more than seed and bootstrap, or `out` is another ensemble.
    MismatchError
        If they were fitted to another cache, or to other data.
    """
    started = time.monotonic()
    runs = [read_run(folder) for folder in folders]
    identity = _identity(runs, out, spec)
    if is_done(out, identity):
        return read_run(out), False
    first = runs[0]
    cache, dataset = cache_of_run(first, [cache]), dataset_of_run(first, [dataset])
    parts = parts_of_run(first, dataset)
    check_responses_of(first, dataset)
    dataset = without_covariates(first, dataset)
    encoders = [encoder for run in runs for encoder in load_encoders(run)]
    source = Streamed(cache, cache.select_layers(first.layers), response_ids(dataset))
    try:
        with new_folder(out, ABOUT) as aside:
            atomic.make_folder(aside / SCORE)
            copy_effects(first, aside)
            measured, predicted = write_responses(aside / SCORE, encoders, source, dataset, parts)
            table = _table(runs, *tested_scores(measured, predicted, 0, parts.images(parts.test)))
            metrics = _metrics(runs, table) | {"threads": n_threads(), "seconds": time.monotonic() - started}
            atomic.write_table(aside / VOXELS, table)
            atomic.write_json(aside / SCORE / ABOUT_RESPONSES, about_responses(aside))
            atomic.write_json(aside / SPLIT, read_split(first))
            atomic.write_json(aside / METRICS, without_nan(metrics))
            if (truth := dataset.truth()) is not None:
                found = compare_with_truth(table, truth) | {"covered": covered(table, truth)}
                atomic.write_json(aside / "truth.json", without_nan(found))
            atomic.write_json(aside / ABOUT, dict(identity.parts))
    except FileExistsError:  # another process has written it meanwhile
        return read_run(out), not is_done(out, identity)
    return read_run(out), True


def _identity(runs: Sequence[Run], out: Path, spec: FitSpec) -> Identity:
    """Return what determines the ensemble; refuse fits that differ in more than seed and bootstrap."""
    first = runs[0]
    shared = Identity({**_shared(first), "split": read_split(first)})
    for run in runs[1:]:
        if different := shared.differences(Identity({**_shared(run), "split": read_split(run)})):
            raise RunError(
                run.folder,
                expected=f"the cache, data, split and settings of '{first.folder}', but for seed and bootstrap",
                got=f"a run that differs in: {'; '.join(different)}",
                fix="Give the fits of one 'bddn ensemble'.",
            )
    fits = [Path(os.path.relpath(run.folder.resolve(), out.resolve())).as_posix() for run in runs]
    return Identity({**first.about, "fit": spec.to_dict(), ENSEMBLE: {"fits": fits, "level": LEVEL}})


def _shared(run: Run) -> dict[str, Any]:
    fit = {name: value for name, value in run.about["fit"].items() if name not in VARIED}
    return {name: run.about[name] for name in ("layers", "cache", "data")} | {"fit": fit}


def _table(runs: Sequence[Run], r2: npt.NDArray[np.float64], p: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Return the table of voxels, in the row order of the fits, for scores and p-values (N,) of the average."""
    tables, layers, places = [run.voxels for run in runs], runs[0].layers, place_columns(runs[0].voxels)
    table, weights = tables[0].copy(), [WEIGHT + layer for layer in layers]
    parts = [name for name in SPREAD if name in table and name != "r2_test"]
    selected = [*parts, "layer_argmax", "confidence", "r2_val", *weights]
    mean = like(table, average([each[[*places, "r2_test", *selected]] for each in tables], layers))
    table[selected] = mean[selected]
    moments = ["response_mean", "response_sd"]
    table[moments] = np.mean([each[moments].to_numpy(np.float64) for each in tables], axis=0)
    values = {part: np.stack([each[part].to_numpy(np.float64) for each in tables]) for part in RANGES}
    more = {
        SINGLE: mean["r2_test"],
        "r2_test_sd": mean["r2_test_sd"],
        **{f"{part}_sd": mean[f"{part}_sd"] for part in parts},
        **interval_columns(values, mean[weights].to_numpy(np.float64)),
        **{name: mean[name] for name in ("agreement", "depth_spread")},
    }
    return pd.concat([table.assign(r2_test=r2, p_test=p, q_test=q_values(p)), pd.DataFrame(more)], axis=1)


def _unread(run: Run) -> list[str]:
    """Return the layers that no voxel of a fit reads; none where an earlier version did not record them."""
    return list(run.metrics.get("unread_layers") or ())


def _metrics(runs: Sequence[Run], table: pd.DataFrame) -> dict[str, Any]:
    """Return the content of metrics.json; `ensemble` has what a single fit has not."""
    first, known = runs[0].metrics, table[evident(table)]
    singles = [run.metrics["r2_test"] for run in runs]
    width = known["depth_high"] - known["depth_low"]
    chose = len(known) and no_layer(runs) is None  # else all fits agree, because nothing else is possible
    return {
        "title": f"{first['title']}, {len(runs)} fits",
        "dataset": first["dataset"],
        **({"frame": first["frame"]} if "frame" in first else {}),
        **summary_of_scores(table),
        "saturated_selectors": sorted({name for run in runs for name in run.metrics["saturated_selectors"]}),
        "unread_layers": [name for name in runs[0].layers if all(name in _unread(run) for run in runs)],
        "layer_audit": first.get("layer_audit"),
        "batch_size": first.get("batch_size", runs[0].about["fit"]["batch_size"]),
        "n_epochs": len(first["epochs"]),
        ENSEMBLE: {
            "n_fits": len(runs),
            "level": LEVEL,
            SINGLE: float(np.mean(singles)),
            f"{SINGLE}_sd": float(np.std(singles, ddof=1)),
            f"roi_{SINGLE}": roi_scores(table, SINGLE),
            "agreement": float(known["agreement"].mean()) if chose else None,
            "depth_width": float(width.median()) if chose else None,
            "fits": [
                {
                    "folder": fit.folder.name,
                    **{name: fit.metrics[name] for name in ("seed", "bootstrap", "r2_test", "convergence")},
                    "slope": (fit.metrics["hierarchy"] or {}).get("slope"),
                }
                for fit in runs
            ],
        },
        "cache_digest": first["cache_digest"],
        "versions": first["versions"],
    }
