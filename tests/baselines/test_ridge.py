"""Ridge in closed form against a plain loop over voxels, sets, folds and penalties."""

import numpy as np
import torch

from bddn.baselines.ridge import PENALTIES, ridge_scores


def _drawn(n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x = rng.normal(size=(n, 3, 5)) * [0.1, 1, 3, 1, 0.5] + 0.3
    y = x[:, 0] @ np.linspace(-1, 1, 20).reshape(5, 4) + x[:, 1, :1] + rng.normal(size=(n, 4)) + 0.2
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


def _naive_errors(train: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], penalty: float) -> float:
    (x, y), (x_other, y_other) = train, other
    mean = x.mean(0)
    gram = (x - mean).T @ (x - mean)
    ridge = gram + penalty * np.trace(gram) / len(gram) * np.eye(len(gram))
    weights = np.linalg.solve(ridge, (x - mean).T @ (y - y.mean()))
    return float(np.square(y_other - y.mean() - (x_other - mean) @ weights).sum())


def test_it_is_the_plain_loop() -> None:
    rng = np.random.default_rng(0)
    folds, test = [_drawn(n, rng) for n in (14, 15, 16)], _drawn(12, rng)
    found = ridge_scores(folds, test)
    arrays = [(x.double().numpy(), y.double().numpy()) for x, y in (*folds, test)]
    for s in range(3):
        for v in range(4):
            parts = [(x[:, s], y[:, v]) for x, y in arrays]

            def together(
                left: list[int], parts: list[tuple[np.ndarray, np.ndarray]] = parts
            ) -> tuple[np.ndarray, np.ndarray]:
                return np.concatenate([parts[f][0] for f in left]), np.concatenate([parts[f][1] for f in left])

            errors = np.array(
                [
                    [_naive_errors(together([g for g in range(3) if g != f]), parts[f], p) for f in range(3)]
                    for p in PENALTIES
                ]
            )
            best = errors.sum(1).argmin()
            last = _naive_errors(together([0, 1, 2]), parts[3], PENALTIES[best])
            for got, error, (_, y) in zip(
                (*found.folds[:, s, v], found.test[s, v]), (*errors[best], last), parts, strict=True
            ):
                np.testing.assert_allclose(float(got), 1 - error / np.square(y - y.mean()).sum(), rtol=1e-4, atol=1e-5)


def test_constant_features_and_responses_give_finite_scores() -> None:
    rng = np.random.default_rng(1)
    folds, test = [_drawn(10, rng) for _ in range(2)], _drawn(10, rng)
    for x, y in (*folds, test):
        x[:, 1], y[:, 2] = 0, 0
    found = ridge_scores(folds, test)
    assert found.folds.isfinite().all()
    assert found.test[:, 2].eq(0).all()
    assert (found.test[1].abs() < 1).all()
