"""What brute force reads: principal channels of every layer, averaged over windows of the image, and its global token.

Shape letters: n images, L layers, H rows, W columns, C channels of a layer, S sets (the windows, then the global
token), K principal channels.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bddn.machine.parallel import each
from bddn.progress import progress
from bddn.stream.features import Features
from bddn.stream.loader import Source
from bddn.stream.order import Rows, pools_in_order

N_CHANNELS = 48
N_SIDE = 6  # windows along a side of the image
WIDTH = 0.6  # standard deviation of a window, as a fraction of the distance of two windows
MOST = 6e4  # of float16; reached only by tokens thousands of deviations away
LOCAL_IMAGES, GLOBAL_IMAGES = 128, 512  # images whose tokens determine the principal channels


@dataclass(frozen=True)
class Windows:
    """Gaussian windows of a grid: their `weights` (S - 1, H·W), which sum to 1, and their `centres` x, y (S - 1, 2),
    from -1 to 1."""

    weights: Tensor
    centres: Tensor

    @classmethod
    def of(cls, grid: tuple[int, int]) -> "Windows":
        """Return the windows of a grid (H, W); a side with fewer tokens than `N_SIDE` has a window for each."""
        sides = [_side(n) for n in grid]
        (rows, y), (columns, x) = sides
        weights = torch.einsum("ai,bj->abij", rows, columns).flatten(2).flatten(0, 1)
        return cls(weights.float(), torch.cartesian_prod(y, x).flip(1).float())


def _side(n: int) -> tuple[Tensor, Tensor]:
    """Return the weights (m, n) and the centres (m,) of windows along a side of n tokens."""
    m = min(n, N_SIDE)
    centres, tokens = ((torch.arange(k, dtype=torch.float64) + 0.5) * 2 / k - 1 for k in (m, n))
    away = (tokens - centres[:, None]) / (WIDTH * 2 / m)
    weights = torch.exp(-away.square() / 2)
    return weights / weights.sum(1, keepdim=True), centres


@dataclass(frozen=True)
class Principal:
    """The first principal channels of standardized tokens: x → x `matrix` - `offset`, (C, K) and (K,)."""

    matrix: Tensor
    offset: Tensor

    @classmethod
    def of(cls, tokens: Tensor) -> "Principal":
        """Return the principal channels of tokens (n, C)."""
        tokens = tokens.double()
        mean, deviation = tokens.mean(0), tokens.std(0, correction=0)
        scale = torch.where(deviation > 0, 1 / deviation, 0.0)
        scaled = ((tokens - mean) * scale).float()
        vectors = torch.linalg.eigh((scaled.T @ scaled).double() / len(tokens))[1]
        k = min(N_CHANNELS, tokens.shape[1])
        matrix = scale[:, None] * vectors[:, -k:].flip(1)
        return cls(matrix.float(), (mean @ matrix).float())

    def __call__(self, tokens: Tensor) -> Tensor:
        return tokens @ self.matrix - self.offset


def window_features(source: Source, rows: Rows, sample: Rows, windows: Windows, n_layers: int) -> list[Tensor]:
    """Return for every layer the principal channels of all sets, L × (n, S, K) float16, in the order of `rows`.

    Parameters
    ----------
    source : Source
    rows : array of int, (n,)
        Images.
    sample : array of int
        Images whose tokens may determine the principal channels: those that train.
    """
    local, global_ = _principal(source, sample, n_layers)
    shape = len(rows), len(windows.centres) + 1
    found = [torch.empty(*shape, one.matrix.shape[1], dtype=torch.float16) for one in local]
    place_of = {row: place for place, row in enumerate(rows.tolist())}
    pools = pools_in_order(rows, source.chunk_of)

    def fill(layer: int, tokens: Features, places: Tensor, into: Tensor) -> None:
        near = local[layer](tokens.local[layer][places].float())
        far = global_[layer](tokens.global_[layer][places].float())
        both = torch.cat([windows.weights @ near, far[:, None]], dim=1)
        found[layer][into] = both.clamp(-MOST, MOST).half()

    with progress("read", len(rows), "images") as advance:
        for pool, (tokens, places) in zip(pools, source.pools(pools), strict=True):
            into = torch.tensor([place_of[row] for row in pool.tolist()])
            each(partial(fill, tokens=tokens, places=places, into=into), range(n_layers))
            advance(len(pool))
    return found


def _principal(source: Source, sample: Rows, n_layers: int) -> tuple[list[Principal], list[Principal]]:
    pools = pools_in_order(sample, source.chunk_of)
    n_pools = min(len(pools), max(1, round(GLOBAL_IMAGES / max(len(pool) for pool in pools))))
    pools = [pools[i] for i in np.unique(np.linspace(0, len(pools) - 1, n_pools).astype(int))]
    local: list[list[Tensor]] = [[] for _ in range(n_layers)]
    global_: list[list[Tensor]] = [[] for _ in range(n_layers)]
    for tokens, places in source.pools(pools):
        some = places[: -(-LOCAL_IMAGES // len(pools))]
        for layer in range(n_layers):
            local[layer].append(tokens.local[layer][some].flatten(0, 1).float())
            global_[layer].append(tokens.global_[layer][places].float())
    done = each(lambda parts: Principal.of(torch.cat(parts)), [*local, *global_])
    return done[:n_layers], done[n_layers:]
