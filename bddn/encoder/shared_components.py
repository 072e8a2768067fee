"""Less of what voxels share in the responses that selectors learn from.

Noise of arousal, breath or motion of the head is one large principal component of the responses. Its part of the
gradient adds up over voxels, where that of other noise averages out, and the selectors and the channel align, which
voxels share, then follow it alone. A signal that all voxels share, as of whether there is anything to see, does the
same: selectors saturate at what reads it best before they have found the rest.

Noise is the share of a component that tokens do not explain; what they explain is signal. Of the noise, as much stays
as a component would have where every voxel has noise of its own. Of a large signal, a part stays until the selectors
have found their places; then it comes back. This is not in the paper.

Shape letters: n images, B images of a batch, N voxels, L layers, C channels of a layer, k components.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.encoder.components import IMAGES, TINY, VOXELS, principal_components
from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.targets import Targets
from bddn.machine.parallel import each_on
from bddn.progress import progress
from bddn.spec import FitSpec
from bddn.stream.features import Features
from bddn.stream.loader import Source, batches
from bddn.stream.order import Rows, epoch_pools

COMPONENTS = 64  # at most
LEAST = 0.005  # share of the variance of a component below which it is left as it is
DESCRIBED = 0.05  # least share of the variance of a component that is described
EXPLAINED = 1500  # images, at most, whose tokens explain the components
EARLY_SIGNAL = 0.1  # share of the variance that the signal of a component has at first, at most
PLACES = 2  # rows and columns of the local tokens that explain, means of a quarter of the image
SHARES = [k / 100 for k in range(100)]  # of signal, that are tried


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
    def of(cls, targets: Targets, model: FactorTopy, source: Source, train: Rows, spec: FitSpec) -> "LimitedComponents":
        """Find the components of standardized responses, and limit what `spec` names.

        Parameters
        ----------
        targets : callable
            Rows (B,) to standardized responses (B, N) float32.
        model : FactorTopy
            With whitening.
        source : Source
        train : array of int, (n,)
            Rows of the training images, in any order.
        spec : FitSpec
            Its seed draws the images that tell noise from signal.
        """
        rows = torch.from_numpy(np.unique(train))  # an image that a bootstrap repeats must not explain itself
        components, shares = principal_components(targets, rows, model.coords_mm, COMPONENTS, spec.seed)
        most = max(LEAST, largest_of_own_noise(len(rows), min(len(model.coords_mm), VOXELS)))
        large = shares > most
        components, shares = components[:, large], shares[large]
        weights = components.new_zeros(components.shape[1], len(model.coords_mm))
        excess, early = (components.new_zeros(len(source.chunk_of), components.shape[1]) for _ in range(2))
        explained = torch.zeros_like(shares)
        if len(shares):
            explained = _explained(components, rows, model, source, spec.seed, global_=spec.fixed != "local")
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


def shared_components_bytes(model: FactorTopy, n_rows: int) -> int:
    """Return the memory that `LimitedComponents.of` needs for tokens, in bytes."""
    return 4 * min(n_rows, EXPLAINED) * (PLACES**2 + 1) * sum(model.widths.values())


def _explained(components: Tensor, rows: Tensor, model: FactorTopy, source: Source, seed: int, global_: bool) -> Tensor:
    """Return the share (k,) of each component (n, k) that tokens explain."""
    pools = epoch_pools(rows.numpy(), source.chunk_of, seed, 0)
    seen = torch.from_numpy(np.concatenate(pools)[:EXPLAINED])
    tokens, start = _Summaries(model, len(seen), global_), 0
    with progress("components", len(seen), "images") as advance:
        for _, features in batches(source, pools, IMAGES):
            some = slice(start, min(start + len(features), len(seen)))
            tokens.put(some, features.at(slice(some.stop - start)))
            advance(some.stop - start)
            start = some.stop
            if start == len(seen):
                break
    return explained_share(tokens.products(), components[torch.searchsorted(rows, seen)])


class _Summaries:
    """Whitened tokens of n images: local ones averaged over quarters of the image, and global ones, unless these are
    left out."""

    def __init__(self, model: FactorTopy, n: int, global_: bool) -> None:
        assert model.whitening is not None
        self._grid = model.grid.grid
        self._whitening = [*model.whitening.local, *(model.whitening.global_ if global_ else [])]
        # at once, because the memory of small parts stays with the process (malloc's heap)
        sizes = [size * width for size in (PLACES**2, 1)[: 1 + global_] for width in model.widths.values()]
        self._tokens = [model.bias.new_empty(n, size) for size in sizes]

    def put(self, images: slice, features: Features) -> None:
        """Set the tokens of some images."""
        kinds = [*features.local, *features.global_]

        def put(which: int) -> None:
            tokens, (mean, root) = kinds[which], self._whitening[which]
            if tokens.ndim == 3:
                on_grid = tokens.transpose(1, 2).unflatten(2, self._grid)
                tokens = F.adaptive_avg_pool2d(on_grid, PLACES).flatten(2).transpose(1, 2)
            self._tokens[which][images] = ((tokens - mean) @ root).flatten(1)

        each_on(features.global_[0].device, put, range(len(self._tokens)))

    def products(self) -> Tensor:
        """Return the products (n, n) of images, in which all layers, and both kinds, weigh the same. The tokens are
        centred and scaled in place."""
        n = len(self._tokens[0])
        for tokens in self._tokens:
            tokens.sub_(tokens.mean(0))
            tokens.mul_((n / max(tokens.square().sum().item(), TINY)) ** 0.5)
        total = self._tokens[0].new_zeros(n, n)

        def add(rows: slice) -> None:
            for tokens in self._tokens:
                total[rows].addmm_(tokens[rows], tokens.T)

        each_on(total.device, add, [slice(start, start + IMAGES) for start in range(0, n, IMAGES)])
        return total


def explained_share(kernel: Tensor, values: Tensor) -> Tensor:
    """Return the share (k,) of the variance of each column that features explain, at least: the lower end of its 68 %
    interval. It is estimated as heritability is, by maximum likelihood: values are normal, with the covariance
    share · kernel + (1 - share) · identity. That holds where features are too many for a prediction to be any good.

    Parameters
    ----------
    kernel : Tensor, (n, n)
        Products of centred features.
    values : Tensor, (n, k)
    """
    variances, vectors = torch.linalg.eigh(kernel.double())
    variances = variances.clamp_min(0) / variances.mean().clamp_min(TINY)
    squares = (vectors.T @ (values - values.mean(0)).double()).square()
    likelihoods = []
    for share in SHARES:
        of_direction = share * variances + 1 - share
        scale = (squares / of_direction[:, None]).mean(0).clamp_min(TINY)
        likelihoods.append(-0.5 * (of_direction.log().sum() + len(kernel) * scale.log()))
    likelihood = torch.stack(likelihoods)
    inside = likelihood >= likelihood.amax(0) - 0.5
    return values.new_tensor(SHARES)[inside.int().argmax(0)]  # the first inside
