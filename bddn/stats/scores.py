"""Brain scores: the explained variance of responses, per voxel and per ROI."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.places import PLACE_COLUMNS
from bddn.stats.blocks import voxel_blocks
from bddn.stats.evidence import Evidence, without_evidence

ROIS: Mapping[str, tuple[str, ...]] = {
    "V1": ("V1v", "V1d"),
    "V2": ("V2v", "V2d"),
    "V3": ("V3v", "V3d"),
    "V4": ("hV4",),
    "EBA": ("EBA",),
    "FBA": ("FBA-1", "FBA-2"),
    "OFA": ("OFA",),
    "FFA": ("FFA-1", "FFA-2"),
    "OPA": ("OPA",),
    "PPA": ("PPA",),
    "RSC": ("RSC",),
    "OWFA": ("OWFA",),
    "VWFA": ("VWFA-1", "VWFA-2"),
}
"""The reported ROIs. Each is the union of these labels of the dataset's atlases, and of its own name, over both
hemispheres."""
UNREPORTED = ("mTL-bodies", "mTL-faces", "aTL-faces", "mfs-words", "mTL-words")
"""Small ROIs in the atlases of the Natural Scenes Dataset that its tables, as those of the paper, do not contain."""


class R2:
    """The raw brain score 1 - Σ(y - ŷ)² / Σ(y - ȳ)² of every voxel (paper, section 4), accumulated over batches."""

    def __init__(self) -> None:
        self._n = 0
        self._first: npt.NDArray[np.float64] = np.zeros(0)
        self._sums: npt.NDArray[np.float64] = np.zeros((3, 0))

    def add(self, responses: npt.NDArray[np.floating], predicted: npt.NDArray[np.floating]) -> None:
        """Add a batch of images: responses and predictions, (n_images, n_voxels) each."""
        if not self._n:
            self._first = responses[0].astype(np.float64)  # subtracted, so that the sums lose no digits
            self._sums = np.zeros((3, len(self._first)))
        self._n += len(responses)
        for some in voxel_blocks(len(self._first)):
            y, missed = responses[:, some], responses[:, some].astype(np.float64) - predicted[:, some]
            centred = y - self._first[some]
            self._sums[:, some] += (np.square(missed).sum(0), centred.sum(0), np.square(centred).sum(0))

    def score(self) -> npt.NDArray[np.float64]:
        """Return the scores (n_voxels,) float64; NaN for voxels with constant responses."""
        residual, sum_, square = self._sums
        total = square - sum_**2 / self._n
        varies = square > 0
        return np.where(varies, 1 - residual / np.where(varies, total, 1), np.nan)


def r2_and_r(
    responses: npt.NDArray[np.floating], predicted: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return R² and Pearson's r of every voxel, each (n_voxels,) float64, from all images at once.

    Parameters
    ----------
    responses, predicted : array, (n_images, n_voxels)

    Returns
    -------
    r2 : array
        1 - Σ(y - ŷ)² / Σ(y - ȳ)², as `sklearn.metrics.r2_score`. Constant responses have no variance to explain: their
        R² is NaN, where scikit-learn gives NaN or -inf with `force_finite=False`, and by default 1 or 0.
    r : array
        As `scipy.stats.pearsonr`, which gives NaN too for constant responses or predictions.
    """
    y, p = responses.astype(np.float64), predicted.astype(np.float64)
    varies = [np.ptp(values, axis=0) > 0 for values in (y, p)]
    residual = np.square(y - p).sum(0)
    y -= y.mean(0)
    p -= p.mean(0)
    yy, pp = np.square(y).sum(0), np.square(p).sum(0)
    r2 = np.where(varies[0], 1 - residual / np.where(varies[0], yy, 1), np.nan)
    both = varies[0] & varies[1]
    r = (y * p).sum(0) / np.where(both, np.sqrt(yy) * np.sqrt(pp), 1)
    return r2, np.where(both, np.clip(r, -1, 1), np.nan)


def challenge_score(r: npt.NDArray[np.floating], ceiling: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the score of the Algonauts 2023 challenge of every voxel, min(1, max(r, 0)² / NC), (n_voxels,).

    The challenge publishes its mean over voxels, in percent (Gifford et al., arXiv:2301.03198). It is not a normalised
    R²: r forgives predictions of a wrong mean or size, and the bounds hide noise.

    Parameters
    ----------
    r : array, (n_voxels,)
        Pearson's correlation of measured and predicted responses.
    ceiling : array, (n_voxels,)
        Noise ceiling NC, from 0 to 1. A voxel whose ceiling is 0 or unknown has no score (NaN): it is left out of
        means, and is not given a small ceiling instead.
    """
    known = ceiling > 0
    return np.where(known, np.minimum(1, np.maximum(r, 0) ** 2 / np.where(known, ceiling, 1)), np.nan)


def normalised(r2: npt.NDArray[np.floating], ceiling: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return R² / ceiling of every voxel, (n_voxels,); NaN where the ceiling is 0 or unknown.

    A perfect encoder has 1 on very many images; on a test set, noise alone puts about half of its voxels above 1.
    """
    known = ceiling > 0
    return np.where(known, r2 / np.where(known, ceiling, 1), np.nan)


LEAST_R2 = -1.0
SCORED_IMAGES = 64  # images that are scored at a time
ALL = "all"  # all voxels, beside the names of ROIs


def robust_mean(r2: npt.NDArray[np.floating]) -> float:
    """Return the mean of the finite scores, with scores below -1 counted as -1; NaN if there is none.

    A response that hardly varies can have a score of minus thousands, which would decide the mean of all voxels.
    """
    known = r2[np.isfinite(r2)]
    return float(counted(known).mean()) if len(known) else float("nan")


def counted(r2: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return scores as a robust mean counts them, and 0 where there is none, so that they can be added up."""
    return np.where(np.isnan(r2), 0, np.maximum(r2, LEAST_R2))


def means_of_images(rows: npt.NDArray[np.float32], n: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """Return the mean (M, N) of the rows of each image, for rows (R, N) image by image; image i has n[i] of them."""
    return np.asarray(np.add.reduceat(rows, np.cumsum(n) - n) / n[:, None].astype(np.float32))


def tested_scores(
    measured: npt.NDArray[np.floating],
    predicted: npt.NDArray[np.floating],
    seed: int,
    image_of: npt.NDArray[np.intp] | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return R² of every voxel and its p-value, each (n_voxels,).

    Parameters
    ----------
    measured, predicted : array, (n, n_voxels)
        Of the test images, image by image.
    seed : int
        That of `stats.evidence.Evidence`.
    image_of : array of int, (n,), or None
        The image of each row, from 0 in increasing order; None: each row is another image. R² is over all rows;
        the test is one of images, each with the mean of its rows.
    """
    n = np.ones(len(measured), np.intp) if image_of is None else np.bincount(image_of)
    starts = np.concatenate([[0], np.cumsum(n)])
    r2, evidence = R2(), Evidence(len(n), seed)
    for start in range(0, len(n), SCORED_IMAGES):
        edges = starts[start : start + SCORED_IMAGES + 1]
        y, p = (values[edges[0] : edges[-1]] for values in (measured, predicted))
        r2.add(y, p)
        here = n[start : start + SCORED_IMAGES]
        if len(y) > len(here):
            y, p = (means_of_images(values, here) for values in (y, p))
        evidence.add(y, p)
    return r2.score(), evidence.p_values()


def in_roi(voxels: pd.DataFrame, roi: str) -> npt.NDArray[np.bool_]:
    """Return a mask of the voxels in an ROI of `ROIS`, or with this label of an atlas, by all text columns of labels;
    ROIs of two atlases may overlap. A name that is no text, as of bytes that are not UTF-8, has no voxels."""
    if roi.encode(errors="ignore").decode() != roi:  # which Arrow cannot look for
        return np.zeros(len(voxels), np.bool_)
    return np.asarray(labels_of(voxels).isin((roi, *ROIS.get(roi, ()))).to_numpy().any(axis=1))


def roi_masks(voxels: pd.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """Return masks (N,) of all voxels, and of each of `reported_rois`."""
    return {ALL: np.ones(len(voxels), np.bool_), **{roi: in_roi(voxels, roi) for roi in reported_rois(voxels)}}


def reported_rois(voxels: pd.DataFrame) -> list[str]:
    """Return the names of the ROIs in tables: those of `ROIS` that have voxels, then all other labels in the column
    `roi`, as those of other species and own atlases, without `UNREPORTED`."""
    parts = {*ROIS, *(part for labels in ROIS.values() for part in labels)}
    known = [roi for roi in ROIS if in_roi(voxels, roi).any()]
    return known + sorted({str(label) for label in voxels["roi"].dropna()} - {"", ALL, *UNREPORTED, *parts})


def named_rois(voxels: pd.DataFrame) -> list[str]:
    """Return the names that `in_roi` finds voxels for: those of `ROIS`, then the labels of the atlases."""
    labels = {str(label) for name in labels_of(voxels) for label in voxels[name].dropna().unique()} - {""}
    return [roi for roi, parts in ROIS.items() if labels & {roi, *parts}] + sorted(labels - {*ROIS})


def roi_scores(voxels: pd.DataFrame, score: str) -> dict[str, dict[str, float]]:
    """Return the mean of a score and the number of voxels for each ROI: {'V1': {'mean': …, 'n_voxels': …}, …}.

    A mean is over all voxels with a score; see `robust_mean`. Voxels without evidence are not left out, because that
    would choose the voxels by their score and raise the mean; in a table with a test they are counted, as
    `n_without_evidence`.
    """
    scores = {roi: voxels[in_roi(voxels, roi)].dropna(subset=[score]) for roi in reported_rois(voxels)}
    return {
        roi: {"mean": robust_mean(of[score].to_numpy()), "n_voxels": len(of), **without_evidence(of)}
        for roi, of in scores.items()
        if len(of)
    }


def labels_of(voxels: pd.DataFrame) -> pd.DataFrame:
    """Return the text columns that hold labels of ROIs."""
    text = voxels.select_dtypes(include=["object", "string"])
    return text.drop(columns=[*PLACE_COLUMNS, "layer_argmax"], errors="ignore")
