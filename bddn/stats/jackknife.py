"""Intervals of brain scores over test images: a jackknife in closed form, and a bootstrap of what it finds.

All voxels see the same test images, so images are what is drawn. R² of a voxel without one image needs only sums that
are known: with e² the squared errors and d the responses minus their mean,

    R² without image i = 1 - (Σe² - eᵢ²) / (Σd² - dᵢ² M / (M - 1)).

A score θ of many voxels has the pseudo-values M θ - (M - 1) θ₋ᵢ of the images (Tukey 1958). Their mean is θ without its
bias of order 1 / M: R² on M images is on average about (1 - R²) / M below that on very many images, and a percentile
bootstrap is below it twice as far. The interval is the studentized bootstrap of the pseudo-values (Efron & Tibshirani,
An Introduction to the Bootstrap, 1993, chapters 11 and 12).

Several responses to one image are left out together, because they are not independent (jackknife of clusters).

Shape letters: M test images, R responses to them, N voxels, G groups of voxels, B draws, K levels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

N_DRAWS = 2000
MIN_IMAGES = 10  # with fewer there is no interval


def r2_without_each(
    responses: npt.NDArray[np.floating],
    predicted: npt.NDArray[np.floating],
    image_of: npt.NDArray[np.intp] | None = None,
) -> Floats:
    """Return R² of every voxel without each image, (M, N).

    Parameters
    ----------
    responses, predicted : array, (R, N)
    image_of : array of int, (R,), optional
        The image of each row, from 0 in increasing order; by default, each row is another image.

    Returns
    -------
    array of float64, (M, N)
        -inf where the other images have the same response; NaN for a voxel with constant responses.
    """
    y = responses.astype(np.float64)
    error = np.square(y - predicted)
    if image_of is None or len(image_of) == image_of[-1] + 1:
        return r2_without_each_of(y, error)
    n, varies = np.bincount(image_of)[:, None], np.ptp(y, axis=0) > 0
    starts, d = np.cumsum(n) - n[:, 0], y - y.mean(0)
    sums, squares, errors = (np.add.reduceat(values, starts) for values in (d, np.square(d), error))
    total = squares.sum(0)
    left = total - squares - np.square(sums) / (len(y) - n)  # around the mean of the other rows
    return _r2(errors.sum(0) - errors, left, total, varies)


def r2_without_each_of(y: Floats, error: Floats) -> Floats:
    """Do the same for responses (M, N) and squared errors (M, N)."""
    n, varies = len(y), np.ptp(y, axis=0) > 0
    away = np.square(y - y.mean(0))
    residual, total = error.sum(0) - error, away.sum(0)
    return _r2(residual, total - away * (n / (n - 1)), total, varies)


def _r2(residual: Floats, left: Floats, total: Floats, varies: npt.NDArray[np.bool_]) -> Floats:
    """Return 1 - residual / left, (M, N), for the variance that is left of a total (N,)."""
    left[left < 1e-12 * total] = 0  # one image has all the variance; what remains is rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(left > 0, 1 - residual / left, -np.inf)
    return np.where(varies, found, np.nan)


def pseudo_values(value: Floats, without_each: Floats) -> Floats:
    """Return the pseudo-values (M, G) of scores (G,) and the same scores without each image (M, G)."""
    n = len(without_each)
    return np.asarray(n * value - (n - 1) * without_each)


def intervals(pseudo: Floats, levels: Sequence[float]) -> Floats:
    """Return the intervals (K, 2, G) of the means of pseudo-values (M, G), at levels such as 0.9.

    The studentized bootstrap draws images with replacement, the same ones for all groups.
    """
    n = len(pseudo)
    mean, error = pseudo.mean(0), pseudo.std(0, ddof=1) / np.sqrt(n)
    if n < MIN_IMAGES:
        return np.full((len(levels), 2, len(mean)), np.nan)
    centred = pseudo - mean
    images = np.random.default_rng([0, 4]).integers(0, n, (N_DRAWS, n)) + n * np.arange(N_DRAWS)[:, None]
    draws = np.bincount(images.ravel(), minlength=images.size).reshape(images.shape) / n
    drawn, square = (np.einsum("bm,mg->bg", draws, values) for values in (centred, np.square(centred)))  # not by BLAS,
    spread = np.sqrt(np.maximum(square - drawn**2, 0) / (n - 1))  # whose last bits depend on the number of threads
    t = np.where(spread > 0, drawn / np.where(spread > 0, spread, 1), 0)
    tails = [(1 - level) / 2 for level in levels]
    low, high = (np.quantile(t, shares, axis=0) for shares in ([1 - tail for tail in tails], tails))
    return np.stack([mean - low * error, mean - high * error], axis=1)


def r2_interval(r2: Floats, without_each: Floats, level: float) -> Floats:
    """Return the interval (2, N) of the R² of single voxels, from R² (N,) and that without each image (M, N).

    It is a t interval of log(1 - R²), a ratio of variances on a scale on which its spread hardly depends on its size.
    NaN with fewer than `MIN_IMAGES` images, for a perfect prediction, and where one image has all the variance.
    """
    from scipy.stats import t

    n = len(without_each)
    if n < MIN_IMAGES:
        return np.full((2, len(r2)), np.nan)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pseudo = pseudo_values(np.log1p(-r2), np.log1p(-without_each))
        reach = t.ppf((1 + level) / 2, n - 1) * pseudo.std(0, ddof=1) / np.sqrt(n)
        found = -np.expm1(pseudo.mean(0) + np.stack([reach, -reach]))
    return np.where(np.isfinite(found), found, np.nan)
