# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# ruff: noqa: N803
"""The readout on a CUDA device, as kernels that keep P on chip.

The maths is that of `readout`. Voxels are sorted by cell and cut into tiles of one cell each. All voxels of a tile read
the same tokens, so P is a matrix product.

    forward     a tile's y = sum over k of A_k · (C Z_kᵀ)
    backward    a tile's dA_k = sum over d of C ∘ (dy Z_k), and its dC = sum over k of A_k · (dy Z_k): P is not needed
    partial     a segment's (several tiles of a cell) part of dZ_k = (A_k · dy)ᵀ C
    collect     for every token, the sum of the parts of the cells that read it

Every number is written by one program, whose order of sums depends only on sizes and cells, so results are bitwise
reproducible. Launch shapes depend on sizes alone and the host never waits for the device, so a step can be captured in
a CUDA graph, after one run that compiles the kernels and copies their small tables to the device.

Shape letters: B images, N voxels, D channels, L layers, T tokens of all layers, K tokens that one voxel reads.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from bddn.encoder.readout import Gradients
from bddn.encoder.token_grid import TokenGrid

TILE = 64  # voxels of a tile: the rows that a warp group multiplies at once
SEGMENT = 512  # voxels of a segment: fewer parts to sum than with tiles, but enough programs if one cell has all voxels
CHUNK = 32  # voxels of a segment that are loaded at a time: with more, only one program fits a multiprocessor
BLOCK_CHANNELS = 128  # largest number of channels at a time
BLOCK_IMAGES = 32  # largest number of images at a time: with more, the float32 sums do not fit registers
REGISTERS = 128  # per thread of `_backward`, so that two programs fit a multiprocessor; only addresses of stores spill
BLOCK_ROWS = 128  # rows (k, b) of dZ at a time
SMALLEST = 16  # smallest side of a matrix product
COLLECTED = 512  # numbers of a token that one program of `_collect` sums
SPAN = 4  # parts that a program of `_collect` loads at a time

INTERPRETED = bool(triton.knobs.runtime.interpret)
# "widened": Triton's interpreter would multiply the bits of bfloat16 numbers; their products in float32 are the same
PRECISION = {"float32": "ieee", "tf32": "tf32", "bfloat16": "widened" if INTERPRETED else "ieee"}


@dataclass(frozen=True)
class Reading:
    """What all voxels read: their `cells` (N,) int64, and the `weights` (N, K) float32 of the tokens there, as in
    `TokenGrid`."""

    cells: Tensor
    weights: Tensor


def predict(
    tokens: Tensor,
    reading: Reading,
    channels: Tensor,
    bias: Tensor,
    divisor: float,
    grid: TokenGrid,
    arithmetic: str,
) -> Tensor:
    """Return predicted responses (B, N).

    Parameters
    ----------
    tokens : Tensor, (T, B, D) float32
        Tokens in the layout of `grid`.
    reading : Reading
    channels : Tensor, (N, D) float32
    bias : Tensor, (N,) float32
    divisor : float
    grid : TokenGrid
    arithmetic : {'float32', 'tf32', 'bfloat16'}
        Precision of the factors of matrix products; sums are float32.
    """
    return _Readout(tokens, reading, channels, grid, arithmetic).forward().T.div_(divisor).add_(bias)


def smooth_l1(
    tokens: Tensor,
    reading: Reading,
    channels: Tensor,
    bias: Tensor,
    divisor: float,
    target: Tensor,
    beta: float,
    grid: TokenGrid,
    arithmetic: str,
) -> tuple[Gradients, Tensor]:
    """Return the mean smooth-L1 loss against `target` (B, N) and its gradients, and that of the weights (N, K).

    Shapes as in `predict`. The loss changes from square to linear at an absolute error of `beta`.
    """
    share = 1.0 / target.numel()
    readout = _Readout(tokens, reading, channels, grid, arithmetic)
    residual = readout.forward().div_(divisor).add_(bias[:, None]).sub_(target.T)
    slope = (residual / beta).clamp_(-1, 1)
    # r²/(2 beta) inside and |r| - beta/2 outside are both slope · (r - beta · slope / 2)
    loss = residual.sub_(slope, alpha=beta / 2).mul_(slope).sum() * share
    grad_bias = slope.sum(1).mul_(share)
    grad_tokens, grad_weights, grad_channels = readout.backward(slope.mul_(share / divisor))
    return Gradients(loss, grad_tokens, grad_channels, grad_bias), grad_weights


def _cut(starts: Tensor, size: int, n_voxels: int, n_columns: int) -> tuple[Tensor, Tensor]:
    """Return pieces of at most `size` voxels of one cell, (n, 3) as in `_Readout`, and each cell's first piece."""
    n_cells = len(starts) - 1
    needed = (starts.diff() + (size - 1)) // size
    begins = F.pad(needed.cumsum(0, dtype=torch.int32), (1, 0))
    piece = torch.arange(n_voxels // size + min(n_cells, n_voxels), dtype=torch.int32, device=starts.device)
    cell = torch.searchsorted(begins[1:], piece, right=True).clamp_(max=n_cells - 1)
    first = starts[cell] + (piece - begins[cell]) * size  # unneeded pieces start past the end of the last cell
    stop = torch.minimum(first + size, starts[cell + 1])
    corner = cell // (n_columns + 1) * (n_columns + 2) + cell % (n_columns + 1)
    return torch.stack([first, stop, corner.int()], dim=1), begins


@lru_cache(maxsize=256)
def _on_device(table: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the table on the device, from a cache, because a copy makes the host wait for the device."""
    return torch.tensor(table, dtype=torch.int32, device=device)


class _Readout:
    """The readout of one batch; parameters as in `predict`.

    Attributes
    ----------
    order : Tensor, (N,) int64
        Voxels sorted by cell.
    tiles, segments : Tensor, (n, 3) int32
        Cuts of `order`: first voxel, one after the last, and the cell's top left corner in the bordered grid. Their
        number is the largest possible one; unneeded cuts are empty.
    begins : Tensor, (n_cells + 1,) int32
        Index of each cell's first segment, and the number of segments.
    offsets : Tensor, (K,) int32
        Offsets of the tokens that are read; the 4·S·L local ones are relative to the cell's corner.
    """

    def __init__(self, tokens: Tensor, reading: Reading, channels: Tensor, grid: TokenGrid, arithmetic: str) -> None:
        kind = torch.bfloat16 if arithmetic == "bfloat16" else torch.float32
        self.tokens = tokens.to(kind).contiguous()
        self.channels = channels.to(kind).contiguous()
        self.weights = reading.weights.contiguous()
        self.n_voxels, self.n_images = len(channels), tokens.shape[1]
        self.grid, (h, w) = grid, grid.grid
        by_cell, self.order = torch.sort(reading.cells.int(), stable=True)
        edges = torch.arange((h + 1) * (w + 1) + 1, dtype=torch.int32, device=by_cell.device)
        starts = torch.searchsorted(by_cell, edges, out_int32=True)
        self.tiles, _ = _cut(starts, TILE, self.n_voxels, w)
        self.segments, self.begins = _cut(starts, SEGMENT, self.n_voxels, w)
        read = (*grid.corners, grid.n_of_layer - 1)
        offsets = tuple(layer * grid.n_of_layer + at for at in read for layer in range(grid.n_layers))
        self.n_local = len(grid.corners) * grid.n_layers
        self.n_reads, self.offsets = len(offsets), _on_device(offsets, by_cell.device)
        n_channels = channels.shape[1]
        self.block_b = min(max(triton.next_power_of_2(self.n_images), SMALLEST), BLOCK_IMAGES)
        self.block_d = min(max(triton.next_power_of_2(n_channels), SMALLEST), BLOCK_CHANNELS)
        self.image_blocks = triton.cdiv(self.n_images, self.block_b)
        self.channel_blocks = triton.cdiv(n_channels, self.block_d)
        self.sizes = {
            "B": self.n_images,
            "D": n_channels,
            "BLOCK_N": TILE,
            "BLOCK_B": self.block_b,
            "BLOCK_D": self.block_d,
            "PRECISION": PRECISION[arithmetic],
            "enable_fp_fusion": True,  # explicit, because Triton warns that its default will change
        }

    def forward(self) -> Tensor:
        """Return A · P, (N, B)."""
        y = self.channels.new_empty(self.n_voxels, self.n_images, dtype=torch.float32)
        _forward[len(self.tiles), self.image_blocks](
            self.tokens, self.channels, self.weights, self.order, self.tiles, self.offsets, y,
            self.n_reads, self.n_local, num_warps=4, num_stages=3, **self.sizes,
        )  # fmt: skip
        return y

    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of tokens, weights and channels, from the gradient of A · P, (N, B)."""
        grad_weights = dy.new_empty(self.channel_blocks, *self.weights.shape)
        grad_channels = dy.new_empty(self.channels.shape)
        _backward[len(self.tiles), self.channel_blocks](
            self.tokens, self.channels, self.weights, dy, self.order, self.tiles, self.offsets,
            grad_weights, grad_channels,
            self.n_reads, self.n_local, self.n_voxels, num_warps=8, num_stages=3, maxnreg=REGISTERS, **self.sizes,
        )  # fmt: skip
        grad_tokens = self._backward_tokens(dy)
        return grad_tokens, grad_weights.sum(0) if len(grad_weights) > 1 else grad_weights[0], grad_channels

    def _backward_tokens(self, dy: Tensor) -> Tensor:
        grad_tokens = dy.new_empty(self.tokens.shape)
        at_once = BLOCK_ROWS // self.block_b
        parts = dy.new_empty(len(self.segments), self.n_reads, *self.tokens.shape[1:])
        blocks = self.image_blocks * self.channel_blocks
        _partial[triton.cdiv(self.n_reads, at_once), len(self.segments), blocks](
            self.channels, self.weights, dy, self.order, self.segments, parts,
            self.n_reads, BLOCK_K=at_once, num_warps=8, num_stages=3, **{**self.sizes, "BLOCK_N": CHUNK},
        )  # fmt: skip
        n_numbers = parts[0, 0].numel()
        _collect[self.grid.n_of_layer, self.grid.n_layers, triton.cdiv(n_numbers, COLLECTED)](
            parts, self.begins, self.offsets, grad_tokens,
            n_numbers, *self.grid.grid, N_SIZES=len(self.grid.blurs), BLOCK=COLLECTED, SPAN=SPAN, num_warps=4,
        )  # fmt: skip
        return grad_tokens


@triton.jit
def _product(left, right, PRECISION: tl.constexpr):
    """Return a matrix product, with factors in the dtype of `right` and float32 sums."""
    left = left.to(right.dtype)
    if PRECISION == "widened":
        return tl.dot(left.to(tl.float32), right.to(tl.float32), input_precision="ieee")
    return tl.dot(left, right, input_precision=PRECISION)


@triton.jit
def _block(rows, live, first, stop, WIDTH: tl.constexpr):
    """Load columns `first` to `first + WIDTH` of rows at pointers (n,); zeros in rows that are not live and from `stop`
    on."""
    column = first + tl.arange(0, WIDTH)
    return tl.load(rows[:, None] + column[None, :], mask=live[:, None] & (column < stop)[None, :], other=0.0)


@triton.jit
def _token(tokens, offsets, k, n_local, corner, size):
    """Return pointers to tokens of `size` numbers. Those from `n_local` on are global and have no corner."""
    token = tl.load(offsets + k) + tl.where(k < n_local, corner, 0)
    return tokens + token.to(tl.int64) * size


@triton.jit
def _forward(
    tokens, channels, weights, order, tiles, offsets, y,
    n_reads, n_local, B: tl.constexpr, D: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Compute y (N, B): one tile and one block of images per program."""
    tile = tiles + tl.program_id(0) * 3
    first, stop, corner = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    if first >= stop:
        return
    at = first + tl.arange(0, BLOCK_N)
    live = at < stop
    voxel = tl.load(order + at, mask=live, other=0)
    image = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    here = image < B
    c = _block(channels + voxel * D, live, 0, D, BLOCK_D)
    total = tl.full((BLOCK_N, BLOCK_B), 0.0, tl.float32)
    n_blocks: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    for step in range(n_reads * n_blocks):
        k, d = step // n_blocks, step % n_blocks * BLOCK_D
        if n_blocks > 1:
            c = _block(channels + voxel * D, live, d, D, BLOCK_D)
        rows = _token(tokens, offsets, k, n_local, corner, B * D) + image * D
        p = _product(c, tl.trans(_block(rows, here, d, D, BLOCK_D)), PRECISION)
        a = tl.load(weights + voxel * n_reads + k, mask=live, other=0.0)
        total += a[:, None] * p
    out = y + voxel[:, None] * B + image[None, :]
    tl.store(out, total, mask=live[:, None] & here[None, :])


@triton.jit
def _backward(
    tokens, channels, weights, dy, order, tiles, offsets, grad_weights, grad_channels,
    n_reads, n_local, n_voxels, B: tl.constexpr, D: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Compute gradients of weights, (blocks of channels, N, K), and channels: one tile and block of channels per
    program."""
    tile = tiles + tl.program_id(0) * 3
    first, stop, corner = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    if first >= stop:
        return
    at = first + tl.arange(0, BLOCK_N)
    live = at < stop
    voxel = tl.load(order + at, mask=live, other=0)
    d = tl.program_id(1) * BLOCK_D
    c = _block(channels + voxel * D, live, d, D, BLOCK_D).to(tl.float32)
    slope = _block(dy + voxel * B, live, 0, B, BLOCK_B)
    grad_c = tl.full((BLOCK_N, BLOCK_D), 0.0, tl.float32)
    grad_a = tl.full((BLOCK_N,), 0.0, tl.float32)
    out_a = grad_weights + (tl.program_id(1) * n_voxels + voxel) * n_reads
    n_blocks: tl.constexpr = (B + BLOCK_B - 1) // BLOCK_B
    for step in range(n_reads * n_blocks):
        k, b = step // n_blocks, step % n_blocks * BLOCK_B
        if n_blocks > 1:
            slope = _block(dy + voxel * B, live, b, B, BLOCK_B)
        image = b + tl.arange(0, BLOCK_B)
        rows = _token(tokens, offsets, k, n_local, corner, B * D) + image * D
        q = _product(slope, _block(rows, image < B, d, D, BLOCK_D), PRECISION)
        a = tl.load(weights + voxel * n_reads + k, mask=live, other=0.0)
        grad_c += a[:, None] * q
        grad_a = tl.sum(c * q, axis=1) + tl.where(b > 0, grad_a, 0.0)
        tl.store(out_a + k, grad_a, mask=live)  # whole after the last block of images
    channel = d + tl.arange(0, BLOCK_D)
    out = grad_channels + voxel[:, None] * D + channel[None, :]
    tl.store(out, grad_c, mask=live[:, None] & (channel < D)[None, :])


@triton.jit
def _partial(
    channels, weights, dy, order, segments, parts,
    n_reads, B: tl.constexpr, D: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Compute the part (segments, K, B, D) of each segment in the gradient of each token: some tokens, one segment, and
    a block of images and channels per program."""
    segment = tl.program_id(1)
    first, stop = tl.load(segments + segment * 3), tl.load(segments + segment * 3 + 1)
    if first >= stop:
        return
    n_blocks: tl.constexpr = (D + BLOCK_D - 1) // BLOCK_D
    b, d = tl.program_id(2) // n_blocks * BLOCK_B, tl.program_id(2) % n_blocks * BLOCK_D
    k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    wanted = k < n_reads
    total = tl.full((BLOCK_K * BLOCK_B, BLOCK_D), 0.0, tl.float32)
    for start in range(first, stop, BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)
        live = at < stop
        voxel = tl.load(order + at, mask=live, other=0)
        mask = live[:, None] & wanted[None, :]
        a = tl.load(weights + voxel[:, None] * n_reads + k[None, :], mask=mask, other=0.0)
        slope = _block(dy + voxel * B, live, b, B, BLOCK_B)
        of_reads = tl.reshape(a[:, :, None] * slope[:, None, :], (BLOCK_N, BLOCK_K * BLOCK_B))
        total += _product(tl.trans(of_reads), _block(channels + voxel * D, live, d, D, BLOCK_D), PRECISION)
    row = tl.arange(0, BLOCK_K * BLOCK_B)
    k, image = tl.program_id(0) * BLOCK_K + row // BLOCK_B, b + row % BLOCK_B
    channel = d + tl.arange(0, BLOCK_D)
    out = parts + ((segment.to(tl.int64) * n_reads + k) * B + image)[:, None] * D + channel[None, :]
    tl.store(out, total, mask=((k < n_reads) & (image < B))[:, None] & (channel < D)[None, :])


@triton.jit
def _collect(
    parts, begins, offsets, grad_tokens, n_numbers, h, w,
    N_SIZES: tl.constexpr, BLOCK: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """Sum the parts of each token, some numbers per program. Local tokens are read by the cells around them. Global
    tokens are read by all cells; they come first, because they take longest."""
    layer, n_layers = tl.program_id(1), tl.num_programs(1)
    n_bordered = (h + 2) * (w + 2)
    token = N_SIZES * n_bordered - tl.program_id(0)
    size, place = token // n_bordered, token % n_bordered
    number = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    total = tl.full((SPAN, BLOCK), 0.0, tl.float32)
    for kind in tl.static_range(5):
        row, column = place // (w + 2) - kind // 2, place % (w + 2) - kind % 2
        reads = (size < N_SIZES) & (row >= 0) & (row <= h) & (column >= 0) & (column <= w)
        cell, n_cells = row * (w + 1) + column, 1
        if kind == 4:
            reads, cell, n_cells = size == N_SIZES, 0, (h + 1) * (w + 1)
        begin = tl.load(begins + cell, mask=reads, other=0)
        end = tl.load(begins + cell + n_cells, mask=reads, other=0)
        for start in range(begin, end, SPAN):
            segment = start + tl.arange(0, SPAN)
            read = size * 4 + kind if kind < 4 else N_SIZES * 4
            rows = parts + ((segment.to(tl.int64) * (4 * N_SIZES + 1) + read) * n_layers + layer) * n_numbers
            mask = (segment < end)[:, None] & (number < n_numbers)[None, :]
            total += tl.load(rows[:, None] + number[None, :], mask=mask, other=0.0)
    out = grad_tokens + (tl.load(offsets + layer) + token).to(tl.int64) * n_numbers + number
    tl.store(out, tl.sum(total, axis=0), mask=number < n_numbers)
