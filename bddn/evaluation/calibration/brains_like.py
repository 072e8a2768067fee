"""Brains that are like that of a run but for their depth, which is known: places, scales, sizes, noise and signal are
those of the run.

Shape letters: N voxels, L layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.planted import laws
from bddn.run.folder import Run
from bddn.stats.evidence import evident
from bddn.stats.hierarchy import Line
from bddn.stats.scores import in_roi, robust_mean
from bddn.stats.smooth_maps import mirrored

Floats = npt.NDArray[np.float64]

SLOPES = (-0.2, 1.1)
GOLDEN = 0.618034
"""Its multiples spread the slopes of any number of brains over their range."""
BORDER_MM = 6.0
"""Standard deviation over which ideal depths of neighbouring ROIs blend."""
N_NEAREST = 16
"""Voxels over which R² and ideal depths are averaged."""
LENGTHS_MM = (10.0, 60.0)
"""Of the smooth deviations from the line."""
ROUGHNESS = (0.5, 1.5)
"""Their size, in units of the deviations of the run."""
LEAST_DEVIATION = 0.03
SPREADS = (0.3, 1.2)
"""Standard deviation of the tuning to depth, in layers."""
SIZES = (0.3, 1.5)
"""Standard deviation of receptive fields, in tokens, if the run did not select it."""
BILINEAR = 1 / 6
"""Variance of bilinear sampling, in tokens squared."""
N_CHANNELS = (4, 8, 16)
SHIFT = 0.15
"""Largest distance of the mean depth from that of the run."""
MARGIN = 0.04
LARGEST_SIGNAL = 0.95


@dataclass(frozen=True)
class Brain:
    """One such brain.

    Attributes
    ----------
    number : int
    maps : DataFrame, N rows
        `depth`, `x`, `y`, `scale`, `sigma` and `ceiling`; see `bddn.planted.simulated.simulate`.
    layer_weights : array of float64, (N, L)
    n_channels : int
        Random channels of each layer of which every voxel reads a mixture.
    slope : float
        Hierarchy slope of the true depth, over the voxels that the run's slope is computed of.
    """

    number: int
    maps: pd.DataFrame
    layer_weights: Floats
    n_channels: int
    slope: float


@dataclass(frozen=True)
class BrainsLike:
    """The family of brains that are like that of a run.

    Attributes
    ----------
    run : Run
    line : Line
        The voxels of its hierarchy.
    ideal : mapping of str to float
        Ideal depth of each ROI.
    coords_mm : array of float32, (N, 3)
        Those of `cortex.places.on_spheres`.
    grid : (int, int)
        Of the cache.
    """

    run: Run
    line: Line
    ideal: Mapping[str, float]
    coords_mm: npt.NDArray[np.float32]
    grid: tuple[int, int]

    @property
    def settings(self) -> dict[str, Any]:
        """All constants, for records."""
        return {
            "slopes": SLOPES,
            "border_mm": BORDER_MM,
            "n_nearest": N_NEAREST,
            "lengths_mm": LENGTHS_MM,
            "roughness": ROUGHNESS,
            "spreads_layers": SPREADS,
            "sizes_tokens": SIZES,
            "n_channels": N_CHANNELS,
            "shift": SHIFT,
        }

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest slope that depths from 0 to 1 can have."""
        reach = float(np.maximum(self.line.weight, 0).sum())
        return -reach, reach

    def brain(self, number: int, signal: float) -> Brain:
        """Return a brain.

        Parameters
        ----------
        number : int
            From 0. It decides the slope and all that is random.
        signal : float
            Share of the variance that the tokens explain, in units of the run's R² averaged over neighbours; at most
            the noise ceiling where that is known.
        """
        rng, voxels = np.random.default_rng([number, 10]), self.run.voxels
        low, high = SLOPES
        aimed = low + (high - low) * ((0.5 + number * GOLDEN) % 1)
        depth = self._depth(aimed, rng)
        weights = laws.tuned_to(depth, len(self.run.layers), float(rng.uniform(*SPREADS))).astype(np.float64)
        true = weights @ np.linspace(0, 1, weights.shape[1])
        size = voxels["size"].to_numpy(np.float64) if "size" in voxels else rng.uniform(*SIZES)
        token = 2 / np.sqrt(self.grid[0] * self.grid[1])
        maps = pd.DataFrame(
            {
                "depth": np.clip(true, 0, 1),
                **{name: voxels[name].to_numpy(np.float64) for name in ("x", "y", "scale")},
                "sigma": token * np.sqrt(np.square(size) + BILINEAR) * np.ones(len(voxels)),
                "ceiling": self.signal(signal),
            }
        )
        n_channels = int(rng.choice(N_CHANNELS))
        return Brain(number, maps, weights, n_channels, self.line.fit(true[self.line.row])[0])

    def signal(self, share: float) -> Floats:
        """Return the share (N,) of the variance that the tokens explain; see `brain`."""
        known = self.run.voxels["ceiling"].to_numpy(np.float64) if "ceiling" in self.run.voxels else np.nan
        largest = np.where(np.isfinite(known), known, LARGEST_SIGNAL)
        return np.clip(share * self._score, 0, np.minimum(largest, LARGEST_SIGNAL))

    def mean_score(self, voxels: pd.DataFrame) -> float:
        """Return the mean R² of a run on the voxels that have evidence in this one."""
        return robust_mean(voxels["r2_test"].to_numpy(np.float64)[evident(self.run.voxels)])

    def _depth(self, slope: float, rng: np.random.Generator) -> Floats:
        """Return depths (N,) that follow the ideal ones with a slope, but for smooth deviations."""
        at, line = self._ideal, self.line
        recovered = self.run.voxels["depth"].to_numpy(np.float64)[line.row]
        mean = line.ideal.mean()
        first, last = sorted((slope * (at.min() - mean), slope * (at.max() - mean)))
        lowest, highest = MARGIN - first, 1 - MARGIN - last
        if lowest < highest:
            middle = float(np.clip(recovered.mean() + rng.uniform(-SHIFT, SHIFT), lowest, highest))
        else:
            middle = (lowest + highest) / 2
        found, b0 = line.fit(recovered)
        deviation = max(float((recovered - found * line.ideal - b0).std()), LEAST_DEVIATION) * rng.uniform(*ROUGHNESS)
        places = mirrored(self.coords_mm) if rng.uniform() < 0.5 else self.coords_mm.astype(np.float64)
        length = float(np.exp(rng.uniform(*np.log(LENGTHS_MM))))
        wave = laws.smooth_wave(rng, places, length)
        return np.asarray(np.clip(middle + slope * (at - mean) + deviation * wave, MARGIN, 1 - MARGIN), np.float64)

    @cached_property
    def _ideal(self) -> Floats:
        """Return ideal depths of all voxels, (N,): those of the nearest voxels of the ROIs, blended."""
        from scipy.spatial import KDTree

        masks = np.stack([in_roi(self.run.voxels, roi) for roi in self.ideal])
        inside = np.flatnonzero(masks.any(0))
        ideal = np.array(list(self.ideal.values()), np.float64)[masks[:, inside].argmax(0)]
        distance, near = KDTree(self.coords_mm[inside]).query(self.coords_mm, min(N_NEAREST, len(inside)))
        weights = np.exp(-(np.square(distance) - np.square(distance[:, :1])) / (2 * BORDER_MM**2))
        return np.asarray((weights * ideal[near]).sum(1) / weights.sum(1))

    @cached_property
    def _score(self) -> Floats:
        """Return R² on the test images averaged over neighbours, (N,); negative and unknown ones count as 0."""
        from scipy.spatial import KDTree

        r2 = np.maximum(np.nan_to_num(self.run.voxels["r2_test"].to_numpy(np.float64)), 0)
        k = int(np.clip(len(r2) // 20, 2, N_NEAREST))
        return np.asarray(r2[KDTree(self.coords_mm).query(self.coords_mm, k)[1]].mean(1))
