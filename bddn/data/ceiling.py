"""Noise ceilings: the share of the variance of a response that depends on the image, 0 to 1, from repeated trials.

The response to image i in trial j is a signal sᵢ and a noise nᵢⱼ. The mean of kᵢ trials has the variance

    σs² + σn² mean(1 / kᵢ)

over images, so on many images no encoder has an R² above σs² / (σs² + σn² mean(1 / kᵢ)). For a correlation r, the
ceiling bounds r². With mixed numbers of trials, the mean of 1 / kᵢ is over the images that are scored.

Shape letters: T trials, I images, N voxels.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bddn.errors import DataError

Floats = npt.NDArray[np.float64]

AS_PERCENT = "Restore the original file, or multiply them by 100."


def ceiling_of_ncsnr(ncsnr: npt.ArrayLike, n_trials: npt.ArrayLike) -> Floats:
    """Return the ceilings (N,) of the Natural Scenes Dataset: ncsnr² / (ncsnr² + mean(1 / k)).

    Source: Allen et al. (2022), Nature Neuroscience 25: 116-126, Methods, "Noise ceiling estimation".

    Parameters
    ----------
    ncsnr : array, (N,)
        Standard deviation of the signal over that of the noise of a single trial. NaN gives NaN.
    n_trials : int, or array of int, (I,)
        k: the number of trials that were averaged in every scored response, or in that of each image; 1 for single
        trials.

    Raises
    ------
    DataError
        If a number of trials is below 1, or an ncsnr is negative.
    """
    ratio = np.asarray(ncsnr, dtype=np.float64)
    if (ratio < 0).any():
        raise DataError("ncsnr", expected="numbers of at least 0", got=f"{ratio.min():.3g}", fix="Check the file.")
    return ceiling_of_variances(np.square(ratio), np.ones_like(ratio), n_trials)


def ncsnr_of_percent(place: object, percent: Floats, n_trials: int) -> Floats:
    """Return the ncsnr (N,) of noise ceilings (N,) in per cent of variance, for means over a number of trials.

    The inverse of `ceiling_of_ncsnr`. `place` is that of the numbers, for messages.

    Raises
    ------
    DataError
        If a number is not from 0 to below 100.
    """
    known = percent[~np.isnan(percent)]
    if known.size and not (known.min() >= 0 and known.max() < 100):
        raise DataError(
            place,
            expected="noise ceilings from 0 to below 100 %",
            got=f"numbers from {known.min():.3g} to {known.max():.3g}",
            fix="Download the file again.",
        )
    share = percent / 100
    return np.sqrt(share / n_trials / (1 - share))


def refuse_shares(place: object, percent: Floats, fix: str = AS_PERCENT) -> None:
    """Raise a DataError if no noise ceiling in per cent is above 1: those of a brain are shares of variance then."""
    highest = float(np.nanmax(percent, initial=0))
    if 0 < highest <= 1:
        raise DataError(
            place,
            expected="noise ceilings in per cent, some of them above 1",
            got=f"numbers up to {highest:.3g}, as of shares of variance",
            fix=fix,
        )


def ceiling_of_trials(
    trials: npt.NDArray[np.floating], image: npt.NDArray[np.integer], n_trials: npt.ArrayLike
) -> Floats:
    """Return the ceilings (N,) of averages over trials, estimated from single trials of which some repeat an image.

    Parameters
    ----------
    trials : array, (T, N)
        Responses in single trials.
    image : array of int, (T,)
        Number of the image that each trial showed. Images with one trial are used for the variance over images.
    n_trials : int, or array of int
        As of `ceiling_of_ncsnr`.

    Returns
    -------
    array of float64, (N,)
        0 where trials of one image differ as much as those of different images; NaN for a constant voxel.

    Raises
    ------
    DataError
        If no image has two trials, there are fewer than two images, or a number of trials is below 1.
    """
    signal, noise = variances(trials, image)
    return ceiling_of_variances(signal, noise, n_trials)


def variances(trials: npt.NDArray[np.floating], image: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return the variances of signal and noise, (N,) each; see `variances_of_images`.

    Parameters and errors are those of `ceiling_of_trials`.
    """
    ordered = np.argsort(image, kind="stable")
    starts = np.flatnonzero(np.diff(image[ordered])) + 1
    return variances_of_images(trials[rows] for rows in np.split(ordered, starts))


def variances_of_images(images: Iterable[npt.NDArray[np.floating]]) -> tuple[Floats, Floats]:
    """Return the variances of signal and noise, (N,) each, by an analysis of variance with images as random effects.

    Unbiased for any numbers of trials (Searle, Casella & McCulloch, Variance Components, 1992, section 3.6), but that
    a negative variance of the signal becomes 0.

    Parameters
    ----------
    images : iterable of array, (k, N)
        The k trials of each image, which are read once, so that they need not be in memory together.

    Raises
    ------
    DataError
        If no image has two trials, or there are fewer than two images.
    """
    n_trials = n_images = squares = 0
    first = within = sums = between = np.zeros(0)
    for trials in images:
        y, k = trials.astype(np.float64), len(trials)
        if not n_images:
            first, (within, sums, between) = y[0].copy(), np.zeros((3, y.shape[1]))
        y -= first  # so that the squares below are small, and exactly 0 for a constant voxel
        mean = y.mean(0)
        within += np.square(y - mean).sum(0)
        sums += k * mean
        between += k * np.square(mean)
        n_trials, n_images, squares = n_trials + k, n_images + 1, squares + k * k
    if n_images < 2 or n_trials == n_images:
        raise DataError(
            "trials of a noise ceiling",
            expected="at least two images, one of them with two trials",
            got=f"{n_trials} trials of {n_images} images",
            fix="A noise ceiling needs repeated images. Without them it is unknown.",
        )
    per_image = (n_trials - squares / n_trials) / (n_images - 1)
    noise = within / (n_trials - n_images)
    among = (between - np.square(sums) / n_trials) / (n_images - 1)
    return np.maximum(among - noise, 0) / per_image, noise


def ceiling_of_variances(signal: Floats, noise: Floats, n_trials: npt.ArrayLike) -> Floats:
    """Return the ceilings (N,) for variances of signal and noise, (N,) each: σs² / (σs² + σn² mean(1 / k)).

    `n_trials` and errors are those of `ceiling_of_ncsnr`.
    """
    k = np.asarray(n_trials)
    if k.size == 0 or not (k >= 1).all():
        raise DataError(
            "number of averaged trials",
            expected="at least 1 for every image",
            got=f"{k.min() if k.size else 'none'}",
            fix="Leave out images without a trial.",
        )
    total = signal + noise * np.mean(1 / k)
    return np.divide(signal, total, out=np.full_like(total, np.nan), where=total > 0)
