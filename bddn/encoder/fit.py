"""Train an encoder, keep the epoch with the best validation score, and use the test images only once, at the end."""

import math
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.encoder import checkpoint
from bddn.encoder.adamw import AdamW
from bddn.encoder.blur_gain import blur_gain
from bddn.encoder.brain_score import score
from bddn.encoder.device_step import GraphedStep, repeatable
from bddn.encoder.explained import Kernel
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.health import convergence, saturated, tell, unread
from bddn.encoder.initial_align import align_to_responses
from bddn.encoder.learning import Learning
from bddn.encoder.learning_log import LearningLog
from bddn.encoder.parts import Parts
from bddn.encoder.polish import PASS_BYTES, polish
from bddn.encoder.responsive import Sampled
from bddn.encoder.schedule import batch_size, earliness, learning_rate, n_epochs, softness
from bddn.encoder.selection import Selection
from bddn.encoder.shared_components import LimitedComponents, limits_components
from bddn.encoder.targets import Targets
from bddn.encoder.whitening import Whitening
from bddn.errors import FitError
from bddn.machine.parallel import single_threaded_kernels
from bddn.progress import progress
from bddn.spec import FitSpec
from bddn.stats.evidence import FDR, Evidence, q_values
from bddn.stats.scores import robust_mean
from bddn.stream.features import Features
from bddn.stream.loader import Source, batches
from bddn.stream.order import Rows, epoch_pools, n_batches, pools_in_order

CHECKPOINT_S = 60.0  # seconds between two checkpoints
CHECK_STEPS = 100  # steps on a device between two checks of the losses, which wait for the device


@dataclass(frozen=True)
class Fitted:
    """A fitted encoder.

    Attributes
    ----------
    model : FactorTopy
        Of the best epoch; with the closed form, of the last one.
    selection : Selection
    batch_size : int
        Number of images in a step.
    best_epoch : int
    r2_val, r2_test, p_test : array of float64, (N,)
        Brain scores, and p-values of the test score (see `stats.evidence`).
    response_mean, response_sd : array of float32, (N,)
        Of the responses to the training images.
    history : list of dict
        One record per epoch.
    polished : dict or None
        Results of the closed form.
    saturated : list of str
        Saturated selectors.
    unread : list of str
        Layers that no voxel reads.
    convergence : dict or None
        How far the selectors moved at the end; see `encoder.health`.
    components : list of dict or None
        Large components of the responses, if noise or signals were limited in them; see `encoder.shared_components`.
    trained_voxels : dict
        Number `n` of the voxels on which the selectors were trained, and how they were `chosen`: evenly or responsive.
    epoch_seconds : list of float
    learning : Learning
    """

    model: FactorTopy
    selection: Selection
    batch_size: int
    best_epoch: int
    r2_val: npt.NDArray[np.float64]
    r2_test: npt.NDArray[np.float64]
    p_test: npt.NDArray[np.float64]
    response_mean: npt.NDArray[np.float32]
    response_sd: npt.NDArray[np.float32]
    history: list[dict[str, float]]
    polished: dict[str, float] | None
    saturated: list[str]
    unread: list[str]
    convergence: dict[str, float | bool] | None
    components: list[dict[str, float]] | None
    trained_voxels: dict[str, int | str]
    epoch_seconds: list[float]
    learning: Learning


def fit(
    model: FactorTopy,
    source: Source,
    targets: Targets,
    parts: Parts,
    spec: FitSpec,
    checkpoint_file: Path | None = None,
    checkpoint_every_s: float = CHECKPOINT_S,
    shown: Rows | None = None,
    pass_bytes: int = PASS_BYTES,
) -> Fitted:
    """Train `model` in place with AdamW (paper, section 4; numbers from `spec`).

    Parameters
    ----------
    model : FactorTopy
    source : Source
        Tokens by row.
    targets : callable
        Rows (B,) to responses (B, N) float32.
    parts : Parts
    spec : FitSpec
    checkpoint_file : Path, optional
        Written every `checkpoint_every_s` seconds. If it exists, the fit resumes from it, with the same result.
    checkpoint_every_s : float
    shown : array of int, (V,), optional
        Voxels of the learning log, which does not change the fit; see `encoder.learning`.
    pass_bytes : int
        Memory of the closed form, which does not change the fit either; see `encoder.polish`.

    Raises
    ------
    FitError
        If the loss or its gradient is not finite. The step is not taken.
    RunError
        If the checkpoint is damaged.
    """
    parts = parts.resampled(spec.seed, spec.bootstrap).halved(spec.seed_of_split, spec.half)
    with single_threaded_kernels(), repeatable(model.bias.device, spec.arithmetic):
        pools = epoch_pools(parts.train, source.chunk_of, spec.seed, 0)
        whitening = Whitening.of(source, pools) if spec.features == "whitened" else None

        @cache
        def kernel() -> Kernel:
            assert whitening is not None
            return Kernel.of(source, parts.train, whitening, model.grid.grid, spec.seed, spec.fixed != "local")

        begun = checkpoint.load_training(checkpoint_file)
        known = None if begun is None else begun[0].get(checkpoint.VOXELS)
        sample = Sampled.of(model, targets, parts.train, len(source.chunk_of), spec, kernel, known)
        trained, of_sample, responses = sample.model, sample.responses, sample.of_all
        trained_voxels: dict[str, int | str] = {"n": len(sample.voxels), "chosen": sample.chosen}
        trained.whitening = whitening
        if trained.selectors.gain is not None:
            trained.selectors.gain.copy_(blur_gain(trained, source, pools))  # in place: it is also that of `model`
        limited = None
        if limits_components(spec):
            limited = LimitedComponents.of(
                of_sample, trained.coords_mm, parts.train, len(source.chunk_of), kernel, spec
            )
        components = None if limited is None else limited.described
        voxels = np.array([], np.intp) if shown is None else shown
        training = _Training(
            sample, model, source, limited, parts, spec, begun, checkpoint_file, checkpoint_every_s, voxels
        )
        training.run()
        trained.load_state_dict(training.best_state)
        trained.fold()
        p, log, size, left = training.progress, training.log.learning, training.batch_size, training.softness_left
        del training, trained, sample, begun, of_sample, limited, kernel  # the closed form needs their memory
        r2_val, polished = np.asarray(p.best_r2_val), None
        if spec.polish:
            polished, r2_val = _polish(model, source, responses, parts, pass_bytes)
        model.unstandardize(responses.mean, responses.sd)
        evidence = Evidence(len(parts.one_of_each(parts.test)), spec.seed)
        r2_test = score(model, source, targets, parts.test, parts.image_of, evidence)
        with torch.no_grad():
            selection = model.select().cpu()
    dead, not_read = saturated(selection, spec.fixed), unread(selection, model.layers)
    settled, scores = convergence(log, left > 0), (r2_val, r2_test, evidence.p_values())
    any_known = bool((q_values(scores[2]) <= FDR).any())  # without evidence, what voxels read is chance
    limits = components if spec.shared_noise == "limited" else None
    tell(dead, not_read if any_known else [], settled, limits, trained_voxels)
    moments = responses.mean.cpu().numpy(), responses.sd.cpu().numpy()
    health = dead, not_read, settled
    result = model, selection, size, p.best_epoch, *scores, *moments, p.history, polished, *health
    return Fitted(*result, components, trained_voxels, p.epoch_seconds, log)


@dataclass
class Progress:
    """Progress of a training; with the tensors of model and optimizer, the complete state of a checkpoint."""

    epoch: int = 0
    batch: int = 0
    losses: list[float] = field(default_factory=list)
    """Losses of the steps of this epoch."""
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_mean: float = -math.inf
    best_r2_val: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    """Durations of the epochs that this process completed; the only values that differ when a fit is repeated."""


class _Training:
    """The training loop over epochs and steps, from the start or from a checkpoint."""

    def __init__(
        self,
        sample: Sampled,
        whole: FactorTopy,
        source: Source,
        limited: LimitedComponents | None,
        parts: Parts,
        spec: FitSpec,
        begun: tuple[dict[str, Tensor], dict[str, Any]] | None,
        checkpoint_file: Path | None,
        checkpoint_every_s: float,
        shown: Rows,
    ) -> None:
        model = sample.model
        self._model, self._source, self._targets, self._parts, self._spec = model, source, sample.responses, parts, spec
        self._limited = limited  # the responses that are learned; None: those of `targets`
        self._whole, self._voxels = whole, sample.voxels  # the encoder of all voxels, of which `model` has these
        self._checkpoint, self._every_s, self._saved_at = checkpoint_file, checkpoint_every_s, time.monotonic()
        self._optimizer = AdamW(model, spec.weight_decay)
        self.batch_size = batch_size(len(parts.train), spec)
        self._batches = n_batches(len(parts.train), self.batch_size)
        self._epochs = n_epochs(self._batches, spec)
        self._n_steps = self._epochs * self._batches
        self._on_device = model.bias.is_cuda
        self._graphed = GraphedStep(model.bias.device) if self._on_device else None
        self._pending: list[tuple[Tensor, Tensor]] = []
        self.log = LearningLog(shown, self._n_steps, len(model.layers), model.bias.device)
        self.progress = Progress()
        self.best_state: dict[str, Tensor] = {}
        if begun is not None:
            self._resume(*begun)

    @property
    def softness_left(self) -> float:
        """The weight of the regularizer at the last step."""
        return softness(self._n_steps - 1, self._n_steps, self._spec)

    def run(self) -> None:
        """Train to the last epoch."""
        spec, done, epochs = self._spec, self.progress, self._epochs
        if done.epoch == done.batch == 0:
            if spec.initial_align == "responses":
                align_to_responses(self._model, self._source, self._learned, self._parts.train, spec.seed)
            self.log.record(self._whole, 0)
        with progress("fit", self._n_steps, "steps") as advance:
            advance(self._taken, earlier=True)
            while done.epoch < epochs:
                began = time.monotonic()
                pools = epoch_pools(self._parts.train, self._source.chunk_of, spec.seed, done.epoch)
                for rows, features in batches(self._source, pools, self.batch_size, done.batch):
                    self._step(features, self._learned(rows))
                    advance()
                    self._save_if_due()
                advance(0, f"validation R² {self._end_epoch():.4f}")
                done.epoch_seconds.append(time.monotonic() - began)
                self._save_if_due(done.epoch == epochs and spec.polish)

    def _learned(self, rows: Tensor) -> Tensor:
        """Return the responses (B, N) that the next step learns."""
        if self._limited is None:
            return self._targets(rows)
        return self._limited(rows, earliness(self._taken, self._n_steps))

    @property
    def _taken(self) -> int:
        """The number of steps taken."""
        return self.progress.epoch * self._batches + self.progress.batch

    def _step(self, features: Features, target: Tensor) -> None:
        spec, step, n_steps = self._spec, self._taken, self._n_steps
        rate, soft = learning_rate(step, n_steps, spec), softness(step, n_steps, spec)
        given = features, target, rate, soft
        self._pending.append(self._graphed(self._plain_step, *given) if self._graphed else self._plain_step(*given))
        self.progress.batch += 1
        is_due = self.log.is_due(step + 1)
        if is_due or len(self._pending) >= (CHECK_STEPS if self._on_device else 1):
            self._check_losses()
        if is_due:
            self.log.record(self._whole, step + 1)

    def _plain_step(
        self, features: Features, target: Tensor, rate: float | Tensor, softness: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        loss = self._model.backward(features, target, self._spec.loss_beta, softness)
        return loss, self._optimizer.step(rate, self._spec.gradient_clip, loss)

    def _check_losses(self) -> None:
        """Read the losses of the last steps, which waits for the device, and raise an error if one is not finite."""
        pending, self._pending = self._pending, []
        for k, (loss, norm) in enumerate(pending):
            value = loss.item()
            if not torch.isfinite(norm):
                raise FitError(
                    f"step {self._taken - len(pending) + k}",
                    expected="a finite loss and gradient",
                    got=f"loss {value:.3g}, gradient norm {norm.item():.3g}",
                    fix="Lower learning_rate, or remove outliers from the responses. No run was written.",
                )
            for losses in (self.progress.losses, self.log.losses):
                losses.append(value)

    def _end_epoch(self) -> float:
        """Validate, keep the model if it is the best so far, and return the mean validation score."""
        self._check_losses()
        done = self.progress
        r2_val = score(self._model, self._source, self._targets, self._parts.val, self._parts.image_of)
        mean = robust_mean(r2_val)
        step = (done.epoch + 1) * self._batches
        done.history.append({"epoch": done.epoch, "step": step, "loss": float(np.mean(done.losses)), "r2_val": mean})
        # what the closed form replaces must not choose: trained channel weights overfit before the selectors end
        if mean > done.best_mean or done.best_epoch < 0 or self._spec.polish:
            done.best_epoch, done.best_mean, done.best_r2_val = done.epoch, mean, r2_val.tolist()
            self.best_state = {name: value.clone() for name, value in self._model.state_dict().items()}
        done.epoch, done.batch, done.losses = done.epoch + 1, 0, []
        return mean

    def _save_if_due(self, now: bool = False) -> None:
        if self._checkpoint is None or not (now or time.monotonic() - self._saved_at >= self._every_s):
            return
        self._check_losses()
        tensors = {
            checkpoint.VOXELS: self._voxels,
            **{f"model.{name}": value for name, value in self._model.state_dict().items()},
            **{f"optimizer.{name}": value for name, value in self._optimizer.state().items()},
            **{f"best.{name}": value for name, value in self.best_state.items()},
            **{f"learning.{name}": value for name, value in self.log.state().items()},
        }
        checkpoint.save_checked(tensors, asdict(self.progress), self._checkpoint)
        self._saved_at = time.monotonic()

    def _resume(self, tensors: dict[str, Tensor], at: dict[str, Any]) -> None:
        assert self._checkpoint is not None
        self.progress = Progress(**at)

        def of(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}

        self._model.load_state_dict(of("model."))
        self.best_state = of("best.")
        self._optimizer.load(of("optimizer."), self._taken)
        self.log.load(of("learning."), self._checkpoint)


def _polish(
    model: FactorTopy, source: Source, targets: Targets, parts: Parts, pass_bytes: int
) -> tuple[dict[str, float], npt.NDArray[np.float64]]:
    """Solve for the channel weights. Return scores with the share of voxels without weights, and the new validation
    scores."""
    train, val = (pools_in_order(rows, source.chunk_of) for rows in (parts.train, parts.val))
    alpha = polish(model, source, targets, train, val, pass_bytes)
    r2_val = score(model, source, targets, parts.val, parts.image_of)
    is_zero = np.isinf(alpha)
    about = {"r2_val": robust_mean(r2_val), "share_zero": float(is_zero.mean())}
    if not is_zero.all():
        about["median_alpha"] = float(np.median(alpha[~is_zero]))
    return about, r2_val
