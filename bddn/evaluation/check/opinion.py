"""Ask brute force about a run: the same cache, data and split, a sample of its voxels, and no gradients."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.baselines import ridge, second_opinion, windows
from bddn.cortex.places import on_spheres
from bddn.data import Dataset
from bddn.data.covariates import covariate_values
from bddn.data.trials import response_ids
from bddn.evaluation import verdict
from bddn.evaluation.check import comparison
from bddn.evaluation.check.comparison import Compared, compare
from bddn.evaluation.matching import cache_of_run, check_responses_of, dataset_of_run, parts_of_run
from bddn.evaluation.verdict import is_low, sentence
from bddn.files import atomic
from bddn.machine.settings import own_settings
from bddn.run.covariate_file import read_effects
from bddn.run.folder import WEIGHT, Run, without_nan
from bddn.run.inputs import environment
from bddn.run.not_found import fixed_part
from bddn.store.reader import Cache
from bddn.stream.loader import Streamed
from bddn.stream.order import Rows

NUMBERS, TABLE = "check.json", "check.parquet"
PARTS_OF: dict[str | None, tuple[str, ...]] = {"layer": ("depth",), "place": ("x", "y"), "scale": ("scale",)}
SETTINGS: dict[str, Any] = {
    "principal_channels": windows.N_CHANNELS,
    "windows_along_a_side": windows.N_SIDE,
    "penalties": list(ridge.PENALTIES),
    "folds": second_opinion.N_FOLDS,
    "smoothing_mm": second_opinion.SMOOTHING_MM,
    "softness": [second_opinion.LAYER_SOFTNESS, second_opinion.WINDOW_SOFTNESS],
    "min_r2": second_opinion.MIN_R2,
    "max_scale_of_a_place": comparison.MAX_SCALE,
    "min_repeatability": comparison.MIN_REPEAT,
    "min_r": comparison.MIN_R,
    "min_spread": comparison.MIN_SPREAD,
    "min_gain": comparison.MIN_GAIN,
    "min_loss": comparison.MIN_LOSS,
    "min_score": verdict.MIN_SCORE,
}


@own_settings()
def check_run(run: Run, cache: Cache, dataset: Dataset, n_voxels: int) -> Compared:
    """Compare a run with a second opinion on at most `n_voxels` of its voxels, spread evenly over cortex.

    The training and validation images of the run decide, its test images only judge. The cache is streamed once, and a
    part of it twice. The same inputs give the same bytes, for any number of threads.

    Raises
    ------
    MismatchError
        If the run was fitted to another cache, or to other data.
    RunError
        If the run's `split.json` is missing or damaged.
    """
    cache, dataset = cache_of_run(run, [cache]), dataset_of_run(run, [dataset])
    ids, coords_mm = response_ids(dataset), on_spheres(run.voxels)
    voxels = second_opinion.spread_out(coords_mm, n_voxels)
    responses = _read_responses(run, dataset, voxels)
    if (effects := read_effects(run)) is not None:
        responses -= effects.of_voxels(voxels).part(covariate_values(dataset, effects.names))
    parts = parts_of_run(run, dataset)
    train = np.concatenate([parts.train, parts.val])
    layers, mine = cache.select_layers(run.layers), run.voxels.iloc[voxels]
    source, at = Streamed(cache, layers, ids), coords_mm[voxels]
    opinion = second_opinion.second_opinion(
        source, responses, at, voxels, train, parts.test, cache.grid, len(layers), parts.image_of
    )
    weights = mine[[WEIGHT + layer for layer in run.layers]].to_numpy(np.float64)
    return compare(mine, weights, opinion, at, PARTS_OF.get(fixed_part(run), ()))


def is_passed(found: Compared) -> bool:
    """Return whether no part disagrees or is constant, and the run predicts as much as brute force."""
    return not is_low(found.score) and not {one.verdict for one in found.comparisons} & {"disagrees", "constant"}


def write_check(found: Compared, run: Run, out: Path) -> None:
    """Write the voxels and the numbers into a folder; existing files are replaced."""
    summary: dict[str, Any] = {
        "sentence": sentence(found.comparisons, found.score),
        "passed": is_passed(found),
        "n_images": found.n_images,
        "n_voxels": len(found.voxels),
        "n_judged": int(found.voxels["judged"].sum()),
        "score": None if found.score is None else asdict(found.score),
        "comparisons": [asdict(one) for one in found.comparisons],
        "rois": found.rois.to_dict("records"),
        "settings": SETTINGS,
        "cache_digest": run.about["cache"]["digest"],
        "versions": environment("cpu"),
    }
    atomic.write_table(out / TABLE, found.voxels)
    atomic.write_json(out / NUMBERS, without_nan(summary))


def _read_responses(run: Run, dataset: Dataset, voxels: Rows) -> npt.NDArray[np.float32]:
    """Return the responses (n, V) of some voxels, and check that those of all voxels are the run's."""
    found = list[npt.NDArray[np.float32]]()
    check_responses_of(run, dataset, lambda rows: found.append(rows[:, voxels]))
    return np.concatenate(found)
