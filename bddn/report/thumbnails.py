"""Small pictures of test images, for pages of data whose terms allow them."""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from bddn.data import Dataset
from bddn.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image

SIDES = (64, 48, 32)
"""Pixels of the longer side of a picture; the first size at which all of them fit is taken."""
_QUALITY = 70  # of WebP


def pictures(dataset: Dataset, ids: Sequence[str]) -> list["Image"]:
    """Return the images with these stimulus ids, with at most `SIDES[0]` pixels a side.

    Raises
    ------
    DataError
        If the file of an image is missing or damaged.
    """
    row_of = {stimulus: row for row, stimulus in enumerate(dataset.stimuli.ids)}
    found = []
    with progress("thumbnails", len(ids), "images") as advance:
        for stimulus in ids:
            found.append(_small(dataset.stimuli.image(row_of[stimulus]), SIDES[0]))
            advance()
    return found


def data_urls(images: Sequence["Image"], max_chars: int) -> list[str]:
    """Return pictures as data URLs, in the largest of `SIDES` at which they take at most `max_chars` characters
    together; an empty list if there is none."""
    for side in SIDES:
        urls = [_data_url(_small(image, side)) for image in images]
        if sum(map(len, urls)) <= max_chars:
            return urls
    return []


def _small(image: "Image", side: int) -> "Image":
    from PIL import Image

    made = image.copy()
    made.thumbnail((side, side), Image.Resampling.LANCZOS)
    return made


def _data_url(image: "Image") -> str:
    to = BytesIO()
    image.save(to, "WEBP", quality=_QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(to.getvalue()).decode('ascii')}"
