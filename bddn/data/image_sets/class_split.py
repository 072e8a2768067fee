"""Draw the same number of training images from every class. Images of one group are never in two parts.

The draw depends on the ids, classes, groups and the seed, but not on the order of the images.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bddn.data.image_sets.labelled import LabelledImages
from bddn.errors import DataError
from bddn.text import count

SEED = 11  # distinguishes this draw from others of the same seed
SHOWN = 5  # classes in a message
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ClassSplit:
    """Rows of an image set, each in the order of the ids: for training, and to evaluate on.

    Images that are in neither belong to a group of which other images are trained on.
    """

    train: Rows
    test: Rows


@dataclass(frozen=True)
class _Drawn:
    """The images of one class in random order, group by group: their `rows`, and the `group` of each."""

    rows: Rows
    group: Rows


def class_split(images: LabelledImages, per_class: int, seed: int, most_test: int | None = None) -> ClassSplit:
    """Draw `per_class` training images from each class, and evaluate on the others.

    Groups are drawn at random until they contain enough images of the class. All other images of these groups are
    left out.

    Parameters
    ----------
    images : LabelledImages
    per_class : int
    seed : int
    most_test : int, optional
        Largest number of images of each class to evaluate on; by default all.

    Raises
    ------
    DataError
        If a class has too few images, or none is left to evaluate on.
    """
    place = _places(images.stimuli.ids)
    order = _random_order(images, place, seed)
    reached = _taken(order, len(images), per_class)
    lacking = [name for name, n in images.counts().items() if n < per_class]
    train, test = list[Rows](), list[Rows]()
    for name, one in zip(images.classes, order, strict=True):
        train.append(one.rows[:per_class])
        test.append(one.rows[~reached[one.group]][:most_test])
        if not len(test[-1]) and name not in lacking:
            lacking.append(name)
    if per_class < 1 or lacking:
        raise _too_few(images, per_class, lacking, largest_per_class(images, seed))

    def ordered(parts: list[Rows]) -> Rows:
        rows = np.concatenate(parts)
        return rows[np.argsort(place[rows])]

    return ClassSplit(ordered(train), ordered(test))


def largest_per_class(images: LabelledImages, seed: int) -> int:
    """Return the largest number of training images per class that leaves images of every class to evaluate on.

    It depends on the seed only if images have groups.
    """
    order = _random_order(images, _places(images.stimuli.ids), seed)

    def is_too_large(tried: int) -> bool:
        reached = _taken(order, len(images), tried)
        return any(reached[one.group].all() for one in order)

    return bisect_left(range(1, min(len(one.rows) for one in order)), True, key=is_too_large)


def _places(names: Sequence[str]) -> Rows:
    """Return the place of each name in alphabetical order; equal names have the same place."""
    known = {name: i for i, name in enumerate(sorted(set(names)))}
    return np.array([known[name] for name in names], np.intp)


def _random_order(images: LabelledImages, place: Rows, seed: int) -> list[_Drawn]:
    """Return the images of each class, group by group in random order; `place` is that of each image by its id."""
    group_of = place if images.groups is None else _places(images.groups)
    by_class = np.lexsort((place, images.labels))
    order = []
    for k, rows in enumerate(np.split(by_class, np.cumsum([*images.counts().values()])[:-1])):
        groups, member = np.unique(group_of[rows], return_inverse=True)
        rank = np.random.default_rng([seed, SEED, k]).permutation(len(groups))
        drawn = rows[np.argsort(rank[member], kind="stable")]
        order.append(_Drawn(drawn, group_of[drawn]))
    return order


def _taken(order: list[_Drawn], n_groups: int, per_class: int) -> npt.NDArray[np.bool_]:
    """Return which groups (n_groups,) contain the first `per_class` images of a class."""
    taken = np.zeros(n_groups, bool)
    for one in order:
        taken[one.group[:per_class]] = True
    return taken


def _too_few(images: LabelledImages, per_class: int, lacking: list[str], largest: int) -> DataError:
    counts = images.counts()
    more = f" and {len(lacking) - SHOWN} more classes" if len(lacking) > SHOWN else ""
    named = ", ".join(f"{counts[name]} of class '{name}'" for name in lacking[:SHOWN])
    groups = "" if images.groups is None else "; images of one group stay together"
    return DataError(
        f"image set '{images.name}'",
        expected=f"{count(per_class, 'image')} of each class to train on, and at least one more to evaluate on",
        got=f"{named}{more}{groups}" if lacking else f"--per-class {per_class}",
        fix=f"Use --per-class {largest}, or less." if largest else "Add images, or leave these classes out.",
    )
