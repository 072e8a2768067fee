"""Checks of a cache and a dataset before the first step of a fit."""

from collections.abc import Sequence

import numpy as np

from bddn.data import Dataset
from bddn.data.splits import PARTS, Split, equal_across
from bddn.encoder.parts import Parts
from bddn.errors import DataError
from bddn.stats.audit import Audit, audit
from bddn.store.reader import Cache
from bddn.stream.loader import Source
from bddn.stream.order import Rows
from bddn.stream.sampled import tokens_at_places, whole_chunks

ROWS_PER_READ = 64  # response rows; in nearly every dataset the first two differ
AUDIT_IMAGES = 256  # the sample of an audit of layers


def check_leakage(store: Cache, split: Split) -> None:
    """Refuse a split in which one image is in two parts under two stimulus ids.

    Raises
    ------
    DataError
    """
    part_of = {stimulus: part for part, members in split.to_dict().items() for stimulus in members}
    ids = sorted(part_of, key=store.row_of.__getitem__)
    pairs = equal_across([store.images[store.row_of[stimulus]] for stimulus in ids], [part_of[one] for one in ids])
    if pairs:
        one, other = (ids[row] for row in pairs[0])
        raise DataError(
            f"cache '{store.files.place}'",
            expected="every image in only one part of the split",
            got=f"the same image as '{one}' in {part_of[one]} and as '{other}' in {part_of[other]}",
            fix="Remove one of the two stimuli from the dataset, or give both one id. The cache can stay.",
        )


def check_responses(dataset: Dataset, parts: Parts) -> None:
    """Refuse responses that are constant over all images of a part of the split, in every voxel.

    Single constant voxels are allowed; they get no score.

    Raises
    ------
    DataError
    """
    for part in PARTS:
        rows = getattr(parts, part)
        if not _vary(dataset, rows):
            raise DataError(
                f"responses of {dataset.name}",
                expected="a voxel whose responses differ between images, in each of the parts train, val and test",
                got=f"the same response to all {len(parts.one_of_each(rows))} images of the part '{part}', in every "
                "voxel",
                fix="Check the response files. If the part is small, use another seed or a larger share ('split').",
            )


def _vary(dataset: Dataset, rows: "np.ndarray") -> bool:
    first = dataset.responses(rows[:1])
    starts = range(1, len(rows), ROWS_PER_READ)
    return any(bool((dataset.responses(rows[i : i + ROWS_PER_READ]) != first).any()) for i in starts)


def audit_layers(source: Source, rows: Rows, layers: Sequence[str], grid: tuple[int, int]) -> Audit:
    """Compare the layers of a cache on a sample of images: whole chunks, evenly spread over the store.

    Parameters
    ----------
    source : Source
        Tokens by row.
    rows : array of int, (n,)
        Rows that may be used.
    layers : sequence of str, (L,)
        Names, from early to late.
    grid : (int, int)
        Rows and columns of the local tokens.
    """
    sample = whole_chunks(rows, source.chunk_of, AUDIT_IMAGES)
    return audit(layers, *tokens_at_places(source, sample, grid))
