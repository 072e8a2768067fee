"""Find the same image in two parts of a split: by id, file, pixels, and as a near-duplicate.

Candidates for near-duplicates are cheap: the nearest neighbours by perceptual hash, and those by the global tokens of
the cache. The thumbnails of each candidate pair are then aligned, and the correlation of their details decides. Without
images, only tokens that are far closer than those of other neighbours count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.data.splits import equal_across
from bddn.evaluation.leaks.seen_images import Fingerprints
from bddn.machine.parallel import each
from bddn.stats import fingerprints as prints
from bddn.stats.clusters import principal
from bddn.stats.neighbours import Neighbours, by_cosine, by_hash, unit_vectors

Pairs = npt.NDArray[np.intp]

SAME_ID, SAME_FILE, SAME_PIXELS, NEAR, CLOSE = "same id", "same file", "same pixels", "near-duplicate", "close tokens"
KINDS = (SAME_ID, SAME_FILE, SAME_PIXELS, NEAR, CLOSE)
COLUMNS = ("first", "first_part", "second", "second_part", "kind", "correlation", "hash_bits", "token_distance")

N_NEIGHBOURS = 4  # of each image, by hash and by tokens
MOST_BITS = 16  # of 64 in which the hashes of candidates differ
MIN_COARSE = 0.8  # correlation of thumbnails of 16 × 16 pixels; below it, a pair is not aligned
MIN_CORRELATION = 0.9  # of the details of a near-duplicate
PAIRS = 4096  # that are compared together
N_COMPONENTS = 128  # principal components of the tokens
CLOSE_SHARE = 0.02  # of the median distance of nearest neighbours; below it, tokens alone show a near-duplicate
SETTINGS: dict[str, Any] = {
    "thumbnail_side": prints.SIDE,
    "neighbours": N_NEIGHBOURS,
    "most_hash_bits": MOST_BITS,
    "min_coarse_correlation": MIN_COARSE,
    "min_correlation": MIN_CORRELATION,
    "largest_shift": prints.REACH,
    "token_components": N_COMPONENTS,
    "close_share": CLOSE_SHARE,
}


@dataclass(frozen=True)
class AtHand:
    """What is at hand to compare n images.

    Attributes
    ----------
    ids : sequence of str, (n,)
        Stimulus ids. An id may occur twice.
    parts : sequence of str, (n,)
        The part of each image; '' for all if there is no split, so that all images are compared with each other.
    files : sequence of str, (n,), optional
        SHA-256 of the image files.
    tokens : array of float32, (n, C), optional
        Global tokens of one layer.
    images : Fingerprints, optional
        Of those images that are on this machine.
    """

    ids: Sequence[str]
    parts: Sequence[str]
    files: Sequence[str] | None = None
    tokens: npt.NDArray[np.float32] | None = None
    images: Fingerprints | None = None

    def part_numbers(self) -> npt.NDArray[np.intp]:
        """Return the number (n,) of the part of each image; without a split, each image is a part of its own."""
        names = list(dict.fromkeys(self.parts))
        return np.arange(len(self.ids)) if names == [""] else np.array([names.index(part) for part in self.parts])


def find_pairs(given: AtHand) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return the pairs of images that are the same, or nearly so, in different parts, and the distances of neighbours.

    Returns
    -------
    pairs : DataFrame
        One row per pair, surest first: `first`, `second` (ids), `first_part`, `second_part`, `kind` (one of `KINDS`),
        `correlation` of details after alignment, `hash_bits` that differ, and `token_distance` (1 - cosine); NaN where
        it is unknown.
    distances : dict
        Quantiles of the token distance between an image and its nearest neighbour in another part.
    """
    part, found = given.part_numbers(), dict[tuple[int, int], str]()
    row_of = given.images.row_of if given.images else {}
    row = np.array([row_of.get(stimulus, -1) for stimulus in given.ids], np.intp)
    for kind, keys in _equal_keys(given):
        for pair in equal_across(keys, part.tolist()):
            found.setdefault(pair, kind)
    candidates, distances = [np.empty((0, 2), np.intp)], dict[str, float]()
    vectors = hashes = None
    if given.tokens is not None and len(given.ids) > 1:
        vectors = unit_vectors(principal(given.tokens, N_COMPONENTS))
        near = by_cosine(vectors, part, N_NEIGHBOURS)
        distances = _quantiles(near)
        candidates.append(near.pairs())
    if given.images is not None and (row >= 0).any():
        here = np.flatnonzero(row >= 0)
        hashes = np.zeros(len(row), np.uint64)
        hashes[here] = prints.perceptual_hash(given.images.thumbnails)[row[here]]
        candidates.append(here[by_hash(hashes[here], part[here], N_NEIGHBOURS).pairs(MOST_BITS)])
    pairs = np.unique(np.concatenate(candidates), axis=0)
    seen = (row[pairs] >= 0).all(1)
    if given.images is not None:
        aligned = _aligned(pairs[seen], row, given.images)
        found = _near(pairs[seen], aligned >= MIN_CORRELATION, NEAR) | found
    if vectors is not None:
        apart = _token_distance(vectors, pairs)
        found = _near(pairs, ~seen & (apart <= CLOSE_SHARE * distances["median"]), CLOSE) | found
    return _table(given, found, row, hashes, vectors), distances


def _equal_keys(given: AtHand) -> list[tuple[str, list[str | None]]]:
    keys: list[tuple[str, list[str | None]]] = [(SAME_ID, list(given.ids))]
    if given.files is not None:
        keys.append((SAME_FILE, list(given.files)))
    if given.images is not None:
        keys.append((SAME_FILE, [given.images.files.get(stimulus) for stimulus in given.ids]))
        keys.append((SAME_PIXELS, [given.images.pixels.get(stimulus) for stimulus in given.ids]))
    return keys


def _aligned(pairs: Pairs, row: npt.NDArray[np.intp], images: Fingerprints) -> npt.NDArray[np.float64]:
    """Return the correlation of details (K,) of pairs; 0 for those that differ too much to be aligned."""
    correlation, coarse = np.zeros(len(pairs)), prints.coarse_vectors(images.thumbnails)
    first, second = row[pairs].T
    some = (slice(at, at + PAIRS) for at in range(0, len(pairs), PAIRS))
    alike = np.flatnonzero(
        np.concatenate([(coarse[first[at]] * coarse[second[at]]).sum(1) >= MIN_COARSE for at in some] or [_NONE])
    )
    blocks = [alike[at : at + prints.BLOCK] for at in range(0, len(alike), prints.BLOCK)]
    thumbnails = images.thumbnails
    found = each(lambda at: prints.aligned_correlation(thumbnails[first[at]], thumbnails[second[at]]), blocks)
    correlation[alike] = np.concatenate([*found, np.empty(0)])
    return correlation


_NONE = np.empty(0, np.bool_)


def _token_distance(vectors: npt.NDArray[np.float32], pairs: Pairs) -> npt.NDArray[np.float64]:
    return np.asarray(np.maximum(0, 1 - (vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(1, dtype=np.float64)))


def _near(pairs: Pairs, chosen: npt.NDArray[np.bool_], kind: str) -> dict[tuple[int, int], str]:
    return {(int(i), int(j)): kind for i, j in pairs[chosen]}


def _quantiles(near: Neighbours) -> dict[str, float]:
    nearest = np.maximum(0, near.distance[np.isfinite(near.distance[:, 0]), 0].astype(np.float64))
    if not len(nearest):
        return {"median": np.nan}
    levels = {"min": 0.0, "percentile_1": 0.01, "percentile_5": 0.05, "median": 0.5, "percentile_95": 0.95}
    return {name: float(np.quantile(nearest, level)) for name, level in levels.items()}


def _table(
    given: AtHand,
    found: dict[tuple[int, int], str],
    row: npt.NDArray[np.intp],
    hashes: npt.NDArray[np.uint64] | None,
    vectors: npt.NDArray[np.float32] | None,
) -> pd.DataFrame:
    pairs = np.array(sorted(found), np.intp).reshape(-1, 2)
    ids, parts = np.array(given.ids, object), np.array(given.parts, object)
    table = pd.DataFrame({"first": ids[pairs[:, 0]], "first_part": parts[pairs[:, 0]]})
    table["second"], table["second_part"] = ids[pairs[:, 1]], parts[pairs[:, 1]]
    table["kind"] = [found[int(i), int(j)] for i, j in pairs]
    numbers = np.full((3, len(pairs)), np.nan)
    seen = (row[pairs] >= 0).all(1)
    if given.images is not None and hashes is not None:
        thumbnails = given.images.thumbnails
        numbers[0, seen] = prints.aligned_correlation(*(thumbnails[row[pairs[seen, k]]] for k in (0, 1)))
        numbers[1, seen] = np.bitwise_count(hashes[pairs[seen, 0]] ^ hashes[pairs[seen, 1]])
    if vectors is not None:
        numbers[2] = _token_distance(vectors, pairs)
    table["correlation"], table["hash_bits"], table["token_distance"] = numbers
    order = table["kind"].map(KINDS.index)
    return table.assign(order=order).sort_values(
        ["order", "correlation", "token_distance", "first", "second"],
        ascending=[True, False, True, True, True],
        ignore_index=True,
    )[list(COLUMNS)]
