"""Ridge with validated penalties, and banded ridge: against himalaya called directly, and on planted layers."""

import numpy as np
import pytest
import torch
from himalaya.backend import get_backend, set_backend
from himalaya.ridge import GroupRidgeCV, Ridge, solve_ridge_cv_svd
from torch import Tensor

from bddn.baselines import validated_ridge as module
from bddn.baselines.banded import banded_ridge, candidate_weights, components
from bddn.baselines.validated_ridge import PENALTIES, Parted, validated_ridge

N_TRAIN, N_VAL, N_TEST, V = 90, 40, 30, 12
PARTS = (N_TRAIN, N_VAL, N_TEST)


def _parted(x: Tensor) -> Parted:
    return Parted(*x.split(PARTS))


def _drawn(k: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of very different variances (n, k), and responses (n, V) with more and more noise."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(PARTS), k, generator=g) * torch.logspace(0.5, -1, k) + 2
    y = x @ torch.randn(k, V, generator=g) + torch.randn(sum(PARTS), V, generator=g) * torch.logspace(-1, 1.5, V) + 3
    return x, y


@pytest.mark.parametrize("k", [20, 200], ids=["fewer features than images", "more"])
def test_ridge_is_that_of_himalaya(k: int) -> None:
    x, y = _drawn(k)
    found = validated_ridge(_parted(x), _parted(y))
    train, val, test = (part.double().numpy() for part in _parted(x))
    y_train, y_val = (part.double().numpy() for part in _parted(y)[:2])
    alphas = np.array(PENALTIES) * np.square(train - train.mean(0)).sum() / k
    folds = [(np.arange(N_TRAIN), np.arange(N_TRAIN, N_TRAIN + N_VAL))]
    both = np.concatenate([train, val]), np.concatenate([y_train, y_val])
    best, *_ = solve_ridge_cv_svd(*both, alphas=alphas, fit_intercept=True, cv=folds, warn=False)
    chosen = np.searchsorted(alphas, best * 0.999)
    assert found.penalty.tolist() == pytest.approx([PENALTIES[one] for one in chosen])
    assert len(set(chosen)) > 2
    theirs = Ridge(alpha=best, fit_intercept=True, solver_params={"warn": False}).fit(train, y_train)
    np.testing.assert_allclose(found.predicted, theirs.predict(test), atol=2e-4 * y_train.std())
    np.testing.assert_allclose(found.error, np.square(theirs.predict(val) - y_val).mean(0), rtol=1e-3)


def test_blocks_of_voxels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _drawn(20)
    whole = validated_ridge(_parted(x), _parted(y))
    monkeypatch.setattr(module, "BLOCK_VOXELS", 5)
    parts = validated_ridge(_parted(x), _parted(y))
    torch.testing.assert_close(parts.predicted, whole.predicted)
    assert torch.equal(parts.penalty, whole.penalty)


def test_features_and_responses_that_do_not_vary_are_predicted_by_the_mean() -> None:
    _, y = _drawn(5)
    y[:, 3] = 1.5
    found = validated_ridge(_parted(torch.ones(sum(PARTS), 5)), _parted(y))
    torch.testing.assert_close(found.predicted, y[:N_TRAIN].mean(0).expand(N_TEST, V))
    assert found.error[3] == pytest.approx(0, abs=1e-12)


@pytest.fixture(scope="module")
def layers() -> tuple[list[Parted], Tensor]:
    """Three layers, and voxels that read the first, the last, or both."""
    g = torch.Generator().manual_seed(3)
    raw = [torch.randn(sum(PARTS), 30, generator=g) * scale for scale in (1, 5, 0.2)]
    found = [components(_parted(x), 25) for x in raw]
    first, last = (torch.cat(list(found[k])) @ torch.randn(25, V, generator=g) for k in (0, 2))
    share = torch.tensor([1.0, 0.0, 0.5]).repeat_interleave(V // 3)
    y = share * first + (1 - share) * last + 0.4 * torch.randn(sum(PARTS), V, generator=g)
    return found, y


def test_components_are_those_of_the_training_images(layers: tuple[list[Parted], Tensor]) -> None:
    for x in layers[0]:
        covariance = x.train.T @ x.train / N_TRAIN
        torch.testing.assert_close(covariance, covariance.diagonal().diag(), atol=1e-5, rtol=0)
        assert covariance.trace().item() == pytest.approx(1, rel=1e-4)
        assert (covariance.diagonal().diff() <= 0).all()


def test_bands_find_the_layers_that_voxels_read(layers: tuple[list[Parted], Tensor]) -> None:
    x, y = layers
    found = banded_ridge(x, _parted(y), seed=0)
    third = V // 3
    assert found.weights.sum(1).tolist() == pytest.approx([1.0] * V)
    first, last, both = found.weights.reshape(3, third, 3)
    assert np.median(first[:, 0]) > 0.8
    assert np.median(last[:, 2]) > 0.8
    assert np.median(both[:, [0, 2]].min(1)) > 0.02
    alone = [validated_ridge(one, _parted(y)) for one in x]
    error = (found.predicted - _parted(y).test).square().mean(0)
    best = torch.stack([(one.predicted - _parted(y).test).square().mean(0) for one in alone]).min(0).values
    assert error[2 * third :].mean() < 0.9 * best[2 * third :].mean()  # what one layer cannot say
    assert error[: 2 * third].mean() < 1.05 * best[: 2 * third].mean()


def test_bands_are_those_of_himalaya_called_directly(layers: tuple[list[Parted], Tensor]) -> None:
    """The same candidates in its estimator: the same choice; the same weights on the training images."""
    x, y = layers
    found = banded_ridge(x, _parted(y), seed=0)
    candidates = candidate_weights(3, 20, 0)
    both = [np.concatenate([one.train, one.val]).astype(np.float64) for one in x]
    y_train, y_val = (part.double().numpy() for part in _parted(y)[:2])
    mean, unit = y_train.mean(0), np.square(np.concatenate([one.train for one in x], 1)).sum() / 75 / 3
    params = {"n_iter": candidates, "alphas": unit * np.array(PENALTIES), "progress_bar": False}
    folds = [(np.arange(N_TRAIN), np.arange(N_TRAIN, N_TRAIN + N_VAL))]
    theirs = GroupRidgeCV(groups="input", solver_params=params, cv=folds, fit_intercept=False)
    theirs.fit(both, np.concatenate([y_train, y_val]) - mean)
    precision = np.exp(theirs.deltas_)
    np.testing.assert_allclose(found.weights, (precision / precision.sum(0)).T, atol=1e-6)
    np.testing.assert_allclose(found.penalty * unit, 1 / precision.sum(0), rtol=1e-4)
    for voxel in range(V):
        scale = np.exp(theirs.deltas_[:, voxel] / 2)
        train, test = (np.concatenate([s * part for s, part in zip(scale, parts, strict=True)], 1)
                       for parts in ([one.train for one in x], [one.test for one in x]))  # fmt: skip
        direct = Ridge(alpha=1.0).fit(train.astype(np.float64), y_train[:, [voxel]] - mean[voxel])
        expected = direct.predict(test.astype(np.float64))[:, 0] + mean[voxel]
        np.testing.assert_allclose(found.predicted[:, voxel], expected, atol=1e-3)


def test_the_backend_of_the_user_is_left_as_it_was(layers: tuple[list[Parted], Tensor]) -> None:
    set_backend("numpy")
    first = banded_ridge(layers[0], _parted(layers[1]), seed=0, n_drawn=2)
    assert get_backend().name == "numpy"
    assert torch.equal(banded_ridge(layers[0], _parted(layers[1]), seed=0, n_drawn=2).predicted, first.predicted)
