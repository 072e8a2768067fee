"""Draw the same number of training images from every class. Images of one group are never in two parts.

The draw depends on the ids, classes, groups and the seed, but not on the order of the images.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bddn.data.image_files import count
from bddn.data.labelled import LabelledImages
from bddn.errors import DataError

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
    order, group = _random_order(images, seed)
    reached = _taken(order, group, per_class)
    lacking = [name for name, n in images.counts().items() if n < per_class]
    train, test = list[Rows](), list[Rows]()
    for name, one in zip(images.classes, order, strict=True):
        taken = reached[one.group]
        train.append(one.rows[:per_class])
        test.append(one.rows[~taken][:most_test])
        if not len(test[-1]) and name not in lacking:
            lacking.append(name)
    if per_class < 1 or lacking:
        raise _too_few(images, per_class, lacking, largest_per_class(images, seed))
    by_id = {stimulus: place for place, stimulus in enumerate(sorted(images.stimuli.ids))}
    place = np.array([by_id[stimulus] for stimulus in images.stimuli.ids], np.intp)

    def ordered(parts: list[Rows]) -> Rows:
        rows = np.concatenate(parts)
        return rows[np.argsort(place[rows])]

    return ClassSplit(ordered(train), ordered(test))


def largest_per_class(images: LabelledImages, seed: int) -> int:
    """Return the largest number of training images per class that leaves images of every class to evaluate on.

    It depends on the seed only if images have groups.
    """
    order, group = _random_order(images, seed)
    low, high = 0, min(len(one.rows) for one in order) - 1
    while low < high:
        tried = (low + high + 1) // 2
        reached = _taken(order, group, tried)
        if all((~reached[one.group]).any() for one in order):
            low = tried
        else:
            high = tried - 1
    return low


def _random_order(images: LabelledImages, seed: int) -> tuple[list[_Drawn], int]:
    """Return the images of each class, group by group in random order, and the number of groups."""
    ids = np.array(images.stimuli.ids, object)
    names = ids if images.groups is None else np.array(images.groups, object)
    known = {name: i for i, name in enumerate(sorted(set(names)))}
    group_of = np.array([known[name] for name in names], np.intp)
    order = []
    for k in range(len(images.classes)):
        rows = np.flatnonzero(images.labels == k)
        rows = rows[np.argsort(ids[rows])]
        groups, member = np.unique(group_of[rows], return_inverse=True)
        rank = np.random.default_rng([seed, SEED, k]).permutation(len(groups))
        rows = rows[np.argsort(rank[member], kind="stable")]
        order.append(_Drawn(rows, group_of[rows]))
    return order, len(known)


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
