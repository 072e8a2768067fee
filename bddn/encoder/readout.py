"""The readout, computed without ever building the features of a voxel.

Written out, the prediction of voxel i for image b is a weighted sum over the four grid tokens around its place and
the global token, in every layer:

    y_bi = sum over k, l of A_ikl P_bikl / D + bias_i,    P_bikl = c_i . Z_klb

with A_ikl = (1 - scale_i) bilinear_ik layer_il for the four corners k and scale_i layer_il for the global token.
Voxels in the same cell of the grid share the same four tokens, so P for a cell is one matrix product, and so are its
gradients. One cell at a time is alive, and since the loss is a sum over voxels its gradient is taken on the spot:
three products in all, and nothing larger than a cell's P is ever stored. The textbook form, which samples (B, N, D)
features per layer, is in the tests as the oracle.

Shape letters: B images, N voxels, L layers, D channels, H rows, W columns, T = (H+2)(W+2)+1 tokens.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.encoder.selectors import Selection
from bddn.parallel import each

CHUNK_FLOATS = 1 << 18  # a cell's P stays in the processor's cache
MIN_CHUNK = 64
N_TOKENS = 5  # four corners and the global token


def bordered_tokens(local: Tensor, global_: Tensor, grid: tuple[int, int]) -> Tensor:
    """Aligned tokens with a border of zeros around the grid and the global token at the end.

    Parameters
    ----------
    local : Tensor, (H·W, L, B, D)
    global_ : Tensor, (L, B, D)

    Returns
    -------
    Tensor, (T, L, B, D)
    """
    h, w = grid
    _, n_layers, b, d = local.shape
    bordered = F.pad(local.view(h, w, n_layers * b * d), (0, 0, 1, 1, 1, 1)).view(-1, n_layers, b, d)
    return torch.cat([bordered, global_[None]])


def locate(selection: Selection, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The cell that each voxel looks at, and the weights of its five tokens in every layer.

    Sampling follows the pixel-centre convention (`align_corners=False`) with zeros outside the grid.

    Returns
    -------
    cell : Tensor, (N,) int64
        Row-major in the (H+1) × (W+1) cells between bordered tokens.
    weights : Tensor, (N, 5, L)
        A of the module's text; differentiable in the selection.
    """
    h, w = grid
    size = torch.tensor([w, h], dtype=selection.place.dtype)
    at = ((selection.place + 1) * size - 1) / 2
    corner = at.detach().floor().clamp(min=-1).minimum(size - 1)
    column, row = (corner.long() + 1).unbind(-1)
    fx, fy = (at - corner).unbind(-1)
    bilinear = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], dim=-1)
    scale = selection.scale[:, None]
    token = torch.cat([(1 - scale) * bilinear, scale], dim=-1)
    return row * (w + 1) + column, token[:, :, None] * selection.layer[:, None, :]


@dataclass(frozen=True)
class Chunk:
    """Voxels of one cell: a slice of the order sorted by cell, and the indices (5,) of the cell's tokens."""

    voxels: slice
    tokens: Tensor


Sweep = list[Chunk]  # chunks whose P together stay in the processor's cache


@dataclass(frozen=True)
class Cells:
    """Voxels sorted by cell: `order` (N,) sorts them; `parts` are lists of sweeps that threads may share."""

    order: Tensor
    parts: list[list[Sweep]]


def group(cell: Tensor, grid: tuple[int, int], n_columns: int, n_parts: int) -> Cells:
    """Sort voxels by cell, cut the order into chunks, and deal the chunks to parts of about equal work.

    Parameters
    ----------
    cell : Tensor, (N,)
        From `locate`.
    grid : (H, W)
    n_columns : int
        5·L·B, columns of P.
    n_parts : int
    """
    h, w = grid
    order = torch.argsort(cell, stable=True)
    occupied, count = torch.unique_consecutive(cell[order], return_counts=True)
    top_left = occupied // (w + 1) * (w + 2) + occupied % (w + 1)
    corners = top_left[:, None] + torch.tensor([0, 1, w + 2, w + 3])
    tokens = torch.cat([corners, torch.full_like(corners[:, :1], (h + 2) * (w + 2))], dim=1)
    size = max(MIN_CHUNK, CHUNK_FLOATS // n_columns)
    parts: list[list[Sweep]] = [[] for _ in range(n_parts)]
    start = 0
    for at, n in zip(tokens, count.tolist(), strict=True):
        for first in range(start, start + n, size):
            chunk = Chunk(slice(first, min(first + size, start + n)), at)
            part = parts[first * n_parts // len(order)]
            if part and chunk.voxels.stop - part[-1][0].voxels.start <= size:
                part[-1].append(chunk)
            else:
                part.append([chunk])
        start += n
    return Cells(order, parts)


def predict(tokens: Tensor, weights: Tensor, channels: Tensor, bias: Tensor, cells: Cells) -> Tensor:
    """Predicted responses (B, N).

    Parameters
    ----------
    tokens : Tensor, (T, L, B, D)
        From `bordered_tokens`.
    weights : Tensor, (N, 5, L)
        From `locate`.
    channels : Tensor, (N, D)
    bias : Tensor, (N,)
    """
    n_images, d = tokens.shape[2:]
    a, c = weights[cells.order].flatten(1), channels[cells.order]
    y = tokens.new_empty(len(a), n_images)

    def run(part: list[Sweep]) -> None:
        for sweep in part:
            v, p, _ = _products(sweep, tokens, c)
            y[v] = torch.bmm(a[v].unsqueeze(1), p.view(len(p), -1, n_images)).squeeze(1)

    each(run, cells.parts)
    out = tokens.new_empty(n_images, len(a))
    out[:, cells.order] = y.T
    return out / d + bias


@dataclass(frozen=True)
class Gradients:
    """The mean loss, and its gradients with the shapes of what they belong to."""

    loss: Tensor
    tokens: Tensor
    weights: Tensor
    channels: Tensor
    bias: Tensor


def smooth_l1(
    tokens: Tensor, weights: Tensor, channels: Tensor, bias: Tensor, cells: Cells, target: Tensor, beta: float
) -> Gradients:
    """Mean smooth-L1 loss of the prediction against `target` (B, N), with its gradients, in one sweep over the cells.

    Shapes as in `predict`; `beta` is where the loss turns from square to linear.
    """
    _, n_layers, n_images, d = tokens.shape
    order = cells.order
    a, c, b = weights[order].flatten(1), channels[order], bias[order]
    y_true = target.T[order]
    share = 1.0 / target.numel()
    grad_a, grad_c, grad_b = torch.empty_like(a), torch.empty_like(c), torch.empty_like(b)

    def run(part: list[Sweep]) -> tuple[Tensor, Tensor]:
        loss = tokens.new_zeros(())
        grad_tokens = torch.zeros_like(tokens)
        for sweep in part:
            v, flat, read = _products(sweep, tokens, c)
            p = flat.view(len(flat), -1, n_images)
            residual = torch.bmm(a[v].unsqueeze(1), p).squeeze(1).div_(d).add_(b[v, None]).sub_(y_true[v])
            slope = (residual / beta).clamp_(-1, 1)
            # r²/(2 beta) inside and |r| - beta/2 outside are both slope · (r - beta · slope / 2)
            loss += residual.sub_(slope, alpha=beta / 2).mul_(slope).sum()
            torch.sum(slope, 1, out=grad_b[v])
            dy = slope.mul_(share / d)
            torch.bmm(p, dy.unsqueeze(2), out=grad_a[v].unsqueeze(2))
            torch.mul(a[v].unsqueeze(2), dy.unsqueeze(1), out=p)  # P is done with: its place takes A ⊗ dy
            for chunk, z in zip(sweep, read, strict=True):
                outer = flat[_within(chunk, v)]
                torch.mm(outer, z, out=grad_c[chunk.voxels])
                grad_z = (outer.T @ c[chunk.voxels]).view(N_TOKENS, n_layers, n_images, d)
                grad_tokens.index_add_(0, chunk.tokens, grad_z)
        return loss, grad_tokens

    swept = each(run, cells.parts)
    loss, grad_tokens = swept[0]
    for more_loss, more in swept[1:]:  # in this order, whichever thread was first
        loss += more_loss
        grad_tokens += more
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return Gradients(
        loss * share,
        grad_tokens,
        grad_a[back].view_as(weights),
        grad_c[back],
        grad_b.mul_(share)[back],
    )


def _products(sweep: Sweep, tokens: Tensor, channels: Tensor) -> tuple[slice, Tensor, list[Tensor]]:
    """The voxels of a sweep, their P (n, 5·L·B), and the tokens (5·L·B, D) that each chunk read."""
    v = slice(sweep[0].voxels.start, sweep[-1].voxels.stop)
    read = [tokens[chunk.tokens].view(-1, tokens.shape[-1]) for chunk in sweep]
    p = tokens.new_empty(v.stop - v.start, len(read[0]))
    for chunk, z in zip(sweep, read, strict=True):
        torch.mm(channels[chunk.voxels], z.T, out=p[_within(chunk, v)])
    return v, p, read


def _within(chunk: Chunk, voxels: slice) -> slice:
    return slice(chunk.voxels.start - voxels.start, chunk.voxels.stop - voxels.start)
