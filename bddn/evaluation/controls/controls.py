"""Controls of a fit on the same images, voxels and split: what predicts the responses without the network's learning,
without an encoder's parts, or without the pairing of images and responses.

Every control learns from the training images, makes its choices on the validation images, and predicts the test images
once. A control that was finished is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.backbones.registry import open_backbone
from bddn.backbones.untrained import untrained_spec
from bddn.data import Dataset
from bddn.data.shuffled import Shuffled
from bddn.data.splits import Split
from bddn.errors import BackboneError, MismatchError, RunError, SpecError
from bddn.evaluation.controls import regressions
from bddn.evaluation.controls.regressions import OF_IMAGES, REGRESSIONS, Regressions, is_available
from bddn.evaluation.controls.table import FIT, Outcome, control_table, sentences
from bddn.evaluation.held_out import predict_held_out
from bddn.evaluation.kept_responses import read_held_out
from bddn.extraction import extract
from bddn.extraction.source import network_identity
from bddn.files import atomic
from bddn.files.output import check_folder, is_vacant
from bddn.identity import Identity
from bddn.machine.parallel import choose_device
from bddn.machine.settings import own_settings
from bddn.progress import say
from bddn.run import Run, Subject, fit_run, read_split
from bddn.run import folder as run_folder
from bddn.run.fitting import device_of
from bddn.run.folder import without_nan
from bddn.run.inputs import environment
from bddn.spec import FitSpec
from bddn.stats.hierarchy import hierarchy_slope
from bddn.stats.region_scores import LEVEL, region_scores
from bddn.stats.scores import roi_masks
from bddn.store.reader import Cache

NAME = "controls"
WHOLE_FIELD = 1000.0  # a blur, in tokens, that is flat over any grid
ONE_BLUR = {"blurred_tokens": "kept"}  # there are no others to scale its tokens to
UNTRAINED, SHUFFLED, NO_SIZE = "untrained", "shuffled", "no_size"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "no_topology": {"selection": "free"},
    "no_factorization": {"selection": "unfactorized", "blurs": (0.0,), **ONE_BLUR},
    "no_layer": {"fixed": "layer"},
    "no_place": {"fixed": "place", "blurs": (WHOLE_FIELD,), **ONE_BLUR},
    "no_scale": {"fixed": "scale"},
    NO_SIZE: {"blurs": (0.0,), **ONE_BLUR},
}
ABOUT: Mapping[str, str] = {
    FIT: "FactorTopy with the settings that were asked for",
    "no_topology": "selection free for every voxel, not smooth over cortex",
    "no_factorization": "a free weight of every voxel for every token of every layer",
    "no_layer": "equal weights of all layers",
    "no_place": "the mean over all places",
    "no_scale": "local and global token in equal parts",
    NO_SIZE: "sharp tokens only",
    UNTRAINED: "FactorTopy on the same architecture with random weights",
    "pixels": "ridge regression on coarse pixels: luminance and colour",
    "gabor": "ridge regression on Gabor energy",
    "ridge_layer": "ridge regression on one layer, for every voxel the best one on the validation images",
    "banded": "banded ridge regression on all layers (himalaya)",
    SHUFFLED: "FactorTopy on images that are shuffled against the responses within each part of the split",
}
Masks = Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Controls:
    """The table of all controls (see `control_table`), and the sentences that it says."""

    table: pd.DataFrame
    sentences: list[str]


@own_settings()
def run_controls(
    cache: Cache,
    dataset: Dataset,
    out: Path,
    spec: FitSpec,
    names: Sequence[str] = tuple(ABOUT),
    *,
    device: str = "auto",
    memory_gib: float | None = None,
    tell: Callable[[str], object] = say,
) -> Controls:
    """Fit FactorTopy and its controls, and write `controls.csv`, `controls.parquet` and `controls.json` into `out`.

    Fits are run folders OUT/NAME. The same call resumes.

    Parameters
    ----------
    cache : Cache
    dataset : Dataset
    out : Path
    spec : FitSpec
        Settings of the fit; its selection is topological and nothing in it is fixed.
    names : sequence of str
        Some names of `ABOUT`. The fit is always made, because others are compared with it.
    device : {'auto', 'cpu', 'cuda'}
    memory_gib : float, optional
        Memory that a fit may use; by default what is free.
    tell : function of str
        Called with the name of each control before its work, and with notes.

    Raises
    ------
    SpecError
        If a name is unknown, or the settings are already those of a control.
    BddnError
        If cache, data, settings or a folder in `out` do not fit.
    """
    _check(names, spec)
    check_folder(out)
    work = _Work(cache, dataset, out, spec, device, memory_gib, tell)
    outcomes, missing = {FIT: work.of_run(FIT, work.fit)}, dict[str, str]()
    for name in (name for name in ABOUT if name in names and name != FIT):
        tell(f"control: {name}, {ABOUT[name]}")
        try:
            outcomes[name] = work.outcome(name)
        except NotAvailable as reason:
            missing[name] = str(reason)
    table = control_table(outcomes, work.regions, missing)
    said = sentences(table)
    summary = {
        "settings": {"fit": spec.to_dict(), "interval": LEVEL, "controls": {n: ABOUT[n] for n in names}},
        "cache_digest": cache.digest,
        "data": work.fit.about["data"],
        "versions": environment(device_of(device, spec)),
        "sentences": said,
        "table": table.astype(object).where(table.notna(), None).to_dict("records"),
    }
    atomic.write_table(out / f"{NAME}.parquet", table, index=False)
    atomic.write_csv(out / f"{NAME}.csv", table)
    atomic.write_json(out / f"{NAME}.json", without_nan(summary))
    return Controls(table, said)


class NotAvailable(Exception):  # noqa: N818 - a finding, not an error
    """A control that cannot be made here; the text is the reason."""


class _Work:
    """The fit, and what all its controls share."""

    def __init__(
        self,
        cache: Cache,
        dataset: Dataset,
        out: Path,
        spec: FitSpec,
        device: str,
        memory_gib: float | None,
        tell: Callable[[str], object],
    ) -> None:
        self._cache, self._dataset, self._out, self._spec = cache, dataset, out, spec
        self._device, self._memory_gib, self._tell = device, memory_gib, tell
        tell(f"control: {FIT}, {ABOUT[FIT]}")
        self._subject = Subject.read(dataset)
        self.fit = self._fitted(FIT, spec)
        self.regions: Masks = roi_masks(self.fit.voxels)
        self._regressions = Regressions(self.fit, cache, dataset, spec.seed)

    def outcome(self, name: str) -> Outcome:
        """Return the outcome of a control.

        Raises
        ------
        NotAvailable
        """
        if name in REGRESSIONS:
            if reason := is_available(name):
                raise NotAvailable(reason)
            if name in OF_IMAGES and is_vacant(self._out / name, regressions.ABOUT):
                self._need_images()
            return self._regressions.outcome(name, self._out / name, self.regions)
        if name == SHUFFLED:
            shuffled = Shuffled(self._dataset, Split.of(read_split(self.fit)), self._spec.seed)
            run = self._fitted(name, self._spec, subject=Subject.read(shuffled))
            return self.of_run(name, run, dataset=shuffled)
        if name == UNTRAINED:
            twin = self._untrained()
            return self.of_run(name, self._fitted(name, self._spec, twin), twin)
        if name == NO_SIZE and self._spec.blurs == (0.0,):
            raise NotAvailable("the settings have only the sharp grid, so no size is selected")
        return self.of_run(name, self._fitted(name, _variant(self._spec, name)))

    def of_run(self, name: str, run: Run, cache: Cache | None = None, dataset: Dataset | None = None) -> Outcome:
        """Return the outcome of a run; its predictions of the test images are kept in its folder."""
        try:
            held_out = read_held_out(run)
        except RunError:
            held_out = predict_held_out(run, [cache or self._cache], [dataset or self._dataset])
        measured, predicted = (held_out.of_images(values) for values in (held_out.measured, held_out.predicted))
        scores = region_scores(measured, predicted, list(self.regions.values()))
        slope = None if name == "no_layer" else hierarchy_slope(run.voxels)
        return Outcome(run.voxels, scores, None if slope is None else slope["slope"], run.metrics["seconds"])

    def _fitted(self, name: str, spec: FitSpec, cache: Cache | None = None, subject: Subject | None = None) -> Run:
        subject = subject or self._subject
        run, _ = fit_run(
            cache or self._cache,
            subject.dataset,
            self._out / name,
            spec,
            device="cpu" if spec.selection == "unfactorized" else self._device,
            memory_gib=self._memory_gib,
            subject=subject,
        )
        if name != FIT and read_split(run) != read_split(self.fit):
            raise MismatchError(
                run.folder,
                expected=f"the split of '{self.fit.folder}'",
                got="another split",
                fix="Use settings whose split depends on the stimulus ids only.",
            )
        return run

    def _untrained(self) -> Cache:
        """Return the cache of the same architecture with random weights; it is extracted if it does not exist."""
        place = self._out / f"{UNTRAINED}.zarr"
        if not is_vacant(self._out / UNTRAINED, run_folder.ABOUT):
            return Cache(place)  # of the run that is there
        if self._spec.split_by is not None and self._spec.split_by.clusters is not None:
            raise NotAvailable("images are split by clusters of the network's tokens, so its twin has another split")
        self._need_images()
        layers = [layer.name for layer in self._cache.select_layers(self._spec.layers)]
        try:
            twin = untrained_spec(self._cache.header, layers, self._spec.seed)
            device = choose_device(self._device)
            backbone = open_backbone(twin, device)
        except (BackboneError, SpecError) as error:
            raise NotAvailable(f"the network cannot be built without its weights: {error.got}") from error
        trained, untrained = Identity(self._cache.header), network_identity(twin, backbone, device)
        words = trained.only("spec", "decoding", "backbone").differences(untrained.only("spec", "decoding", "backbone"))
        if other := [word for word in words if not word.startswith("backbone.weights_sha256")]:
            raise NotAvailable(f"the architecture that the cache describes gives another network: {'; '.join(other)}")
        extract(twin, self._dataset, place, device=device, backbone=backbone, tell=self._tell)
        return Cache(place)

    def _need_images(self) -> None:
        lacking = self._subject.images.count(None)
        if lacking:
            raise NotAvailable(f"{lacking} images of the dataset are not on this machine")


def _check(names: Sequence[str], spec: FitSpec) -> None:
    unknown = [name for name in names if name not in ABOUT]
    if unknown:
        raise SpecError(
            "--only",
            expected=f"names of controls: {', '.join(ABOUT)}",
            got=", ".join(unknown),
            fix="Correct the names.",
        )
    if spec.selection != "topological" or spec.fixed is not None:
        raise SpecError(
            "settings of the fit",
            expected="selection: topological, and nothing fixed",
            got=f"selection: {spec.selection}, fixed: {spec.fixed}",
            fix="Give the settings of the fit itself; its controls change them.",
        )
    for name in VARIANTS.keys() & {*names}:
        _variant(spec, name)


def _variant(spec: FitSpec, name: str) -> FitSpec:
    """Return the settings of a control that changes those of the fit."""
    return FitSpec.parse(spec.to_dict() | dict(VARIANTS[name]), f"control {name}")
