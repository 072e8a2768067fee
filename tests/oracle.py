"""The textbook form of FactorTopy: bilinear sampling per layer, weighting, summing. Slow, plain, and the reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.encoder.factor_topy import FactorTopy
from bddn.stream.loader import Features


def predict(model: FactorTopy, features: Features) -> Tensor:
    """Predicted responses (B, N), differentiable in every parameter."""
    h, w = model.grid
    selection = model.select()
    at = selection.place.expand(len(features.local[0]), 1, -1, -1)
    v = torch.zeros(())
    for k in range(len(model.layers)):
        n_images = len(features.local[k])
        aligned = features.local[k] @ model.align_local[k]
        grid = aligned.transpose(1, 2).reshape(n_images, -1, h, w)
        local = F.grid_sample(grid, at, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(2)
        global_ = (features.global_[k] @ model.align_global[k])[:, :, None]
        v = v + selection.layer[:, k] * ((1 - selection.scale) * local + selection.scale * global_)  # (B, D, N)
    return (v * model.channels.T).mean(1) + model.bias


def objective(model: FactorTopy, features: Features, target: Tensor, beta: float, softness: float) -> Tensor:
    """The training objective, differentiable in every parameter."""
    selection = model.select()
    loss = F.smooth_l1_loss(predict(model, features), target, beta=beta)
    negative_entropy = (selection.layer * selection.layer.log()).sum(-1).mean() / math.log(len(model.layers))
    return loss + softness * (negative_entropy + (selection.scale - 0.5).square().mean())
