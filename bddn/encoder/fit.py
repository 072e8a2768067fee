"""Train an encoder: follow the plan, keep the epoch that validates best, touch the test images once."""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.data.splits import Split
from bddn.encoder import checkpoint
from bddn.encoder.adamw import AdamW
from bddn.encoder.device_step import GraphedStep, Step, repeatable
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.health import saturated
from bddn.encoder.learning import Learning
from bddn.encoder.learning_log import Log
from bddn.encoder.polish import n_visits, polish
from bddn.encoder.schedule import learning_rate, softness
from bddn.encoder.selection import Selection
from bddn.encoder.targets import Targets
from bddn.encoder.whitening import Whitening
from bddn.errors import FitError
from bddn.machine.parallel import single_threaded_kernels
from bddn.progress import progress
from bddn.spec import FitSpec
from bddn.stats.scores import R2
from bddn.stream.features import Features
from bddn.stream.loader import Source, batches
from bddn.stream.order import Rows, epoch_pools, n_batches, pools_in_order

PREDICT_IMAGES = 32  # images predicted at a time
CHECKPOINT_S = 60.0
SETTLE_STEPS = 100  # after which a device is waited for


@dataclass(frozen=True)
class Parts:
    """Row numbers of the training, validation and test images."""

    train: Rows
    val: Rows
    test: Rows

    @classmethod
    def of(cls, split: Split, ids: Sequence[str]) -> "Parts":
        """The rows of a split, where `ids` names the rows."""
        row_of = {stimulus: row for row, stimulus in enumerate(ids)}
        return cls(*(np.array([row_of[i] for i in part], np.intp) for part in (split.train, split.val, split.test)))

    def resampled(self, seed: int, bootstrap: int | None) -> "Parts":
        """With training images drawn with replacement, for the bootstrap of this number."""
        if bootstrap is None:
            return self
        drawn = np.random.default_rng([seed, 2, bootstrap]).integers(0, len(self.train), len(self.train))
        return Parts(self.train[np.sort(drawn)], self.val, self.test)


@dataclass(frozen=True)
class Fitted:
    """A fitted encoder: the model of the best epoch, what its voxels select, their brain scores (n_voxels,), one record
    per epoch, what was polished, which selectors are dead, the seconds that epochs took, and how selectors learned."""

    model: FactorTopy
    selection: Selection
    best_epoch: int
    r2_val: npt.NDArray[np.float64]
    r2_test: npt.NDArray[np.float64]
    history: list[dict[str, float]]
    polished: dict[str, float] | None
    saturated: list[str]
    epoch_seconds: list[float]
    learning: Learning


def fit(
    model: FactorTopy,
    source: Source,
    targets: Targets,
    parts: Parts,
    spec: FitSpec,
    keep: Path | None = None,
    keep_every_s: float = CHECKPOINT_S,
    shown: Rows | None = None,
) -> Fitted:
    """Train `model` in place with AdamW (paper, section 4; numbers from `spec`).

    Parameters
    ----------
    model : FactorTopy
    source : Source
        Tokens, by row.
    targets : callable
        Rows (B,) to responses (B, N) float32.
    parts : Parts
    spec : FitSpec
    keep : Path, optional
        A file in which the state is kept now and then. Where there is one, the fit goes on from it, to the same bytes.
    keep_every_s : float
    shown : array of int, (V,), optional
        Voxels whose selectors are looked at now and then, which changes nothing else; see `encoder.learning`.

    Raises
    ------
    FitError
        Where the loss or its gradient is not finite; the step is not taken.
    RunError
        Where the file to go on from is damaged.
    """
    parts = parts.resampled(spec.seed, spec.bootstrap)
    with single_threaded_kernels(), repeatable(model.bias.device, spec.arithmetic):
        if spec.features == "whitened":
            model.whitening = Whitening.of(source, epoch_pools(parts.train, source.chunk_of, spec.seed, 0))
        seen = np.array([], np.intp) if shown is None else shown
        training = _Training(model, source, targets, parts, spec, keep, keep_every_s, seen)
        training.run()
        model.load_state_dict(training.best_state)
        model.fold()
        r2_val, polished = np.asarray(training.at.best_r2_val), None
        if spec.polish:
            polished, r2_val = _polish(model, source, targets, parts)
        r2_test = score(model, source, targets, parts.test)
        with torch.no_grad():
            selection = model.select()
    dead = saturated(selection)
    if dead:
        print(  # noqa: T201 - a fit that went wrong must not look like one that went well
            f"warning: saturated selector: {', '.join(dead)}. It says nothing and cannot recover; fit with a larger "
            "regularizer, more regularizer_steps or a smaller learning_rate.",
            file=sys.stderr,
        )
    at, log = training.at, training.log.learning
    return Fitted(model, selection, at.best_epoch, r2_val, r2_test, at.history, polished, dead, at.epoch_seconds, log)


def score(model: FactorTopy, source: Source, targets: Targets, rows: Rows) -> npt.NDArray[np.float64]:
    """Brain score (n_voxels,) over the images `rows`."""
    reading, sums = model.read(PREDICT_IMAGES), R2()
    for at, features in batches(source, pools_in_order(rows, source.chunk_of), PREDICT_IMAGES):
        sums.add(targets(at).cpu().numpy(), model.predict(features, reading).cpu().numpy())
    return sums.score()


@dataclass
class _At:
    """Where a training is; with the tensors of model and optimizer all there is to go on from."""

    epoch: int = 0
    batch: int = 0
    losses: list[float] = field(default_factory=list)
    """Of this epoch's steps."""
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_mean: float = -math.inf
    best_r2_val: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    """Of those that ended in this process without a stop; the only thing here that a repetition changes."""


class _Training:
    """Steps and epochs, from the start or from where a state was kept."""

    def __init__(
        self,
        model: FactorTopy,
        source: Source,
        targets: Targets,
        parts: Parts,
        spec: FitSpec,
        keep: Path | None,
        keep_every_s: float,
        shown: Rows,
    ) -> None:
        self._model, self._source, self._targets, self._parts, self._spec = model, source, targets, parts, spec
        self._keep, self._every_s, self._kept_at = keep, keep_every_s, time.monotonic()
        self._optimizer = AdamW(model, spec.weight_decay)
        self._batches = n_batches(len(parts.train), spec.batch_size)
        self._on_device = model.bias.is_cuda
        self._take: Step = GraphedStep(self._plain_step, model.bias.device) if self._on_device else self._plain_step
        self._pending: list[tuple[Tensor, Tensor]] = []
        self.log = Log(shown, spec.epochs * self._batches, len(model.layers), model.bias.device)
        self.at = _At()
        self.best_state: dict[str, Tensor] = {}
        if keep is not None and keep.exists():
            self._go_on(keep)

    def run(self) -> None:
        """Train to the end."""
        spec, at = self._spec, self.at
        if at.epoch == at.batch == 0:
            self.log.look(self._model, 0)
        with progress("fit", spec.epochs * self._batches, "steps") as advance:
            advance(at.epoch * self._batches + at.batch, earlier=True)
            while at.epoch < spec.epochs:
                began = time.monotonic()
                pools = epoch_pools(self._parts.train, self._source.chunk_of, spec.seed, at.epoch)
                for rows, features in batches(self._source, pools, spec.batch_size, at.batch):
                    self._step(features, self._targets(rows))
                    advance()
                    self._keep_now_and_then()
                advance(0, f"validation R² {self._end_epoch():.4f}")
                at.epoch_seconds.append(time.monotonic() - began)
                self._keep_now_and_then(at.epoch == spec.epochs and spec.polish)

    def _step(self, features: Features, target: Tensor) -> None:
        spec = self._spec
        step = self.at.epoch * self._batches + self.at.batch
        rate = learning_rate(step, spec.epochs * self._batches, spec)
        self._pending.append(self._take(features, target, rate, softness(step, spec)))
        self.at.batch += 1
        is_due = self.log.is_due(step + 1)
        if is_due or len(self._pending) >= (SETTLE_STEPS if self._on_device else 1):
            self._settle()
        if is_due:
            self.log.look(self._model, step + 1)

    def _plain_step(
        self, features: Features, target: Tensor, rate: float | Tensor, softness: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        loss = self._model.backward(features, target, self._spec.loss_beta, softness)
        return loss, self._optimizer.step(rate, self._spec.gradient_clip, loss)

    def _settle(self) -> None:
        """Look at the losses of the last steps, for which a device is waited for."""
        pending, self._pending = self._pending, []
        for k, (loss, norm) in enumerate(pending):
            value = loss.item()
            if not torch.isfinite(norm):
                raise FitError(
                    f"step {self.at.epoch * self._batches + self.at.batch - len(pending) + k}",
                    expected="a finite loss and gradient",
                    got=f"loss {value:.3g}, gradient norm {norm.item():.3g}",
                    fix="Lower learning_rate, or look for outliers in the responses; nothing was written.",
                )
            for losses in (self.at.losses, self.log.losses):
                losses.append(value)

    def _end_epoch(self) -> float:
        """Validate, and keep the model where it is the best so far. Returns the mean score."""
        self._settle()
        at = self.at
        r2_val = score(self._model, self._source, self._targets, self._parts.val)
        mean = float(np.nanmean(r2_val))
        step = (at.epoch + 1) * self._batches
        at.history.append({"epoch": at.epoch, "step": step, "loss": float(np.mean(at.losses)), "r2_val": mean})
        if mean > at.best_mean or at.best_epoch < 0:
            at.best_epoch, at.best_mean, at.best_r2_val = at.epoch, mean, r2_val.tolist()
            self.best_state = {name: value.clone() for name, value in self._model.state_dict().items()}
        at.epoch, at.batch, at.losses = at.epoch + 1, 0, []
        return mean

    def _keep_now_and_then(self, now: bool = False) -> None:
        if self._keep is None or not (now or time.monotonic() - self._kept_at >= self._every_s):
            return
        self._settle()
        tensors = {
            **{f"model.{name}": value for name, value in self._model.state_dict().items()},
            **{f"optimizer.{name}": value for name, value in self._optimizer.state().items()},
            **{f"best.{name}": value for name, value in self.best_state.items()},
            **{f"learning.{name}": value for name, value in self.log.state().items()},
        }
        checkpoint.save_checked(tensors, asdict(self.at), self._keep)
        self._kept_at = time.monotonic()

    def _go_on(self, kept: Path) -> None:
        tensors, at = checkpoint.load_checked(kept, "the state of a fit", "Delete this file, and the fit starts anew.")
        self.at = _At(**at)

        def of(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}

        self._model.load_state_dict(of("model."))
        self.best_state = of("best.")
        self._optimizer.load(of("optimizer."), self.at.epoch * self._batches + self.at.batch)
        self.log.load(of("learning."), kept)


def _polish(
    model: FactorTopy, source: Source, targets: Targets, parts: Parts
) -> tuple[dict[str, float], npt.NDArray[np.float64]]:
    """Solve for the channel weights; tells scores and chosen penalties, and gives the new validation scores."""
    train, val = (pools_in_order(rows, source.chunk_of) for rows in (parts.train, parts.val))
    before = float(np.nanmean(score(model, source, targets, parts.val)))
    n = n_visits(len(model.bias), model.channels.shape[1]) * (len(parts.train) + len(parts.val))
    with progress("polish", n, "images") as advance:
        alpha = polish(model, source, targets, train, val, advance)
    r2_val = score(model, source, targets, parts.val)
    kept = np.isinf(alpha)
    about = {"r2_val_before": before, "r2_val": float(np.nanmean(r2_val)), "share_kept": float(kept.mean())}
    if not kept.all():
        about["median_alpha"] = float(np.median(alpha[~kept]))
    return about, r2_val
