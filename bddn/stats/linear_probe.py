"""Linear probes of features: logistic regression whose penalty is chosen on the training images alone.

Shape letters: n images, C channels, K classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.machine.shared_setting import single_threaded_products

Features = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]

STRENGTHS = tuple(10.0**k for k in range(-4, 3))
"""Inverse penalties C of scikit-learn, from the strongest penalty on."""
N_FOLDS, MAX_STEPS = 5, 1000
LEAST_DEVIATION = 1e-5  # of a channel, relative to its mean; smaller ones hold only rounding errors
SINGLE = 1.0  # inverse penalty where a class has one training image, so that none can be left out


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier of features that are standardized by its training images.

    Attributes
    ----------
    mean, scale : array of float64, (C,)
    model : LogisticRegression
    strength : float
        The chosen inverse penalty.
    """

    mean: Features
    scale: Features
    model: Any
    strength: float

    def correct(self, features: Features, labels: Labels) -> npt.NDArray[np.bool_]:
        """Return for each image whether its class (n,) is predicted, from features (n, C)."""
        return np.asarray(self.model.predict((features - self.mean) / self.scale) == labels)


def fit_probe(features: Features, labels: Labels, seed: int = 0) -> Probe:
    """Fit a probe: multinomial logistic regression with an L2 penalty.

    The penalty has the highest accuracy in a cross-validation over the training images, in 5 folds or as many as the
    smallest class has images; of several, the strongest one.

    Parameters
    ----------
    features : array, (n, C)
    labels : array of int, (n,)
        At least two different ones.
    seed : int
        Of the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale = np.where(deviation > LEAST_DEVIATION * np.abs(mean), deviation, 1.0)
    x, n_folds = (features - mean) / scale, min(N_FOLDS, int(np.unique(labels, return_counts=True)[1].min()))

    def fitted(strength: float, rows: Any) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=MAX_STEPS).fit(x[rows], labels[rows])

    with single_threaded_products():
        strength = SINGLE
        if n_folds > 1:
            folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(x, labels))
            scores = [
                np.mean([fitted(one, train).score(x[left], labels[left]) for train, left in folds]) for one in STRENGTHS
            ]
            strength = STRENGTHS[int(np.argmax(scores))]
        return Probe(mean, scale, fitted(strength, slice(None)), strength)


def wilson(n_correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, JASA 1927); NaN for no images."""
    from scipy.special import ndtri

    if not n:
        return float("nan"), float("nan")
    z, share = float(ndtri(0.975)), n_correct / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return float(middle - reach), float(middle + reach)
