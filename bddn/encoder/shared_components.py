"""Less of what voxels share in the responses that selectors learn from.

Noise of arousal, breath or motion of the head is one large principal component of the responses. Its part of the
gradient adds up over voxels, where that of other noise averages out, and the selectors and the channel align, which
voxels share, then follow it alone. A signal that all voxels share, as of whether there is anything to see, does the
same: selectors saturate at what reads it best before they have found the rest.

Noise is the share of a component that tokens do not explain; what they explain is signal. Of the noise, as much stays
as a component would have where every voxel has noise of its own. Of a large signal, a part stays until the selectors
have found their places; then it comes back. This is not in the paper.

Shape letters: n images, B images of a batch, N voxels, k components.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bddn.encoder.components import IMAGES, VOXELS, principal_components
from bddn.encoder.explained import Kernel
from bddn.encoder.targets import Targets
from bddn.spec import FitSpec
from bddn.stream.order import Rows

COMPONENTS = 64  # at most
LEAST = 0.005  # share of the variance of a component below which it is left as it is
DESCRIBED = 0.05  # least share of the variance of a component that is described
EARLY_SIGNAL = 0.1  # share of the variance that the signal of a component has at first, at most


@dataclass(frozen=True)
class LimitedComponents:
    """Responses in whose principal components noise, and early in a fit signals, are limited; other rows than those of
    training stay as they are.

    Attributes
    ----------
    targets : callable
        The responses as they are.
    excess : Tensor, (n_rows, k) float32
        By row, what is taken away of each component.
    early : Tensor, (n_rows, k) float32
        What is taken away beside it at first.
    weights : Tensor, (k, N) float32
        Of the components in the responses of each voxel.
    shares, explained : Tensor, (k,) float32
        The share of the variance that each component had, and the part of it that tokens explain, at least.
    """

    targets: Targets
    excess: Tensor
    early: Tensor
    weights: Tensor
    shares: Tensor
    explained: Tensor

    @classmethod
    def of(
        cls,
        targets: Targets,
        coords_mm: Tensor,
        train: Rows,
        n_rows: int,
        kernel: Callable[[], Kernel],
        spec: FitSpec,
    ) -> "LimitedComponents":
        """Find the components of standardized responses, and limit what `spec` names.

        Parameters
        ----------
        targets : callable
            Rows (B,) to standardized responses (B, N) float32.
        coords_mm : Tensor, (N, 3)
        train : array of int, (n,)
            Rows of the training images, in any order.
        n_rows : int
        kernel : callable
            Returns the kernel of training images that tells noise from signal.
        spec : FitSpec
        """
        rows = torch.from_numpy(np.unique(train))  # an image that a bootstrap repeats must not explain itself
        components, shares = principal_components(targets, rows, coords_mm, COMPONENTS, spec.seed)
        most = max(LEAST, largest_of_own_noise(len(rows), min(len(coords_mm), VOXELS)))
        large = shares > most
        components, shares = components[:, large], shares[large]
        weights = components.new_zeros(components.shape[1], len(coords_mm))
        excess, early = (components.new_zeros(n_rows, components.shape[1]) for _ in range(2))
        explained = torch.zeros_like(shares)
        if len(shares):
            images = kernel()
            explained = images.share(components[torch.searchsorted(rows, images.rows)])
            signal, noise = shares * explained, shares * (1 - explained)
            if spec.shared_noise == "limited":
                noise.clamp_(max=most)
            kept = ((signal + noise) / shares).sqrt()
            at_first = kept
            if spec.shared_signal == "late":
                at_first = ((signal.clamp(max=EARLY_SIGNAL) + noise) / shares).sqrt()
            for at, some in zip(rows.split(IMAGES), components.split(IMAGES), strict=True):
                weights += some.T @ targets(at)
            excess[rows], early[rows] = components * (1 - kept), components * (kept - at_first)
        return cls(targets, excess, early, weights, shares, explained)

    def __call__(self, rows: Tensor, earliness: float) -> Tensor:
        """Return responses (B, N) for rows (B,). `earliness` is the share of the limit of signals that holds now, from
        1 to 0."""
        taken = self.excess[rows].add_(self.early[rows], alpha=earliness)
        return self.targets(rows).addmm(taken, self.weights, alpha=-1)

    @property
    def described(self) -> list[dict[str, float]]:
        """The largest components, as they were: their `share` of the variance, and the part of it that is
        `explained` by tokens."""
        of_each = zip(self.shares.tolist(), self.explained.tolist(), strict=True)
        return [{"share": share, "explained": part} for share, part in of_each if share >= DESCRIBED]


def largest_of_own_noise(n_images: int, n_voxels: int) -> float:
    """Return the largest share of the variance that a component has where every voxel has noise of its own and nothing
    else: the edge of the Marchenko-Pastur law."""
    return float((n_images**-0.5 + n_voxels**-0.5) ** 2)


def limits_components(spec: FitSpec) -> bool:
    """Return whether a fit limits noise or signals that voxels share."""
    return spec.shared_noise == "limited" or spec.shared_signal == "late"
