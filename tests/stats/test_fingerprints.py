"""Copies of images have fingerprints that say so; different images have not."""

import numpy as np
import pytest
from PIL import Image

from bddn.evaluation.leaks.leaks import MIN_COARSE, MIN_CORRELATION, MOST_BITS
from bddn.stats.fingerprints import SIDE, aligned_correlation, coarse_vectors, perceptual_hash
from bddn.stats.neighbours import by_cosine, by_hash
from photographs import COPIES, different_images


def thumbnails(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)) for image in images])


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return different_images()


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found(images: list[Image.Image], name: str) -> None:
    originals, copies = thumbnails(images), thumbnails([COPIES[name](image) for image in images])
    bits = np.bitwise_count(perceptual_hash(originals) ^ perceptual_hash(copies))
    coarse = (coarse_vectors(originals) * coarse_vectors(copies)).sum(1)
    correlation = aligned_correlation(originals, copies)
    has_details = aligned_correlation(originals, originals) > 0
    assert has_details.sum() >= len(images) - 1, "one is a piece of sky"
    assert correlation[has_details].min() > MIN_CORRELATION
    assert (coarse > MIN_COARSE).sum() >= len(images) - 1, "one is too bright to become brighter"
    assert (bits <= MOST_BITS)[has_details].all()
    assert bits.max() == 0 or name != "the same"
    if name == "a crop by 2 %":
        assert aligned_correlation(copies, originals)[has_details].min() > MIN_CORRELATION, "whichever is first"


def test_different_images_are_not(images: list[Image.Image]) -> None:
    found = thumbnails(images)
    first, second = np.triu_indices(len(found), 1)
    alike = (coarse_vectors(found)[first] * coarse_vectors(found)[second]).sum(1) >= 0.3  # far less than a candidate
    assert alike.sum() > 50
    assert aligned_correlation(found[first[alike]], found[second[alike]]).max() < MIN_CORRELATION - 0.2


def test_images_without_details_are_not_compared() -> None:
    flat = np.full((1, SIDE, SIDE), 128, np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, SIDE).astype(np.uint8), (1, SIDE, SIDE))
    assert aligned_correlation(flat, flat).tolist() == [0.0]
    for slope in (ramp, ramp.transpose(0, 2, 1)):
        assert aligned_correlation(flat, slope).tolist() == [0.0]
        assert aligned_correlation(slope, slope).tolist() == [0.0], "two skies are not one image"
    assert aligned_correlation(flat[:0], flat[:0]).shape == (0,)


def test_neighbours_are_those_of_a_plain_search_in_other_parts() -> None:
    rng = np.random.default_rng(1)
    part = rng.choice(3, 400, p=[0.7, 0.2, 0.1])
    vectors = rng.normal(size=(400, 6)).astype(np.float32)
    hashes = rng.integers(0, 2**63, 400).astype(np.uint64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for found, apart in (
        (by_cosine(vectors, part, 3), 1 - unit @ unit.T),
        (by_hash(hashes, part, 3), np.bitwise_count(hashes[:, None] ^ hashes).astype(np.float32)),
    ):
        np.testing.assert_array_equal(found.rows, np.flatnonzero(part != 0))
        there = np.where(part[:, None] == part, np.inf, apart)[found.rows]
        np.testing.assert_allclose(found.distance, np.sort(there, axis=1)[:, :3], atol=1e-6)
        np.testing.assert_allclose(np.take_along_axis(there, found.nearest, 1), found.distance, atol=1e-6)
        pairs = found.pairs()
        assert (pairs[:, 0] < pairs[:, 1]).all()
        assert (part[pairs[:, 0]] != part[pairs[:, 1]]).all()
        assert len(np.unique(pairs, axis=0)) == len(pairs)


def test_without_parts_all_are_compared_and_few_images_have_few_neighbours() -> None:
    vectors = np.array([[1, 0], [1, 1e-3], [0, 1]], np.float32)
    found = by_cosine(vectors, np.arange(3), 5)
    assert found.pairs(1e-3).tolist() == [[0, 1]]
    assert found.pairs().tolist() == [[0, 1], [0, 2], [1, 2]]
    assert np.isinf(found.distance[:, 2:]).all()
