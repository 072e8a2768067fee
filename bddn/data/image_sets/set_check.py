"""Check an image set before a network is trained on it: every image is decoded, and identical images are found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bddn.data.checking import combined_error, inspect_images
from bddn.data.image_sets.labelled import LabelledImages
from bddn.errors import DataError
from bddn.identity import digest
from bddn.text import count

NO_CLASS = ("na", "n/a", "nan", "none", "null", "<na>")
"""What R, pandas and others write where a value is missing; each may be the name of a class, too."""


@dataclass(frozen=True)
class CheckedSet:
    """An image set that was checked.

    Attributes
    ----------
    images : LabelledImages
        The set. Images whose files have the same bytes are in one group, so that a split keeps them together.
    sha256 : tuple of str, (n,)
        Of the file of each image; empty if some cannot be read.
    digest : str
        SHA-256 (hexadecimal) of ids, classes, groups and bytes of all images, whatever their order and their folder;
        '' if some cannot be read.
    sizes : dict
        Number of images of each (width, height) in pixels.
    notes : tuple of str
        On the set, its classes, its duplicates, and how some images are decoded.
    unreadable : list of DataError
        One for each image that cannot be read.
    """

    images: LabelledImages
    sha256: tuple[str, ...]
    digest: str
    sizes: dict[tuple[int, int], int]
    notes: tuple[str, ...]
    unreadable: list[DataError]


def check_image_set(images: LabelledImages, decode: bool = True) -> CheckedSet:
    """Hash every image of a set and, if `decode` is set, decode it. It raises the errors of `check_images`."""
    found = inspect_image_set(images, decode)
    if found.unreadable:
        raise combined_error(found.unreadable)
    return found


def inspect_image_set(images: LabelledImages, decode: bool = True) -> CheckedSet:
    """Do the same as `check_image_set`, but return the errors."""
    checked, unreadable = inspect_images(images.stimuli, decode)
    hashes = () if unreadable else tuple(checked.sha256)
    rows_of: dict[str, list[int]] = {}
    for row, sha256 in enumerate(hashes):
        rows_of.setdefault(sha256, []).append(row)
    duplicates = [rows for rows in rows_of.values() if len(rows) > 1]
    notes = (*images.notes, *_on_classes(images), *_on_duplicates(images, duplicates), *checked.notes)
    found = "" if unreadable else _digest(images, hashes)
    return CheckedSet(_grouped(images, duplicates), hashes, found, checked.sizes, notes, unreadable)


def _digest(images: LabelledImages, sha256: Sequence[str]) -> str:
    groups = images.groups or ("",) * len(images)
    names = (images.classes[label] for label in images.labels)
    return digest([list(one) for one in sorted(zip(images.stimuli.ids, names, groups, sha256, strict=True))])


def _grouped(images: LabelledImages, duplicates: list[list[int]]) -> LabelledImages:
    """Return the images with groups that also contain all duplicates of their images."""
    if not duplicates:
        return images
    names = images.groups or images.stimuli.ids
    known = {name: i for i, name in enumerate(sorted(set(names)))}
    pairs = [(known[names[rows[0]]], known[names[row]]) for rows in duplicates for row in rows[1:]]
    first, second = np.array(pairs).T
    joined = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(known), len(known)))
    _, part = connected_components(joined, directed=False)
    name_of: dict[int, str] = {}
    for name, i in known.items():
        name_of.setdefault(int(part[i]), name)
    return replace(images, groups=tuple(name_of[int(part[known[name]])] for name in names))


def _on_classes(images: LabelledImages) -> list[str]:
    counts = images.counts()
    found = [
        f"'{name}' is taken for a class, of {count(n, 'image')}. If it means that the class is unknown, leave these "
        "images out"
        for name, n in counts.items()
        if name.casefold() in NO_CLASS
    ]
    fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[fewest] == counts[most]:
        return found
    return [
        *found,
        f"classes differ in size, from {counts[fewest]} ({fewest}) to {counts[most]} ({most}) images; the same number "
        "of each is trained on",
    ]


def _on_duplicates(images: LabelledImages, duplicates: list[list[int]]) -> list[str]:
    if not duplicates:
        return []
    ids, labels = images.stimuli.ids, images.labels

    copies, (one, other) = sum(len(rows) - 1 for rows in duplicates), duplicates[0][:2]
    notes = [
        f"copies with the same bytes: {copies}, the first {ids[one]} = {ids[other]}; a split keeps copies together"
    ]
    contradicting = [(rows[0], row) for rows in duplicates for row in rows if labels[row] != labels[rows[0]]]
    if contradicting:
        one, other = contradicting[0]
        notes.append(
            f"copies with another class: {len(contradicting)}, the first {ids[one]} ({images.classes[labels[one]]}) = "
            f"{ids[other]} ({images.classes[labels[other]]}); no network can be right about both"
        )
    return notes
