"""The textbook form of FactorTopy: bilinear sampling per layer, weighting, summing. Slow, plain, and the reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.encoder.ablations import FreeSelectors, Unfactorized
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.selection import Selection
from bddn.encoder.selectors import Selectors
from bddn.stream.features import Features


def codes(model: FactorTopy) -> Tensor | None:
    """The position codes of all voxels (N, 192), constant; None where selectors see no positions."""
    return model.selectors.position(model.coords_mm) if isinstance(model.selectors, Selectors) else None


def select(model: FactorTopy, code: Tensor | None) -> Selection:
    """What all voxels select, among tokens times the gains of the blurs."""
    if not isinstance(model.selectors, Selectors):
        assert isinstance(model.selectors, FreeSelectors)
        return model.selectors()  # type: ignore[no-any-return]
    log_layer = torch.log_softmax(model.selectors.layer(code), dim=-1)
    place, logit = torch.tanh(model.selectors.space(code)), model.selectors.scale(code).squeeze(-1)
    scale = torch.zeros_like(logit) if model.selectors.only_local else torch.sigmoid(logit)
    size = None if model.selectors.size is None else torch.softmax(model.selectors.size(code), dim=-1)
    return Selection(place, log_layer.exp(), log_layer, scale, size, None if size is None else size.log(), logit)


def predict(model: FactorTopy, features: Features) -> Tensor:
    """Predicted responses (B, N), differentiable in every parameter."""
    if isinstance(model.selectors, Unfactorized):
        return _unfactorized(model, model.selectors, features)
    return _factorized(model, select(model, codes(model)), features)


def _factorized(model: FactorTopy, selection: Selection, features: Features) -> Tensor:
    at = selection.place.expand(len(features), 1, -1, -1)
    size, gain = selection.size, model.selectors.gain
    if size is not None and isinstance(gain, Tensor):
        size = size * gain
    v = torch.zeros(())
    for k in range(len(model.layers)):
        aligned = features.local[k] @ model.align_local[k]
        grid = aligned.transpose(1, 2).unflatten(2, model.grid.grid)
        read = torch.zeros(())
        for s, blur in enumerate(model.grid.blurs):
            seen = blurred(grid, blur)
            sampled = F.grid_sample(seen, at, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(2)
            read = read + (sampled if size is None else size[:, s] * sampled)
        far = (features.global_[k] @ model.align_global[k])[:, :, None]
        read = (1 - selection.scale) * read + selection.scale * far
        v = v + selection.layer[:, k] * read  # (B, D, N)
    return (v * model.channels.T).sum(1) / model.divisor + model.bias


def blurred(grid: Tensor, blur: float) -> Tensor:
    """A map (B, D, H, W) blurred by a Gaussian, whose weights sum to 1 at every place."""
    if not blur:
        return grid
    h, w = grid.shape[2:]
    found = torch.zeros_like(grid)
    for row in range(h):
        for column in range(w):
            rows, columns = torch.arange(h, device=grid.device), torch.arange(w, device=grid.device)
            away = (rows[:, None] - row) ** 2 + (columns - column) ** 2
            weight = torch.exp(-away.to(grid.dtype) / (2 * blur**2))
            found[:, :, row, column] = (grid * weight / weight.sum()).sum((2, 3))
    return found


def _unfactorized(model: FactorTopy, selectors: Unfactorized, features: Features) -> Tensor:
    """Every voxel weighs every token of every layer."""
    tokens = []
    for k in range(len(model.layers)):
        tokens.append(features.local[k] @ model.align_local[k])
        tokens.append((features.global_[k] @ model.align_global[k])[:, None])
    v = torch.einsum("nk,bkd->bnd", selectors.weights, torch.cat(tokens, dim=1))
    return (v * model.channels).sum(-1) / model.divisor + model.bias


def objective(
    model: FactorTopy, features: Features, target: Tensor, beta: float, softness: float, code: Tensor | None = None
) -> Tensor:
    """The training objective, differentiable in every parameter; `code` is that of `codes`, where it is at hand."""
    if isinstance(model.selectors, Unfactorized):
        return F.smooth_l1_loss(predict(model, features), target, beta=beta)
    selection = select(model, codes(model) if code is None else code)
    loss = F.smooth_l1_loss(_factorized(model, selection, features), target, beta=beta)
    negative_entropy = (selection.layer * selection.layer.log()).sum(-1).mean() / math.log(len(model.layers))
    loss = loss + model.selectors.regularizer.layers * negative_entropy
    if selection.size is not None:
        of_size = (selection.size * selection.size.log()).sum(-1).mean() / math.log(len(model.grid.blurs))
        negative_entropy = negative_entropy + of_size
        loss = loss + 3e-5 * of_size
    of_scale = (selection.scale - 0.5).square().mean()
    if model.selectors.regularizer.scale == "logit":
        assert selection.scale_logit is not None
        of_scale = selection.scale_logit.square().mean() / 16
    return loss + softness * (negative_entropy + of_scale)
