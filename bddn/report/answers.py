"""What the drawn voxels answered to the test images: measured and predicted responses, small enough for a page.

Scores and the images of a list come from all test images and single precision. Only the points of the scatter are few
bits each, and of as many images as there is room for.

Shape letters: M test images, m of them on the page, V drawn voxels, K images of a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn.evaluation.kept_responses import HeldOut
from bddn.report.packing import Packed, packed
from bddn.stats.blocks import voxel_blocks
from bddn.stats.jackknife import r2_interval, r2_without_each
from bddn.stats.scores import r2_and_r

LISTED = 6
"""Number of images in each list of a voxel."""
LEVELS = 255  # of a response on the page, from the lowest of its voxel to the highest
_LEVEL = 0.95  # of the interval of R²

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Coded:
    """Responses in 8 bits: `low` + `step` · `codes`, with `low` and `step` (V,) float32 and `codes` (V, M) uint8."""

    low: Floats
    step: Floats
    codes: npt.NDArray[np.uint8]

    def is_same(self, other: "Coded") -> bool:
        """Return whether two are equal, as the measured responses of two runs on the same data are."""
        same = np.array_equal(self.low, other.low, equal_nan=True) and np.array_equal(self.step, other.step)
        return same and np.array_equal(self.codes, other.codes)

    def packed(self, kept: Rows) -> dict[str, Packed]:
        """Return them for the page's script, with the images `kept` (m,)."""
        codes = self.codes[:, kept]
        return {"low": packed(self.low, "f4"), "step": packed(self.step, "f4"), "codes": packed(codes, "u1")}


@dataclass(frozen=True, eq=False)
class Answers:
    """The responses of a run's drawn voxels, and what follows from all of them.

    Attributes
    ----------
    ids : tuple of str, (M,)
    measured, predicted : Coded
    lists : array of int, (V, 3, K)
        Test images by rank: with the highest measured responses, with the lowest, with the highest predicted ones.
    r, low, high : array of float32, (V,)
        Correlation of measured and predicted responses, and the 95 % interval of R² on very many images; NaN if
        unknown, as with few images.
    """

    ids: tuple[str, ...]
    measured: Coded
    predicted: Coded
    lists: npt.NDArray[np.int64]
    r: Floats
    low: Floats
    high: Floats

    @property
    def listed(self) -> npt.NDArray[np.int64]:
        """The test images that any voxel's list has, in increasing order."""
        return np.unique(self.lists)

    def packed(self, kept: Rows, measured: int) -> dict[str, Any]:
        """Return them for the page's script.

        Parameters
        ----------
        kept : array of int, (m,)
            Images whose points the page has.
        measured : int
            Number of the measured responses among those of the page.
        """
        kind = "u2" if len(self.ids) <= np.iinfo(np.uint16).max else "u4"
        flat = self.lists.reshape(len(self.lists), -1)
        listed = {
            name: packed(np.take_along_axis(coded.codes, flat, axis=1), "u1")
            for name, coded in (("measured", self.measured), ("predicted", self.predicted))
        }
        return {
            "ids": list(self.ids),
            "kept": packed(kept, kind),
            "measured": measured,
            "predicted": self.predicted.packed(kept),
            "lists": packed(self.lists, kind),
            "listed": listed,
            "r": packed(self.r, "f4"),
            "low": packed(self.low, "f4"),
            "high": packed(self.high, "f4"),
        }


def answers(held_out: HeldOut, rows: Rows) -> Answers:
    """Return what the voxels in these rows (V,) answered."""
    measured, predicted = (
        np.array(held_out.of_images(values[:, rows])) for values in (held_out.measured, held_out.predicted)
    )
    n = min(LISTED, len(held_out.ids))
    up, down = (np.argsort(sign * measured, axis=0, kind="stable")[:n].T for sign in (-1, 1))
    most = np.argsort(-predicted, axis=0, kind="stable")[:n].T
    return Answers(
        held_out.ids,
        coded(measured),
        coded(predicted),
        np.stack([up, down, most], axis=1),
        *_scores(measured, predicted),
    )


def coded(values: Floats) -> Coded:
    """Return responses (M, V) in 8 bits. Voxels with responses that are not finite have NaN as `low`."""
    low = values.min(0)
    step = (values.max(0) - low) / np.float32(LEVELS)
    known = np.isfinite(low) & np.isfinite(step)
    share = np.where(known, values - low, 0) / np.where(known & (step > 0), step, 1)
    codes = np.clip(np.rint(share), 0, LEVELS).astype(np.uint8)
    return Coded(np.where(known, low, np.nan).astype(np.float32), np.where(known, step, 0).astype(np.float32), codes.T)


def evenly(n: int, most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` of `n` indices, at equal distances, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, max(most, 1))).round().astype(np.int64))


def _scores(measured: Floats, predicted: Floats) -> npt.NDArray[np.float32]:
    """Return r and the ends of the interval of R², (3, V)."""
    found = np.empty((3, measured.shape[1]), dtype=np.float32)
    for some in voxel_blocks(measured.shape[1]):
        y, p = measured[:, some], predicted[:, some]
        r2, r = r2_and_r(y, p)
        found[:, some] = r, *r2_interval(r2, r2_without_each(y, p), _LEVEL)
    return found


def distinct(found: Sequence[Answers]) -> tuple[list[Coded], list[int]]:
    """Return the measured responses of some runs, equal ones once, and for each run which are its own."""
    kept, number = list[Coded](), list[int]()
    for one in found:
        same = next((k for k, other in enumerate(kept) if one.measured.is_same(other)), len(kept))
        kept += [one.measured] * (same == len(kept))
        number.append(same)
    return kept, number
