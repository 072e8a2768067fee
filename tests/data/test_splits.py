"""A split depends on which images there are, on their groups and on the seed, and on nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bddn.data.categories import read_categories
from bddn.data.splits import Split, split_by_group, split_by_id, split_in_file, split_off
from bddn.errors import DataError

IDS = [f"nsd-{i:05d}" for i in range(100)]
GROUP_OF = {stimulus: f"group {i % 20}" for i, stimulus in enumerate(IDS)}  # of five images each
SHUFFLED = [IDS[i] for i in np.random.default_rng(5).permutation(len(IDS))]

KINDS: dict[str, Callable[[list[str], int], Split]] = {
    "by image": lambda ids, seed: split_by_id(ids, (8, 1, 1), seed),
    "by group": lambda ids, seed: split_by_group({stimulus: GROUP_OF[stimulus] for stimulus in ids}, (8, 1, 1), seed),
    "test given": lambda ids, seed: split_off(ids, IDS[70:80][::-1], (8, 1, 1), seed),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_is_in_one_part_whatever_the_order_and_the_seed_draws(kind: str) -> None:
    assert SHUFFLED != IDS
    split = KINDS[kind](IDS, 0)
    assert KINDS[kind](SHUFFLED, 0) == split
    assert sorted(split.train + split.val + split.test) == IDS
    other = KINDS[kind](IDS, 1)
    assert set(other.val) != set(split.val)
    assert (set(other.test) != set(split.test)) == (kind != "test given")
    assert split.to_dict() == {"train": list(split.train), "val": list(split.val), "test": list(split.test)}


@pytest.mark.parametrize(
    ("n", "shares", "sizes"),
    [(100, (8, 1, 1), (80, 10, 10)), (9841, (8, 1, 1), (7873, 984, 984)), (48, (2, 1, 1), (24, 12, 12))],
)
def test_the_parts_have_the_sizes_asked_for(n: int, shares: tuple[int, int, int], sizes: tuple[int, int, int]) -> None:
    split = split_by_id([str(i) for i in range(n)], shares, 0)
    assert (len(split.train), len(split.val), len(split.test)) == sizes


def test_images_are_drawn_from_the_whole_range() -> None:
    split = split_by_id([f"{i:04d}" for i in range(1000)], (8, 1, 1), 0)
    for part in (split.train, split.val, split.test):
        assert abs(np.mean([int(i) for i in part]) - 499.5) < 100  # 3.5 standard errors of a part of 100


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_whole_and_parts_near_their_shares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, 40)
    group_of = {f"{g}-{i}": str(g) for g, size in enumerate(sizes) for i in range(size)}
    split = split_by_group(group_of, (8, 1, 1), seed)
    groups = [{group_of[stimulus] for stimulus in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 40
    for part in (split.val, split.test):
        assert abs(len(part) - len(group_of) / 10) <= sizes.max() / 2  # one group more or less would be no nearer


def test_few_or_uneven_groups_still_fill_every_part() -> None:
    group_of = {f"{group}-{i}": group for group, n in (("many", 900), ("few", 60), ("fewer", 40)) for i in range(n)}
    for seed in range(6):
        split = split_by_group(group_of, (8, 1, 1), seed)
        assert {group_of[stimulus] for stimulus in split.train} == {"many"}
    assert min(map(len, split.to_dict().values())) >= 40


def test_the_test_images_are_those_given_and_the_others_are_drawn_one_by_one() -> None:
    split = KINDS["test given"](IDS, 0)
    assert split.test == tuple(IDS[70:80])
    assert (len(split.train), len(split.val)) == (80, 10)


@pytest.mark.parametrize("n", [0, 1, 5, 14])
def test_too_few_images_are_an_error_that_says_how_many_each_part_would_get(n: int) -> None:
    with pytest.raises(DataError, match=f"of {n} images"):
        split_by_id(IDS[:n], (8, 1, 1), 0)
    with pytest.raises(DataError, match=r"got \d+, \d+ and 1 of \d+ images"):
        split_off(IDS[:n], IDS[:1], (8, 1, 1), 0)


def test_groups_that_cannot_be_split_are_an_error() -> None:
    with pytest.raises(DataError, match=r"at least three groups of images.*got 2 among 100 images: even, odd"):
        split_by_group({stimulus: ("even", "odd")[i % 2] for i, stimulus in enumerate(IDS)}, (8, 1, 1), 0)
    with pytest.raises(DataError, match=r"at least two images.*got 1, 1 and 1 of 3 images"):
        split_by_group({stimulus: stimulus for stimulus in IDS[:3]}, (8, 1, 1), 0)


def test_a_file_gives_the_split(tmp_path: Path) -> None:
    split, path = split_by_id(IDS, (8, 1, 1), 0), tmp_path / "split.json"
    path.write_text(json.dumps(split.to_dict()))
    assert split_in_file(path, SHUFFLED) == split
    fewer = split_in_file(path, IDS[:50])
    assert fewer.test == tuple(sorted({*IDS[:50]} & {*split.test}))
    path.write_text(json.dumps(split.to_dict() | {"test": [*split.test, split.train[3]]}))
    with pytest.raises(DataError, match=f"'{split.train[3]}' in 2; 1 stimuli are in none or in several"):
        split_in_file(path, IDS)
    with pytest.raises(DataError, match="at least two images in each of the parts train, val, test"):
        split_in_file(path, split.train[5:])


TABLES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "no such file"),
    "empty": (b"", "an empty file"),
    "no category": (b"stimulus,kind\na,b\n", "the columns stimulus, kind"),
    "not text": (b"\x89PNG\r\n\x1a\n\xff", "an image"),
    "one less": (b"stimulus,category\na,x\nb,y\n", "none for 1 of them, the first 'c'"),
    "without a name": (b"stimulus,category\na,x\nb,y\nc,\n", "none for 1 of them, the first 'c'"),
    "two categories": (b"stimulus,category\na,x\nb,y\nc,z\na,y\n", "x and y for 'a'; 1 stimuli have more than one"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_does_not_tell_the_categories_is_an_error(name: str, tmp_path: Path) -> None:
    content, words = TABLES[name]
    if content is not None:
        (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_categories(tmp_path / "table.csv", ["a", "b", "c"])


def test_categories_are_read_by_stimulus_id(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes("\ufeffn,category,stimulus\n1,Tür,c\n2,NA,a\n3,x,other\n2,NA,a\n".encode())
    assert read_categories(tmp_path / "table.csv", ["a", "c"]) == ("NA", "Tür")
