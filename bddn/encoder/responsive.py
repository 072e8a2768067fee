"""The voxels on which selectors are trained where most voxels do not respond to the images, as in a whole brain.

Silent voxels have no place and no layer, but their noise has a gradient. Where they are nine of ten, selectors that all
voxels share follow it, and channels are spent on it. Which voxels respond is known before a fit: tokens explain their
responses. A few of the others are kept, where a response may be too weak to be seen.

Shape letters: N voxels, m candidates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bddn.encoder.explained import MOST, SHARES, Kernel
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.sample import evenly_spread, n_trained
from bddn.encoder.targets import ROWS_PER_READ, ByVoxel, OfVoxels, Standardized, Targets
from bddn.machine.parallel import each_on
from bddn.spec import FitSpec
from bddn.stream.order import Rows

CANDIDATES = 5  # times the sample: voxels of which it is found out whether they respond
PART = 500  # voxels at a time
CERTAIN = 6.6  # twice the logarithm of a likelihood ratio, which one silent voxel in 200 exceeds
OTHERS = 4  # voxels that respond to one of the others in the sample
LEAST = 50  # voxels that respond: fewer may have exceeded it by chance
SILENT = 0.1  # of the share that is explained of voxels that respond: others with more are not silent, but unsure


def chooses(spec: FitSpec) -> bool:
    """Return whether a fit chooses the voxels of its sample."""
    return spec.sampled == "responsive" and spec.sample is not None and spec.selection == "topological"


def responsive_bytes(n_voxels: int, n_rows: int, spec: FitSpec) -> int:
    """Return the memory that the choice needs for responses, in bytes."""
    return 8 * min(n_voxels, CANDIDATES * (spec.sample or 0)) * min(n_rows, MOST) if chooses(spec) else 0


@dataclass(frozen=True)
class Sampled:
    """The voxels that a fit trains.

    Attributes
    ----------
    voxels : Tensor of int64, (n,)
        Their rows.
    chosen : {'evenly', 'responsive'}
        How they were chosen.
    model : FactorTopy
        The encoder of these voxels.
    responses, of_all : Standardized
        Their responses, and those of all voxels.
    """

    voxels: Tensor
    chosen: Literal["evenly", "responsive"]
    model: FactorTopy
    responses: Standardized
    of_all: Standardized

    @classmethod
    def of(
        cls,
        model: FactorTopy,
        targets: Targets,
        train: Rows,
        n_rows: int,
        spec: FitSpec,
        kernel: Callable[[], Kernel],
        known: Tensor | None,
    ) -> "Sampled":
        """Sample the voxels of an encoder of all voxels. `known` (n,) are those that a fit which resumes has trained:
        another machine rounds otherwise, and could choose a voxel more or less."""
        n = n_trained(len(model.bias), spec)
        evenly = evenly_spread(model.coords_mm, n)
        voxels = evenly if known is None else known.to(evenly)
        some = OfVoxels(targets, voxels, n_rows) if len(voxels) < len(model.bias) else None
        of_all = Standardized.of(targets, train, *(() if some is None else (some.keep,)))
        if chooses(spec) and known is None:
            found = responsive_sample(model.coords_mm, n, of_all, kernel())
            if found is not None:
                voxels, some = found, OfVoxels(targets, found, n_rows)
        how: Literal["evenly", "responsive"] = "evenly" if torch.equal(voxels, evenly) else "responsive"
        if some is None:
            return cls(voxels, how, model, of_all, of_all)
        return cls(voxels, how, model.of_voxels(voxels), of_all.of_voxels(some), of_all)


def responsive_sample(coords_mm: Tensor, n: int, responses: Standardized, kernel: Kernel) -> Tensor | None:
    """Return the rows (at most n,) int64 of voxels, most of which respond, in ascending order. None where no choice
    is needed or possible: half of all voxels respond, or it is not sure that the others are silent.

    Parameters
    ----------
    coords_mm : Tensor, (N, 3)
    n : int
    responses : Standardized
        Of all voxels.
    kernel : Kernel
        Of training images.
    """
    candidates = evenly_spread(coords_mm, CANDIDATES * n)
    values = torch.cat([ByVoxel(responses, candidates)(some) for some in kernel.rows.split(ROWS_PER_READ)], dim=1)
    likelihood = torch.cat(each_on(values.device, lambda part: kernel.likelihood(part.T), values.split(PART)), dim=1)
    responds = 2 * (likelihood.amax(0) - likelihood[0]) > CERTAIN
    yes, no = candidates[responds], candidates[~responds]
    if len(yes) < LEAST or len(yes) >= len(no):
        return None
    explained, left = (SHARES[likelihood[:, some].sum(1).argmax()] for some in (responds, ~responds))
    if left > SILENT * explained:
        return None
    n_others = min(len(yes) // OTHERS, n // (OTHERS + 1))
    chosen = [some[evenly_spread(coords_mm[some], k)] for some, k in ((yes, n - n_others), (no, n_others))]
    return torch.cat(chosen).sort().values
