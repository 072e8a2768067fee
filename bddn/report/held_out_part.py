"""The part of a page's data about test images: responses, lists of images, and their thumbnails, within a limit.

Responses to fewer images are the first to give way; scores and lists stay those of all test images.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bddn.data.dataset import about
from bddn.report.answers import Answers, answers, distinct, evenly
from bddn.report.packing import packed, script_json
from bddn.report.shown import Shown
from bddn.report.thumbnails import data_urls, pictures
from bddn.report.voxels import drawn_rows

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 7_000_000
"""Size limit of this part, for all runs of a page together."""
_THUMBNAIL_BYTES = 2_500_000  # of them
_BASE64 = 4 / 3


def held_out_part(runs: Sequence[Shown], max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return what the drawn voxels of some runs answered to test images.

    Parameters
    ----------
    runs : sequence of Shown
    max_bytes : int
        Size limit. Above it, images are left out of the scatters at equal intervals.

    Returns
    -------
    dict
        `answers`, for each run None or the data of `Answers.packed`, with `picture` (M,), the index of the thumbnail of
        each image, and `why`, a sentence that says why there are no thumbnails; `measured`, the measured responses to
        which `answers` refer; and `thumbnails`, data URLs.
    """
    found = {
        k: answers(shown.held_out, drawn_rows(shown.run.voxels))
        for k, shown in enumerate(runs)
        if shown.held_out is not None
    }
    urls, of_run = _thumbnails(runs, found)
    measured, number = distinct(tuple(found.values()))
    none = np.arange(0)
    without = [a.packed(none, 0) for a in found.values()], [coded.packed(none) for coded in measured]
    fixed = sum(map(len, urls)) + len(script_json(without))
    per_image = sum(len(coded.low) for coded in measured) + sum(len(a.r) for a in found.values())
    room = int((max_bytes - fixed) / _BASE64 / max(per_image, 1))
    part: list[dict[str, Any] | None] = [None] * len(runs)
    for (k, a), m in zip(found.items(), number, strict=True):
        part[k] = {**a.packed(evenly(len(a.ids), room), m), **of_run[k]}
    return {
        "answers": part,
        "measured": [coded.packed(evenly(coded.codes.shape[1], room)) for coded in measured],
        "thumbnails": urls,
    }


def _thumbnails(runs: Sequence[Shown], found: Mapping[int, Answers]) -> tuple[list[str], dict[int, dict[str, Any]]]:
    """Return the thumbnails of the page, each once, and which of them are those of each run's test images."""
    why, images, index = {k: _why_not(runs[k]) for k in found}, list["Image"](), dict[tuple[str, str], int]()
    for k, a in found.items():
        dataset = runs[k].dataset
        if dataset is None or why[k]:
            continue
        names = [a.ids[i] for i in a.listed if (dataset.name, a.ids[i]) not in index]
        index |= {(dataset.name, name): len(images) + n for n, name in enumerate(names)}
        images += pictures(dataset, names)
    urls = data_urls(images, _THUMBNAIL_BYTES)
    if images and not urls:
        why, index = {k: why[k] or "The pictures of so many images do not fit into a page." for k in found}, {}
    of_run = {}
    for k, a in found.items():
        source = runs[k].dataset
        name = "" if source is None else source.name
        picture = [index.get((name, stimulus), len(urls)) for stimulus in a.ids]
        of_run[k] = {"picture": packed(picture, "u2"), "why": why[k]}
    return urls, of_run


def _why_not(shown: Shown) -> str:
    """Return a sentence that says why a run's page has no pictures of test images; '' if it may have them."""
    if shown.dataset is None:
        return "Pictures of these images: 'bddn report RUN --data DATA', where the terms of the data allow it."
    if not about(shown.dataset).shows_images:
        return "The terms of the data do not let a page show these images."
    return ""
