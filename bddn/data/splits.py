"""Split images into training, validation and test: single images, groups of images that stay together, or as in a file.

Every split depends on the stimulus ids, their groups and the seed, but not on the order of the ids.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bddn.errors import DataError
from bddn.files.filekind import explain

PARTS = ("train", "val", "test")
Shares = tuple[int, int, int]
"""Relative sizes of training, validation and test, e.g. (8, 1, 1)."""

LEAST = 2  # images in a part; fewer have no score


@dataclass(frozen=True)
class Split:
    """The stimulus ids of the three disjoint parts."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @classmethod
    def of(cls, lists: Mapping[str, Sequence[str]]) -> "Split":
        """Return the split of a run's `split.json`."""
        return cls(*(tuple(lists[part]) for part in PARTS))

    def to_dict(self) -> dict[str, list[str]]:
        """Return the three lists as JSON types."""
        return {"train": list(self.train), "val": list(self.val), "test": list(self.test)}


def split_by_id(ids: Sequence[str], shares: Shares, seed: int) -> Split:
    """Draw single images at random.

    Parameters
    ----------
    ids : sequence of str
        Unique stimulus ids.
    shares : three int
    seed : int

    Raises
    ------
    DataError
        If a part would have fewer than two images, which is too few for a score.
    """
    ordered = sorted(ids)
    n = len(ordered)
    n_val, n_test = (round(n * share / sum(shares)) for share in shares[1:])
    n_train = n - n_val - n_test
    _refuse_small((n_train, n_val, n_test), shares)
    shuffled = np.random.default_rng([seed, 0]).permutation(n)
    train, val, test = np.split(shuffled, [n_train, n_train + n_val])

    def pick(rows: "np.ndarray") -> tuple[str, ...]:
        return tuple(ordered[i] for i in sorted(rows))

    return Split(pick(train), pick(val), pick(test))


def split_by_group(group_of: Mapping[str, str], shares: Shares, seed: int) -> Split:
    """Draw whole groups at random: each group of images is in only one part.

    In a random order, the test part takes each group that brings its size nearer to its share, then the validation part
    does so, and the rest trains. Each part has at least one group.

    Parameters
    ----------
    group_of : mapping of str to str
        The group of each stimulus id.
    shares : three int
    seed : int

    Raises
    ------
    DataError
        If there are fewer than three groups, or a part would have fewer than two images.
    """
    members: dict[str, list[str]] = {}
    for stimulus in sorted(group_of):
        members.setdefault(group_of[stimulus], []).append(stimulus)
    if len(members) < len(PARTS):
        raise DataError(
            "split",
            expected="at least three groups of images, one for each part",
            got=f"{len(members)} among {len(group_of)} images: {', '.join(sorted(members))}",
            fix="Use more clusters or categories, or split by image.",
        )
    names = sorted(members)
    left = [names[i] for i in np.random.default_rng([seed, 2]).permutation(len(names))]
    parts: dict[str, tuple[str, ...]] = {}
    for part, n_after in (("test", 2), ("val", 1)):
        wanted = len(group_of) * shares[PARTS.index(part)] / sum(shares)
        taken, total = list[str](), 0
        for group in left:
            nearer = abs(total + len(members[group]) - wanted) < abs(total - wanted)
            if nearer and len(left) - len(taken) > n_after:
                taken.append(group)
                total += len(members[group])
        taken = taken or [min(left, key=lambda group: len(members[group]))]
        left = [group for group in left if group not in taken]
        parts[part] = _ids(members, taken)
    found = Split(_ids(members, left), parts["val"], parts["test"])
    _refuse_small((len(found.train), len(found.val), len(found.test)), shares)
    return found


def split_off(ids: Sequence[str], test: Sequence[str], shares: Shares, seed: int) -> Split:
    """Take the test images as given, and draw training and validation from the others, image by image.

    Parameters
    ----------
    ids, test : sequence of str
        All stimulus ids, and those of the test images.
    shares : three int
        Those of training and validation are used.
    seed : int

    Raises
    ------
    DataError
        If a part would have fewer than two images.
    """
    held_out = set(test)
    others = sorted(set(ids) - held_out)
    n_val = round(len(others) * shares[1] / (shares[0] + shares[1]))
    _refuse_small((len(others) - n_val, n_val, len(held_out)), shares)
    validates = np.zeros(len(others), bool)
    validates[np.random.default_rng([seed, 3]).permutation(len(others))[:n_val]] = True
    train, val = ([one for one, chosen in zip(others, validates, strict=True) if chosen == k] for k in (False, True))
    return Split(tuple(train), tuple(val), tuple(sorted(held_out)))


def split_in_file(path: Path, ids: Sequence[str]) -> Split:
    """Return the split that a file gives.

    Parameters
    ----------
    path : Path
        JSON, with a list of stimulus ids for each of `train`, `val` and `test`; ids that are not in `ids` are ignored.
    ids : sequence of str

    Raises
    ------
    DataError
        If the file is missing or is not such a file, a stimulus is in no part or in two, or a part is too small.
    """
    try:
        content = json.loads(path.read_bytes())
        found = [[str(stimulus) for stimulus in content[part]] for part in PARTS]
    except (OSError, ValueError, KeyError, TypeError) as error:
        got, fix = explain(path, f"something else ({error})", "Give the split.json of a run.")
        raise DataError(path, expected=f"JSON with the lists {', '.join(PARTS)}", got=got, fix=fix) from error
    wanted, n_parts = set(ids), Counter(stimulus for members in found for stimulus in set(members))
    wrong = {stimulus: n_parts[stimulus] for stimulus in ids if n_parts[stimulus] != 1}
    if wrong:
        first, n = next(iter(wrong.items()))
        raise DataError(
            path,
            expected=f"each of the {len(ids)} stimuli of the dataset in exactly one part",
            got=f"'{first}' in {n or 'none'}; {len(wrong)} stimuli are in none or in several",
            fix="Give the split of a run on the same images.",
        )
    train, val, test = (tuple(sorted(wanted & set(members))) for members in found)
    _refuse_small((len(train), len(val), len(test)))
    return Split(train, val, test)


def equal_across(keys: Sequence[str | None], part: Sequence[object]) -> list[tuple[int, int]]:
    """Return the pairs of rows, sorted, that have the same key in different parts: for each such row one pair.

    Parameters
    ----------
    keys : sequence of (str or None), (n,)
        What identifies an image, such as the SHA-256 of its file; None if it is unknown.
    part : sequence, (n,)
        The part of each row.
    """
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key is not None:
            rows_of.setdefault(key, []).append(row)
    pairs = set()
    for rows in rows_of.values():
        first, *others = rows
        other = next((row for row in others if part[row] != part[first]), None)
        if other is not None:
            pairs |= {(first, row) if part[row] != part[first] else (min(row, other), max(row, other)) for row in rows}
    return sorted(pairs)


def _ids(members: Mapping[str, Sequence[str]], groups: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(stimulus for group in groups for stimulus in members[group]))


def _refuse_small(sizes: tuple[int, int, int], shares: Shares | None = None) -> None:
    if min(sizes) < LEAST:
        parts = ", ".join(PARTS) if shares is None else ":".join(map(str, shares))
        raise DataError(
            "split",
            expected=f"at least two images in each of the parts {parts}",
            got=f"{sizes[0]}, {sizes[1]} and {sizes[2]} of {sum(sizes)} images",
            fix="Use more images, or other shares.",
        )
