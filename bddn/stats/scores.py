"""Brain scores: how much of a voxel's response an encoder predicts, per voxel and per region."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

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
"""Regions that are reported, each the union of these labels of the dataset's atlases, both hemispheres."""


class R2:
    """Brain score of every voxel, 1 - Σ(y - ŷ)² / Σ(y - ȳ)² over images, raw (paper, section 4), summed by batches."""

    def __init__(self) -> None:
        self._n = 0
        self._first: npt.NDArray[np.float64] = np.zeros(0)
        self._sums: npt.NDArray[np.float64] = np.zeros((3, 0))

    def add(self, responses: npt.NDArray[np.floating], predicted: npt.NDArray[np.floating]) -> None:
        """Take some images more, (n_images, n_voxels) each."""
        if not self._n:
            self._first = responses[0].astype(np.float64)  # sums of differences to it lose no digits
            self._sums = np.zeros((3, len(self._first)))
        self._n += len(responses)
        centred = responses - self._first
        parts = (np.square(responses.astype(np.float64) - predicted).sum(0), centred.sum(0), np.square(centred).sum(0))
        self._sums += parts

    def score(self) -> npt.NDArray[np.float64]:
        """Scores (n_voxels,); NaN for a voxel whose responses do not vary."""
        residual, sum_, square = self._sums
        total = square - sum_**2 / self._n
        varies = square > 0
        return np.where(varies, 1 - residual / np.where(varies, total, 1), np.nan)


def in_roi(voxels: pd.DataFrame, roi: str) -> npt.NDArray[np.bool_]:
    """Which voxels belong to a region of `ROIS`, by any column of text labels; regions of two atlases may overlap."""
    labels = voxels.select_dtypes(include=["object", "string"]).drop(columns=["hemi"], errors="ignore")
    return np.asarray(labels.isin(ROIS[roi]).to_numpy().any(axis=1))


def roi_scores(voxels: pd.DataFrame, score: str) -> dict[str, dict[str, float]]:
    """Mean of a column in every region that has voxels, with their number: {'V1': {'mean': …, 'n_voxels': …}, …}."""
    found = {roi: voxels.loc[in_roi(voxels, roi), score].dropna() for roi in ROIS}
    return {roi: {"mean": float(v.mean()), "n_voxels": len(v)} for roi, v in found.items() if len(v)}
