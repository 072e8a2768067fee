"""Simulated test responses and predictions of several models, whose true R² is known.

Responses are linear in 24 white features of the images, plus noise. Weights are smooth over voxels, which lie on a
line. A model predicts with weights that differ from the true ones by a vector of random direction. Its length is the
same for all models, so that all are equally good. In some voxels, a model may lack a feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bddn.evaluation.kept_responses import HeldOut

Floats = npt.NDArray[np.float64]

N_FEATURES = 24
SMOOTH = 6.0  # voxels
PATCH = 10  # neighbouring voxels that share noise


@dataclass(frozen=True)
class Kind:
    """A kind of data: images, voxels, noise, and how wrong the models are.

    Attributes
    ----------
    noise : {'normal', 'heavy', 'skewed'}
        Student's t with 3 degrees of freedom, or exponential.
    shared : float
        Share of the noise variance that neighbouring voxels share.
    wrong : float
        Variance of the predictions' error, as a share of that of the signal.
    lost : float
        Share of the signal's variance that a model lacks in a part of the voxels, if one lacks any.
    fits : int
        Number of fits of each model; each adds an error of its own, of half the variance `wrong`.
    """

    n_images: int = 160
    n_voxels: int = 150
    noise: str = "normal"
    shared: float = 0.5
    ceiling: float = 0.4
    wrong: float = 0.1
    lost: float = 0.4
    fits: int = 1


@dataclass(frozen=True)
class Simulated:
    """Models with their fits, as `bddn.evaluation.contrast.contrast` takes them.

    `r2` (K, N) is the true score of each model."""

    models: dict[str, list[HeldOut]]
    r2: Floats
    lacking: npt.NDArray[np.bool_] = field(repr=False)


def simulate(kind: Kind, n_models: int, seed: int, lacking: Sequence[int] = ()) -> Simulated:
    """Simulate a subject; the models `lacking` lack a feature in the middle third of the voxels."""
    rng = np.random.default_rng([seed, 11])
    n, v = kind.n_images, kind.n_voxels
    where = (np.arange(v) >= v // 3) & (np.arange(v) < 2 * v // 3)
    features = rng.normal(size=(n, N_FEATURES))
    weights = _unit(_smooth(rng.normal(size=(N_FEATURES, v))))
    weights[0, where] = 0
    weights = _unit(weights)
    weights[:, where] *= np.sqrt(1 - kind.lost)
    weights[0, where] = np.sqrt(kind.lost)  # the signal has variance 1
    noise_variance = (1 - kind.ceiling) / kind.ceiling
    measured = features @ weights + np.sqrt(noise_variance) * _noise(kind, rng)
    ids, models, scores = tuple(f"{i:04d}" for i in range(n)), dict[str, list[HeldOut]](), []
    for k in range(n_models):
        known = weights.copy()
        if k in lacking:
            known[0, where] = 0
        own = _apart(rng, v, kind.wrong)
        fits, lost = [], np.square(weights - known).sum(axis=0)
        for _ in range(kind.fits):
            more = 0.0 if kind.fits == 1 else _apart(rng, v, kind.wrong / 2)
            predicted = features @ (known + own + more)
            fits.append(HeldOut(ids, measured.astype(np.float32), predicted.astype(np.float32)))
        models[f"model {k}"] = fits
        error = kind.wrong * (1 if kind.fits == 1 else 1.5) + lost
        scores.append(1 - (error + noise_variance) / (1 + noise_variance))
    return Simulated(models, np.stack(scores), where)


def _apart(rng: np.random.Generator, n_voxels: int, variance: float) -> Floats:
    """Return errors of weights of one length in random directions, without the feature that some models lack."""
    found = _smooth(rng.normal(size=(N_FEATURES, n_voxels)))
    found[0] = 0
    return np.asarray(np.sqrt(variance) * _unit(found))


def _noise(kind: Kind, rng: np.random.Generator) -> Floats:
    """Return noise (M, N) of variance 1."""
    size = (kind.n_images, kind.n_voxels)

    def drawn() -> Floats:
        if kind.noise == "heavy":
            return np.asarray(rng.standard_t(3, size) / np.sqrt(3))
        return rng.exponential(size=size) - 1 if kind.noise == "skewed" else rng.normal(size=size)

    common = drawn()[:, np.arange(kind.n_voxels) // PATCH]
    return np.asarray(np.sqrt(kind.shared) * common + np.sqrt(1 - kind.shared) * drawn())


def _smooth(values: Floats) -> Floats:
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(values, SMOOTH, axis=1, mode="wrap"), dtype=np.float64)


def _unit(weights: Floats) -> Floats:
    return np.asarray(weights / np.linalg.norm(weights, axis=0), dtype=np.float64)
