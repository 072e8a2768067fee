"""The readout, computed without ever building the features of a voxel.

Written out, the prediction of voxel i for image b is a weighted sum over the K tokens that it reads (of every layer
the four grid tokens around its place, and the global one):

    y_bi = sum over k of A_ik P_bik / divisor + bias_i,    P_bik = c_i . Z_kb

with A_ik = (1 - scale_i) bilinear_ik layer_il for the corners and scale_i layer_il for the global token. Voxels in the
same cell of the grid read the same tokens, so P for a cell is one matrix product, and so are its gradients. One cell
at a time is alive, and since the loss is a sum over voxels its gradient is taken on the spot: three products in all,
and nothing larger than a cell's P is ever stored. The textbook form, which samples (B, N, D) features per layer, is in
the tests as the oracle.

Sums run in an order that numbers alone decide, whatever the number of threads.

Shape letters: B images, N voxels, D channels, T tokens of all layers, K tokens that one voxel reads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bddn.parallel import ahead, each, n_threads

CHUNK_FLOATS = 1 << 18  # a chunk's P stays in the processor's cache
MIN_CHUNK = 256
SPLIT_VOXELS = 4096  # threads share the voxels in parts of at most this size


@dataclass(frozen=True)
class Chunk:
    """Voxels of one cell: a slice of the order sorted by cell, and the number of the cell within its part."""

    voxels: slice
    cell: int


Sweep = list[Chunk]  # chunks whose P together stay in the processor's cache


@dataclass(frozen=True)
class Part:
    """What one thread does at a time: sweeps over some cells, or a piece of a large one. `tokens` (U,) are those of the
    T that they read, and `read` (n_cells, K) says which of the U each cell reads."""

    sweeps: list[Sweep]
    tokens: Tensor
    read: Tensor


@dataclass(frozen=True)
class Reading:
    """What all voxels read: `weights` (N, K), and the voxels sorted by cell, `order` (N,), in parts."""

    weights: Tensor
    order: Tensor
    parts: list[Part]


def group(cells: Tensor, weights: Tensor, read_at: Callable[[Tensor], Tensor], n_images: int) -> Reading:
    """Sort voxels by cell and cut them into parts of equal size, sweeps and chunks.

    Parameters
    ----------
    cells : Tensor, (N, G) int64
        Where voxels look; those with equal numbers read the same tokens.
    weights : Tensor, (N, ...)
        A, with K numbers for each voxel.
    read_at : callable
        Which of the T tokens cells (n, G) read: (n, ...) int64 with K numbers each.
    n_images : int
        B, by which chunks are sized.
    """
    joint = cells[:, 0]
    for column in cells.unbind(1)[1:]:
        joint = joint * (int(column.max()) + 1) + column
    order = torch.argsort(joint, stable=True)
    counts = torch.unique_consecutive(joint[order], return_counts=True)[1]
    n_parts = 4 * -(-len(order) // (4 * SPLIT_VOXELS)) if len(order) > SPLIT_VOXELS else 2  # threads end together
    borders = torch.arange(n_parts, device=order.device) * len(order) // n_parts
    starts = torch.unique(torch.cat([counts.cumsum(0) - counts, borders]))  # a cell may hold most of the voxels
    counts = torch.diff(starts, append=starts.new_tensor([len(order)]))
    read = read_at(cells[order[starts]]).flatten(1)
    part_of = torch.bucketize(starts, borders, right=True)
    size = max(MIN_CHUNK, CHUNK_FLOATS // (read.shape[1] * n_images))
    parts = []
    for which in torch.unique_consecutive(part_of):
        mine = part_of == which
        tokens, local = torch.unique(read[mine], return_inverse=True)
        sweeps = _sweeps(starts[mine].tolist(), counts[mine].tolist(), size)
        parts.append(Part(sweeps, tokens, local))
    return Reading(weights.flatten(1), order, parts)


def _sweeps(starts: list[int], counts: list[int], size: int) -> list[Sweep]:
    sweeps: list[Sweep] = []
    for cell, (start, n) in enumerate(zip(starts, counts, strict=True)):
        for first in range(start, start + n, size):
            chunk = Chunk(slice(first, min(first + size, start + n)), cell)
            if sweeps and chunk.voxels.stop - sweeps[-1][0].voxels.start <= size:
                sweeps[-1].append(chunk)
            else:
                sweeps.append([chunk])
    return sweeps


def predict(tokens: Tensor, reading: Reading, channels: Tensor, bias: Tensor, divisor: float) -> Tensor:
    """Predicted responses (B, N).

    Parameters
    ----------
    tokens : Tensor, (T, B, D)
    reading : Reading
    channels : Tensor, (N, D)
    bias : Tensor, (N,)
    divisor : float
    """
    out = tokens.new_empty(len(channels), tokens.shape[1])

    def run(part: Part) -> None:
        for swept in _sweep(part, tokens, reading, channels):
            out[swept.voxels] = swept.predicted()

    each(run, reading.parts)
    return out.T.div_(divisor).add_(bias)


@dataclass(frozen=True)
class Gradients:
    """The mean loss, and its gradients with the shapes of what they belong to."""

    loss: Tensor
    tokens: Tensor
    weights: Tensor
    channels: Tensor
    bias: Tensor


def smooth_l1(
    tokens: Tensor,
    reading: Reading,
    channels: Tensor,
    bias: Tensor,
    divisor: float,
    target: Tensor,
    beta: float,
) -> Gradients:
    """Mean smooth-L1 loss of the prediction against `target` (B, N), with its gradients, in one sweep over the cells.

    Shapes as in `predict`; `beta` is where the loss turns from square to linear.
    """
    share = 1.0 / target.numel()
    y_true = target.T.contiguous()
    grad_weights, grad_channels = torch.empty_like(reading.weights), torch.empty_like(channels)
    grad_bias, grad_tokens = torch.empty_like(bias), torch.zeros_like(tokens)

    def run(part: Part) -> tuple[Tensor, Tensor]:
        loss = tokens.new_zeros(())
        grad = tokens.new_zeros(len(part.tokens), *tokens.shape[1:])
        for swept in _sweep(part, tokens, reading, channels):
            at = swept.voxels
            residual = swept.predicted().div_(divisor).add_(bias[at, None]).sub_(y_true[at])
            slope = (residual / beta).clamp_(-1, 1)
            # r²/(2 beta) inside and |r| - beta/2 outside are both slope · (r - beta · slope / 2)
            loss += residual.sub_(slope, alpha=beta / 2).mul_(slope).sum()
            grad_bias[at] = slope.sum(1).mul_(share)
            of_weights, of_channels = swept.backward(slope.mul_(share / divisor), grad)
            grad_weights[at], grad_channels[at] = of_weights, of_channels
        return loss, grad

    loss = tokens.new_zeros(())
    done = ahead(run, reading.parts, n_threads() + 1)
    for part, (more, grad) in zip(reading.parts, done, strict=True):  # in this order, whichever was first
        loss += more
        grad_tokens.index_add_(0, part.tokens, grad)
    return Gradients(loss * share, grad_tokens, grad_weights, grad_channels, grad_bias)


@dataclass(frozen=True)
class _Swept:
    """One sweep: its `voxels` (n,), their A and c, their P (n, K·B), and the tokens (K·B, D) that each chunk reads."""

    chunks: Sweep
    voxels: Tensor
    a: Tensor
    c: Tensor
    p: Tensor
    z: list[Tensor]
    read: list[Tensor]

    def predicted(self) -> Tensor:
        """A · P, (n, B)."""
        return torch.bmm(self.a.unsqueeze(1), self._by_token(self.p)).squeeze(1)

    def backward(self, dy: Tensor, grad_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of A (n, K) and of c (n, D), from that of A · P, (n, B); that of the tokens is added to
        `grad_tokens` (U, B, D). P is used up: its place takes A ⊗ dy."""
        p = self._by_token(self.p)
        grad_a = torch.bmm(p, dy.unsqueeze(2)).squeeze(2)
        torch.mul(self.a.unsqueeze(2), dy.unsqueeze(1), out=p)
        grad_c = torch.empty_like(self.c)
        first = self.chunks[0].voxels.start
        for chunk, z, read in zip(self.chunks, self.z, self.read, strict=True):
            at = slice(chunk.voxels.start - first, chunk.voxels.stop - first)
            torch.mm(self.p[at], z, out=grad_c[at])
            grad_tokens.index_add_(0, read, (self.p[at].T @ self.c[at]).view(len(read), *grad_tokens.shape[1:]))
        return grad_a, grad_c

    def _by_token(self, p: Tensor) -> Tensor:
        return p.view(len(p), self.a.shape[1], -1)


def _sweep(part: Part, tokens: Tensor, reading: Reading, channels: Tensor) -> Iterator[_Swept]:
    """The sweeps of a part, one after the other."""
    known, z = -1, tokens
    for chunks in part.sweeps:
        first = chunks[0].voxels.start
        voxels = reading.order[first : chunks[-1].voxels.stop]
        c = channels[voxels]
        p = c.new_empty(len(c), part.read.shape[1] * tokens.shape[1])
        read_by = []
        for chunk in chunks:
            if chunk.cell != known:
                known, z = chunk.cell, tokens[part.tokens[part.read[chunk.cell]]].flatten(0, 1)
            read_by.append(z)
            at = slice(chunk.voxels.start - first, chunk.voxels.stop - first)
            torch.mm(c[at], z.T, out=p[at])
        yield _Swept(chunks, voxels, reading.weights[voxels], c, p, read_by, [part.read[c.cell] for c in chunks])
