"""The responses that a fit predicts.

Shape letters: B images, N voxels.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bddn.errors import FitError
from bddn.machine.parallel import ahead, each_of, use_one_thread
from bddn.stream.order import Rows

Targets = Callable[[Tensor], Tensor]
"""Takes rows (B,) of a dataset; returns their responses (B, N) float32."""

ROWS_PER_READ = 64
LARGEST = 1e30  # float32 ends at 3e38
ROUNDING = 1e-6  # a standard deviation below this share of the mean is rounding of a constant


def read_ahead(targets: Targets, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the responses to batches of rows, while those of the next batch are read."""
    with ThreadPoolExecutor(1, initializer=use_one_thread) as reader:
        yield from ahead(targets, batches, 2, reader)


@dataclass(frozen=True)
class Standardized:
    """Responses with mean 0 and variance 1 over the training images, so that a fit does not depend on their unit.

    Attributes
    ----------
    targets : callable
        The responses in their own unit.
    mean, sd : Tensor, (N,) float32
        A response that does not vary is only centred: its `sd` is 1.
    """

    targets: Targets
    mean: Tensor
    sd: Tensor

    @classmethod
    def of(
        cls, targets: Targets, train: Rows, visit: Callable[[Tensor, Tensor], object] = lambda rows, responses: None
    ) -> "Standardized":
        """Return standardized responses. `train` names the rows of the training images, in any order; `visit` is called
        with the rows (B,) and responses (B, N) of each batch that was read.

        Raises
        ------
        FitError
            If responses of training images are not finite, or so large that float32 predictions of them would
            overflow.
        """
        rows = torch.from_numpy(np.sort(train))
        first = targets(rows[:1])[0].double()
        total, square = torch.zeros_like(first), torch.zeros_like(first)

        def add(responses: Tensor, first: Tensor, total: Tensor, square: Tensor) -> None:
            centred = responses - first[:, None]
            total += centred.sum(1)
            square += centred.square_().sum(1)

        for some in rows.split(ROWS_PER_READ):
            responses = targets(some)
            visit(some, responses)
            each_of(add, responses.T, first, total, square)
        mean = total / len(rows)
        sd = (square / len(rows) - mean.square()).clamp_min(0).sqrt()
        largest = ((mean + first).abs() + sd).max().item()
        if math.isnan(largest):
            raise FitError(
                "responses",
                expected="finite values for every training image",
                got="nan or inf",
                fix="Leave out the voxels or images that have them. No run was written.",
            )
        if largest >= LARGEST:
            raise FitError(
                "responses",
                expected=f"values below {LARGEST:g}",
                got=f"{largest:.3g}",
                fix="Use another unit. No run was written.",
            )
        varies = sd > ROUNDING * (mean + first).abs()
        return cls(targets, (mean + first).float(), torch.where(varies, sd, 1).float())

    def of_voxels(self, some: "OfVoxels") -> "Standardized":
        """Return the responses of some voxels."""
        return Standardized(some, self.mean[some.voxels], self.sd[some.voxels])

    def __call__(self, rows: Tensor) -> Tensor:
        return (self.targets(rows) - self.mean).div_(self.sd)


class ByVoxel:
    """Responses of some voxels, by voxel.

    Parameters
    ----------
    targets : callable
        The responses of all voxels. Of `Standardized` ones, only these voxels are standardized, which is less work.
    voxels : Tensor of int64, (n,)
        In any order.
    """

    def __init__(self, targets: Targets, voxels: Tensor) -> None:
        self._targets, self._mean, self._sd = targets, None, None
        if isinstance(targets, Standardized):
            self._targets, self._mean, self._sd = targets.targets, targets.mean, targets.sd
        # in the order of memory, because responses of an image lie one after the other
        self._voxels, self._order = voxels.sort()

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the responses to rows (B,), (n, B)."""
        responses = self._targets(rows)
        out = responses.new_empty(len(self._voxels), len(rows))

        def put(voxels: Tensor, order: Tensor) -> None:
            found = responses[:, voxels].T
            if self._mean is not None and self._sd is not None:
                found = (found - self._mean[voxels, None]).div_(self._sd[voxels, None])
            out.index_copy_(0, order, found)

        each_of(put, self._voxels, self._order)
        return out


class OfVoxels:
    """The responses of some voxels, which stay in memory once they were read.

    Parameters
    ----------
    targets : callable
        The responses of all voxels.
    voxels : Tensor of int64, (n,)
    n_rows : int
    """

    def __init__(self, targets: Targets, voxels: Tensor, n_rows: int) -> None:
        self._targets, self.voxels = targets, voxels
        self._kept = torch.empty(n_rows, len(voxels), device=voxels.device)
        self._known = torch.zeros(n_rows, dtype=torch.bool)

    def __call__(self, rows: Tensor) -> Tensor:
        new = rows[~self._known[rows]]
        if len(new):
            self.keep(new, self._targets(new))
        return self._kept[rows]

    def keep(self, rows: Tensor, responses: Tensor) -> None:
        """Keep rows (B,) of responses (B, N)."""
        self._kept[rows] = responses[:, self.voxels]
        self._known[rows] = True
