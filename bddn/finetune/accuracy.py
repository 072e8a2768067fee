"""The accuracy of a head on images that were not trained on."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.finetune.image_batches import Rows

INTERVAL = 0.95


def accuracy_of(predicted: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return `accuracy` with its 95 % interval (Wilson), the mean accuracy over classes, and the number of images.

    Parameters
    ----------
    predicted, labels : array of int64, (n,)
    """
    from scipy.stats import binomtest

    right = predicted == labels
    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(INTERVAL, method="wilson")
    by_class = [float(right[labels == k].mean()) for k in np.unique(labels)]
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": float(low),
        "accuracy_high": float(high),
        "balanced_accuracy": float(np.mean(by_class)),
        "n_images": len(right),
    }


def sample(rows: Rows, labels: npt.NDArray[np.int64], per_class: int, seed: int) -> Rows:
    """Return at most `per_class` rows of each class, drawn at random, in the order of `rows`."""
    shuffled = rows[np.random.default_rng([seed, 13]).permutation(len(rows))]
    chosen = {int(row) for k in np.unique(labels[rows]) for row in shuffled[labels[shuffled] == k][:per_class]}
    return rows[[int(row) in chosen for row in rows]]
