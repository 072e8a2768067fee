"""Random maps over cortex that are as smooth as a given one: Gaussian processes on the two spheres.

The left sphere is mirrored onto the right one, so that corresponding places of the two hemispheres are at the same
place; how far their maps correlate is estimated too. The covariance of two voxels is a function of their distance, that
of Matérn with a smoothness and a length, plus noise of single voxels. These parameters are not chosen: each of a grid
of them has the weight of its restricted likelihood (Patterson & Thompson, Biometrika 1971; Diggle & Ribeiro,
Model-based Geostatistics 2007), which does not take the mean of the map as known. So the random maps also contain what
a small patch of cortex leaves unknown about long distances.

Shape letters: n voxels, S random maps.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from bddn.cortex.fsaverage import RIGHT_SHIFT_MM

Floats = npt.NDArray[np.float64]

LENGTHS_MM = tuple(float(length) for length in np.geomspace(5, 160, 8))
SMOOTHNESS = (0.5, 1.5, 2.5)
NOISE = (0.003, 0.05, 0.3)
"""Share of the variance that neighbours do not have in common."""
MIRRORED = (0.0, 0.6, 0.99)
"""Correlation of corresponding places of the two hemispheres."""
SYMMETRIC = 0.99
"""That of the maps that are drawn. What has nothing to do with ROIs, as folds or vessels, is alike in both hemispheres;
two hemispheres are not two observations (as mirrored rotations assume; Alexander-Bloch et al., NeuroImage 2018)."""
LEAST_WEIGHT = 1e-4


@dataclass(frozen=True)
class SmoothMaps:
    """A family of random maps of n voxels.

    Attributes
    ----------
    distance : array, (n, n)
        In mm, along straight lines, after mirroring.
    other : array of bool, (n, n)
        Whether two voxels are in different hemispheres.
    """

    distance: Floats
    other: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, coords_mm: npt.NDArray[np.floating]) -> "SmoothMaps":
        """Return the family of voxels at these positions (n, 3), those of `cortex.places.on_spheres`."""
        from scipy.spatial.distance import cdist

        at = mirrored(coords_mm)
        right = coords_mm[:, 0] > RIGHT_SHIFT_MM / 2
        return cls(cdist(at, at), right[:, None] != right)

    def draw(self, like: Floats, n_maps: int, rng: np.random.Generator, at: "SmoothMaps | None" = None) -> Floats:
        """Draw random maps.

        Parameters
        ----------
        like : array, (n,)
            The map whose smoothness they have.
        n_maps : int
            S.
        rng : Generator
        at : SmoothMaps, optional
            Other voxels to draw, of which there may be another number; by default these.

        Returns
        -------
        array, (S, n)
            Their mean and variance have no meaning.
        """
        log = np.array([self._log_likelihood(like, *one) for one in self._settings])
        weights = np.exp(log - log.max())
        weights[weights < LEAST_WEIGHT] = 0
        counts = rng.multinomial(n_maps, weights / weights.sum())
        into, found = at or self, []
        for one, count in zip(self._settings, counts, strict=True):
            if count:
                root = np.linalg.cholesky(into._covariance(*one[:3], SYMMETRIC))
                found.append(rng.normal(size=(count, len(root))) @ root.T)
        return np.concatenate(found)

    @cached_property
    def _settings(self) -> list[tuple[float, float, float, float]]:
        """All lengths, smoothness, noise and correlations between hemispheres."""
        return list(product(LENGTHS_MM, SMOOTHNESS, NOISE, MIRRORED if self.other.any() else MIRRORED[:1]))

    @cached_property
    def _correlations(self) -> dict[tuple[float, float], Floats]:
        """The correlation of voxels without noise, by length and smoothness, as if they were in one hemisphere."""
        return {(a, b): matern(self.distance / a, b) for a, b in product(LENGTHS_MM, SMOOTHNESS)}

    def _covariance(self, length: float, smoothness: float, noise: float, mirrored: float) -> Floats:
        found = (1 - noise) * self._correlations[length, smoothness]
        found[self.other] *= mirrored
        found[np.diag_indices_from(found)] += noise + 1e-6
        return found

    def _log_likelihood(self, values: Floats, *settings: float) -> float:
        """Return the restricted log likelihood, with the best variance."""
        from scipy.linalg import cho_factor, cho_solve

        root = cho_factor(self._covariance(*settings), lower=True, overwrite_a=True, check_finite=False)
        n, ones = len(values), np.ones(len(values))
        whole, unit = cho_solve(root, np.stack([values, ones], axis=1), check_finite=False).T
        information = ones @ unit
        square = values @ whole - (ones @ whole) ** 2 / information
        log_det = 2 * np.log(np.diag(root[0])).sum()
        return float(-0.5 * ((n - 1) * np.log(max(square, 1e-300)) + log_det + np.log(information)))


def matern(distance: Floats, smoothness: float) -> Floats:
    """Return the correlation at distances in units of the length, for a smoothness of 0.5, 1.5 or 2.5."""
    scaled = np.sqrt(2 * smoothness) * distance
    polynomial = {0.5: 1.0, 1.5: 1 + scaled, 2.5: 1 + scaled + scaled**2 / 3}[smoothness]
    return np.asarray(polynomial * np.exp(-scaled))


def mirrored(coords_mm: npt.NDArray[np.floating]) -> Floats:
    """Return positions (n, 3) on one sphere: the left one mirrored onto the right one, in mm."""
    at = np.array(coords_mm, np.float64)
    right = at[:, 0] > RIGHT_SHIFT_MM / 2
    at[:, 0] = np.where(right, at[:, 0] - RIGHT_SHIFT_MM, -at[:, 0])
    return at
