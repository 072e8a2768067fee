"""The closed form at the end of a fit: for a fixed selection, the channel weights of a voxel solve a ridge problem.

Stochastic gradients do not reach the best score. With selectors and channel align fixed, the features v of every voxel
(D numbers for each image) are known, and c = argmin |y - V c|² + α |c - c₀|² has a closed form, with c₀ the trained
weights. α of each voxel is one of a few candidates, chosen on the validation images. α = ∞ keeps c₀, so a voxel that
gains nothing does not change.

Features are computed for some images of some voxels at a time. One pass over the images serves as many voxels as fit a
fixed amount of memory. The result of a voxel does not depend on that number.

Shape letters: B images, n voxels, K tokens that one voxel reads, D shared channels, R candidates.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.readout import Reading, group
from bddn.encoder.targets import Targets
from bddn.machine.parallel import each_on
from bddn.progress import Advance
from bddn.stream.loader import Source, batches
from bddn.stream.order import Rows

ALPHAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # in units of the mean variance of a voxel's features
PASS_BYTES = 1 << 30
IMAGES = 64  # images of a batch
VOXELS = 32  # voxels whose features each thread holds at a time
PROBLEM_VOXELS = 512  # voxels of a problem
MEAN_WEIGHT = 3.0  # weight of the mean over voxels in the choice of α


def polish(
    model: FactorTopy,
    source: Source,
    targets: Targets,
    train: Sequence[Rows],
    val: Sequence[Rows],
    advance: Advance,
) -> npt.NDArray[np.float64]:
    """Solve for the channel weights and biases of `model`, in place.

    Parameters
    ----------
    model : FactorTopy
        Without whitening; see `FactorTopy.fold`.
    source : Source
    targets : callable
        Rows (B,) to responses (B, N) float32.
    train, val : sequence of arrays of int
        Pools of rows.
    advance : callable
        Called once per batch of each pass with its number of images; see `n_passes`.

    Returns
    -------
    array of float64, (N,)
        α of every voxel; infinity if the trained weights were kept.
    """
    cells, weights = (v.cpu() for v in model.selectors.cells_and_weights())
    reading = Reading(weights, group(cells, model.selectors.read_at, IMAGES))
    problems = list(_problems(model, reading))
    n_candidates = len(ALPHAS) + 1
    channels = model.channels.new_empty(len(model.bias), n_candidates, model.channels.shape[1])
    bias, error = (model.bias.new_empty(len(model.bias), n_candidates) for _ in range(2))
    for now in _passes(problems, model.channels.shape[1]):
        _for_each_batch(model, source, targets, train, now, _Problem.add, advance)
        each_on(model.bias.device, _Problem.solve, now)
        _for_each_batch(model, source, targets, val, now, _Problem.evaluate, advance)
        for problem in now:
            channels[problem.voxels], bias[problem.voxels], error[problem.voxels] = problem.candidates()
            problem.free()
    best = _choose(error)
    which = torch.arange(len(best), device=best.device)
    model.channels.data.copy_(channels[which, best])
    model.bias.data.copy_(bias[which, best])
    alpha: npt.NDArray[np.float64] = np.array([*ALPHAS, np.inf])[best.cpu().numpy()]
    return alpha


def n_passes(n_voxels: int, n_channels: int) -> int:
    """Return the number of passes over the images."""
    return -(-n_voxels // _voxels_per_pass(n_channels))


def polish_bytes(n_voxels: int, n_channels: int) -> int:
    """Return the memory that `polish` needs beside the model, in bytes: the sums of a pass, and all candidates."""
    sums = 4 * n_channels**2 * min(n_voxels, _voxels_per_pass(n_channels))
    return sums + 4 * n_channels * n_voxels * (len(ALPHAS) + 1)


def _choose(error: Tensor) -> Tensor:
    """Return the best candidate of each voxel, (N,), for squared errors (N, R) on validation images.

    The errors of one voxel are noisy, and the best of several candidates looks better than it is, so the mean over
    voxels also counts.
    """
    relative = error / error[:, -1:].clamp_min(torch.finfo(error.dtype).tiny)
    return (relative + MEAN_WEIGHT * relative.mean(0)).argmin(1)


def _voxels_per_pass(d: int) -> int:
    """Return the number of voxels of a pass, for `d` channels."""
    return max(PROBLEM_VOXELS, PASS_BYTES // (4 * d * d))


def _passes(problems: Sequence["_Problem"], d: int) -> Iterator[list["_Problem"]]:
    now: list[_Problem] = []
    for problem in problems:
        if now and sum(len(p.voxels) for p in now) + len(problem.voxels) > _voxels_per_pass(d):
            yield now
            now = []
        now.append(problem)
    yield now


def _for_each_batch(
    model: FactorTopy,
    source: Source,
    targets: Targets,
    pools: Sequence[Rows],
    problems: Sequence["_Problem"],
    work: Callable[["_Problem", Tensor, Tensor], None],
    advance: Advance,
) -> None:
    """Call `work` for each problem with every batch of the pools."""
    for at, features in batches(source, pools, IMAGES):
        tokens, y = model.align(features), targets(at).T.contiguous()

        def visit(problem: _Problem, tokens: Tensor = tokens, y: Tensor = y) -> None:
            work(problem, tokens, y)

        each_on(y.device, visit, problems)
        advance(len(at))


def _problems(model: FactorTopy, reading: Reading) -> Iterator["_Problem"]:
    """Yield the ridge problems of all voxels, in the order of their cells."""
    chunks: list[_Chunk] = []
    n = 0
    for part in reading.parts:
        for chunk in (chunk for sweep in part.sweeps for chunk in sweep):
            read = part.tokens[part.read[chunk.cell]]
            for first in range(chunk.voxels.start, chunk.voxels.stop, VOXELS):
                voxels = part.voxels[first : min(first + VOXELS, chunk.voxels.stop)]
                chunks.append(_Chunk(slice(n, n + len(voxels)), read, voxels))
                n += len(voxels)
                if n >= PROBLEM_VOXELS:
                    yield _Problem(model, reading, chunks)
                    chunks, n = [], 0
    if chunks:
        yield _Problem(model, reading, chunks)


@dataclass(frozen=True)
class _Chunk:
    """Voxels of one cell, their slice `at` in a problem, and the tokens (K,) that they read."""

    at: slice
    read: Tensor
    voxels: Tensor


class _Problem:
    """The ridge problems of some voxels: sums over training images, candidates, and errors on validation images.

    The first batch's means of features and responses are subtracted, so that sums lose no digits.
    """

    def __init__(self, model: FactorTopy, reading: Reading, chunks: Sequence[_Chunk]) -> None:
        self._chunks, self._divisor = chunks, model.divisor
        device = model.bias.device
        voxels = torch.cat([chunk.voxels for chunk in chunks])
        self.voxels, self._weights = voxels.to(device), reading.weights[voxels].to(device)
        self._c, self._bias = model.channels.detach()[self.voxels], model.bias.detach()[self.voxels]
        self.free()

    def free(self) -> None:
        """Free the memory of all sums."""
        self._n = 0
        self._from_v = self._from_y = self._products = self._with_y = self._sum = self._sum_y = torch.empty(0)
        self._channels = self._biases = self._error = torch.empty(0)

    def add(self, tokens: Tensor, y: Tensor) -> None:
        """Add training images: aligned tokens (T, B, D) and responses (N, B)."""
        mine = y[self.voxels]
        if not self._n:
            n, d = self._c.shape
            self._from_v, self._from_y = self._c.new_empty(n, d), mine.mean(1)
            self._products, self._with_y = self._c.new_zeros(n, d, d), self._c.new_zeros(n, d, 1)
            self._sum, self._sum_y = self._c.new_zeros(n, d), self._c.new_zeros(n)
        mine = mine - self._from_y[:, None]
        for chunk, v in self._features(tokens):
            if not self._n:
                self._from_v[chunk.at] = v.mean(1)
            v.sub_(self._from_v[chunk.at, None])
            self._products[chunk.at].baddbmm_(v.mT, v)
            self._with_y[chunk.at].baddbmm_(v.mT, mine[chunk.at, :, None])
            self._sum[chunk.at] += v.sum(1)
        self._sum_y += mine.sum(1)
        self._n += y.shape[1]

    def solve(self) -> None:
        """Compute the candidates; the last one is the trained weights."""
        mean, mean_y = self._sum / self._n, self._sum_y / self._n
        covariance = self._products.div_(self._n).baddbmm_(mean[:, :, None], mean[:, None], alpha=-1)
        size = covariance.diagonal(dim1=1, dim2=2).mean(1)
        size = torch.where(size > 0, size, 1)  # constant features have size 0
        left = (
            self._with_y[:, :, 0] / self._n
            - mean * mean_y[:, None]
            - torch.bmm(covariance, self._c[:, :, None])[:, :, 0]
        )
        found, eye = [], torch.eye(left.shape[1], device=left.device)
        for alpha in ALPHAS:
            root = torch.linalg.cholesky(covariance + (alpha * size)[:, None, None] * eye)
            found.append(self._c + torch.cholesky_solve(left[:, :, None], root)[:, :, 0])
        self._channels = torch.stack([*found, self._c], dim=1)
        level = (self._from_y + mean_y)[:, None] - torch.bmm(self._channels, (self._from_v + mean)[:, :, None])[:, :, 0]
        self._biases = torch.cat([level[:, :-1], self._bias[:, None]], dim=1)
        self._error = torch.zeros_like(self._biases)
        self._products = torch.empty(0)

    def evaluate(self, tokens: Tensor, y: Tensor) -> None:
        """Add the squared errors of validation images."""
        mine = y[self.voxels]
        for chunk, v in self._features(tokens):
            predicted = torch.bmm(v, self._channels[chunk.at].mT).add_(self._biases[chunk.at, None])
            self._error[chunk.at] += predicted.sub_(mine[chunk.at, :, None]).square_().sum(1)

    def candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return channel weights (n, R, D), biases (n, R) and squared errors (n, R)."""
        return self._channels, self._biases, self._error

    def _features(self, tokens: Tensor) -> Iterator[tuple[_Chunk, Tensor]]:
        """Yield each chunk with its features (n, B, D)."""
        known, z = None, tokens
        for chunk in self._chunks:
            if known is not chunk.read:
                known, z = chunk.read, tokens[chunk.read.to(tokens.device)].flatten(1)
            v = torch.mm(self._weights[chunk.at], z).div_(self._divisor)
            yield chunk, v.view(len(v), *tokens.shape[1:])
