"""Banded ridge regression over layers: a penalty of its own for every layer and voxel, found by himalaya.

Himalaya (Dupré la Tour, Eickenberg, Nunez-Elizalde & Gallant, NeuroImage 2022) draws weights of the layers at random
and keeps the best ones of each voxel on the validation images; equal weights and each layer alone are tried too. The
regression itself is solved again on the training images only, as in the other controls.

Shape letters: n images, L layers, K components of a layer, V voxels, G candidates.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bddn.baselines.validated_ridge import PENALTIES, Parted, Ridge

N_COMPONENTS = 2048
"""Principal components of all layers together."""
N_DRAWN = 20
"""Weights of the layers that are drawn at random."""
LEAST_WEIGHT = 1e-4  # himalaya divides by it
BLOCK_VOXELS = 2048


@dataclass(frozen=True)
class Banded:
    """What banded ridge regression predicts.

    Attributes
    ----------
    predicted : Tensor, (n_test, V)
    weights : array of float64, (V, L)
        Weights of the layers in the kernel of each voxel; rows sum to 1.
    penalty : array of float64, (V,)
        As a fraction of the mean over components of their sum of squares.
    """

    predicted: Tensor
    weights: npt.NDArray[np.float64]
    penalty: npt.NDArray[np.float64]


def components(x: Parted, n: int) -> Parted:
    """Return the first `n` principal components of the training images (n, K), all in units in which the sum of their
    variances is 1."""
    mean = x.train.mean(0)
    centred = x.train - mean
    vectors = torch.linalg.eigh((centred.T @ centred).double())[1][:, -n:].flip(1).float()
    unit = (centred @ vectors).square().sum(1).mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    return Parted(*((part - mean) @ vectors / unit for part in x))


def banded_ridge(layers: Sequence[Parted], y: Parted, seed: int, n_drawn: int = N_DRAWN) -> Banded:
    """Predict the responses to the test images.

    Parameters
    ----------
    layers : L Parted
        Features (n, K) of each layer, with mean 0 over the training images and comparable variances.
    y : Parted
        Responses (n, V).
    seed : int
    n_drawn : int
    """
    from himalaya.ridge import solve_group_ridge_random_search

    n_train, n_val = len(y.train), len(y.val)
    folds = [(np.arange(n_train), np.arange(n_train, n_train + n_val))]
    candidates = candidate_weights(len(layers), n_drawn, seed)
    stacked = torch.cat([layer.train for layer in layers], dim=1)
    unit = stacked.square().sum().item() / stacked.shape[1] / len(layers)
    alphas = unit * torch.tensor(PENALTIES)
    mean = y.train.mean(0)
    with _torch_backend():
        deltas, _, _ = solve_group_ridge_random_search(
            [torch.cat([layer.train, layer.val]) for layer in layers],
            torch.cat([y.train, y.val]) - mean,
            n_iter=torch.from_numpy(candidates).float(),
            alphas=alphas,
            cv=folds,
            n_targets_batch=BLOCK_VOXELS,
            n_alphas_batch=1,
            progress_bar=False,
            warn=False,
        )
    precision = deltas.double().exp()  # weights over penalty
    alpha = 1 / precision.sum(0)
    weights = (precision * alpha).T.numpy()
    chosen = np.abs(weights[:, None] - candidates).sum(2).argmin(1)
    predicted, parts = torch.empty(len(y.test), y.test.shape[1]), list(zip(*layers, strict=True))
    for candidate in np.unique(chosen):
        voxels = torch.from_numpy(np.flatnonzero(chosen == candidate))
        roots = torch.from_numpy(np.sqrt(candidates[candidate])).float()
        scaled = Parted(*(torch.cat([root * x for root, x in zip(roots, part, strict=True)], 1) for part in parts))
        ridge = Ridge(scaled.train)
        products, level = ridge.solve(y.train[:, voxels])
        predicted[:, voxels] = ridge.project(scaled.test) @ ridge.weights(products, alpha[voxels].float()) + level
    return Banded(predicted, candidates[chosen], (alpha / unit).numpy())


def candidate_weights(n_layers: int, n_drawn: int, seed: int) -> npt.NDArray[np.float64]:
    """Return the weights of the layers to try, (G, L): equal ones, (almost) each layer alone, and drawn ones."""
    rng = np.random.default_rng([seed, 8])
    drawn = [rng.dirichlet(np.full(n_layers, (0.1, 1.0)[k % 2])) for k in range(n_drawn)]
    every = np.stack([np.full(n_layers, 1 / n_layers), *np.eye(n_layers), *drawn])
    every = np.maximum(every, LEAST_WEIGHT)
    return np.asarray(every / every.sum(1, keepdims=True))


@contextmanager
def _torch_backend() -> Iterator[None]:
    """Let himalaya use torch, whose number of threads is set; its own setting is global and restored afterwards."""
    from himalaya.backend import get_backend, set_backend

    before = get_backend()
    set_backend("torch")
    try:
        yield
    finally:
        set_backend(before)
