"""FactorTopy, the encoder: it learns for every voxel which layer, place, scale and channels predict its response.

Shape letters: B images, N voxels, L layers, C_l channels of layer l, D shared channels, T tokens of all layers.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bddn.encoder import prediction, readout
from bddn.encoder.ablations import FreeSelectors, Unfactorized
from bddn.encoder.regularizer import Regularizer
from bddn.encoder.selection import Selection
from bddn.encoder.selectors import Factorized, Selectors, twin
from bddn.encoder.token_grid import TokenGrid
from bddn.encoder.whitening import Whitening
from bddn.machine.parallel import each_on
from bddn.machine.settings import seeded
from bddn.spec import FitSpec
from bddn.stream.features import Features

if TYPE_CHECKING:
    from bddn.encoder import readout_triton

    Reading = prediction.Reading | readout_triton.Reading


class FactorTopy(nn.Module):
    """The brain encoding model of the paper (section 3), with the initial values of the published code.

    Parameters
    ----------
    coords_mm : Tensor, (N, 3)
        Voxel positions, saved with the model.
    widths : mapping of str to int
        Number of channels of each layer, early to late.
    grid : (H, W)
        Rows and columns of every layer's local tokens.
    spec : FitSpec
        Sizes of the model, and its kind of selection.
    """

    coords_mm: Tensor
    blurs: Tensor
    offset_local: Tensor
    offset_global: Tensor

    def __init__(self, coords_mm: Tensor, widths: Mapping[str, int], grid: tuple[int, int], spec: FitSpec) -> None:
        super().__init__()
        self.widths = dict(widths)
        self.grid = TokenGrid(len(widths), grid, spec.blurs)
        blurs = self.grid.blur_matrices() if any(spec.blurs) else torch.empty(0)  # (H·W)² is much for a fine grid
        self.register_buffer("blurs", blurs, persistent=False)
        self.register_buffer("coords_mm", coords_mm)
        n_voxels, d = len(coords_mm), spec.channels
        self.selectors = _selectors(coords_mm, self.grid, spec)
        if spec.blurred_tokens == "scaled" and spec.fixed != "scale":  # which would then change with the size
            self.selectors.gain = torch.ones(len(spec.blurs))
        self.align_local = nn.ParameterList([_uniform(c, d, fan_in=c) for c in widths.values()])
        self.align_global = nn.ParameterList([_uniform(c, d, fan_in=c) for c in widths.values()])
        self.channels = _uniform(n_voxels, d, fan_in=d)
        self.bias = nn.Parameter(torch.zeros(n_voxels))
        self.register_buffer("offset_local", torch.zeros(len(widths), d))
        self.register_buffer("offset_global", torch.zeros(len(widths), d))
        self.divisor = float(d) if spec.readout == "mean" else math.sqrt(d)
        self.arithmetic = spec.arithmetic
        self.whitening: Whitening | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, early to late."""
        return tuple(self.widths)

    def select(self, voxels: slice | Tensor = slice(None)) -> Selection:
        """Return the current selection of all voxels, or of the rows `voxels` (n,) int64."""
        return self.selectors.select(voxels)

    def of_voxels(self, voxels: Tensor) -> "FactorTopy":
        """Return an encoder of some voxels (n,) int64, which shares selectors and align with this one: training it
        trains them. Channel weights and biases are copies."""
        assert isinstance(self.selectors, Selectors)
        part = twin(self)
        part.selectors = self.selectors.of_voxels(voxels)
        part.coords_mm = self.coords_mm[voxels]
        part.channels = nn.Parameter(self.channels.detach()[voxels])
        part.bias = nn.Parameter(self.bias.detach()[voxels])
        return part

    def read(self, n_images: int) -> "Reading":
        """Return the `Reading` of all voxels with the current weights, for about `n_images` images at a time."""
        if self.channels.is_cuda:
            from bddn.encoder import readout_triton

            assert isinstance(self.selectors, Factorized)
            return readout_triton.Reading(*self.selectors.cells_and_weights())
        return prediction.read(self.selectors, n_images, self.channels.shape[1])

    def predict(self, features: Features, reading: "Reading | None" = None) -> Tensor:
        """Return predicted responses (B, N), without gradient."""
        tokens, reading = self.align(features), reading or self.read(len(features))
        c, b = self.channels.detach(), self.bias.detach()
        if isinstance(reading, list):
            return prediction.predict(tokens, reading, c, b, self.divisor)
        from bddn.encoder import readout_triton

        return readout_triton.predict(tokens, reading, c, b, self.divisor, self.grid, self.arithmetic)

    def backward(self, features: Features, target: Tensor, beta: float, softness: float | Tensor) -> Tensor:
        """Set the gradient of every parameter for one batch.

        The objective is the smooth-L1 loss against `target` (B, N), plus `softness` times the regularizer of the
        selectors.

        Returns
        -------
        Tensor, ()
            The smooth-L1 loss.
        """
        self.zero_grad()  # frees the old gradients before new ones are allocated
        on_device = self.channels.is_cuda
        found = (self._backward_on_device if on_device else self._backward)(features, target, beta, softness)
        self.channels.grad, self.bias.grad = found.channels, found.bias
        self._backward_align(features, found.tokens)
        return found.loss

    def fold(self) -> None:
        """Fold the whitening into the channel align, which then maps raw tokens to the same predictions."""
        for kind, offset in (("local", self.offset_local), ("global", self.offset_global)):
            for layer, matrix in enumerate(self._align(kind)):
                weight, offset[layer] = self._align_weights(kind, layer)
                matrix.data.copy_(weight)
        self.whitening = None

    def unstandardize(self, mean: Tensor, sd: Tensor) -> None:
        """Turn an encoder of standardized responses into one of the responses themselves; `mean` and `sd` are (N,)."""
        self.channels.data.mul_(sd[:, None])
        self.bias.data.mul_(sd).add_(mean)

    def align(self, features: Features) -> Tensor:
        """Return the tokens of all layers in the shared channels, (T, B, D)."""
        n_images, d = len(features), self.channels.shape[1]
        tokens = features.local[0].new_empty(self.grid.n_tokens, n_images, d)
        local, global_ = self.grid.local(tokens), self.grid.global_(tokens)

        def align(layer: int) -> None:
            self.grid.of_layer(tokens, layer).zero_()  # of which the border stays 0
            found = self._aligned(("local", layer), features.local[layer].flatten(0, 1))
            by_place = found.view(n_images, -1, d).transpose(0, 1)
            for size, blur in enumerate(self.grid.blurs):
                seen = self.blurs[size] @ by_place.flatten(1) if blur else by_place
                local[layer, size].copy_(seen.reshape(*self.grid.grid, n_images, d))
            global_[layer].copy_(self._aligned(("global", layer), features.global_[layer]))

        each_on(self.channels.device, align, range(len(self.widths)))
        return tokens

    def _backward(self, features: Features, target: Tensor, beta: float, softness: float | Tensor) -> readout.Gradients:
        """Return the gradients on the CPU. Threads of the readout compute the weights of the voxels that they read; the
        cells, which assign voxels to threads, are computed first."""
        cells = self.selectors.cells()

        def weigh(voxels: Tensor) -> readout.VoxelWeights:
            return self.selectors.weigh(voxels, cells[voxels], softness)

        parts = readout.group(cells, self.selectors.read_at, len(features))
        tokens, c, b = self.align(features), self.channels.detach(), self.bias.detach()
        accumulate = self.selectors.accumulate_gradient
        return readout.smooth_l1(tokens, parts, weigh, accumulate, c, b, self.divisor, target, beta)

    def _backward_on_device(
        self, features: Features, target: Tensor, beta: float, softness: float | Tensor
    ) -> readout.Gradients:
        from bddn.encoder import readout_triton

        assert isinstance(self.selectors, Factorized)
        tokens, c, b = self.align(features), self.channels.detach(), self.bias.detach()
        reading = readout_triton.Reading(*self.selectors.cells_and_weights())
        found, weights = readout_triton.smooth_l1(
            tokens, reading, c, b, self.divisor, target, beta, self.grid, self.arithmetic
        )
        self.selectors.backward(reading.cells, weights, softness)
        return found

    def _backward_align(self, features: Features, gradient: Tensor) -> None:
        """Set the gradient of the channel align from the gradient of the tokens (T, B, D)."""
        local, global_ = self.grid.local(gradient), self.grid.global_(gradient)

        def align(layer: int) -> None:
            by_place = self._unblurred(local[layer].flatten(1, 2))
            flat = by_place.transpose(0, 1).reshape(-1, gradient.shape[-1])
            self._set_align(("local", layer), features.local[layer].flatten(0, 1), flat)
            self._set_align(("global", layer), features.global_[layer], global_[layer])

        each_on(self.channels.device, align, range(len(self.widths)))

    def _unblurred(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the sharp tokens (H·W, B, D), given that of all blurs (S, H·W, B, D)."""
        parts = [
            (self.blurs[size].T @ gradient[size].flatten(1)).view_as(gradient[size]) if blur else gradient[size]
            for size, blur in enumerate(self.grid.blurs)
        ]
        return sum(parts[1:], parts[0])

    def _align(self, kind: str) -> nn.ParameterList:
        return self.align_local if kind == "local" else self.align_global

    def _whitening_of(self, kind: str, layer: int) -> tuple[Tensor, Tensor] | None:
        if self.whitening is None:
            return None
        return self.whitening.local[layer] if kind == "local" else self.whitening.global_[layer]

    def _align_weights(self, kind: str, layer: int) -> tuple[Tensor, Tensor]:
        """Return the matrix (C, D) and offset (D,) that map raw tokens of a layer to the shared channels."""
        matrix, whitening = self._align(kind)[layer].detach(), self._whitening_of(kind, layer)
        if whitening is None:
            return matrix, (self.offset_local if kind == "local" else self.offset_global)[layer]
        mean, root = whitening
        weight = root @ matrix
        return weight, -(mean @ weight)

    def _aligned(self, which: tuple[str, int], tokens: Tensor) -> Tensor:
        """Return raw tokens (n, C) of a layer in the shared channels, (n, D)."""
        whitened = self._whitened(which, tokens)
        if whitened is not None:
            return torch.mm(whitened, self._align(which[0])[which[1]].detach())
        weight, offset = self._align_weights(*which)
        return torch.addmm(offset, tokens, weight)

    def _set_align(self, which: tuple[str, int], tokens: Tensor, gradient: Tensor) -> None:
        """Set the gradient of one matrix from raw tokens (n, C) and the gradient of the aligned tokens (n, D)."""
        parameter, whitened = self._align(which[0])[which[1]], self._whitened(which, tokens)
        parameter.grad = (tokens if whitened is None else whitened).T @ gradient
        if whitened is None and (whitening := self._whitening_of(*which)) is not None:
            mean, root = whitening
            parameter.grad = root.T @ parameter.grad.addr_(mean, gradient.sum(0), alpha=-1)

    def _whitened(self, which: tuple[str, int], tokens: Tensor) -> Tensor | None:
        """Return whitened tokens (n, C), or None: many tokens stay raw, and the whitening is a part of the matrix."""
        whitening = self._whitening_of(*which)
        if whitening is None or len(tokens) >= self.channels.shape[1]:  # with fewer than D, this is less to compute
            return None
        mean, root = whitening
        return (tokens - mean) @ root


def new_encoder(coords_mm: Tensor, widths: Mapping[str, int], grid: tuple[int, int], spec: FitSpec) -> FactorTopy:
    """Return an encoder with the initial weights of `spec.seed`. The global random state does not change."""
    with seeded(spec.seed):
        return FactorTopy(coords_mm, widths, grid, spec)


def _selectors(coords_mm: Tensor, grid: TokenGrid, spec: FitSpec) -> Selectors | FreeSelectors | Unfactorized:
    if spec.selection == "topological":
        return Selectors(coords_mm, grid, spec)
    if spec.selection == "free":
        return FreeSelectors(len(coords_mm), grid, Regularizer.of(spec))
    return Unfactorized(len(coords_mm), grid)


def _uniform(rows: int, columns: int, fan_in: int) -> nn.Parameter:
    """Return initial values of a linear layer, (rows, columns)."""
    return nn.Parameter(torch.empty(rows, columns).uniform_(-1, 1) / math.sqrt(fan_in))
