"""FactorTopy, the encoder: every voxel learns which layer, place, scale and channels predict its response.

Shape letters: B images, N voxels, L layers, C_l channels of layer l, D shared channels, H rows, W columns.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bddn.encoder import readout
from bddn.encoder.position import PositionCode
from bddn.encoder.selectors import Selection, Selectors
from bddn.parallel import each, n_parts
from bddn.spec import FitSpec
from bddn.stream.loader import Features


class FactorTopy(nn.Module):
    """The brain encoding model of the paper (section 3), with the published code's initial values.

    Parameters
    ----------
    coords_mm : Tensor, (N, 3)
        Voxel positions; saved with the model.
    layer_channels : mapping of str to int
        Channels of every layer, early to late.
    grid : (H, W)
        Rows and columns of the local tokens.
    spec : FitSpec
        Sizes.
    """

    coords_mm: Tensor
    code: Tensor

    def __init__(
        self, coords_mm: Tensor, layer_channels: Mapping[str, int], grid: tuple[int, int], spec: FitSpec
    ) -> None:
        super().__init__()
        self.grid = grid
        self.layers = tuple(layer_channels)
        position = PositionCode(coords_mm, spec.code_frequencies, spec.code_period, spec.code_steps)
        self.position = position
        self.register_buffer("coords_mm", coords_mm)
        self.register_buffer("code", position(coords_mm), persistent=False)  # constant, so computed once
        self.selectors = Selectors(position.width, spec.selector_width, len(layer_channels))
        d = spec.channels
        self.align_local = nn.ParameterList([_uniform(c, d, fan_in=c) for c in layer_channels.values()])
        self.align_global = nn.ParameterList([_uniform(c, d, fan_in=c) for c in layer_channels.values()])
        self.channels = _uniform(len(coords_mm), d, fan_in=d)
        self.bias = nn.Parameter(torch.zeros(len(coords_mm)))

    def select(self) -> Selection:
        """What every voxel selects now."""
        return self.selectors(self.code)  # type: ignore[no-any-return]

    def predict(self, features: Features) -> Tensor:
        """Predicted responses (B, N), without gradient."""
        with torch.no_grad():
            tokens = self._tokens(features)
            cell, weights = readout.locate(self.select(), self.grid)
            return readout.predict(tokens, weights, self.channels, self.bias, self._group(cell, tokens))

    def backward(self, features: Features, target: Tensor, beta: float, softness: float) -> Tensor:
        """Set the gradient of every parameter for one batch.

        The objective is the smooth-L1 loss against `target` (B, N), plus `softness` times the regularizer: the negative
        entropy of the layer weights as a fraction of its largest value and the squared distance of the scale from 1/2,
        both averaged over voxels, lowest where selectors are soft.

        Returns
        -------
        Tensor, ()
            The smooth-L1 loss.
        """
        with torch.no_grad():
            tokens = self._tokens(features)
        selections = each(self.selectors, self._code_parts)
        located = [readout.locate(selection, self.grid) for selection in selections]
        with torch.no_grad():
            cell, weights = (torch.cat(parts) for parts in zip(*located, strict=True))
            gradients = readout.smooth_l1(
                tokens, weights, self.channels, self.bias, self._group(cell, tokens), target, beta
            )
            self.channels.grad, self.bias.grad = gradients.channels, gradients.bias
            self._backward_align(features, gradients.tokens)
        self._backward_selectors(
            selections, [w for _, w in located], gradients.weights.split([len(w) for _, w in located]), softness
        )
        return gradients.loss

    @property
    def _code_parts(self) -> tuple[Tensor, ...]:
        return self.code.tensor_split(n_parts(len(self.code)))

    def _group(self, cell: Tensor, tokens: Tensor) -> readout.Cells:
        _, n_layers, n_images, _ = tokens.shape
        return readout.group(cell, self.grid, readout.N_TOKENS * n_layers * n_images, n_parts(len(cell)))

    def _tokens(self, features: Features) -> Tensor:
        """Channel align: every layer's tokens into the shared channels, (T, L, B, D)."""
        n_images, n_tokens, _ = features.local[0].shape
        shape = (n_tokens, len(self.layers), n_images, self.channels.shape[1])
        local = features.local[0].new_empty(shape)
        global_ = features.local[0].new_empty(shape[1:])

        def align(layer: int) -> None:
            local[:, layer] = (features.local[layer] @ self.align_local[layer].detach()).transpose(0, 1)
            global_[layer] = features.global_[layer] @ self.align_global[layer].detach()

        each(align, range(len(self.layers)))
        return readout.bordered_tokens(local, global_, self.grid)

    def _backward_align(self, features: Features, gradient: Tensor) -> None:
        """The gradient of the channel align, from that of the bordered tokens (T, L, B, D)."""
        h, w = self.grid
        inner = gradient[:-1].unflatten(0, (h + 2, w + 2))[1:-1, 1:-1]

        def align(layer: int) -> None:
            flat = inner[:, :, layer].permute(2, 0, 1, 3).reshape(-1, gradient.shape[-1])
            self.align_local[layer].grad = features.local[layer].flatten(0, 1).T @ flat
            self.align_global[layer].grad = features.global_[layer].T @ gradient[-1, layer]

        each(align, range(len(self.layers)))

    def _backward_selectors(
        self, selections: list[Selection], weights: list[Tensor], gradients: Sequence[Tensor], softness: float
    ) -> None:
        """The gradient of the selectors, by automatic differentiation part by part, summed in the parts' order."""
        parameters = list(self.selectors.parameters())
        n_voxels, log_layers = len(self.code), math.log(len(self.layers))

        def part(k: int) -> tuple[Tensor, ...]:
            s = selections[k]
            negative_entropy = (s.layer * s.log_layer).sum() / log_layers
            regularizer = (negative_entropy + (s.scale - 0.5).square().sum()) / n_voxels
            objective = (weights[k] * gradients[k]).sum() + softness * regularizer
            return torch.autograd.grad(objective, parameters)

        for parameter, grads in zip(parameters, zip(*each(part, range(len(selections))), strict=True), strict=True):
            parameter.grad = sum(grads[1:], start=grads[0])


def _uniform(rows: int, columns: int, fan_in: int) -> nn.Parameter:
    """The initial values of a linear layer."""
    return nn.Parameter(torch.empty(rows, columns).uniform_(-1, 1) / math.sqrt(fan_in))
