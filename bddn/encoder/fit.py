"""Train an encoder: follow the plan, keep the epoch that validates best, touch the test images once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.data.splits import Split
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.selectors import Selection
from bddn.errors import FitError
from bddn.parallel import single_threaded_kernels
from bddn.progress import progress
from bddn.spec import FitSpec
from bddn.stats.scores import r2_score
from bddn.stream.loader import Features
from bddn.stream.plan import epoch_batches

PREDICT_IMAGES = 32  # images predicted at a time


@dataclass(frozen=True)
class Rows:
    """Row numbers of the training, validation and test images."""

    train: Tensor
    val: Tensor
    test: Tensor

    @classmethod
    def of(cls, split: Split, ids: Sequence[str]) -> "Rows":
        """The rows of a split, where `ids` names the rows."""
        row_of = {stimulus: row for row, stimulus in enumerate(ids)}
        return cls(*(torch.tensor([row_of[i] for i in part]) for part in (split.train, split.val, split.test)))


@dataclass(frozen=True)
class Fitted:
    """A fitted encoder: the model of the best epoch, what its voxels select, their brain scores (n_voxels,), and one
    record per epoch."""

    model: FactorTopy
    selection: Selection
    best_epoch: int
    r2_val: npt.NDArray[np.float64]
    r2_test: npt.NDArray[np.float64]
    history: list[dict[str, float]]


def new_encoder(
    coords_mm: Tensor, layer_channels: Mapping[str, int], grid: tuple[int, int], spec: FitSpec
) -> FactorTopy:
    """An encoder with the initial weights that `spec.seed` gives; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return FactorTopy(coords_mm, layer_channels, grid, spec)


def fit(model: FactorTopy, features: Features, responses: Tensor, rows: Rows, spec: FitSpec) -> Fitted:
    """Train `model` in place with AdamW (paper, section 4; numbers from `spec`).

    Parameters
    ----------
    model : FactorTopy
    features : Features
        Tokens of n images.
    responses : Tensor, (n, N) float32
    rows : Rows
    spec : FitSpec

    Raises
    ------
    FitError
        Where the loss or its gradient is not finite; the step is not taken.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)
    best: dict[str, Any] = {}
    history: list[dict[str, float]] = []
    step = 0
    n_steps = spec.epochs * -(-len(rows.train) // spec.batch_size)
    with single_threaded_kernels(), progress("fit", n_steps, "steps") as advance:
        for epoch in range(spec.epochs):
            losses = []
            for batch in epoch_batches(spec.seed, epoch, len(rows.train), spec.batch_size):
                at = rows.train[torch.from_numpy(batch)]
                losses.append(_step(model, optimizer, features.rows(at), responses[at], step, spec))
                step += 1
                advance()
            r2_val = score(model, features, responses, rows.val)
            mean = float(np.nanmean(r2_val))
            history.append({"epoch": epoch, "step": step, "loss": float(np.mean(losses)), "r2_val": mean})
            advance(0, f"validation R² {mean:.4f}")
            if not best or mean > best["mean"]:
                state = {name: value.clone() for name, value in model.state_dict().items()}
                best = {"mean": mean, "epoch": epoch, "r2_val": r2_val, "state": state}
        model.load_state_dict(best["state"])
        r2_test = score(model, features, responses, rows.test)
        with torch.no_grad():
            selection = model.select()
    return Fitted(model, selection, best["epoch"], best["r2_val"], r2_test, history)


def score(model: FactorTopy, features: Features, responses: Tensor, rows: Tensor) -> npt.NDArray[np.float64]:
    """Brain score (n_voxels,) over the images `rows`."""
    predicted = torch.cat([model.predict(features.rows(part)) for part in rows.split(PREDICT_IMAGES)])
    return r2_score(responses[rows].numpy(), predicted.numpy())


def _step(
    model: FactorTopy, optimizer: torch.optim.Optimizer, features: Features, target: Tensor, step: int, spec: FitSpec
) -> float:
    decay = max(0.0, 1 - step / spec.regularizer_steps)
    loss = model.backward(features, target, spec.loss_beta, spec.regularizer * decay)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), spec.gradient_clip)
    if not torch.isfinite(loss + norm):
        raise FitError(
            f"step {step}",
            expected="a finite loss and gradient",
            got=f"loss {loss.item():.3g}, gradient norm {norm.item():.3g}",
            fix="Lower learning_rate, or look for outliers in the responses; nothing was written.",
        )
    optimizer.step()
    return loss.item()
