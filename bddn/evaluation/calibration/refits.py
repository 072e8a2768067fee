"""Calibrate a run: fit planted brains on its own cache, each in a folder of its own under `calibration/brains/`.

Finished fits are kept, and interrupted ones go on from their checkpoint.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bddn.cortex.places import on_spheres
from bddn.data import Dataset
from bddn.data.trials import response_ids
from bddn.evaluation.calibration.brains_like import Brain, BrainsLike
from bddn.evaluation.calibration.calibration import (
    FOLDER,
    Calibration,
    Refit,
    calibrate,
    line_of,
    refuse_no_layer,
    write_calibration,
)
from bddn.evaluation.matching import cache_of_run, check_responses_of, dataset_of_run
from bddn.files import atomic
from bddn.identity import Identity
from bddn.machine.memory import free_bytes
from bddn.machine.settings import own_settings
from bddn.planted.simulated import Batch, Noise, measured_noise, simulate
from bddn.run import Run, fit_run, read_run
from bddn.run.covariate_file import without_covariates
from bddn.run.fitting import device_of
from bddn.run.folder import ABOUT
from bddn.run.inputs import Subject, environment
from bddn.spec import FitSpec
from bddn.stats.hierarchy import IDEAL_DEPTH
from bddn.store.reader import Cache
from bddn.stream.loader import Resident, Source, Streamed, batches
from bddn.stream.order import pools_in_order

BRAINS = "brains"
TOKEN_SHARE = 0.4  # of the free memory, which tokens may take
READ_IMAGES = 64
READ_RESPONSES = 1024
MEMORY_BYTES = 512 << 20  # of responses that are kept in memory


@own_settings()
def calibrate_run(
    run: Run,
    cache: Cache,
    dataset: Dataset,
    n_brains: int,
    ideal: Mapping[str, float] = IDEAL_DEPTH,
    *,
    device: str = "cpu",
    memory_gib: float | None = None,
) -> Calibration:
    """Fit brains with known slopes that are like that of a run, and write what they tell into its folder.

    The same call resumes, also with more brains.

    Parameters
    ----------
    run : Run
    cache : Cache
    dataset : Dataset
        Those of the run. Its responses give the noise.
    n_brains : int
        At least 4.
    ideal : mapping of str to float
        Ideal depth of each ROI.
    device : {'cpu', 'cuda', 'auto'}
    memory_gib : float, optional
        Memory that a fit may use, by default the free memory.

    Raises
    ------
    RunError
        If one of the ROIs has no voxel with evidence in the run, or all its voxels select one layer.
    MismatchError
        If the run was fitted to another cache, or to other data.
    """
    refuse_no_layer(run)
    line = line_of(run, ideal)
    cache, dataset = cache_of_run(run, [cache]), dataset_of_run(run, [dataset])
    like = BrainsLike(run, line, ideal, on_spheres(run.voxels), cache.grid)
    refits = Refits(like, cache, dataset, device, memory_gib)
    found = calibrate(like, refits, n_brains)
    versions = environment(refits.device)
    about = {"cache_digest": cache.digest, "run_digest": Identity(run.about).digest(), "versions": versions}
    found = replace(found, about=found.about | about)
    write_calibration(found, run.folder / FOLDER)
    return found


class Refits:
    """Fits of planted brains with the spec of a run, each in its folder; finished ones are kept.

    Parameters
    ----------
    like : BrainsLike
    cache, dataset : Cache, Dataset
        Those of the run. Noise is that of the responses that it was fitted to, without its covariates' part.
    device : {'cpu', 'cuda', 'auto'}
    memory_gib : float, optional
        Memory that a fit may use, by default the free memory.
    """

    def __init__(self, like: BrainsLike, cache: Cache, dataset: Dataset, device: str, memory_gib: float | None) -> None:
        self._like, self._cache, self._dataset = like, cache, dataset
        self._measured = without_covariates(like.run, dataset)
        self._memory_gib, self._run = memory_gib, like.run
        self._spec = FitSpec.parse(like.run.about["fit"], f"run '{like.run.folder}'")
        self.device = device_of(device, self._spec)
        self._folder = like.run.folder / FOLDER / BRAINS
        self._moments: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
        self._subject: Subject | None = None
        self._resident: Resident | None = None

    def __call__(self, brain: Brain, signal: float) -> Refit:
        """Return the fit of a brain; fit it if it is not there yet."""
        found = self._fit(brain, signal)
        settled = found.metrics.get("convergence") or {}
        saturated = "layer" in found.metrics["saturated_selectors"]
        return Refit(found.voxels, bool(settled.get("converged", True)), saturated, found.folder.name)

    def _fit(self, brain: Brain, signal: float) -> Run:
        parts = {"run": self._run.about, "settings": self._like.settings, "rois": dict(self._like.ideal)}
        noise = {} if self._measured is self._dataset else {"noise": "without covariates"}
        digest = Identity({**parts, **noise, "brain": brain.number, "signal": signal}).digest()
        out = self._folder / f"{brain.number:02d}-{digest[:12]}"
        if (out / ABOUT).is_file():
            return read_run(out)
        self._read()
        assert self._moments is not None
        assert self._subject is not None
        atomic.make_folder(self._folder)
        n_bytes = 4 * len(response_ids(self._dataset)) * len(brain.maps)
        file = None if n_bytes <= MEMORY_BYTES else self._folder / f".{out.name}.npy"
        try:
            data = simulate(
                self._dataset,
                self._tokens,
                self._cache.grid,
                brain.maps,
                brain.layer_weights,
                brain.number,
                self._noise(brain.number),
                brain.n_channels,
                file,
            )
            return fit_run(
                self._cache,
                data,
                out,
                self._spec,
                device=self.device,
                memory_gib=self._memory_gib,
                resident=self._resident,
                subject=self._subject.of_same_stimuli(data),
            )[0]
        finally:
            if file is not None:
                file.unlink(missing_ok=True)

    def _read(self) -> None:
        """Read and check the responses of the run, and its tokens if memory allows, before the first fit."""
        if self._moments is not None:
            return
        n, n_voxels = len(response_ids(self._dataset)), len(self._run.voxels)
        first, sums = self._measured.responses(np.arange(1))[0].astype(np.float64), np.zeros((2, n_voxels))

        def add(rows: npt.NDArray[np.float32]) -> None:
            centred = rows - first
            sums[0] += centred.sum(0)
            sums[1] += np.square(centred).sum(0)

        if self._measured is self._dataset:
            check_responses_of(self._run, self._dataset, add)
        else:
            check_responses_of(self._run, self._dataset)
            for start in range(0, n, READ_RESPONSES):
                add(self._measured.responses(np.arange(start, min(start + READ_RESPONSES, n))))
        mean = sums[0] / n
        self._moments = mean + first, np.sqrt(np.maximum(sums[1] / n - np.square(mean), 0))
        self._subject = Subject.read(self._dataset)
        self._streamed = Streamed(
            self._cache, self._cache.select_layers(self._run.layers), response_ids(self._dataset), device="cpu"
        )
        free = free_bytes() if self._memory_gib is None else self._memory_gib * 2**30
        if self.device == "cpu" and self._streamed.n_bytes <= TOKEN_SHARE * free:
            self._resident = self._streamed.load()

    def _tokens(self) -> Iterable[Batch]:
        source: Source = self._resident or self._streamed
        rows = np.arange(len(source.chunk_of))
        for some, features in batches(source, pools_in_order(rows, source.chunk_of), READ_IMAGES):
            yield some, features.local, features.global_

    def _noise(self, seed: int) -> Noise:
        assert self._moments is not None
        return measured_noise(self._measured, seed, *self._moments)
