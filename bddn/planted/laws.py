"""The laws of a planted brain: how depth, place, scale and field size run over a patch of cortex, and what noise is.

Every law is smooth but `borders`. Positions on the patch are `forward` (p) and `upward` (q), in rad, and `reach`, 0 at
the calcarine sulcus and 1 at the end of the patch.

Shape letters: N voxels, L layers.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

N_STEPS = 4
"""Areas of the law `borders`."""
APART = 0.3
"""Distance in depth of the two layers that a voxel of the law `mixture` reads."""
N_SHARED = 12
"""Sources of the noise that voxels share."""
SHARED_NOISE = 0.5
"""Share of the variance of correlated noise that comes from these sources."""
COMMON_NOISE = 0.6, 0.95
"""Range over voxels of the share of shared noise that is one value for the whole cortex."""
N_WAVES = 100
"""Waves of a smooth random map."""
HEAVY_DOF = 3
"""Degrees of freedom of Student's t, of heavy-tailed noise."""

DEPTH: dict[str, Callable[[Floats], Floats]] = {
    "linear": lambda reach: reach,
    "quadratic": np.square,
    "sigmoid": lambda reach: 1 / (1 + np.exp(-10 * (reach - 0.5))),
    "peaked": lambda reach: np.sin(np.pi * reach),
    "borders": lambda reach: np.minimum(np.floor(reach * N_STEPS), N_STEPS - 1) / (N_STEPS - 1),
    "mixture": lambda reach: reach,
}
"""Nominal depth (0 first layer, 1 last) by `reach`."""


def tuning(nominal: Floats, law: str, n_layers: int, spread: float, q: Floats) -> Floats:
    """Return the layer weights of every voxel, (N, L); rows sum to 1.

    Parameters
    ----------
    nominal : array, (N,)
        Of `DEPTH`.
    law : str
    n_layers : int
    spread : float
        Standard deviation in layers.
    q : array, (N,)
        Position on the patch; for a mixture it decides the weight of the deeper layer.
    """

    def around(depth: Floats) -> Floats:
        found = np.exp(-np.square(np.arange(n_layers) - depth[:, None] * (n_layers - 1)) / (2 * spread**2))
        return np.asarray(found / found.sum(1, keepdims=True))

    if law != "mixture":
        return around(nominal)
    share = (0.5 + 0.4 * np.sin(4 * q))[:, None]
    return (1 - share) * around((1 - APART) * nominal) + share * around((1 - APART) * nominal + APART)


def tuned_to(depth: Floats, n_layers: int, spread: float) -> Floats:
    """Return layer weights (N, L), Gaussian over layers, whose mean relative depth is `depth` (N,), from 0 to 1.

    Next to the first and the last layer the centre of a Gaussian lies outside, because its mean would else be further
    inside.

    Parameters
    ----------
    depth : array, (N,)
        Values below 0.01 and above 0.99 count as these.
    n_layers : int
    spread : float
        Standard deviation in layers.
    """
    last = n_layers - 1
    reach = 1 + 5 * spread**2
    centres = np.linspace(-reach, last + reach, 4001)
    log = -np.square(np.arange(n_layers) - centres[:, None]) / (2 * spread**2)
    weights = np.exp(log - log.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    means = weights @ np.linspace(0, 1, n_layers)
    at = np.interp(np.clip(depth, 0.01, 0.99), means, np.arange(len(centres)))
    below = np.minimum(at.astype(np.intp), len(centres) - 2)
    share = (at - below)[:, None]
    return np.asarray((1 - share) * weights[below] + share * weights[below + 1])


def smooth_wave(rng: np.random.Generator, at: Floats, length: float) -> Floats:
    """Return a smooth random map (N,) of mean 0 and variance 1 over all maps: a sum of waves in all directions, whose
    correlation falls as a Gaussian of standard deviation `length`.

    Parameters
    ----------
    rng : Generator
    at : array, (N, 3)
        Positions, in the unit of `length`.
    length : float
    """
    directions = rng.normal(size=(3, N_WAVES)) / length
    phases = rng.uniform(0, 2 * np.pi, N_WAVES)
    sizes = rng.normal(size=N_WAVES)
    return np.asarray(np.cos(at @ directions + phases) @ sizes * np.sqrt(2 / N_WAVES))


def places(law: str, hemi: str, p: Floats, q: Floats) -> tuple[Floats, Floats]:
    """Return places x, y (-1 to 1) of the fields of one hemisphere: in the opposite half of the image, or anywhere."""
    side = 1 if hemi == "lh" else -1
    if law == "contralateral":
        return side * (0.45 + 0.38 * np.sin(4 * p + 1) * np.cos(3 * q)), 0.8 * np.sin(3.2 * q + 0.6 * p)
    return side * 0.8 * np.sin(4.5 * p - 1) * np.cos(2 * q), 0.8 * np.sin(3.2 * q + 0.6 * p)


def scales(law: str, depth: Floats, p: Floats, q: Floats) -> Floats:
    """Return the scales: growing with depth, or high and low anywhere."""
    if law == "depth":
        return np.asarray(1 / (1 + np.exp(-(4 * (depth - 0.6) + 1.2 * np.sin(4 * q)))))
    return np.asarray(0.5 + 0.42 * np.sin(5 * p + 0.5) * np.cos(4 * q - 0.4))


def mixtures(rng: np.random.Generator, n_voxels: int, n_features: int, shared: float) -> Floats:
    """Return what every voxel reads of the features, (N, n_features). A share of its variance is that of a mixture that
    all voxels read."""
    own = rng.normal(size=(n_voxels, n_features))
    if not shared:
        return own  # nothing more is drawn: noise depends on what has been
    return np.asarray(np.sqrt(1 - shared) * own + np.sqrt(shared) * rng.normal(size=n_features))


def unit_noise(kind: str, rng: np.random.Generator, n_images: int, n_voxels: int, p: Floats, q: Floats) -> Floats:
    """Noise (n_images, N) of mean 0 and variance 1: Gaussian, heavy-tailed, or shared by neighbours or by all."""
    if kind == "heavy":
        return np.asarray(rng.standard_t(HEAVY_DOF, (n_images, n_voxels)) / np.sqrt(HEAVY_DOF / (HEAVY_DOF - 2)))
    own = rng.normal(size=(n_images, n_voxels))
    if kind == "gaussian":
        return own
    if kind == "shared":
        common = rng.uniform(*COMMON_NOISE, n_voxels)
        return np.asarray(np.sqrt(common) * rng.normal(size=(n_images, 1)) + np.sqrt(1 - common) * own)
    waves = rng.normal(size=(2, N_SHARED)) * 6
    shape = np.cos(p[:, None] * waves[0] + q[:, None] * waves[1] + rng.uniform(0, 2 * np.pi, N_SHARED))
    shape /= np.linalg.norm(shape, axis=1, keepdims=True)
    shared = rng.normal(size=(n_images, N_SHARED)) @ shape.T
    return np.asarray(np.sqrt(SHARED_NOISE) * shared + np.sqrt(1 - SHARED_NOISE) * own)
