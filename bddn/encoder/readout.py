"""The readout and its gradients, without the features of each voxel in memory.

Written out, the prediction of voxel i for image b is a weighted sum over the K tokens that it reads (of every layer the
four grid tokens around its place, and the global one):

    y_bi = sum over k of A_ik P_bik / divisor + bias_i,    P_bik = c_i . Z_kb

with A_ik = (1 - scale_i) bilinear_ik layer_il for the corners and scale_i layer_il for the global token. Voxels in the
same cell of the grid read the same tokens, so P of a cell is one matrix product, and so are its gradients. Cells are
processed one by one. The loss is a sum over voxels, so its gradient is computed at once, with three products in all,
and nothing larger than the P of a cell is stored. The tests contain the textbook form, which samples (B, N, D) features
per layer, as the reference.

The order of sums depends only on sizes and cells, not on the number of threads.

Shape letters: B images, N voxels, D channels, T tokens of all layers, K tokens that one voxel reads.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bddn.machine.parallel import ahead, n_pool_threads

CHUNK_FLOATS = 1 << 20  # of a chunk's P: fits the processor's cache, and is worth a function call
MIN_CHUNK = 256
SPLIT_VOXELS = 1536  # largest number of voxels of a part


@dataclass(frozen=True)
class Chunk:
    """Voxels of one cell: their slice within a part, and the number of the cell within the part."""

    voxels: slice
    cell: int


Sweep = list[Chunk]  # chunks whose P together fit the processor's cache


@dataclass(frozen=True)
class Part:
    """The work that one thread does at a time: voxels (n,) of some cells, or of a piece of a large cell, in the order
    of cells. `tokens` (U,) are indices of the tokens that they read; row i of `read` (n_cells, K) are the U's that cell
    i reads."""

    voxels: Tensor
    sweeps: list[Sweep]
    tokens: Tensor
    read: Tensor


def group(cells: Tensor, read_at: Callable[[Tensor], Tensor], n_images: int) -> list[Part]:
    """Sort voxels by cell; cut them into parts of equal size, sweeps and chunks.

    Parameters
    ----------
    cells : Tensor, (N,) int64
        Cell of each voxel. Voxels of one cell read the same tokens.
    read_at : callable
        Takes cells (n,); returns indices of the tokens that each reads, (n, ...) int64 with K numbers each.
    n_images : int
        B, which sets the size of chunks.
    """
    order = torch.argsort(cells, stable=True)
    counts = torch.unique_consecutive(cells[order], return_counts=True)[1]
    n_parts = 4 * -(-len(order) // (4 * SPLIT_VOXELS)) if len(order) > SPLIT_VOXELS else 2  # threads end together
    borders = torch.arange(n_parts, device=order.device) * len(order) // n_parts
    starts = torch.unique(torch.cat([counts.cumsum(0) - counts, borders]))  # a cell may contain most of the voxels
    counts = torch.diff(starts, append=starts.new_tensor([len(order)]))
    read = read_at(cells[order[starts]]).flatten(1)
    part_of = torch.bucketize(starts, borders, right=True)
    size = max(MIN_CHUNK, CHUNK_FLOATS // (read.shape[1] * n_images))
    parts, end = [], 0
    for which in torch.unique_consecutive(part_of):
        mine = part_of == which
        tokens, local = torch.unique(read[mine], return_inverse=True)
        start, end = end, end + int(counts[mine].sum())
        parts.append(Part(order[start:end], _sweeps(counts[mine].tolist(), size), tokens, local))
    return parts


def _sweeps(counts: list[int], size: int) -> list[Sweep]:
    """Return the sweeps of consecutive cells with these numbers of voxels."""
    sweeps: list[Sweep] = []
    end = 0
    for cell, n in enumerate(counts):
        start, end = end, end + n
        for first in range(start, end, size):
            chunk = Chunk(slice(first, min(first + size, end)), cell)
            if sweeps and chunk.voxels.stop - sweeps[-1][0].voxels.start <= size:
                sweeps[-1].append(chunk)
            else:
                sweeps.append([chunk])
    return sweeps


@dataclass(frozen=True)
class VoxelWeights:
    """The weights A (n, K) of the tokens that some voxels read, and a function from their gradient (n, K) to the
    gradients of the selectors' parameters."""

    weights: Tensor
    backward: Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Gradients:
    """The mean loss, and its gradients in the shapes of tokens, channels and bias."""

    loss: Tensor
    tokens: Tensor
    channels: Tensor
    bias: Tensor


def smooth_l1(
    tokens: Tensor,
    parts: Sequence[Part],
    weigh: Callable[[Tensor], VoxelWeights],
    accumulate: Callable[[Tensor, Sequence[Tensor]], None],
    channels: Tensor,
    bias: Tensor,
    divisor: float,
    target: Tensor,
    beta: float,
) -> Gradients:
    """Return the mean smooth-L1 loss of the prediction against `target` (B, N), and its gradients.

    Parameters
    ----------
    tokens : Tensor, (T, B, D)
    channels : Tensor, (N, D)
    bias : Tensor, (N,)
    divisor : float
    parts : sequence of Part
        Of all voxels.
    weigh : callable
        Takes voxels (n,); returns their `VoxelWeights`. Threads call it part by part, so that only a few parts are in
        memory.
    accumulate : callable
        Called once per part, in the order of parts, with its voxels and the gradients of `VoxelWeights.backward`.
    target : Tensor, (B, N)
    beta : float
        Absolute error at which the loss changes from square to linear.
    """
    share = 1.0 / target.numel()
    y_true = target.T.contiguous()
    grad_channels, grad_bias, grad_tokens = (torch.empty_like(v) for v in (channels, bias, tokens))
    grad_tokens.zero_()

    def run(part: Part) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
        voxels = part.voxels
        weighed, c, y, b = weigh(voxels), channels[voxels], y_true[voxels], bias[voxels, None]
        loss, of_tokens = tokens.new_zeros(()), tokens.new_zeros(len(part.tokens), *tokens.shape[1:])
        of_weights, of_c, of_b = torch.empty_like(weighed.weights), torch.empty_like(c), torch.empty_like(b)
        for values in _sweep(part, tokens, weighed.weights, c):
            at = values.voxels
            residual = values.predicted().div_(divisor).add_(b[at]).sub_(y[at])
            slope = (residual / beta).clamp_(-1, 1)
            # r²/(2 beta) inside and |r| - beta/2 outside are both slope · (r - beta · slope / 2)
            loss += residual.sub_(slope, alpha=beta / 2).mul_(slope).sum()
            torch.sum(slope, 1, keepdim=True, out=of_b[at])
            values.backward(slope.mul_(share / divisor), of_tokens, of_weights[at], of_c[at])
        grad_channels[voxels], grad_bias[voxels] = of_c, of_b[:, 0].mul_(share)
        return loss, of_tokens, weighed.backward(of_weights)

    loss = tokens.new_zeros(())
    done = ahead(run, parts, n_pool_threads() + 1)
    for part, (more, of_tokens, gradients) in zip(parts, done, strict=True):  # fixed order, so that sums repeat
        loss += more
        grad_tokens.index_add_(0, part.tokens, of_tokens)
        accumulate(part.voxels, gradients)
    return Gradients(loss * share, grad_tokens, grad_channels, grad_bias)


@dataclass(frozen=True)
class _SweepValues:
    """One sweep: the slice `voxels` of its part, their A and c, their P (n, K·B), and the tokens (K·B, D) of each
    chunk."""

    chunks: Sweep
    voxels: slice
    a: Tensor
    c: Tensor
    p: Tensor
    z: list[Tensor]
    read: list[Tensor]

    def predicted(self) -> Tensor:
        """Return A · P, (n, B)."""
        return torch.bmm(self.a.unsqueeze(1), self._by_token(self.p)).squeeze(1)

    def backward(self, dy: Tensor, grad_tokens: Tensor, grad_a: Tensor, grad_c: Tensor) -> None:
        """Compute gradients from that of A · P, (n, B): add those of tokens to `grad_tokens` (U, B, D), and write those
        of A and c to `grad_a` (n, K) and `grad_c` (n, D). P is overwritten by A ⊗ dy."""
        p = self._by_token(self.p)
        torch.bmm(p, dy.unsqueeze(2), out=grad_a.unsqueeze(2))
        torch.mul(self.a.unsqueeze(2), dy.unsqueeze(1), out=p)
        first = self.voxels.start
        for chunk, z, read in zip(self.chunks, self.z, self.read, strict=True):
            at = slice(chunk.voxels.start - first, chunk.voxels.stop - first)
            torch.mm(self.p[at], z, out=grad_c[at])
            grad_tokens.index_add_(0, read, (self.p[at].T @ self.c[at]).view(len(read), *grad_tokens.shape[1:]))

    def _by_token(self, p: Tensor) -> Tensor:
        return p.view(len(p), self.a.shape[1], -1)


def _sweep(part: Part, tokens: Tensor, weights: Tensor, channels: Tensor) -> Iterator[_SweepValues]:
    """Yield the sweeps of a part, with the weights (n, K) and channels (n, D) of its voxels."""
    known, z = -1, tokens
    for chunks in part.sweeps:
        voxels = slice(chunks[0].voxels.start, chunks[-1].voxels.stop)
        c = channels[voxels]
        p = c.new_empty(len(c), part.read.shape[1] * tokens.shape[1])
        read_by = []
        for chunk in chunks:
            if chunk.cell != known:
                known, z = chunk.cell, tokens[part.tokens[part.read[chunk.cell]]].flatten(0, 1)
            read_by.append(z)
            at = slice(chunk.voxels.start - voxels.start, chunk.voxels.stop - voxels.start)
            torch.mm(c[at], z.T, out=p[at])
        yield _SweepValues(chunks, voxels, weights[voxels], c, p, read_by, [part.read[c.cell] for c in chunks])
