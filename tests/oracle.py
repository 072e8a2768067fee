"""The textbook form of FactorTopy: bilinear sampling per layer, weighting, summing. Slow, plain, and the reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.encoder.ablations import Unfactorized
from bddn.encoder.factor_topy import FactorTopy
from bddn.stream.features import Features


def predict(model: FactorTopy, features: Features) -> Tensor:
    """Predicted responses (B, N), differentiable in every parameter."""
    if isinstance(model.selectors, Unfactorized):
        return _unfactorized(model, model.selectors, features)
    selection = model.select()
    at = selection.place.expand(len(features), 1, -1, -1)
    v = torch.zeros(())
    for k, shape in enumerate(model.shapes.values()):
        aligned = features.local[k] @ model.align_local[k]
        grid = aligned.transpose(1, 2).unflatten(2, shape.grid)
        read = F.grid_sample(grid, at, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(2)
        global_ = features.global_[k]
        if global_ is not None:
            far = (global_ @ model.align_global[k])[:, :, None]
            read = (1 - selection.scale) * read + selection.scale * far
        v = v + selection.layer[:, k] * read  # (B, D, N)
    return (v * model.channels.T).sum(1) / model.divisor + model.bias


def _unfactorized(model: FactorTopy, selectors: Unfactorized, features: Features) -> Tensor:
    """Every voxel weighs every token of every layer."""
    tokens = []
    for k in range(len(model.layers)):
        tokens.append(features.local[k] @ model.align_local[k])
        global_ = features.global_[k]
        if global_ is not None:
            tokens.append((global_ @ model.align_global[k])[:, None])
    v = torch.einsum("nk,bkd->bnd", selectors.weights, torch.cat(tokens, dim=1))
    return (v * model.channels).sum(-1) / model.divisor + model.bias


def objective(model: FactorTopy, features: Features, target: Tensor, beta: float, softness: float) -> Tensor:
    """The training objective, differentiable in every parameter."""
    loss = F.smooth_l1_loss(predict(model, features), target, beta=beta)
    if isinstance(model.selectors, Unfactorized):
        return loss
    selection = model.select()
    negative_entropy = (selection.layer * selection.layer.log()).sum(-1).mean() / math.log(len(model.layers))
    return loss + softness * (negative_entropy + (selection.scale - 0.5).square().mean())
