"""Fingerprints of the images of a dataset that are on this machine."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bddn.data import Stimuli
from bddn.data.dataset import pixels_sha256
from bddn.machine.parallel import ahead, n_threads
from bddn.progress import progress
from bddn.stats.fingerprints import SIDE

BLOCK = 32  # images that a thread reads in one task


@dataclass(frozen=True)
class Fingerprints:
    """What is known of M images.

    Attributes
    ----------
    files : dict of str to str, M
        SHA-256 of the image file of each stimulus.
    pixels : dict of str to str, M
        `bddn.data.dataset.pixels_sha256` of each.
    row_of : dict of str to int, M
        Its row in `thumbnails`.
    thumbnails : array of uint8, (M, 64, 64)
        Grey, whatever the shape of the image.
    """

    files: dict[str, str]
    pixels: dict[str, str]
    row_of: dict[str, int]
    thumbnails: npt.NDArray[np.uint8]


def fingerprints(stimuli: Stimuli, ids: Sequence[str]) -> Fingerprints:
    """Decode the images of these stimuli; those whose file is not on this machine are left out.

    Raises
    ------
    DataError
        If a file is damaged or not an image.
    """
    row_of = {stimulus: row for row, stimulus in enumerate(stimuli.ids)}
    here = [stimulus for stimulus in ids if stimulus in row_of and stimuli.paths[row_of[stimulus]].exists()]
    thumbnails = np.empty((len(here), SIDE, SIDE), np.uint8)

    def read(start: int) -> list[tuple[str, str]]:
        found = []
        for i, stimulus in enumerate(here[start : start + BLOCK], start):
            image, file = stimuli.read(row_of[stimulus])
            thumbnails[i] = np.asarray(image.convert("L").resize((SIDE, SIDE), resample=_BOX))
            found.append((file, pixels_sha256(image)))
        return found

    hashes = list[tuple[str, str]]()
    with ThreadPoolExecutor(n_threads()) as threads, progress("audit", len(here), "images") as advance:
        for block in ahead(read, range(0, len(here), BLOCK), 2 * n_threads(), threads):
            hashes += block
            advance(len(block))
    files, pixels = ({one: pair[k] for one, pair in zip(here, hashes, strict=True)} for k in (0, 1))
    return Fingerprints(files, pixels, {one: row for row, one in enumerate(here)}, thumbnails)


_BOX = 4  # PIL.Image.Resampling.BOX: the mean of the pixels that a thumbnail's pixel covers
