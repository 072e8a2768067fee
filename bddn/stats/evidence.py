"""Evidence: whether a voxel's brain score is more than chance, tested without another fit.

The null hypothesis breaks the pairing of test images and responses. Shuffling the images changes neither the mean nor
the variance of predictions and responses. R² then changes only through their correlation r, so a test of r is a test of
R². The test is one-sided: a negative correlation is no evidence.

The p-value of a voxel is that of the t-test of r, which is exact for normal responses, or the share of shuffles with at
least this r if that is larger, as for heavy-tailed responses. A sample of the voxels is shuffled, and the values of all
of them form one null distribution. Beyond its last values, the p-values of the t-test are multiplied by the factor that
was found there.

Shape letters: n test images, B images of a batch, N voxels, S sampled voxels.
"""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.stats.blocks import voxel_blocks

Floats = npt.NDArray[np.floating]
Float64s = npt.NDArray[np.float64]

FDR = 0.05
"""Expected share of false ones among the voxels with evidence."""
SHUFFLES = 100, 2000  # at least and at most
NULL_VALUES = 200_000  # of the null distribution; fewer voxels are shuffled more often
SAMPLED_VOXELS = 2000
SAMPLED_VALUES = 2**24  # of the sampled voxels; with more test images, fewer voxels are sampled
IN_TAIL = 20  # values of the null distribution above the last share that is used
UNKNOWABLE = 0.01  # noise ceiling below which no score can be told from chance
FLAT = 1e-6  # standard deviation over magnitude, at which float32 values differ by rounding only


class Evidence:
    """The test of every voxel, accumulated over batches of test images.

    Parameters
    ----------
    n_images : int
        n, the number of all test images.
    seed : int
        Seed of the shuffles.
    """

    def __init__(self, n_images: int, seed: int) -> None:
        self._n, self._rng, self._seen = n_images, np.random.default_rng([seed, 3]), 0
        self._first: Float64s = np.zeros((2, 0))
        self._sums: Float64s = np.zeros((5, 0))
        self._at: npt.NDArray[np.intp] = np.zeros(0, np.intp)
        self._sample: npt.NDArray[np.float32] = np.zeros((2, n_images, 0), np.float32)

    def add(self, responses: Floats, predicted: Floats) -> None:
        """Add a batch of images: responses and predictions, (B, N) each."""
        if not self._seen:
            self._start(responses[0], predicted[0])
        for own, values in zip(self._sample, (responses, predicted), strict=True):
            own[self._seen : self._seen + len(values)] = values[:, self._at]
        self._seen += len(responses)
        for some in voxel_blocks(responses.shape[1]):
            y, p = (
                values[:, some] - first[some] for values, first in zip((responses, predicted), self._first, strict=True)
            )
            self._sums[:, some] += (y.sum(0), p.sum(0), _dot(y, y), _dot(p, p), _dot(y, p))

    def p_values(self) -> Float64s:
        """Return the p-values (N,): 1 for constant responses or predictions, and if there are fewer than 3 images.

        No p-value is below 1 / n!, the chance of one order of the images: with fewer than about ten test images, few
        voxels can have evidence.
        """
        n, n_voxels = self._n, self._sums.shape[1]
        if n < 3:
            return np.ones(n_voxels)
        means, products = self._sums[:2] / n, self._sums[2:] / n
        variances = products[:2] - means**2
        varies = np.all(variances > (FLAT * (self._first + means)) ** 2, axis=0)
        covariance = products[2] - means.prod(0)
        p = _t_test(np.where(varies, covariance / np.sqrt(np.where(varies, variances, 1).prod(0)), 0), n)
        null = np.sort(_t_test(self._shuffled(varies[self._at]), n))
        if len(null):
            p = calibrated(p, null)
        return np.where(varies, np.maximum(p, 1 / math.factorial(min(n, 20))), 1.0)

    def _start(self, responses: Floats, predicted: Floats) -> None:
        """Choose the sampled voxels, evenly spaced. First values are subtracted, so that the sums lose no digits."""
        n_voxels = len(responses)
        n_sampled = min(n_voxels, SAMPLED_VOXELS, max(1, SAMPLED_VALUES // self._n))
        self._at = np.arange(n_sampled) * n_voxels // n_sampled
        self._first = np.stack([responses, predicted]).astype(np.float64)
        self._sums = np.zeros((5, n_voxels))
        self._sample = np.empty((2, self._n, n_sampled), np.float32)

    def _shuffled(self, varies: npt.NDArray[np.bool_]) -> Float64s:
        """Return the correlations of the varying sampled voxels with shuffled images, for all shuffles together."""
        y, p = (_unit(values[:, varies]) for values in self._sample)
        n_shuffles = int(np.clip(NULL_VALUES // max(y.shape[1], 1), *SHUFFLES))
        return np.concatenate([_dot(y[self._rng.permutation(self._n)], p) for _ in range(n_shuffles)])


def q_values(p: Float64s) -> Float64s:
    """Return the smallest false discovery rate at which each voxel has evidence (Benjamini and Hochberg, 1995).

    Parameters
    ----------
    p : array of float64, (N,)

    Returns
    -------
    array of float64, (N,)
    """
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p), dtype=np.float64)


def is_tested(voxels: pd.DataFrame) -> bool:
    """Return whether this voxel table contains a test of evidence; runs of version 0.2.0 do not."""
    return "q_test" in voxels


def evident(voxels: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return a mask (N,) of the voxels with evidence, `q_test` ≤ 0.05. All have it in a table without a test."""
    if not is_tested(voxels):
        return np.ones(len(voxels), np.bool_)
    return np.asarray(voxels["q_test"].to_numpy(dtype=np.float64) <= FDR)


def untested(voxels: pd.DataFrame) -> pd.DataFrame:
    """Return the table without its test, so that no voxel is left out."""
    return voxels.drop(columns=["p_test", "q_test"], errors="ignore")


def in_words(voxels: pd.DataFrame) -> str:
    """Return one sentence: how many voxels have no evidence, and how many of these have a noise ceiling near 0."""
    if not is_tested(voxels):
        return "No test of evidence: every voxel is shown."
    lacks = ~evident(voxels)
    n, level = int(lacks.sum()), f"false discovery rate {FDR:g}"
    if not n:
        return f"All {len(voxels):,} voxels have evidence ({level})."
    near_0 = 0
    if "ceiling" in voxels:
        near_0 = int((lacks & (voxels["ceiling"].to_numpy(dtype=np.float64) < UNKNOWABLE)).sum())
    unknowable = (
        f"; {near_0:,} of these cannot be known, as their noise ceiling is below {UNKNOWABLE:g}" if near_0 else ""
    )
    which = f"{n:,} of {len(voxels):,} voxels have" if n < len(voxels) else "No voxel has"
    return f"{which} {'no ' if n < len(voxels) else ''}evidence of a score above chance ({level}){unknowable}."


def without_evidence(voxels: pd.DataFrame) -> dict[str, int]:
    """Return {'n_without_evidence': the number of these voxels without evidence}; {} for a table without a test."""
    return {"n_without_evidence": int((~evident(voxels)).sum())} if is_tested(voxels) else {}


def _dot(a: Floats, b: Floats) -> Float64s:
    """Return the scalar products (N,) of the columns of two arrays (B, N)."""
    return np.asarray(np.einsum("bn,bn->n", a, b), dtype=np.float64)


def _unit(values: Floats) -> npt.NDArray[np.float32]:
    """Return columns with mean 0 and length 1."""
    centred = values - values.mean(0, dtype=np.float64)
    return np.asarray(centred / np.linalg.norm(centred, axis=0), dtype=np.float32)


def _t_test(r: Float64s, n: int) -> Float64s:
    """Return one-sided p-values of correlations over n images."""
    from scipy.special import stdtr

    r = np.clip(r, -1, 1)
    with np.errstate(divide="ignore"):
        return np.asarray(stdtr(n - 2, -r * np.sqrt((n - 2) / (1 - r**2))), dtype=np.float64)


def calibrated(p: Float64s, null: Float64s) -> Float64s:
    """Return the larger of p-values (N,) and the shares of null p-values (sorted) that are as small."""
    last = null[min(IN_TAIL, len(null)) - 1]
    factor = max(1.0, min(IN_TAIL, len(null)) / len(null) / last) if last > 0 else 1.0
    share = np.searchsorted(null, p, side="right") / len(null)
    return np.maximum(np.where(p < last, factor, 1) * p, share)
