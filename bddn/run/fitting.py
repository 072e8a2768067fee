"""Stage two: fit an encoder on a sealed cache and a dataset, and write the results into one run folder.

The folder appears only when it is complete. During the fit, its checkpoint is in a hidden folder next to it.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from bddn.cortex.places import drawn_rows
from bddn.data import Dataset
from bddn.data.covariates import WithoutCovariates, covariate_values, estimate
from bddn.data.dataset import about, frame_of
from bddn.data.dataset_check import check_ids, check_rows, check_voxels, responses_of
from bddn.data.trials import check_trials, response_ids
from bddn.encoder import checkpoint, learning
from bddn.encoder.brain_score import PREDICT_IMAGES
from bddn.encoder.components import components_bytes
from bddn.encoder.explained import kernel_bytes
from bddn.encoder.factor_topy import FactorTopy, new_encoder
from bddn.encoder.fit import CHECKPOINT_S, fit
from bddn.encoder.parts import Parts
from bddn.encoder.polish import IMAGES as POLISH_IMAGES
from bddn.encoder.polish import pass_bytes_in, polish_bytes
from bddn.encoder.responsive import chooses, responsive_bytes
from bddn.encoder.sample import n_trained
from bddn.encoder.shared_components import limits_components
from bddn.encoder.targets import Targets
from bddn.errors import LowMemoryError, SpecError
from bddn.files import atomic
from bddn.files.output import new_folder
from bddn.files.paths import printable
from bddn.files.unfinished import state_file
from bddn.identity import Identity
from bddn.machine.memory import free_bytes, free_device_bytes
from bddn.machine.parallel import choose_device, error_text, is_out_of_memory, n_threads
from bddn.machine.settings import own_settings
from bddn.run.checks import audit_layers, check_leakage, check_responses
from bddn.run.covariate_file import COVARIATES, write_effects
from bddn.run.folder import (
    ABOUT,
    ENCODER,
    LEARNING,
    SPLIT,
    Run,
    check_out,
    is_done,
    read_run,
    summary,
    voxel_table,
    without_nan,
)
from bddn.run.inputs import Subject, fit_identity
from bddn.run.splitting import in_words, split_of
from bddn.spec import FitSpec
from bddn.stats.truth import compare_with_truth
from bddn.store.reader import Cache
from bddn.stream.loader import READERS, Resident, Streamed, rows_of
from bddn.stream.order import Residency

BASE_BYTES = 1150 << 20  # libraries and temporary arrays of one step
BATCH_COPIES = 6  # memory of a batch, in units of its stored tokens: its float32 tokens and its aligned tokens
VOXEL_BYTES = 2000  # per voxel: position code, weights, and responses to one batch


@own_settings()
def fit_run(
    cache: str | Path | Cache,
    dataset: Dataset,
    out: Path,
    spec: FitSpec,
    *,
    device: str = "cpu",
    memory_gib: float | None = None,
    readers: int = READERS,
    checkpoint_every_s: float = CHECKPOINT_S,
    resident: Resident | None = None,
    subject: Subject | None = None,
) -> tuple[Run, bool]:
    """Fit an encoder and write a run folder. An existing run of the same cache, data and spec is not changed.

    A fit that was stopped resumes from its last checkpoint, next to `out`, and gives the same bytes.

    Parameters
    ----------
    cache : str, Path or Cache
        Folder or URL of a sealed store, or an open one. The checksum of every chunk is verified.
    dataset : Dataset
    out : Path
        The run folder: a new or empty folder, or the existing run.
    spec : FitSpec
    device : {'cpu', 'cuda', 'auto'}
    memory_gib : float, optional
        Memory that the fit may use, by default the free memory. Tokens that do not fit into it are streamed.
    readers : int
        Number of threads that read during streaming.
    checkpoint_every_s : float
        Interval of the checkpoints.
    resident : Resident, optional
        The tokens of this cache, layers and dataset, if they are already in memory.
    subject : Subject, optional
        The hashes of this dataset, if it was already read.

    Returns
    -------
    run : Run
    fresh : bool
        False if the run existed already.

    Raises
    ------
    BddnError
        If the cache, the data or the folder is invalid, or they do not belong together.
    """
    started = time.monotonic()
    check_out(out)
    device = device_of(device, spec)
    store = cache if isinstance(cache, Cache) else Cache(cache)
    layers, ids = store.select_layers(spec.layers), dataset.stimuli.ids
    check_ids(dataset)
    rows_of(store, ids)
    check_trials(dataset)
    split, shown_ids = split_of(spec, ids, store), response_ids(dataset)
    parts = Parts.of(split, shown_ids)
    check_leakage(store, split)
    voxels, coords_mm = check_voxels(dataset), dataset.coords_mm()
    covariate_values(dataset, spec.covariates or ())
    check_rows(dataset, len(voxels))
    check_responses(dataset, parts)
    data = (subject or Subject.read(dataset)).identity(store)
    identity = fit_identity(store, layers, data, spec, split, device)
    if is_done(out, identity):
        return read_run(out), False
    effects = None
    if spec.covariates:  # of the images of the split, whatever a bootstrap draws, so that its fits share them
        effects = estimate(dataset, spec.covariates, parts.train, parts.image_of)
        print(f"covariates: {', '.join(effects.names)}, from {effects.compared}", file=sys.stderr)  # noqa: T201
        dataset = WithoutCovariates(dataset, effects)
    truth = dataset.truth()
    with state_file(out, identity, "fit") as state, _explain_low_memory(device):
        widths = {layer.name: layer.channels for layer in layers}
        model = new_encoder(torch.from_numpy(coords_mm), widths, store.grid, spec).to(device)
        streamed = Streamed(store, layers, shown_ids, readers, device)
        n = len(ids), len(shown_ids)
        plan, pass_bytes = _residency(streamed, 0 if resident else streamed.n_bytes, *n, model, spec, memory_gib)
        for words in (plan, *([in_words(spec, split)] if spec.split_by else [])):
            print(words, file=sys.stderr)  # noqa: T201
        source = resident or (streamed.load() if plan.features else streamed)
        targets = _targets(dataset, plan.responses, device)
        audited = audit_layers(source, parts.one_of_each(parts.train), tuple(widths), store.grid)
        for words in audited.warnings(scaled=spec.features == "whitened"):
            print(f"warning: {words}", file=sys.stderr)  # noqa: T201
        fitted = fit(model, source, targets, parts, spec, state, checkpoint_every_s, drawn_rows(voxels), pass_bytes)
        table, frame = voxel_table(voxels, fitted, tuple(widths)), frame_of(dataset)
        metrics = {
            "title": printable(f"{dataset.name} through {store.name}"),
            "dataset": about(dataset).to_dict(),
            **({} if frame is None else {"frame": frame.to_dict()}),
            **summary(table, fitted),
            "layer_audit": audited.to_dict(),
            "seed": spec.seed,
            "bootstrap": spec.bootstrap,
            **({} if spec.half is None else {"half": spec.half}),
            "cache_digest": store.digest,
            "versions": identity.parts["environment"],
            "threads": n_threads(),
            "seconds": time.monotonic() - started,
            "epoch_seconds": fitted.epoch_seconds,
            "seconds_waited_for_tokens": streamed.waited_s,
        }
        files: dict[str, Callable[[Path], object]] = {
            ABOUT: lambda path: atomic.write_json(path, dict(identity.parts)),
            SPLIT: lambda path: atomic.write_json(path, split.to_dict()),
            "metrics.json": lambda path: atomic.write_json(path, without_nan(metrics)),
            "voxels.parquet": lambda path: atomic.write_table(path, table),
            ENCODER: lambda path: atomic.replace_file(path, lambda aside: checkpoint.save(fitted.model, spec, aside)),
            LEARNING: lambda path: learning.save(fitted.learning, tuple(widths), path),
        }
        if effects is not None:
            metrics["covariates"] = {"names": list(effects.names), "compared": effects.compared}
            files[COVARIATES] = partial(write_effects, effects)
        if truth is not None:
            files["truth.json"] = lambda path: atomic.write_json(path, without_nan(compare_with_truth(table, truth)))
        fresh = _write(out, identity, files)
        state.unlink(missing_ok=True)
    return read_run(out), fresh


def _write(out: Path, identity: Identity, files: Mapping[str, Callable[[Path], object]]) -> bool:
    """Write the run folder. Return False if another process wrote the same run first; that one is kept."""
    try:
        with new_folder(out, ABOUT) as aside:
            for name, write in files.items():
                write(aside / name)
    except FileExistsError:
        return not is_done(out, identity)
    return True


def device_of(device: str, spec: FitSpec) -> str:
    """Return the device of a fit. For 'auto', choose a device that supports these settings."""
    on_cpu_only = spec.selection == "unfactorized"
    chosen = choose_device("cpu" if on_cpu_only and device == "auto" else device)
    if chosen == "cuda" and on_cpu_only:
        raise SpecError(
            "fit settings",
            expected="selection: topological or free on a GPU",
            got="selection: unfactorized, which runs only on a CPU",
            fix="Use --device cpu.",
        )
    return chosen


@contextmanager
def _explain_low_memory(device: str) -> Iterator[None]:
    """Turn out-of-memory errors of numpy, torch and CUDA into one message. The checkpoint is kept."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise LowMemoryError(
            f"fit on {device}",
            expected="enough memory",
            got=f"no memory left ({error_text(error)})",
            fix="Give a smaller --memory, so that tokens are streamed, or another --device, or set a smaller "
            "batch_size or fewer channels in the spec. With the same spec, the fit resumes from its last checkpoint.",
        ) from error


def _targets(dataset: Dataset, kept: bool, device: str) -> Targets:
    """Return a function from rows to responses (rows, voxels), which reads from memory or from the dataset's files."""
    if not kept:
        return lambda rows: torch.from_numpy(dataset.responses(rows.numpy())).to(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing is written
        responses = torch.from_numpy(responses_of(dataset))
    return lambda rows: responses[rows].to(device)


def _residency(
    streamed: Streamed,
    feature_bytes: int,
    n_images: int,
    n_responses: int,
    model: FactorTopy,
    spec: FitSpec,
    memory_gib: float | None,
) -> tuple[Residency, int]:
    """Choose whether tokens (in the memory of the device) and responses are kept in memory, and the memory of the
    closed form."""
    n_voxels, d = model.channels.shape
    state = 4 * sum(value.numel() for value in model.state_dict().values())
    n = n_trained(n_voxels, spec)
    trained = state - 4 * (d + 1) * (n_voxels - n)  # gradient, two moments, and the best epoch
    rest = BASE_BYTES + 2 * streamed.pool_bytes + state + 4 * trained + n_voxels * VOXEL_BYTES
    batch = max(spec.batch_size, PREDICT_IMAGES, POLISH_IMAGES["cpu"] if spec.polish else 0)
    rest += BATCH_COPIES * batch * streamed.n_bytes // n_images
    free = free_bytes() if memory_gib is None else round(memory_gib * 2**30)
    pass_bytes = pass_bytes_in((free_device_bytes() if model.bias.is_cuda else free) - rest)
    is_limited = limits_components(spec)
    at_start = max(
        components_bytes(n_responses, n) if is_limited or spec.initial_align == "responses" else 0,
        kernel_bytes([*model.widths.values()], n_responses) if is_limited or chooses(spec) else 0,
        responsive_bytes(n_voxels, n_responses, spec),
    )
    of_sample = 4 * n_responses * n if n < n_voxels else 0
    rest += max(of_sample + at_start, polish_bytes(model, pass_bytes) if spec.polish else 0)
    if model.bias.is_cuda and feature_bytes > free_device_bytes() - rest:
        feature_bytes = max(feature_bytes, free)  # tokens that do not fit on the device must be streamed
    return Residency.choose(feature_bytes, 4 * n_responses * n_voxels, rest, free), pass_bytes
