"""Ridge regression of all voxels on many sets of features, cross-validated, in closed form.

A fold enters only by its sums of products, so the training images of all folds are the difference of two sums. All
voxels and penalties of a set share one eigendecomposition per fold.

Shape letters: n images, S sets of features, K features of a set, V voxels, F folds, P penalties.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = (0.03, 0.3, 3.0)
"""As fractions of the mean variance of the features of a set."""
LEAST = 1e-12  # a spread that is not zero


@dataclass(frozen=True)
class RidgeScores:
    """R² of every set and voxel, with the penalty that cross-validation prefers for them.

    Attributes
    ----------
    folds : Tensor, (F, S, V)
        On the images of each fold, predicted from the other folds.
    test : Tensor, (S, V)
        On the test images, predicted from all folds.
    """

    folds: Tensor
    test: Tensor


def ridge_scores(folds: Sequence[tuple[Tensor, Tensor]], test: tuple[Tensor, Tensor]) -> RidgeScores:
    """Predict every voxel from every set of features alone.

    Parameters
    ----------
    folds : sequence of (Tensor, Tensor)
        Features (n, S, K) and responses (n, V) of each fold, float32, roughly centred; at least two folds.
    test : (Tensor, Tensor)
        Those of the test images.

    Returns
    -------
    RidgeScores
        0 for voxels with constant responses.
    """
    parts = (*folds, test)
    n_sets, n_voxels = test[0].shape[1], test[1].shape[1]
    products = [(x.flatten(1).T @ y).view(n_sets, -1, n_voxels) for x, y in parts]
    sums = [y.sum(0) for _, y in parts]
    squares = [y.square().sum(0) for _, y in parts]
    scores = torch.empty(len(parts), n_sets, n_voxels)
    for s in range(n_sets):
        moments = [
            Moments(len(x), x[:, s].sum(0), y, x[:, s].T @ x[:, s], xy[s], yy)
            for (x, _), xy, y, yy in zip(parts, products, sums, squares, strict=True)
        ]
        whole = sum(moments[1:-1], moments[0])
        errors = torch.stack([_errors(whole - fold, fold) for fold in moments[:-1]])
        best = errors.sum(0).argmin(0, keepdim=True)
        of_test = _errors(whole, moments[-1])
        for part, error, own in zip(moments, (*errors, of_test), scores[:, s], strict=True):
            spread = part.spread(part.y / part.n)
            own.copy_(torch.where(spread > LEAST, 1 - error.gather(0, best)[0] / spread.clamp_min(LEAST), 0))
    return RidgeScores(scores[:-1], scores[-1])


@dataclass(frozen=True)
class Moments:
    """Sums over n images of features x (K,), responses y (V,), and products xx (K, K), xy (K, V) and yy (V,)."""

    n: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(*(a - b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def about(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of products (K, K) and (K, V) of the differences from x (K,) and y (V,)."""
        rest = self.x - self.n * x
        return (
            self.xx - torch.outer(self.x, x) - torch.outer(x, rest),
            self.xy - torch.outer(x, self.y) - torch.outer(rest, y),
        )

    def spread(self, y: Tensor) -> Tensor:
        """Return the sum of squares (V,) of the differences of the responses from y (V,)."""
        return self.yy - 2 * y * self.y + self.n * y.square()


def _errors(train: Moments, other: Moments) -> Tensor:
    """Return the sums of squared errors (P, V) on some images of the fits to others."""
    x, y = train.x / train.n, train.y / train.n
    xx, xy = train.about(x, y)
    values, vectors = torch.linalg.eigh(xx.double())
    values, vectors = values.clamp_min(0).float(), vectors.float()
    goal, size = vectors.T @ xy, values.mean().clamp_min(LEAST)
    there_xx, there_xy = other.about(x, y)
    gram, product = vectors.T @ there_xx @ vectors, 2 * (vectors.T @ there_xy)
    total = other.spread(y)
    weights = (goal / (values + penalty * size)[:, None] for penalty in PENALTIES)
    return torch.stack([total + (w * (gram @ w - product)).sum(0) for w in weights])
