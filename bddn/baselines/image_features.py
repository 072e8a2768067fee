"""Features of images without a network: their pixels, and the energy of Gabor filters at several scales.

*Pixels*: luminance Y and colour differences Cb, Cr (ITU-R BT.601) of the whole image, averaged over the cells of a
grid: 24 × 24 for Y, 12 × 12 for Cb and Cr.

*Gabor energy* (after Kay, Naselaris, Prenger & Gallant, Nature 2008): the luminance, 128 × 128, is halved again and
again. Each level is filtered with pairs of Gabor functions of `N_ORIENTATIONS` directions θ, of wavelength λ = 4 pixels
and σ = 0.56 λ (a bandwidth of one octave):

    g(x, y) = exp(-(x² + y²) / 2σ²) · cos(2π (x cos θ + y sin θ) / λ + φ),  φ = 0 and π/2,

without its mean, of norm 1. The energy √(even² + odd²) is averaged over the cells of a grid. The levels see 32, 16, 8
and 4 cycles per image.

Shape letters: n images, K features.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bddn.data import Stimuli
from bddn.machine.parallel import ahead
from bddn.progress import progress
from bddn.stream.order import Rows

if TYPE_CHECKING:
    from PIL.Image import Image

N_LUMINANCE, N_COLOUR = 24, 12  # cells along a side
GABOR_SIDE, N_LEVELS, N_CELLS = 128, 4, 8
N_ORIENTATIONS, WAVELENGTH, SIGMA, RADIUS = 8, 4.0, 0.56 * 4.0, 6  # in pixels of a level
AHEAD = 32  # images that are decoded at a time

Reduce = Callable[["Image"], Tensor]


def image_features(stimuli: Stimuli, rows: Rows, reduce: Reduce) -> Tensor:
    """Return the features (n, K) float32 of the images in these rows; `reduce` is `pixels` or `gabor_energy`.

    Raises
    ------
    DataError
        If an image is missing or damaged.
    """
    found = []
    with progress("images", len(rows), "images") as advance:
        for one in ahead(lambda row: reduce(stimuli.image(row)), rows.tolist(), AHEAD):
            found.append(one)
            advance()
    return torch.stack(found)


def pixels(image: "Image") -> Tensor:
    """Return luminance and colour on coarse grids, (864,), from 0 to 1."""
    from PIL.Image import Resampling

    channels = image.convert("YCbCr").split()
    sides = (N_LUMINANCE, N_COLOUR, N_COLOUR)
    cells = [
        np.asarray(channel.resize((side, side), Resampling.BOX), np.float32).ravel()
        for channel, side in zip(channels, sides, strict=True)
    ]
    return torch.from_numpy(np.concatenate(cells) / np.float32(255))


def gabor_energy(image: "Image") -> Tensor:
    """Return the energy of all levels, orientations and cells, (2048,)."""
    from PIL.Image import Resampling

    gray = image.convert("L").resize((GABOR_SIDE, GABOR_SIDE), Resampling.BOX)
    level, filters, found = torch.from_numpy(np.asarray(gray, np.float32) / 255)[None, None], gabor_filters(), []
    for _ in range(N_LEVELS):
        even, odd = F.conv2d(F.pad(level, (RADIUS,) * 4, mode="replicate"), filters).chunk(2, dim=1)
        found.append(F.adaptive_avg_pool2d((even.square() + odd.square()).sqrt(), N_CELLS).flatten())
        level = F.avg_pool2d(level, 2)
    return torch.cat(found)


def gabor_filters() -> Tensor:
    """Return the filters (2 · N_ORIENTATIONS, 1, 13, 13): first all even ones, then all odd ones."""
    at = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
    y, x = torch.meshgrid(at, at, indexing="ij")
    envelope = torch.exp(-(x**2 + y**2) / (2 * SIGMA**2))
    filters = []
    for phase in (0.0, math.pi / 2):
        for k in range(N_ORIENTATIONS):
            angle = math.pi * k / N_ORIENTATIONS
            along = x * math.cos(angle) + y * math.sin(angle)
            wave = torch.cos(2 * math.pi * along / WAVELENGTH + phase)
            one = envelope * (wave - (envelope * wave).sum() / envelope.sum())
            filters.append(one / one.norm())
    return torch.stack(filters)[:, None].float()
