"""The closed form at the end of a fit: for a fixed selection, the channel weights of a voxel solve a ridge problem.

Stochastic gradients do not reach the best score. With selectors and channel align fixed, the features v of every voxel
(D numbers for each image) are known, and c = argmin |y - V c|² + α |c|² has a closed form. α of each voxel is one of a
few candidates, chosen on the validation images. α = ∞ is among them: c = 0, and the mean response is predicted.

Voxels with the same selection have the same features, which are computed once. Tokens with a negligible weight are left
out of them, and an image that a bootstrap draws several times is read once. One pass over the images serves as many
selections as fit a fixed amount of memory beside the candidates of earlier passes. What a voxel gets does not depend on
that number.

Shape letters: B images, g selections, m voxels of each, k tokens that they read, D shared channels, R candidates.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.prediction import Selections, features
from bddn.encoder.targets import Targets
from bddn.machine.parallel import each_on
from bddn.progress import progress
from bddn.stream.loader import Source, batches
from bddn.stream.order import Rows, distinct

ALPHAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # in units of the mean variance of a voxel's features
PASS_BYTES = 3 << 29  # at most: sums of a pass, and the candidates of earlier ones
LEAST_BYTES = 1 << 28  # of a pass; with less, the images are read too often
BLOCK_BYTES = 1 << 26  # of sums that are freed together: smaller blocks stay with the process (malloc's heap)
IMAGES = {"cpu": 64, "cuda": 512}  # images of a batch: a device takes as long for a small product as for a larger one
PIECES = 8  # of tokens or responses of a batch, each of which a thread prepares
SELECTIONS = 32  # of a problem, whose features each thread holds at a time
MEAN_WEIGHT = 3.0  # weight of the mean over voxels in the choice of α
NEGLIGIBLE = 1e-4  # weight of a token, as a share of all weights of a voxel


def polish(
    model: FactorTopy,
    source: Source,
    targets: Targets,
    train: Sequence[Rows],
    val: Sequence[Rows],
    pass_bytes: int = PASS_BYTES,
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
        Pools of rows. A row that occurs several times in a pool counts as often.
    pass_bytes : int
        Memory of the sums of a pass and the candidates of earlier ones. The result does not depend on it.

    Returns
    -------
    array of float64, (N,)
        α of every voxel; infinity if its channel weights are 0.
    """
    problems = list(_problems(model))
    passes = list(_passes(problems, model.channels.shape[1], pass_bytes))
    # in the order of the problems, so that the memory of those that are not solved yet is not used
    channels = model.channels.new_empty(len(model.bias), len(ALPHAS), model.channels.shape[1])  # those of ∞ are 0
    bias, error = (model.bias.new_empty(len(model.bias), 1 + len(ALPHAS)) for _ in range(2))
    parts = [values.split([one.voxels.numel() for one in problems]) for values in (channels, bias, error)]
    for problem, *results in zip(problems, *parts, strict=True):
        problem.write_into(*results)
    fitted, chosen_on = _Images.of(train), _Images.of(val)
    with progress("polish", len(passes) * (len(fitted.times) + len(chosen_on.times)), "images") as advance:
        for some in passes:
            _start(some, channels)
            means, of_pass = _Means(), torch.cat([problem.voxels.flatten() for problem in some])
            for tokens, y, times in _batches(model, source, targets, fitted, of_pass):
                means.add(tokens, y, times)
                _each(some, _Problem.add, tokens, y, times)
                advance(y.shape[1])
            _each(some, _Problem.solve, means)
            for tokens, y, times in _batches(model, source, targets, chosen_on, of_pass):
                means.subtract(tokens, y)
                _each(some, _Problem.evaluate, tokens, y, times)
                advance(y.shape[1])
    best = _choose(error)
    which = torch.arange(len(best), device=best.device)
    voxels = torch.cat([problem.voxels.flatten() for problem in problems])
    model.channels.data[voxels] = channels[which, best - 1].masked_fill_(best[:, None] == 0, 0)
    model.bias.data[voxels] = bias[which, best]
    best = torch.empty_like(best).index_copy_(0, voxels, best)
    alpha: npt.NDArray[np.float64] = np.array([np.inf, *ALPHAS])[best.cpu().numpy()]
    return alpha


def pass_bytes_in(model: FactorTopy, free: int) -> int:
    """Return the memory of a pass with which `polish` takes no more than `free` bytes, within the limits of a pass."""
    beside_candidates = 3 * (free - _candidates_bytes(*model.channels.shape))
    return min(max(min(free, beside_candidates), LEAST_BYTES), PASS_BYTES)


def polish_bytes(model: FactorTopy, pass_bytes: int) -> int:
    """Return the memory that `polish` needs beside the model, in bytes: the sums of a pass, and candidates."""
    n_voxels, d = model.channels.shape
    sums = _sums_bytes(int(model.selectors.same_selection.max()) + 1, n_voxels, d)
    candidates = _candidates_bytes(n_voxels, d)
    return max(candidates, min(sums, pass_bytes), min(sums, pass_bytes // 3) + candidates)


def _choose(error: Tensor) -> Tensor:
    """Return the best candidate of each voxel, (N,), for squared errors (N, R) on validation images.

    The errors of one voxel are noisy, and the best of several candidates looks better than it is, so the mean over
    voxels also counts.
    """
    relative = error / error[:, :1].clamp_min(torch.finfo(error.dtype).tiny)
    return (relative + MEAN_WEIGHT * relative.mean(0)).argmin(1)


def _passes(problems: Sequence["_Problem"], d: int, pass_bytes: int) -> Iterator[list["_Problem"]]:
    """Yield problems whose sums fit into the memory of a pass, or at least one."""
    now, n_bytes, earlier = list[_Problem](), 0, 0
    for problem in problems:
        if now and n_bytes + problem.sums_bytes > max(pass_bytes - earlier, pass_bytes // 3):
            yield now
            earlier += sum(_candidates_bytes(one.voxels.numel(), d) for one in now)
            now, n_bytes = [], 0
        now.append(problem)
        n_bytes += problem.sums_bytes
    yield now


def _start(problems: Sequence["_Problem"], like: Tensor) -> None:
    """Give problems the memory of their sums, in blocks."""
    first, starts = 0, accumulate((problem.sums_bytes for problem in problems), initial=0)
    for _, pairs in groupby(zip(starts, problems, strict=False), lambda pair: pair[0] // BLOCK_BYTES):
        block = [problem for _, problem in pairs]
        sizes = [sum(problem.sums_floats) for problem in block]
        for problem, sums in zip(block, like.new_zeros(sum(sizes)).split(sizes), strict=True):
            problem.start(sums, first)
            first += problem.voxels.numel()


def _sums_bytes(n_selections: int, n_voxels: int, d: int) -> int:
    return 4 * d * (d * n_selections + n_voxels)


def _candidates_bytes(n_voxels: int, d: int) -> int:
    return 4 * d * n_voxels * len(ALPHAS)


def _problems(model: FactorTopy) -> Iterator["_Problem"]:
    """Yield problems that together contain every voxel."""
    selections = Selections.of(model.selectors)
    cells, weights = (values.cpu() for values in model.selectors.cells_and_weights(selections.first))
    kinds = torch.stack([cells, selections.n_voxels])  # one problem has selections in one cell, of as many voxels each
    for kind in kinds.unique(dim=1).T:
        here = (kinds == kind[:, None]).all(0).nonzero()[:, 0]
        read = model.selectors.read_at(kind[:1]).flatten()
        for some in here.split(SELECTIONS):
            yield _Problem(model, selections.voxels(some), read, weights[some] / model.divisor)


@dataclass(frozen=True)
class _Images:
    """Pools of rows, each row once, and how often each counts: `times` (n,) float32."""

    pools: list[Rows]
    times: Tensor

    @classmethod
    def of(cls, pools: Sequence[Rows]) -> "_Images":
        once = [distinct(pool) for pool in pools]
        times = np.concatenate([np.bincount(which) for _, which in once])
        return cls([pool[first] for pool, (first, _) in zip(pools, once, strict=True)], torch.from_numpy(times).float())


def _batches(
    model: FactorTopy, source: Source, targets: Targets, images: _Images, voxels: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield aligned tokens (T, B, D), responses of some voxels (n,) by voxel, (n, B), and how often each image counts,
    (B,)."""
    size = IMAGES[model.bias.device.type]
    for (at, found), times in zip(batches(source, images.pools, size), images.times.split(size), strict=True):
        responses = targets(at)
        y = responses.new_empty(len(voxels), len(at))
        _each_of(lambda out, some, responses=responses: out.copy_(responses[:, some].T), y, voxels)
        del responses  # before the work of the batch, which needs memory
        yield model.align(found), y, times.to(y.device)


def _each_of(work: Callable[..., object], *tensors: Tensor) -> None:
    """Run `work` on pieces of tensors that have the same rows."""
    each_on(tensors[0].device, lambda piece: work(*piece), zip(*(t.tensor_split(PIECES) for t in tensors), strict=True))


def _each(problems: Sequence["_Problem"], work: Callable[..., None], *given: object) -> None:
    each_on(problems[0].voxels.device, lambda problem: work(problem, *given), problems)


class _Means:
    """The means over images of tokens (T, D) and of the responses of a pass (n,), and differences to those of the first
    batch, which lose no digits in sums."""

    def __init__(self) -> None:
        self._n = 0

    def add(self, tokens: Tensor, y: Tensor, times: Tensor) -> None:
        """Add images: tokens (T, B, D) and responses (n, B), which become differences, and how often each counts,
        (B,)."""
        if not self._n:
            self.first = tokens.mean(1), y.mean(1)
            self._sums = tuple(torch.zeros_like(one) for one in self.first)
        self.subtract(tokens, y)
        for sum_, values in zip(self._sums, (tokens, y), strict=True):
            _each_of(lambda sum_, values: sum_.add_(torch.einsum("nb...,b->n...", values, times)), sum_, values)
        self._n += int(times.sum())

    def subtract(self, tokens: Tensor, y: Tensor) -> None:
        """Turn tokens and responses into differences to the means of the first batch."""
        for values, first in zip((tokens, y), self.first, strict=True):
            _each_of(lambda values, first: values.sub_(first[:, None]), values, first)

    @property
    def of_differences(self) -> tuple[int, Tensor, Tensor]:
        """The number of images, and the means of the differences."""
        z, y = self._sums
        return self._n, z / self._n, y / self._n


class _Problem:
    """The ridge problems of some voxels in one cell: sums over training images, candidates, and errors on validation
    images.

    Parameters
    ----------
    model : FactorTopy
    voxels : Tensor of int64, (g, m)
        Voxels by selection.
    read : Tensor of int64, (K,)
        The tokens of the cell.
    weights : Tensor, (g, K)
        Their weights, divided by the readout's divisor.
    """

    def __init__(self, model: FactorTopy, voxels: Tensor, read: Tensor, weights: Tensor) -> None:
        self.voxels, self._all_read, self._all_weights = (v.to(model.bias.device) for v in (voxels, read, weights))
        size = weights.abs()
        kept = (size > NEGLIGIBLE * size.sum(1, keepdim=True)).any(0).to(model.bias.device)
        self._read, self._weights = self._all_read[kept], self._all_weights[:, kept]
        self._d = model.channels.shape[1]

    def __len__(self) -> int:
        """Return the number of selections."""
        return len(self.voxels)

    def write_into(self, channels: Tensor, bias: Tensor, error: Tensor) -> None:
        """Take the memory of the results for its voxels (n): the channel weights (n, R-1, D) of the candidates but for
        the first one, which is 0, and biases and squared errors (n, R)."""
        g_m = self.voxels.shape
        self._channels, self._biases, self._error = (v.view(*g_m, *v.shape[1:]) for v in (channels, bias, error))

    @property
    def sums_floats(self) -> tuple[int, int]:
        """The sizes of the sums: products of features with features, and with responses."""
        return len(self) * self._d * self._d, self._d * self.voxels.numel()

    @property
    def sums_bytes(self) -> int:
        """The memory of the sums."""
        return _sums_bytes(len(self), self.voxels.numel(), self._d)

    def start(self, sums: Tensor, first: int) -> None:
        """Start with sums of 0, in the memory of `sums`, which is flat; `first` is the row of its first voxel among
        those of the pass."""
        self._rows = slice(first, first + self.voxels.numel())
        products, with_y = sums.split(self.sums_floats)
        self._products, self._with_y = (part.view(len(self), self._d, -1) for part in (products, with_y))

    def add(self, tokens: Tensor, y: Tensor, times: Tensor) -> None:
        """Add training images: differences of aligned tokens (T, B, D) and of the responses of the pass (n, B), and how
        often they count (B,)."""
        v, y = self._features(tokens), self._own(y).mT
        weighted = (v * times[:, None]).mT
        self._products.baddbmm_(weighted, v)
        self._with_y.baddbmm_(weighted, y)

    def solve(self, means: _Means) -> None:
        """Compute the candidates, and free the memory of the sums."""
        n, mean_z, mean_y = means.of_differences
        first_z, first_y = means.first
        mean_v, y = self._features(mean_z), self._own(mean_y)
        covariance = self._products.div_(n).baddbmm_(mean_v[:, :, None], mean_v[:, None], alpha=-1)
        size = covariance.diagonal(dim1=1, dim2=2).mean(1)
        size = torch.where(size > 0, size, 1)  # constant features have size 0
        left = (self._with_y / n).baddbmm_(mean_v[:, :, None], y[:, None], alpha=-1)
        eye = torch.eye(left.shape[1], device=left.device)
        for k, alpha in enumerate(ALPHAS):
            root = torch.linalg.cholesky(covariance + (alpha * size)[:, None, None] * eye)
            self._channels[:, :, k] = torch.cholesky_solve(left, root).mT
        found = self._candidates()
        mean, first = (self._all_weights @ z[self._all_read] for z in (first_z + mean_z, first_z))
        level = self._own(first_y) + y
        self._biases[:] = level[:, :, None] - torch.einsum("gmrd,gd->gmr", found, mean)
        self._offsets = self._biases + torch.einsum("gmrd,gd->gmr", found, first)
        self._offsets -= self._own(first_y)[:, :, None]
        self._error.zero_()
        self._products = self._with_y = torch.empty(0)

    def evaluate(self, tokens: Tensor, y: Tensor, times: Tensor) -> None:
        """Add the squared errors of validation images, given as differences, as often as they count (B,)."""
        found = self._candidates()
        g, m, r, d = found.shape
        v = self._features(tokens)
        predicted = torch.bmm(v, found.view(g, m * r, d).mT).view(g, -1, m, r)
        error = predicted.add_(self._offsets[:, None]).sub_(self._own(y).mT[..., None])
        self._error += (times @ error.square_().view(g, -1, m * r)).view_as(self._error)

    def _candidates(self) -> Tensor:
        """Return the channel weights of all candidates (g, m, R, D)."""
        return torch.cat([torch.zeros_like(self._channels[:, :, :1]), self._channels], dim=2)

    def _own(self, values: Tensor) -> Tensor:
        """Return the values (g, m, ...) of its voxels among those of the pass, (n, ...)."""
        return values[self._rows].view(*self.voxels.shape, *values.shape[1:])

    def _features(self, tokens: Tensor) -> Tensor:
        """Return the features (g, ..., D) for tokens (T, ..., D)."""
        return features(tokens, self._read, self._weights)
