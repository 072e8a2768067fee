"""The closed form at the end of a fit: for a fixed selection, the channel weights of a voxel solve a ridge problem.

Stochastic gradients do not reach the best score. With selectors and channel align fixed, the features v of every voxel
(D numbers for each image) are known, and c = argmin |y - V c|² + α |c|² has a closed form. α of each voxel is one of a
few candidates, chosen on the validation images. α = ∞ is among them: c = 0, and the mean response is predicted.

Voxels with the same selection have the same features, which are computed once. Tokens with a negligible weight are left
out of them, and an image that a bootstrap draws several times is read once. One pass over the images serves as many
selections as fit a fixed amount of memory. What a voxel gets does not depend on that number: what all voxels have in
common, their mean errors, is that of a part of them, which come first.

Shape letters: B images, g selections, m voxels of each, k tokens that they read, D shared channels, R candidates.
"""

from collections import deque
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
PASS_BYTES = 3 << 29  # of the sums of a pass, and then of its candidates, at most
LEAST_BYTES = 1 << 28  # of a pass, and of the voxels whose mean errors count; with less, images are read too often
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
        Memory of the sums of a pass, and then of its candidates. The result does not depend on it.

    Returns
    -------
    array of float64, (N,)
        α of every voxel; infinity if its channel weights are 0.
    """
    fitted, chosen_on = _Images.of(train), _Images.of(val)
    passes, n_first = _plan(model, pass_bytes)
    alpha = np.empty(len(model.bias))
    mean: Tensor | None = None
    with progress("polish", len(passes) * (len(fitted.times) + len(chosen_on.times)), "images") as advance:
        while passes:
            some = passes.popleft()
            voxels, means = torch.cat([problem.voxels.flatten() for problem in some]), _Means()
            candidates = _Candidates.empty(len(voxels), model)
            _start(some, candidates)
            for tokens, y, times in _batches(model, source, targets, fitted, voxels):
                means.add(tokens, y, times)
                _each(some, _Problem.add, tokens, y, times)
                advance(y.shape[1])
            _each(some, _Problem.solve, means)
            for tokens, y, times in _batches(model, source, targets, chosen_on, voxels):
                means.subtract(tokens, y)
                _each(some, _Problem.evaluate, tokens, y, times)
                advance(y.shape[1])
            error = candidates.error / candidates.error[:, :1].clamp_min(torch.finfo(candidates.error.dtype).tiny)
            if mean is None:
                mean = error[:n_first].mean(0)
            # the errors of one voxel are noisy, and the best of several candidates looks better than it is
            best = (error + MEAN_WEIGHT * mean).argmin(1)
            alpha[voxels.cpu().numpy()] = candidates.choose(best, model, voxels)
            del some, candidates, error  # before those of the next pass
    return alpha


def pass_bytes_in(free: int) -> int:
    """Return the memory of a pass where so many bytes are free, within the limits of a pass."""
    return min(max(free, LEAST_BYTES), PASS_BYTES)


def polish_bytes(model: FactorTopy, pass_bytes: int) -> int:
    """Return the memory that `polish` needs beside the model, in bytes: the sums of a pass, or its candidates."""
    n_voxels = Selections.of(model.selectors).n_voxels.tolist()
    return min(sum(_bytes(1, n, model.channels.shape[1]) for n in n_voxels), pass_bytes)


def _plan(model: FactorTopy, pass_bytes: int) -> tuple[deque[list["_Problem"]], int]:
    """Return problems by pass, as many as fit into its memory, or at least one.

    Also return the number of voxels, at the start of the first pass, whose mean errors count: those of problems spread
    over all selections, as many as fit into `LEAST_BYTES`.
    """
    problems, step = list(_problems(model)), 1
    while step < len(problems) and sum(problem.n_bytes for problem in problems[::step]) > LEAST_BYTES:
        step += 1
    now = problems[::step]
    n_first, n_bytes = (sum(values) for values in zip(*((one.voxels.numel(), one.n_bytes) for one in now), strict=True))
    passes = deque[list[_Problem]]()
    for problem in (problem for i, problem in enumerate(problems) if i % step):
        if n_bytes + problem.n_bytes > pass_bytes:
            passes.append(now)
            now, n_bytes = [], 0
        now.append(problem)
        n_bytes += problem.n_bytes
    passes.append(now)
    return passes, n_first


def _start(problems: Sequence["_Problem"], candidates: "_Candidates") -> None:
    """Give problems the memory of their candidates, and that of their sums in blocks."""
    # in the order of the problems, so that the memory of those that are not solved yet is not used
    n_voxels = [problem.voxels.numel() for problem in problems]
    first, starts = 0, accumulate((problem.sums_bytes for problem in problems), initial=0)
    parts = zip(*(values.split(n_voxels) for values in candidates.values), strict=True)
    for _, pairs in groupby(zip(starts, problems, parts, strict=False), lambda one: one[0] // BLOCK_BYTES):
        block = [(problem, part) for _, problem, part in pairs]
        sizes = [sum(problem.sums_floats) for problem, _ in block]
        sums = candidates.bias.new_zeros(sum(sizes)).split(sizes)
        for (problem, part), of_problem in zip(block, sums, strict=True):
            problem.start(of_problem, first, *part)
            first += problem.voxels.numel()


def _bytes(n_selections: int, n_voxels: int, d: int) -> int:
    """Return the memory of the sums of selections, or that of the candidates of their voxels and of the best of these,
    which take their place: the larger one."""
    return 4 * d * max(d * n_selections + n_voxels, n_voxels * (len(ALPHAS) + 1))


@dataclass(frozen=True)
class _Candidates:
    """The candidates of the n voxels of a pass.

    Attributes
    ----------
    channels : Tensor, (n, R - 1, D) float32
        Channel weights of all but the first one, which is 0.
    bias, error : Tensor, (n, R) float32
        Biases, and squared errors on the validation images.
    """

    channels: Tensor
    bias: Tensor
    error: Tensor

    @classmethod
    def empty(cls, n: int, model: FactorTopy) -> "_Candidates":
        """Return room for those of n voxels."""
        channels = model.channels.new_empty(n, len(ALPHAS), model.channels.shape[1])
        return cls(channels, *(model.bias.new_empty(n, 1 + len(ALPHAS)) for _ in range(2)))

    @property
    def values(self) -> tuple[Tensor, Tensor, Tensor]:
        """Channel weights, biases and errors."""
        return self.channels, self.bias, self.error

    def choose(self, best: Tensor, model: FactorTopy, voxels: Tensor) -> npt.NDArray[np.float64]:
        """Set channel weights and biases of these voxels (n,) of `model` to those of their `best` candidates (n,), and
        return their α."""
        which = torch.arange(len(best), device=best.device)
        model.channels.data[voxels] = self.channels[which, best - 1].masked_fill_(best[:, None] == 0, 0)
        model.bias.data[voxels] = self.bias[which, best]
        alpha: npt.NDArray[np.float64] = np.array([np.inf, *ALPHAS])[best.cpu().numpy()]
        return alpha


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

    @property
    def sums_floats(self) -> tuple[int, int]:
        """The sizes of the sums: products of features with features, and with responses."""
        return len(self) * self._d * self._d, self._d * self.voxels.numel()

    @property
    def sums_bytes(self) -> int:
        """The memory of the sums."""
        return 4 * sum(self.sums_floats)

    @property
    def n_bytes(self) -> int:
        """The memory of the sums, or of the candidates, whichever is larger."""
        return _bytes(len(self), self.voxels.numel(), self._d)

    def start(self, sums: Tensor, first: int, channels: Tensor, bias: Tensor, error: Tensor) -> None:
        """Start with sums of 0, in the memory of `sums`, which is flat; `first` is the row of its first voxel among
        those of the pass. `channels` (n, R - 1, D), `bias` and `error` (n, R) are the memory of its candidates."""
        g_m = self.voxels.shape
        self._channels, self._biases, self._error = (v.view(*g_m, *v.shape[1:]) for v in (channels, bias, error))
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
