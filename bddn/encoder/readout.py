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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bddn.machine.parallel import ahead, each, n_threads

CHUNK_FLOATS = 1 << 20  # of a chunk's P: small enough for the processor's cache, and worth a call
MIN_CHUNK = 256
SPLIT_VOXELS = 1536  # threads share the voxels in parts of at most this size


@dataclass(frozen=True)
class Chunk:
    """Voxels of one cell: a slice of those of a part, and the number of the cell within the part."""

    voxels: slice
    cell: int


Sweep = list[Chunk]  # chunks whose P together stay in the processor's cache


@dataclass(frozen=True)
class Part:
    """What one thread does at a time: `voxels` (n,) of some cells, or a piece of a large one, in the order of their
    cells. `tokens` (U,) are those of the T that they read, and `read` (n_cells, K) says which of the U each cell reads.
    """

    voxels: Tensor
    sweeps: list[Sweep]
    tokens: Tensor
    read: Tensor


@dataclass(frozen=True)
class Reading:
    """What all voxels read: their `weights` A (N, K), and the voxels in parts."""

    weights: Tensor
    parts: list[Part]


def group(cells: Tensor, read_at: Callable[[Tensor], Tensor], n_images: int) -> list[Part]:
    """Sort voxels by cell and cut them into parts of equal size, sweeps and chunks.

    Parameters
    ----------
    cells : Tensor, (N,) int64
        Where voxels look; those with equal numbers read the same tokens.
    read_at : callable
        Which of the T tokens cells (n,) read: (n, ...) int64 with K numbers each.
    n_images : int
        B, by which chunks are sized.
    """
    order = torch.argsort(cells, stable=True)
    counts = torch.unique_consecutive(cells[order], return_counts=True)[1]
    n_parts = 4 * -(-len(order) // (4 * SPLIT_VOXELS)) if len(order) > SPLIT_VOXELS else 2  # threads end together
    borders = torch.arange(n_parts, device=order.device) * len(order) // n_parts
    starts = torch.unique(torch.cat([counts.cumsum(0) - counts, borders]))  # a cell may hold most of the voxels
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
    """Chunks of cells with so many voxels each, one after the other."""
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
        swept = _sweep(part, tokens, reading.weights[part.voxels], channels[part.voxels])
        out[part.voxels] = torch.cat([one.predicted() for one in swept])

    each(run, reading.parts)
    return out.T.div_(divisor).add_(bias)


@dataclass(frozen=True)
class Weighed:
    """The weights A (n, K) of what some voxels read, and what takes their gradient (n, K) to that of the parameters
    behind them."""

    weights: Tensor
    backward: Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Gradients:
    """The mean loss, and its gradients with the shapes of what they belong to."""

    loss: Tensor
    tokens: Tensor
    channels: Tensor
    bias: Tensor


def smooth_l1(
    tokens: Tensor,
    parts: Sequence[Part],
    weigh: Callable[[Tensor], Weighed],
    take: Callable[[Tensor, Sequence[Tensor]], None],
    channels: Tensor,
    bias: Tensor,
    divisor: float,
    target: Tensor,
    beta: float,
) -> Gradients:
    """Mean smooth-L1 loss of the prediction against `target` (B, N), with its gradients, in one sweep over the cells.

    Parameters
    ----------
    tokens, channels, bias, divisor
        As in `predict`.
    parts : sequence of Part
        All voxels.
    weigh : callable
        The weights of some voxels (n,), asked for by the threads, part by part, so that what they are computed from
        is alive for no more than a few parts.
    take : callable
        Told of the voxels of each part and what `Weighed.backward` gave for them, in the parts' order.
    target : Tensor, (B, N)
    beta : float
        Where the loss turns from square to linear.
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
        for swept in _sweep(part, tokens, weighed.weights, c):
            at = swept.voxels
            residual = swept.predicted().div_(divisor).add_(b[at]).sub_(y[at])
            slope = (residual / beta).clamp_(-1, 1)
            # r²/(2 beta) inside and |r| - beta/2 outside are both slope · (r - beta · slope / 2)
            loss += residual.sub_(slope, alpha=beta / 2).mul_(slope).sum()
            torch.sum(slope, 1, keepdim=True, out=of_b[at])
            swept.backward(slope.mul_(share / divisor), of_tokens, of_weights[at], of_c[at])
        grad_channels[voxels], grad_bias[voxels] = of_c, of_b[:, 0].mul_(share)
        return loss, of_tokens, weighed.backward(of_weights)

    loss = tokens.new_zeros(())
    done = ahead(run, parts, n_threads() + 1)
    for part, (more, of_tokens, behind) in zip(parts, done, strict=True):  # in this order, whichever was first
        loss += more
        grad_tokens.index_add_(0, part.tokens, of_tokens)
        take(part.voxels, behind)
    return Gradients(loss * share, grad_tokens, grad_channels, grad_bias)


@dataclass(frozen=True)
class _Swept:
    """One sweep: the slice `voxels` of its part's, their A and c, their P (n, K·B), and the tokens (K·B, D) that each
    chunk reads."""

    chunks: Sweep
    voxels: slice
    a: Tensor
    c: Tensor
    p: Tensor
    z: list[Tensor]
    read: list[Tensor]

    def predicted(self) -> Tensor:
        """A · P, (n, B)."""
        return torch.bmm(self.a.unsqueeze(1), self._by_token(self.p)).squeeze(1)

    def backward(self, dy: Tensor, grad_tokens: Tensor, grad_a: Tensor, grad_c: Tensor) -> None:
        """Gradients from that of A · P, (n, B): those of the tokens are added to `grad_tokens` (U, B, D), those of A
        and c put into `grad_a` (n, K) and `grad_c` (n, D). P is used up: its place takes A ⊗ dy."""
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


def _sweep(part: Part, tokens: Tensor, weights: Tensor, channels: Tensor) -> Iterator[_Swept]:
    """The sweeps of a part, one after the other, with the weights (n, K) and channels (n, D) of its voxels."""
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
        yield _Swept(chunks, voxels, weights[voxels], c, p, read_by, [part.read[c.cell] for c in chunks])
