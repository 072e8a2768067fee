"""A split depends on which images there are and on the seed, and on nothing else."""

import numpy as np
import pytest

from bddn.data.splits import split_by_id
from bddn.errors import DataError

IDS = [f"nsd-{i:05d}" for i in range(100)]


def test_the_order_of_the_ids_does_not_matter() -> None:
    shuffled = [IDS[i] for i in np.random.default_rng(5).permutation(len(IDS))]
    assert shuffled != IDS
    assert split_by_id(shuffled, (8, 1, 1), 0) == split_by_id(IDS, (8, 1, 1), 0)


def test_every_image_is_in_exactly_one_part() -> None:
    split = split_by_id(IDS, (8, 1, 1), 0)
    assert sorted(split.train + split.val + split.test) == IDS


@pytest.mark.parametrize(
    ("n", "shares", "sizes"),
    [(100, (8, 1, 1), (80, 10, 10)), (9841, (8, 1, 1), (7873, 984, 984)), (48, (2, 1, 1), (24, 12, 12))],
)
def test_the_parts_have_the_sizes_asked_for(n: int, shares: tuple[int, int, int], sizes: tuple[int, int, int]) -> None:
    split = split_by_id([str(i) for i in range(n)], shares, 0)
    assert (len(split.train), len(split.val), len(split.test)) == sizes


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    split = split_by_id(IDS, (8, 1, 1), 0)
    assert split_by_id(IDS, (8, 1, 1), 0) == split
    other = split_by_id(IDS, (8, 1, 1), 1)
    assert set(other.test) != set(split.test)
    assert set(other.val) != set(split.val)


def test_images_are_drawn_from_the_whole_range() -> None:
    split = split_by_id([f"{i:04d}" for i in range(1000)], (8, 1, 1), 0)
    for part in (split.train, split.val, split.test):
        assert abs(np.mean([int(i) for i in part]) - 499.5) < 100  # 3.5 standard errors of a part of 100


def test_the_parts_are_written_down_by_id() -> None:
    split = split_by_id(IDS, (8, 1, 1), 0)
    assert split.to_dict() == {"train": list(split.train), "val": list(split.val), "test": list(split.test)}


@pytest.mark.parametrize("n", [0, 1, 5, 14])
def test_too_few_images_are_an_error_that_says_how_many_each_part_would_get(n: int) -> None:
    with pytest.raises(DataError, match=f"of {n} images"):
        split_by_id(IDS[:n], (8, 1, 1), 0)
