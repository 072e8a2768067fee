"""Ridge regression of all voxels on one set of features, with a penalty per voxel that the validation images choose.

Training images give the weights, validation images choose among penalties, and test images are only predicted: what
each part of a split does for an encoder, too.

Shape letters: n images, K features, V voxels, P penalties.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bddn.machine.parallel import each

PENALTIES = tuple(10.0**k for k in range(-3, 4))
"""As fractions of the mean over features of their sum of squares."""
BLOCK_VOXELS = 2048
LEAST = 1e-12  # a penalty of features that do not vary


class Parted(NamedTuple):
    """Features (n, K) or responses (n, V) of the images of each part, float32."""

    train: Tensor
    val: Tensor
    test: Tensor


@dataclass(frozen=True)
class RidgeFit:
    """What ridge regression predicts.

    Attributes
    ----------
    predicted : Tensor, (n_test, V)
    error : Tensor, (V,)
        Mean squared error on the validation images.
    penalty : Tensor, (V,)
        The chosen one of the penalties.
    """

    predicted: Tensor
    error: Tensor
    penalty: Tensor


class Ridge:
    """The minimum of |y - x w - b|² + α |w|² over training images, for any responses y and penalties α.

    Parameters
    ----------
    x : Tensor, (n, K)
        Features of the training images.

    Attributes
    ----------
    unit : float
        Mean over features of their sum of squares, about their means.
    """

    def __init__(self, x: Tensor) -> None:
        self._mean = x.mean(0)
        self._left, self._size, self._right = torch.linalg.svd(x - self._mean, full_matrices=False)
        self.unit = max(self._size.square().sum().item() / x.shape[1], LEAST)

    def project(self, x: Tensor) -> Tensor:
        """Return features (n, K) in the basis (n, R) in which the regression is solved."""
        projected: Tensor = (x - self._mean) @ self._right.T
        return projected

    def solve(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for responses (n, V), what all penalties share: products (R, V), and means (V,)."""
        mean = y.mean(0)
        return self._left.T @ (y - mean), mean

    def weights(self, products: Tensor, alpha: Tensor) -> Tensor:
        """Return the weights (R, V) of the basis of `project`, for penalties (V,) or (1,)."""
        size = self._size[:, None]
        shrunk: Tensor = products * (size / (size.square() + alpha))
        return shrunk


def validated_ridge(x: Parted, y: Parted) -> RidgeFit:
    """Predict the responses `y` to the test images by the features `x`. Of several penalties with the same error, the
    first is chosen."""
    ridge = Ridge(x.train)
    val, test, alphas = ridge.project(x.val), ridge.project(x.test), ridge.unit * torch.tensor(PENALTIES)

    def of_block(voxels: slice) -> tuple[Tensor, Tensor, Tensor]:
        products, mean = ridge.solve(y.train[:, voxels])
        goal = y.val[:, voxels] - mean
        errors = [(val @ ridge.weights(products, alpha[None]) - goal).square().mean(0) for alpha in alphas]
        error, best = torch.stack(errors).min(0)
        return test @ ridge.weights(products, alphas[best]) + mean, error, best

    starts = range(0, y.train.shape[1], BLOCK_VOXELS)
    found = each(of_block, [slice(start, start + BLOCK_VOXELS) for start in starts])
    predicted, error, best = (torch.cat(part, dim=-1) for part in zip(*found, strict=True))
    return RidgeFit(predicted, error, torch.tensor(PENALTIES)[best])
