"""Simulated brains with a fixed encoder each, whose R² on very many images is known exactly.

Voxels lie on a line of cortex. Signals, errors of the encoder and noise are smooth along it, so voxels are correlated.

Shape letters: M images, N voxels, F features.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
N_FEATURES = 15
N_ROI = 10  # voxels of an ROI


@dataclass(frozen=True)
class Kind:
    """What differs between brains: the range of their noise ceilings, and whether images and noise have outliers."""

    ceiling: tuple[float, float]
    outliers: bool = False


KINDS = {
    "ceilings 0 to 0.6": Kind((0.0, 0.6)),
    "ceilings 0 to 0.6, outliers": Kind((0.0, 0.6), outliers=True),
    "ceilings 0 to 0.15": Kind((0.0, 0.15)),
    "ceilings 0.5 to 0.9, outliers": Kind((0.5, 0.9), outliers=True),
}


class SimulatedEncoder:
    """A brain y = √c s + √(1 - c) n of unit variance, and an encoder p = g √c s' + d, with s' like s.

    Attributes
    ----------
    ceiling : array, (N,)
        c, which varies along cortex.
    r2 : array, (N,)
        True R² on very many images: 2 g c cor(s, s') - g² c - d².
    """

    def __init__(self, kind: Kind, seed: int, n_voxels: int = 200) -> None:
        self._kind, self._rng = kind, np.random.default_rng([seed, 11])
        at = np.linspace(0, 1, n_voxels)
        self._signal, other, self._noise = (_unit(self._smooth(at, N_FEATURES, 0.15)) for _ in range(3))
        low, high = kind.ceiling
        self.ceiling = low + (high - low) * (0.5 + 0.5 * np.sin(2 * np.pi * (3 * at + self._rng.uniform())))
        likeness = np.clip(0.75 + 0.25 * self._smooth(at, 1, 0.2)[0], 0, 1)
        self._predicted = _unit(likeness * self._signal + np.sqrt(1 - likeness**2) * other)
        self._gain = np.clip(1 + 0.2 * self._smooth(at, 1, 0.2)[0], 0.3, 1.5) * likeness
        self._offset = 0.05 * self._smooth(at, 1, 0.3)[0]
        similar = (self._signal * self._predicted).sum(0)
        self.r2 = (2 * self._gain * similar - self._gain**2) * self.ceiling - self._offset**2

    def images(self, n_images: int) -> tuple[Floats, Floats]:
        """Return the responses to new images, and their predictions, (M, N) each."""
        shared = self._drawn(n_images, N_FEATURES) @ self._noise
        noise = np.sqrt(0.5) * (shared + self._drawn(n_images, len(self.r2)))
        seen, root = self._drawn(n_images, N_FEATURES), np.sqrt(self.ceiling)
        y = root * (seen @ self._signal) + np.sqrt(1 - self.ceiling) * noise
        return y + 3, self._gain * root * (seen @ self._predicted) + self._offset + 3

    def _drawn(self, *shape: int) -> Floats:
        """Return numbers with mean 0 and variance 1."""
        if self._kind.outliers:
            return np.asarray(self._rng.standard_t(5, shape) / np.sqrt(5 / 3))
        return self._rng.normal(size=shape)

    def _smooth(self, at: Floats, n: int, width: float) -> Floats:
        """Return random functions (n, N) of the position, with a standard deviation of about 1."""
        centres = np.arange(-2 * width, 1 + 2 * width, width / 2)
        bumps = np.exp(-np.square((at - centres[:, None]) / width))
        return np.asarray(self._rng.normal(size=(n, len(centres))) @ bumps / np.sqrt(np.square(bumps).sum(0)))


def _unit(columns: Floats) -> Floats:
    return np.asarray(columns / np.linalg.norm(columns, axis=0))
