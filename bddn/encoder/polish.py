"""The closed form at the end of a fit: for a fixed selection, the channel weights of a voxel solve a ridge problem.

Stochastic gradients do not reach the best score. With selectors and channel align fixed, the features v of every voxel
(D numbers for each image) are known, and c = argmin |y - V c|² + α |c|² has a closed form. α of each voxel is one of a
few candidates, chosen on the validation images. α = ∞ is among them: c = 0, and the mean response is predicted.

Voxels with the same selection have the same features, which are computed once. Tokens with a negligible weight are left
out of them: voxels in one cell that select similar layers are solved together, so that most such tokens are the same.
An image that a bootstrap draws several times is read once. One pass over the images serves as many selections as fit a
fixed amount of memory. What a voxel gets does not depend on that number: what all voxels have in common, their mean
errors, is that of a part of them, which come first.

Shape letters: B images, N voxels, n of them, T tokens of all layers, D shared channels, R candidates.
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
from bddn.encoder.prediction import Piece, Selections
from bddn.encoder.ridge_problem import ALPHAS, Means, Problem, problem_bytes
from bddn.encoder.targets import ByVoxel, Targets, read_ahead
from bddn.machine.parallel import each_on
from bddn.progress import progress
from bddn.stats.scores import LEAST_R2
from bddn.stream.loader import Source, batches
from bddn.stream.order import Rows, distinct

PASS_BYTES = 3 << 29  # of the sums of a pass, and then of its candidates, at most
LEAST_BYTES = 1 << 28  # of a pass, and of the voxels whose mean errors count; with less, images are read too often
BLOCK_BYTES = 1 << 26  # of sums that are freed together: smaller blocks stay with the process (malloc's heap)
IMAGES = {"cpu": 64, "cuda": 512}  # images of a batch: a device takes as long for a small product as for a larger one
SELECTIONS = 128  # of a problem, at most, whose features each thread holds at a time
MEAN_WEIGHT = 3.0  # weight of the mean over voxels in the choice of α


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
            voxels, means = torch.cat([problem.voxels.flatten() for problem in some]), Means()
            candidates = _Candidates.empty(len(voxels), model)
            _start(some, candidates)
            for tokens, y, times in _batches(model, source, targets, fitted, voxels):
                means.add(tokens, y, times)
                _each(some, Problem.add, tokens, y, times)
                advance(y.shape[1])
            _each(some, Problem.solve, means)
            for tokens, y, times in _batches(model, source, targets, chosen_on, voxels):
                means.subtract(tokens, y)
                _each(some, Problem.evaluate, tokens, y, times)
                advance(y.shape[1])
            error = candidates.error / candidates.error[:, :1].clamp_min(torch.finfo(candidates.error.dtype).tiny)
            if mean is None:  # robust, as that of scores: the error of responses that hardly vary decides nothing
                mean = error[:n_first].clamp(max=1 - LEAST_R2).mean(0)
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
    return min(sum(problem_bytes(1, n, model.channels.shape[1]) for n in n_voxels), pass_bytes)


def _plan(model: FactorTopy, pass_bytes: int) -> tuple[deque[list[Problem]], int]:
    """Return problems by pass, as many as fit into its memory, or at least one.

    Also return the number of voxels, at the start of the first pass, whose mean errors count: those of problems spread
    over all selections, as many as fit into `LEAST_BYTES`.
    """
    problems, step = list(_problems(model)), 1
    while step < len(problems) and sum(problem.n_bytes for problem in problems[::step]) > LEAST_BYTES:
        step += 1
    now = problems[::step]
    n_first, n_bytes = (sum(values) for values in zip(*((one.voxels.numel(), one.n_bytes) for one in now), strict=True))
    passes = deque[list[Problem]]()
    for problem in (problem for i, problem in enumerate(problems) if i % step):
        if n_bytes + problem.n_bytes > pass_bytes:
            passes.append(now)
            now, n_bytes = [], 0
        now.append(problem)
        n_bytes += problem.n_bytes
    passes.append(now)
    return passes, n_first


def _start(problems: Sequence[Problem], candidates: "_Candidates") -> None:
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


def _problems(model: FactorTopy) -> Iterator[Problem]:
    """Yield problems that together contain every voxel."""
    selections = Selections.of(model.selectors)
    cells, weights = (values.cpu() for values in model.selectors.cells_and_weights(selections.first))
    weights /= model.divisor
    for cell in cells.unique():
        here = (cells == cell).nonzero()[:, 0]
        read = model.selectors.read_at(cell[None]).flatten()
        # neighbours in depth read the same layers, so that more tokens are negligible to all of a problem
        size, layer = weights[here].abs(), (read // model.grid.n_of_layer).to(weights)
        here = here[(size @ layer / size.sum(1)).argsort(stable=True)]
        for some in here.tensor_split(-(-len(here) // SELECTIONS)):
            yield Problem(Piece.of(selections, some, read, weights), model.channels.shape[1], model.bias.device)


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
    size, responses = IMAGES[model.bias.device.type], ByVoxel(targets, voxels)
    rows = torch.from_numpy(np.concatenate(images.pools)).split(size)
    of_batches = zip(
        batches(source, images.pools, size), read_ahead(responses, rows), images.times.split(size), strict=True
    )
    for (_, found), y, times in of_batches:
        yield model.align(found), y, times.to(y.device)


def _each(problems: Sequence[Problem], work: Callable[..., None], *given: object) -> None:
    each_on(problems[0].voxels.device, lambda problem: work(problem, *given), problems)
