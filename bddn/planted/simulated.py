"""Responses of voxels with known maps, simulated on the tokens of a cache: a real subject with a planted answer.

Stimuli, voxels and positions are those of a dataset; its responses are replaced. The formula is that of
`bddn.planted.brain.true_responses`: Gaussian receptive fields over standardized tokens, a mixture of random channels
for each voxel, weights over layers. Tokens are read twice and never kept. What is kept are the random channels of all
images, n × L × (P + 1) × F numbers: 0.2 GiB for 9,841 images, 12 layers and an 8 × 8 grid.

Shape letters: n images, or responses if images have several, B of a batch, N voxels, V voxels of a block, L layers,
P places of the grid, C channels of a layer, F random channels.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from bddn.data.covariates import covariate_table
from bddn.data.dataset import About, Dataset, Stimuli
from bddn.data.trials import response_ids
from bddn.files.mapped import new_array
from bddn.machine.parallel import each, single_threaded_kernels
from bddn.planted.brain import RESPONSE_STD, receptive_fields

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.intp]
Batch = tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]
Tokens = Callable[[], Iterable[Batch]]
"""Yields rows (B,) of the dataset with their tokens, early to late: L × (B, P, C) local and L × (B, C) global, float32.
Every row comes once; it is called twice."""
Noise = Callable[[Rows], Floats]
"""Takes rows (B,); returns noise (B, N) of mean 0 and variance 1 over all rows."""

FEATURES = 8
BLOCK_BYTES = 64 << 20  # of the reading weights, and of the signal, of a block of voxels
ROWS_PER_WRITE = 256


@dataclass(frozen=True)
class Simulated:
    """A dataset whose responses are simulated.

    Attributes
    ----------
    dataset : Dataset
        Gives stimuli, voxels and positions.
    maps : DataFrame, N rows
        The truth, at least `depth`, `x`, `y`, `scale`, `sigma` and `ceiling`.
    values : array of float32, (n, N)
        The responses. They may be memory-mapped.
    """

    dataset: Dataset
    maps: pd.DataFrame
    values: npt.NDArray[np.float32]

    about: ClassVar[About] = About(
        name="simulated",
        usage="simulated:DATA",
        responses="Responses are simulated: a planted brain with a known answer, not a measurement.",
        references=(),
        terms="Data terms: those of the stimuli's owner.",
        terms_stated=False,
    )

    @property
    def name(self) -> str:
        return f"{self.about.name}:{self.dataset.name}"

    @property
    def stimuli(self) -> Stimuli:
        return self.dataset.stimuli

    @property
    def response_ids(self) -> tuple[str, ...] | None:
        return getattr(self.dataset, "response_ids", None)

    def covariates(self) -> pd.DataFrame | None:
        return covariate_table(self.dataset)

    def voxels(self) -> pd.DataFrame:
        """Return the voxels of the dataset with the ceilings of the simulation."""
        return self.dataset.voxels().assign(ceiling=self.maps["ceiling"].to_numpy())

    def coords_mm(self) -> npt.NDArray[np.float32]:
        return self.dataset.coords_mm()

    def responses(self, rows: Rows | None = None) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(self.values if rows is None else self.values[rows])

    def truth(self) -> pd.DataFrame:
        """Return the true maps in the order of `voxels()`."""
        keys = self.dataset.voxels()[["hemi", "vertex"]].reset_index(drop=True)
        maps = self.maps.reset_index(drop=True).drop(columns=[*keys], errors="ignore")
        return pd.concat([keys, maps], axis=1)


def simulate(
    dataset: Dataset,
    tokens: Tokens,
    grid: tuple[int, int],
    maps: pd.DataFrame,
    layer_weights: Floats,
    seed: int,
    noise: Noise | None = None,
    n_features: int = FEATURES,
    file: Path | None = None,
) -> Simulated:
    """Simulate the responses of all voxels of a dataset to all its images.

    The same arguments give the same bytes, for any number of threads.

    Parameters
    ----------
    dataset : Dataset
    tokens : callable
        See `Tokens`.
    grid : (int, int)
        Rows and columns of the local tokens, H·W = P.
    maps : DataFrame, N rows
        In the order of `dataset.voxels()`: places `x`, `y` (-1 to 1) and standard deviations `sigma` of the receptive
        fields, `scale`, `ceiling`, the share of the variance that the tokens explain, and `depth`.
    layer_weights : array, (N, L)
        Rows sum to 1; `depth` is their mean relative depth.
    seed : int
    noise : callable, optional
        By default, independent normal numbers.
    n_features : int
        F. Every voxel reads its own mixture of F random channels of each layer.
    file : Path, optional
        Keeps the responses, float32 (n, N) in the format of numpy, instead of memory.
    """
    rng = np.random.default_rng([seed, 5])
    n, n_voxels = len(response_ids(dataset)), len(maps)
    with single_threaded_kernels():
        features = _features(tokens, n, rng, n_features)
        mixture = rng.normal(size=(n_voxels, n_features)).astype(np.float32)
        shape = n, n_voxels
        values: npt.NDArray[np.float32] = np.empty(shape, np.float32) if file is None else new_array(file, shape)
        fields = maps if "angle" in maps else maps.assign(angle=0.0)
        step = max(1, BLOCK_BYTES // (4 * max(features.shape[1], n)))

        def fill(start: int) -> None:
            here = slice(start, start + step)
            weights = _reading(fields.iloc[here], layer_weights[here], mixture[here], grid)
            signal = (features @ torch.from_numpy(weights).T).numpy()
            signal -= signal.mean(0, dtype=np.float64)
            deviation = np.sqrt(np.square(signal).mean(0, dtype=np.float64))
            values[:, here] = signal / np.where(deviation > 0, deviation, 1)

        each(fill, range(0, n_voxels, step))
    ceiling = maps["ceiling"].to_numpy(np.float64)
    own, other = np.sqrt(ceiling), np.sqrt(1 - ceiling)
    added = independent_noise(seed, n_voxels) if noise is None else noise
    for start in range(0, n, ROWS_PER_WRITE):
        rows = np.arange(start, min(start + ROWS_PER_WRITE, n))
        values[rows] = RESPONSE_STD * (own * values[rows] + other * added(rows))
    return Simulated(dataset, maps, values)


def independent_noise(seed: int, n_voxels: int) -> Noise:
    """Return independent normal noise, the same for a row whatever other rows are asked for."""

    def noise(rows: Rows) -> Floats:
        return np.stack([np.random.default_rng([seed, 6, int(row)]).normal(size=n_voxels) for row in rows])

    return noise


def measured_noise(dataset: Dataset, seed: int, mean: Floats, deviation: Floats) -> Noise:
    """Return noise with the tails of a dataset's responses, and their correlations between voxels: its own responses,
    to other images.

    Parameters
    ----------
    dataset : Dataset
    seed : int
        Of the shuffle of the images.
    mean, deviation : array, (N,)
        Of the responses. A response that does not vary has no noise.
    """
    of = np.random.default_rng([seed, 7]).permutation(len(response_ids(dataset)))
    scale = np.where(deviation > 0, deviation, np.inf)
    return lambda rows: (dataset.responses(of[rows]) - mean) / scale


def _features(tokens: Tokens, n: int, rng: np.random.Generator, n_features: int) -> Tensor:
    """Return random orthogonal channels of the standardized tokens of every layer, (n, L · (P + 1) · F) float32; of
    each layer the P places, then the global token. The first token is subtracted, so that constants cost no digits."""
    moments = _Moments()
    for _, local, global_ in tokens():
        moments.add([*local, *global_])
    deviations = moments.deviations()
    n_layers = len(deviations) // 2
    readers = []
    for layer in range(n_layers):
        width = len(deviations[layer])
        channels = np.linalg.qr(rng.normal(size=(width, n_features)))[0]
        pair = (torch.from_numpy(channels) / deviations[at][:, None] for at in (layer, n_layers + layer))
        readers.append([one.float() for one in pair])
    found: Tensor | None = None
    for rows, local, global_ in tokens():
        parts = []
        for layer, (near, far) in enumerate(readers):
            first = moments.first[layer], moments.first[n_layers + layer]
            parts += [((local[layer] - first[0]) @ near).flatten(1), (global_[layer] - first[1]) @ far]
        batch = torch.cat(parts, dim=1)
        found = batch.new_empty(n, batch.shape[1]) if found is None else found
        found[rows] = batch
    assert found is not None
    return found


class _Moments:
    """Standard deviations of channels, of arrays whose last axis is C; the first values are subtracted."""

    def __init__(self) -> None:
        self._n: list[int] = []
        self.first: list[Tensor] = []
        self._sums: list[Tensor] = []

    def add(self, arrays: Sequence[Tensor]) -> None:
        flat = [values.flatten(0, -2) for values in arrays]
        if not self._n:
            self._n = [0] * len(flat)
            self.first = [values[0].clone() for values in flat]
            self._sums = [torch.zeros(2, len(first), dtype=torch.float64) for first in self.first]
        for k, values in enumerate(flat):
            centred = values - self.first[k]
            self._n[k] += len(values)
            self._sums[k] += torch.stack(
                [centred.sum(0, dtype=torch.float64), centred.square().sum(0, dtype=torch.float64)]
            )

    def deviations(self) -> list[Tensor]:
        """Return them, (C,) float64 each; infinite for a constant channel, which is not read."""
        found = []
        for n, (total, square) in zip(self._n, self._sums, strict=True):
            variance = square / n - (total / n).square()
            found.append(torch.where(variance > 1e-12 * square / n, variance, torch.inf).sqrt())
        return found


def _reading(
    maps: pd.DataFrame, layer_weights: Floats, mixture: npt.NDArray[np.float32], grid: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Return the weights (V, L · (P + 1) · F) of a block of voxels over the features of `_features`."""
    scale = maps["scale"].to_numpy(np.float64)[:, None]
    places = np.concatenate([(1 - scale) * receptive_fields(maps, *grid, elongation=1.0), scale], axis=1)
    layers = (layer_weights[:, :, None] * places[:, None]).astype(np.float32)
    return np.asarray((layers[..., None] * mixture[:, None, None]).reshape(len(maps), -1))
